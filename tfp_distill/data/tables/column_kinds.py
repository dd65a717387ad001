"""Which kinds of columns a table has: as a person says, or as they look."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from tfp_distill.columns import COLUMN_KINDS, LARGEST_INTEGER, Columns, are_integers
from tfp_distill.data.tables.look import ColumnLook

__all__ = ["choose_columns"]

_AUTO, _CONTINUOUS = _BASES = ("auto", "continuous")
_ITEM = re.compile(rf"(.+?):({'|'.join(COLUMN_KINDS)})(?::([^:]+):([^:]+))?")
# What people measure in, and how near to both ends values must come to be taken for it.
_SCALES = (1.0, np.pi, 2 * np.pi, 10.0, 12.0, 24.0, 90.0, 100.0, 180.0, 360.0)
_NEAR = 0.02
_RULE = (
    "`column_kinds` must be auto, continuous, or NAME:KIND or NAME:KIND:LOW:HIGH of columns that "
    f"are modelled, KIND being {', '.join(COLUMN_KINDS)}"
)


def choose_columns(
    kinds: Sequence[str],
    names: Sequence[str],
    parts: Sequence[np.ndarray],
    look: Sequence[ColumnLook],
) -> Columns | None:
    """Returns the kinds of columns that are to be modelled.

    - `"auto"`: what look like integers, or 0 and 1, are integers, up to 2^20 in size; those that
      are cut off at both ends have bounds, as what looks bounded has. Bounds are 0 and c, or
      -c and c, where values come within 2 % of both and c is 1, 10, 100, or a number that angles
      or times end with; else the smallest and the largest value of *all* rows, so that no held-out
      row is impossible.
    - `"continuous"`: every column is continuous.
    - `"NAME:KIND"` or `"NAME:KIND:LOW:HIGH"`: that column is of that kind, with the bounds of its
      values or those that are given. Columns that are not named are continuous, or, with `"auto"`
      before, what they look like.

    Args:
      kinds: what was asked for, see above.
      names: of the D columns that are modelled.
      parts: all rows, training, validation and test, `[n, D]` each.
      look: what columns look like, also of columns that are not modelled.

    Returns:
      The kinds; None where all columns are continuous.

    Raises:
      ValueError: if an item is none of these, or values do not fit the kind that was asked for.
    """
    base, items = _parse(kinds)
    if unknown := [name for name in items if name not in names]:
        raise ValueError(f"{_RULE}, {', '.join(names)}; got {', '.join(unknown)}.")
    looks = {column.name: column for column in look}
    chosen = []
    for index, name in enumerate(names):
        values = [part[:, index] for part in parts]
        if name in items:
            chosen.append(_as_asked(name, *items[name], values))
        elif base == _AUTO and name in looks:
            chosen.append(_as_it_looks(looks[name], values))
        else:
            chosen.append((_CONTINUOUS, None))
    columns = Columns(*zip(*chosen, strict=True))
    return None if set(columns.kinds) == {_CONTINUOUS} else columns


def _parse(kinds: Sequence[str]) -> tuple[str, dict[str, tuple[str, tuple[float, float] | None]]]:
    base, items = _CONTINUOUS, {}
    for place, text in enumerate(kinds):
        if text in _BASES and place == 0:
            base = text
            continue
        match = _ITEM.fullmatch(text)
        if match is None or match[1] in items:
            raise ValueError(f"{_RULE}, one for each; got {text!r}.")
        try:
            bounds = None if match[3] is None else (float(match[3]), float(match[4]))
        except ValueError:
            raise ValueError(f"{_RULE}; got {text!r}, whose bounds are no numbers.") from None
        items[match[1]] = match[2], bounds
    return base, items


def _as_asked(
    name: str, kind: str, bounds: tuple[float, float] | None, values: Sequence[np.ndarray]
) -> tuple[str, tuple[float, float] | None]:
    if kind == "integer" and not all(map(are_integers, values)):
        raise ValueError(
            f"`column_kinds` must be continuous or bounded for {name!r}, which holds other numbers "
            f"than integers of at most {LARGEST_INTEGER:,} in size, got integer."
        )
    low, high = _ends(values)
    if bounds is None:
        return kind, (low, high) if kind == "bounded" else None
    if not bounds[0] <= low <= high <= bounds[1]:
        raise ValueError(
            f"`column_kinds` must have bounds of {name!r} that hold all its values, from {low:g} "
            f"to {high:g}, got {bounds[0]:g} to {bounds[1]:g}."
        )
    return kind, bounds


def _as_it_looks(
    look: ColumnLook, values: Sequence[np.ndarray]
) -> tuple[str, tuple[float, float] | None]:
    ends = _ends(values)
    if look.kind == "bounded":
        return "bounded", _natural(*ends)
    looks_whole = look.kind == "integers" or (look.kind == "two values" and ends[1] - ends[0] == 1)
    if not looks_whole or not all(map(are_integers, values)):
        return _CONTINUOUS, None
    return "integer", ends if look.is_cut_off else None


def _natural(low: float, high: float) -> tuple[float, float]:
    """Returns the bounds that values from `low` to `high` probably have."""
    for c in _SCALES:
        for start, end in ((0.0, c), (-c, c)):
            room = _NEAR * (end - start)
            if start <= low <= start + room and end - room <= high <= end:
                return start, end
    return low, high


def _ends(values: Sequence[np.ndarray]) -> tuple[float, float]:
    own = [part for part in values if len(part)]
    return float(min(part.min() for part in own)), float(max(part.max() for part in own))
