"""What samples of rows look like beside the data: out of range, out of scale, not finite."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfp_distill.arrays import Array

__all__ = ["DataRange", "SampleQuality", "sample_quality"]

_TOLERANCE = 0.01
_BULK = (0.001, 0.999)


@dataclasses.dataclass(frozen=True, eq=False)
class DataRange:
    """The range and the scale of training data, column by column.

    Attributes:
      low: smallest value of each column `[D]`.
      high: largest value.
      mean: mean.
      scale: standard deviation; 1 where a column is constant.
      tolerance: how far beyond `low` and `high` a value may be, 1 % of what lies between the
        quantiles 0.001 and 0.999 of the column. Where data end at a hard edge a good flow goes
        beyond it by a little, and in many columns a large part of its samples would be outside.
    """

    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    tolerance: np.ndarray

    @classmethod
    def of_rows(cls, rows: Array) -> DataRange:
        """Returns the range of rows `[n, D]`, at least one and finite.

        Raises:
          ValueError: if they break these rules.
        """
        _check_rows("rows", rows)
        if len(rows) < 1:
            raise ValueError("`rows` must have at least 1 row, got 0.")
        columns = []
        for index in range(rows.shape[1]):  # A column at a time, because rows can be many.
            column = np.asarray(rows[:, index], np.float64)
            low, high = np.quantile(column, _BULK) if np.isfinite(column).all() else (0.0, 0.0)
            tolerance = _TOLERANCE * (high - low)
            columns.append((column.min(), column.max(), column.mean(), column.std(), tolerance))
        low, high, mean, scale, tolerance = np.array(columns, np.float64).T
        if not np.all(np.isfinite(high - low)):
            raise ValueError(f"`rows` must be finite, got values from {low} to {high}.")
        return cls(low, high, mean, np.where(scale > 0, scale, 1.0), tolerance)

    def outside(self, x: Array) -> np.ndarray:
        """Returns which rows `[m]` of x `[m, D]` are outside in any column, or not finite.

        x < low - tolerance  or  x > high + tolerance
        """
        _check_rows("x", x, len(self.low))
        x = np.asarray(x)
        low, high = self.low - self.tolerance, self.high + self.tolerance
        return ~np.all((x >= low) & (x <= high), axis=1)  # nan is nowhere inside.


@dataclasses.dataclass(frozen=True)
class SampleQuality:
    """Samples of a flow of rows beside its data.

    Attributes:
      num_samples: number of samples.
      num_non_finite: number of samples with a value that is not finite.
      outside: share of samples that are outside the range of the training data in any column, by
        more than its tolerance (`DataRange`); those that are not finite count as outside.
      held_out_outside: the same share of held-out data, which a perfect model would have too.
      largest_z: largest |x - mean| / scale of a finite value, with those of the training data; nan
        where there is none.
    """

    num_samples: int
    num_non_finite: int
    outside: float
    held_out_outside: float
    largest_z: float


def sample_quality(samples: Array, data_range: DataRange, held_out: Array) -> SampleQuality:
    """Compares samples with the range of the training data.

    Args:
      samples: samples `[m, D]` of a flow, at least one, in the user's units.
      data_range: `DataRange.of_rows` of the training data.
      held_out: held-out rows `[n, D]`, at least one: how many of the data are outside anyway.

    Raises:
      ValueError: if a shape breaks these rules.
    """
    for name, rows in (("samples", samples), ("held_out", held_out)):
        _check_rows(name, rows, len(data_range.low))
        if len(rows) < 1:
            raise ValueError(f"`{name}` must have at least 1 row, got 0.")
    samples = np.asarray(samples)
    finite = np.isfinite(samples)
    z = np.abs(samples.astype(np.float64) - data_range.mean) / data_range.scale
    return SampleQuality(
        num_samples=len(samples),
        num_non_finite=int(np.count_nonzero(~finite.all(axis=1))),
        outside=float(np.mean(data_range.outside(samples))),
        held_out_outside=float(np.mean(data_range.outside(held_out))),
        largest_z=float(np.max(z[finite])) if finite.any() else float("nan"),
    )


def _check_rows(name: str, rows: Array, dims: int | None = None) -> None:
    shape = np.shape(rows)
    if len(shape) != 2 or (dims is not None and shape[1] != dims):
        expected = f"('n', {'D' if dims is None else dims})"
        raise ValueError(f"`{name}` must have shape {expected}, got {shape}.")
