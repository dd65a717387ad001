"""The recipe of a run that was begun before."""

from __future__ import annotations

import dataclasses
import pathlib

from absl import flags

from tfp_distill.runs.recipe.recipe import Recipe
from tfp_distill.runs.recipe.recipe_flags import JUDGEMENT, PLACES, recipe_from_flags

__all__ = ["recorded_recipe"]

# What may differ from the recorded recipe, because no trained model depends on it.
_FREE = (
    *PLACES,
    *("students", "partitions", "workers"),
    *("within", "max_parameters", "max_ms", "candidates", "race_methods", "few_rows"),
    *JUDGEMENT,
)


def recorded_recipe(path: pathlib.Path, flag_values: flags.FlagValues) -> Recipe:
    """Returns the recipe that a directory holds, with what the flags may change.

    Raises:
      ValueError: if they contradict it.
    """
    before = Recipe.read(path)
    recipe = recipe_from_flags(flag_values, base=before)
    for field in dataclasses.fields(Recipe):
        old, new = getattr(before, field.name), getattr(recipe, field.name)
        if old != new and field.name not in _FREE:
            raise ValueError(
                f"`{field.name}` must be {old!r} as in {str(path)!r}, got {new!r}; "
                "another recipe needs another `run_dir`."
            )
    return recipe
