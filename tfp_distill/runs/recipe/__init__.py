"""Recipes: all options of a run, in groups, as dataclasses and as flags."""

from tfp_distill.runs.recipe.distillation_options import METHODS
from tfp_distill.runs.recipe.recipe import Recipe
from tfp_distill.runs.recipe.recipe_flags import (
    JUDGEMENT,
    PLACES,
    define_recipe_flags,
    define_run_flags,
    recipe_from_flags,
)
from tfp_distill.runs.recipe.recorded import recorded_recipe

__all__ = [
    "JUDGEMENT",
    "METHODS",
    "PLACES",
    "Recipe",
    "define_recipe_flags",
    "define_run_flags",
    "recipe_from_flags",
    "recorded_recipe",
]
