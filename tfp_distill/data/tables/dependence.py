"""Columns that follow exactly from others, on which a likelihood has no bound."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["find_dependent"]

_MAX_COLUMNS = 1000  # The time grows with the third power.
_FEWEST_ROWS = 4096
_ROWS_A_COLUMN = 4
_TOLERANCE = 1e-5  # Of a standard deviation: what reading, adding and float32 leave.
_SHOWN = 4
_BLOCK = 50_000


def find_dependent(names: Sequence[str], rows: np.ndarray, places: Sequence[int]) -> dict[str, str]:
    """Finds columns that are a linear function of those before them, in all rows.

        x_j = b + sum_{i < j} a_i x_i

    Standardised, they have no b. Candidates come from a QR decomposition of a sample, in which the
    rest of such a column is 0; each is then tried on all rows. With more than 1,000 columns, or not
    more rows than columns, none are looked for.

    Args:
      names: Of the columns that are looked at.
      rows: `[n, D]`, finite.
      places: Where the columns are in `rows`; none is constant.

    Returns:
      What is wrong with a column, by its name.
    """
    number = len(places)
    if number < 2 or number > _MAX_COLUMNS or len(rows) < number + 2:
        return {}
    size = min(len(rows), max(_FEWEST_ROWS, _ROWS_A_COLUMN * number))
    drawn = np.random.default_rng(0).choice(len(rows), size, replace=False)
    means = np.array([rows[:, place].mean(dtype=np.float64) for place in places])
    scales = np.array([rows[:, place].std(dtype=np.float64) for place in places])

    def standardize(some: np.ndarray) -> np.ndarray:
        return (some[:, places].astype(np.float64) - means) / scales

    sample = standardize(rows[np.sort(drawn)])
    rest = np.abs(np.diag(np.linalg.qr(sample, mode="r"))) / size**0.5
    candidates = np.flatnonzero(rest < _TOLERANCE)
    found: dict[str, str] = {}
    for j in map(int, candidates):
        before = np.array([i for i in range(j) if names[i] not in found], int)
        if not len(before):
            continue
        factors = np.linalg.lstsq(sample[:, before], sample[:, j], rcond=None)[0]
        squares = 0.0
        for start in range(0, len(rows), _BLOCK):
            block = standardize(rows[start : start + _BLOCK])
            squares += np.sum((block[:, j] - block[:, before] @ factors) ** 2)
        if squares <= _TOLERANCE**2 * len(rows):
            found[names[j]] = _describe(names, rows, places, j, before, factors)
    return found


def _describe(
    names: Sequence[str],
    rows: np.ndarray,
    places: Sequence[int],
    j: int,
    before: np.ndarray,
    factors: np.ndarray,
) -> str:
    order = np.argsort(-np.abs(factors))
    used = [i for i in order if abs(factors[i]) > 1e-3]
    others = [names[before[i]] for i in used]
    if len(others) == 1:
        same = np.array_equal(rows[:, places[j]], rows[:, places[before[used[0]]]])
        return f"is {'the same as' if same else 'a linear function of'} {others[0]!r}"
    shown = ", ".join(map(repr, others[:_SHOWN]))
    more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
    return f"is a sum of multiples of {shown}{more}"
