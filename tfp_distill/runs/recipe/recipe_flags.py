"""A recipe as absl flags."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from absl import flags

from tfp_distill.runs.recipe.recipe import Recipe

__all__ = ["define_recipe_flags", "define_run_flags", "recipe_from_flags"]


def define_run_flags(flag_values: flags.FlagValues) -> None:
    """Defines `run_dir` and the flags of the recipe."""
    flags.DEFINE_string("run_dir", None, "Directory of the run.", flag_values=flag_values)
    define_recipe_flags(flag_values)


def define_recipe_flags(flag_values: flags.FlagValues) -> None:
    """Defines one flag for each field of `Recipe`."""
    for field in dataclasses.fields(Recipe):
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
        if base is None or flag_values[field.name].present
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
