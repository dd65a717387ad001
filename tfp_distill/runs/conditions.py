"""The conditions of samples: as a person gives them, from a table, or those of the test data."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Sequence

import numpy as np

from tfp_distill.data import FlowData, read_rows

__all__ = ["conditions_of_samples"]


def conditions_of_samples(
    asked: Sequence[str], data: FlowData | None, number: int
) -> np.ndarray | None:
    """Returns the condition of each sample, `[number, C]`; None for data without conditions.

    Args:
      asked: `NAME=VALUE` of every condition, one condition for all samples; or the path of a table
        that has these columns, whose rows are used in turn; empty for those of the test data.
      data: has the names; None for images.
      number: number of samples.

    Raises:
      ValueError: if there are no conditions, or others than those of the data are given.
    """
    names = () if data is None else data.condition_names
    if data is None or not names:
        if asked:
            got = ",".join(asked)
            raise ValueError(f"`condition` must be empty for data without any, got {got!r}.")
        return None
    if not asked and data.test_condition is not None:
        rows = data.test_condition
    elif len(asked) == 1 and "=" not in asked[0]:
        path = pathlib.Path(asked[0]).expanduser()
        if not path.is_file():
            raise ValueError(
                f"`condition` must be NAME=VALUE of {', '.join(names)}, or an existing table, "
                f"got {asked[0]!r}."
            )
        rows = read_rows(path, names, argument="condition")
    else:
        rows = np.array([_values(asked, names)], np.float32)
    return np.resize(rows, (number, len(names)))


def _values(asked: Sequence[str], names: Sequence[str]) -> list[float]:
    values = {}
    for item in asked:
        name, _, text = item.rpartition("=")
        try:
            values[name] = float(text)
        except ValueError:
            values[name] = math.nan
    known = all(map(math.isfinite, values.values()))
    if not known or set(values) != set(names) or len(values) < len(asked):
        raise ValueError(
            f"`condition` must be NAME=VALUE, a finite number, of each of {', '.join(names)}, "
            f"got {','.join(asked)!r}."
        )
    return [values[name] for name in names]
