"""A look at the columns of a table before anything is trained on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from tfp_distill.columns import LARGEST_INTEGER
from tfp_distill.data.tables.dependence import find_dependent

__all__ = [
    "ColumnLook",
    "look_at",
    "rising_columns",
]

_SAMPLE = 100_000
_DISCRETE = ("two values", "integers", "atoms", "steps")
_FEWEST_ROWS = 10  # Fewer rise by chance.
_ATOM_SHARE, _ATOM_ROWS = 0.1, 5
_ROWS_A_STEP = 10
_MERGED, _COARSE = 0.99, 5e-5  # Values that float32 keeps; its error, of the width of the bulk.
_OFFSET = 10  # Deviations, from 0 to the mean.
_BULK = (0.005, 0.995)
_EDGE, _EDGE_SHARE = 0.02, 0.005
_CIRCLES = (1, 2, np.pi, 2 * np.pi, 12, 24, 180, 360)


@dataclasses.dataclass(frozen=True)
class ColumnLook:
    """What a column of the training rows looks like.

    Attributes:
      name: Of the column.
      minimum: Its smallest value.
      maximum: Its largest value.
      distinct: Number of distinct values, among at most 100,000 rows that are drawn.
      commonest: The value that most rows have.
      share: The share of the rows that have it.
      resolution: The smallest gap between distinct values, over the standard deviation.
      kind: What it is taken for: "constant", "two values", "integers" (of at most 2^20 in size),
        "atoms" (some values are common), "steps" (few values), "bounded" (cut off at both ends),
        "extreme values" or "continuous".
      is_cut_off: Whether many values lie at both ends, beyond which there are none.
      is_condition: Whether it conditions the flow; its own density is not modelled then.
      note: What to mind, if anything.
      problem: Why no flow can model it, and what helps; empty if one can.
    """

    name: str
    minimum: float
    maximum: float
    distinct: int
    commonest: float
    share: float
    resolution: float
    kind: str
    is_cut_off: bool = False
    is_condition: bool = False
    note: str = ""
    problem: str = ""

    @property
    def is_discrete(self) -> bool:
        """Whether the likelihood has no bound, because a flow can put peaks on single values."""
        return self.kind in _DISCRETE and not self.is_condition


def look_at(
    names: Sequence[str],
    rows: np.ndarray,
    *,
    conditions: Collection[str] = (),
    rising: Mapping[str, str] | None = None,
) -> tuple[ColumnLook, ...]:
    """Looks at each column alone, then at which ones follow from others.

    Args:
      names: Of the D columns.
      rows: The training rows, finite, `[n, D]`; of the type of their file, so that what float32
        makes of them can be told.
      conditions: Names of the columns that condition the flow.
      rising: What `rising_columns` found in the order of the file.

    Returns:
      A look for each column.
    """
    sample = _draw(rows)
    looks = [_look_at_column(name, rows[:, i], sample[:, i]) for i, name in enumerate(names)]
    order = sorted(range(len(names)), key=lambda i: names[i] not in conditions)
    usable = [i for i in order if not looks[i].problem]
    found = find_dependent([names[i] for i in usable], rows, usable)
    for i, name in enumerate(names):
        look = dataclasses.replace(looks[i], is_condition=name in conditions)
        text = (rising or {}).get(name, "")
        if not look.problem and name in found and name not in conditions:
            look = dataclasses.replace(look, problem=found[name])
        if not look.problem and text:
            look = dataclasses.replace(look, note=text)
        looks[i] = look
    return tuple(looks)


def rising_columns(names: Sequence[str], values: np.ndarray) -> tuple[set[str], dict[str, str]]:
    """Finds columns that number the rows, and others that rise from row to row.

    Args:
      names: Of the D columns.
      values: All rows in the order of the file, `[n, D]`.

    Returns:
      The names of columns that number the rows, and notes about the others by name.
    """
    numbering: set[str] = set()
    notes: dict[str, str] = {}
    if len(values) < _FEWEST_ROWS:
        return numbering, notes
    for i, name in enumerate(names):
        # Most columns fall within the first rows, so that few are read as a whole.
        for number in (_FEWEST_ROWS, len(values)):
            steps = np.diff(values[:number, i].astype(np.float64))
            if not (steps > 0).all():
                break
        else:
            # The index of a table of which rows were left out has gaps.
            is_whole = (values[:, i] == np.floor(values[:, i])).all()
            if (steps == 1).all() or (is_whole and name.startswith("Unnamed: ")):
                numbering.add(name)
            else:
                notes[name] = "rises from row to row: a time or an id? `split` can be by_order"
    return numbering, notes


def _draw(rows: np.ndarray) -> np.ndarray:
    if len(rows) <= _SAMPLE:
        return rows
    places = np.random.default_rng(0).choice(len(rows), _SAMPLE, replace=False)
    return rows[np.sort(places)]


def _look_at_column(name: str, column: np.ndarray, sample: np.ndarray) -> ColumnLook:
    low, high = column.min(), column.max()
    values, counts = np.unique(sample, return_counts=True)
    place = counts.argmax()
    # Sums in float64: a column may be float32 or integers of a few bits.
    mean, scale = column.mean(dtype=np.float64), column.std(dtype=np.float64)
    gap = np.diff(values.astype(np.float64)).min() if len(values) > 1 else 0.0
    look = ColumnLook(
        name=name,
        minimum=float(low),
        maximum=float(high),
        distinct=len(values),
        commonest=float(values[place]),
        share=float(counts[place] / len(sample)),
        resolution=float(gap / scale) if scale else 0.0,
        kind="constant",
    )
    if low == high:
        return dataclasses.replace(look, problem=f"is constant ({low:g}) in the training rows")
    bulk = np.subtract(*np.quantile(sample.astype(np.float64), _BULK[::-1])) / scale
    standardized = (values.astype(np.float32) - np.float32(mean)) / np.float32(scale)
    rounding = np.median(np.abs(standardized - (values.astype(np.float64) - mean) / scale))
    num_left = len(np.unique(standardized))
    fewer = f"float32 makes {num_left:,} values of {look.distinct:,}"
    are_merged = num_left < _MERGED * len(values)
    if are_merged and rounding > _COARSE * bulk:
        problem = _merged(look, mean, scale, fewer)
        return dataclasses.replace(look, kind="merged", problem=problem)
    look = dataclasses.replace(look, is_cut_off=_is_cut_off(look, sample))
    kind, note = _kind(look, sample, values, counts[place], bulk)
    return dataclasses.replace(look, kind=kind, note=(note or fewer) if are_merged else note)


def _merged(look: ColumnLook, mean: float, scale: float, fewer: str) -> str:
    farthest = max(look.minimum, look.maximum, key=abs)
    if abs(mean) < _OFFSET * scale:
        return (
            f"has outliers as far as {farthest:g}, beside which {fewer}: leave those rows out, or "
            "take a logarithm"
        )
    return (
        f"holds numbers as large as {farthest:.15g} that differ by little, and {fewer}: subtract "
        "their minimum, or leave the column out if it is an id or a time"
    )


def _kind(
    look: ColumnLook, sample: np.ndarray, values: np.ndarray, most: int, bulk: float
) -> tuple[str, str]:
    """Returns what a column that a flow can model looks like, and what to mind."""
    if look.distinct == 2:
        return "two values", f"only {values[0]:g} and {values[1]:g}"
    are_whole = (values == np.floor(values)).all()
    if are_whole and max(abs(look.minimum), abs(look.maximum)) <= LARGEST_INTEGER:
        return "integers", ""
    if look.share >= _ATOM_SHARE and most >= _ATOM_ROWS:
        return "atoms", f"{look.share:.0%} are {look.commonest:g}"
    if look.distinct * _ROWS_A_STEP <= len(sample):
        return "steps", f"few values, {_ROWS_A_STEP} rows or more for each"
    if 0 < bulk < 1:
        return "extreme values", "99% of the rows within less than a deviation: a logarithm?"
    if look.is_cut_off:
        return "bounded", _bounded(look)
    return "continuous", "large integers" if are_whole else ""


def _is_cut_off(look: ColumnLook, sample: np.ndarray) -> bool:
    width = _EDGE * (look.maximum - look.minimum)
    edges = (sample < look.minimum + width).mean(), (sample > look.maximum - width).mean()
    return len(sample) >= 1 / _EDGE_SHARE and min(edges) >= _EDGE_SHARE


def _bounded(look: ColumnLook) -> str:
    length = look.maximum - look.minimum
    if any(0.98 * circle < length <= circle for circle in _CIRCLES[2:]):
        return "an angle or a time of day? for a flow its two ends are far apart"
    return "cut off at both ends, beyond which a flow leaks"
