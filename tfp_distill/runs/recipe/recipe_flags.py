"""A recipe as absl flags."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

from absl import flags

from tfp_distill.runs.recipe.evaluation_options import EvaluationOptions
from tfp_distill.runs.recipe.recipe import Recipe

__all__ = ["JUDGEMENT", "PLACES", "define_recipe_flags", "define_run_flags", "recipe_from_flags"]


# Where data are found, which may be elsewhere on another machine, and how flows are judged.
PLACES = ("data_dir", "manual_dir")
JUDGEMENT = tuple(field.name for field in dataclasses.fields(EvaluationOptions))


def define_run_flags(flag_values: flags.FlagValues, names: Collection[str] | None = None) -> None:
    """Defines `run_dir` and flags of the recipe.

    Args:
      flag_values: gets the flags.
      names: the fields of the recipe that a script which makes no run reads; by default all.
    """
    flags.DEFINE_string("run_dir", None, "Directory of the run.", flag_values=flag_values)
    define_recipe_flags(flag_values, names)


def define_recipe_flags(
    flag_values: flags.FlagValues, names: Collection[str] | None = None
) -> None:
    """Defines one flag for each field of `Recipe`, or for those of some names."""
    for field in dataclasses.fields(Recipe):
        if names is not None and field.name not in names:
            continue
        text = field.metadata["help"]
        if isinstance(field.default, tuple):
            default = [str(item) for item in field.default]
            flags.DEFINE_list(field.name, default, text, flag_values=flag_values)
            continue
        definitions: dict[type, Callable[..., Any]] = {
            str: flags.DEFINE_string,
            bool: flags.DEFINE_boolean,
            int: flags.DEFINE_integer,
            float: flags.DEFINE_float,
        }
        define = definitions[type(field.default)]
        define(field.name, field.default, text, flag_values=flag_values)


def recipe_from_flags(flag_values: flags.FlagValues, *, base: Recipe | None = None) -> Recipe:
    """Makes a recipe of the flags.

    Args:
      flag_values: parsed flags.
      base: a recipe whose values stand where no flag was given; the defaults otherwise.

    Raises:
      ValueError: if a value breaks its rule.
    """
    given: Mapping[str, Any] = {
        field.name: _from_flag(field, flag_values[field.name].value)
        for field in dataclasses.fields(Recipe)
        if field.name in flag_values and (base is None or flag_values[field.name].present)
    }
    return dataclasses.replace(base or Recipe(), **given)


def _from_flag(field: dataclasses.Field[Any], value: Any) -> Any:
    if not isinstance(field.default, tuple):
        return value
    if not field.name.endswith("_weights"):
        return tuple(value)
    try:
        return tuple(float(item) for item in value)
    except ValueError:
        raise ValueError(f"`{field.name}` must be numbers, got {','.join(value)!r}.") from None
