"""What kinds of numbers the columns of a table hold, and how a flow's numbers become those."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_distill.arrays import Array
from tfp_distill.pixels import uniform_noise

__all__ = ["COLUMN_KINDS", "LARGEST_INTEGER", "Columns", "DequantizedRows", "are_integers"]

COLUMN_KINDS = ("continuous", "integer", "bounded")
LARGEST_INTEGER = 2**20  # float32 leaves four bits or more for the noise.
_MARGIN = 1e-3


def are_integers(x: np.ndarray) -> np.ndarray:
    """Returns which columns of `x` `[n, D]` hold integers of at most `LARGEST_INTEGER` in size."""
    return np.all((x == np.floor(x)) & (abs(x) <= LARGEST_INTEGER), axis=0)


@dataclasses.dataclass(frozen=True)
class Columns:
    """The kinds of the D columns of a table; a flow that has them undoes them in its samples.

    - "continuous": any number.
    - "integer": a whole number k. A flow models k + u with u uniform in [0, 1), so that its mean
      log-likelihood is a lower bound of the log-probability of the integers (Theis, van den Oord
      and Bethge, 2016, arXiv:1511.01844, section 3.1) and has a bound; samples are rounded down.
      The noise is drawn where batches are made, once for teacher and student (`dequantize`).
    - "bounded": between two bounds, themselves included. A flow models

          y = log((x - a) / (b - x)),   a = low - m,   b = high + m,   m = (high - low) / 1000

      whose log-determinant is part of the likelihood. The margin m keeps y of the bounds finite
      (7 or less in size); samples that fall into it are moved to the bound. Beyond a and b the
      density is 0 and the log-likelihood -inf.

    Integers can have bounds too: k + u is then between low and high + 1.

    Attributes:
      kinds: one of `COLUMN_KINDS` for each column.
      bounds: `(low, high)` of a bounded column, or of an integer one that has bounds; else None.

    Raises:
      ValueError: if a value breaks these rules.
    """

    kinds: tuple[str, ...]
    bounds: tuple[tuple[float, float] | None, ...] = ()

    def __post_init__(self) -> None:
        kinds = tuple(self.kinds)
        # Lists, where they come from a saved file.
        bounds = tuple(None if b is None else tuple(map(float, b)) for b in self.bounds)
        object.__setattr__(self, "kinds", kinds)
        object.__setattr__(self, "bounds", bounds or (None,) * len(kinds))
        if not kinds or not set(kinds) <= set(COLUMN_KINDS):
            raise ValueError(f"`kinds` must be of {', '.join(COLUMN_KINDS)}, got {kinds}.")
        if len(self.bounds) != len(kinds):
            raise ValueError(f"`bounds` must be {len(kinds)} as `kinds`, got {len(self.bounds)}.")
        for kind, bound in zip(kinds, self.bounds, strict=True):
            _check_bound(kind, bound)

    @property
    def dims(self) -> int:
        """Number D of columns."""
        return len(self.kinds)

    @property
    def is_integer(self) -> np.ndarray:
        """Which columns hold integers, bool `[D]`."""
        return np.array([kind == "integer" for kind in self.kinds])

    @property
    def num_integers(self) -> int:
        """Number of columns of integers."""
        return self.kinds.count("integer")

    @property
    def intervals(self) -> tuple[tuple[float, float] | None, ...]:
        """The open interval (a, b) of what a flow models in each column; None for all numbers."""
        found: list[tuple[float, float] | None] = []
        for kind, bound in zip(self.kinds, self.bounds, strict=True):
            if bound is None:
                found.append(None)
                continue
            low, high = bound[0], bound[1] + (kind == "integer")
            margin = _MARGIN * (high - low)
            found.append((low - margin, high + margin))
        return tuple(found)

    def dequantize(self, x: Array, *, seed: Any, first: Any = 0) -> tf.Tensor:
        """Returns rows with uniform noise on the integers, that of `seed` and the place alone.

        Noise that is there already is replaced: k + u becomes k + u'.

        Args:
          x: rows `[n, D]`.
          seed: equal seeds give equal noise; an integer or a tensor of one.
          first: place of the first row in the seed's sequence, an integer or int64 tensor.
        """
        x = tf.convert_to_tensor(x)
        if not self.num_integers:
            return x
        noise = tf.cast(uniform_noise(x, seed=seed, first=first), x.dtype)
        return self._above_floor(x, noise)

    def midpoints(self, x: Array) -> tf.Tensor:
        """Returns rows `[..., D]` with k + 1/2 for the integers k: without noise."""
        x = tf.convert_to_tensor(x)
        return self._above_floor(x, tf.constant(0.5, x.dtype)) if self.num_integers else x

    def quantize(self, x: Array) -> tf.Tensor:
        """Returns rows `[..., D]` of a flow as those of the table; the inverse of `dequantize`.

        Integers are rounded down, and what has bounds is moved into them.
        """
        x = tf.convert_to_tensor(x)
        x = tf.where(self.is_integer, tf.floor(x), x) if self.num_integers else x
        if not any(self.bounds):
            return x
        ends = [(-math.inf, math.inf) if b is None else b for b in self.bounds]
        low, high = np.array(ends).T
        low, high = tf.constant(low, x.dtype), tf.constant(high, x.dtype)
        # Not `clip_by_value`, which leaves open what becomes of nan.
        x = tf.where(x < low, low, x)
        return tf.where(x > high, high, x)

    def outside(self, x: np.ndarray) -> np.ndarray:
        """Returns how many values of each column of rows `[n, D]` no such flow can make, `[D]`."""
        ends = [(-math.inf, math.inf) if i is None else i for i in self.intervals]
        low, high = np.array(ends).T
        # The whole step of an integer, from k to k + 1, is inside or outside.
        x = np.where(self.is_integer, np.floor(x) + 0.5, x)
        return np.count_nonzero((x <= low) | (x >= high), axis=0)

    def check_noise(self, x: Array) -> None:
        """Raises `ValueError` if no integer of rows `x` `[n, D]` has noise.

        The likelihood that a training makes of such rows has no bound.
        """
        integers = np.asarray(x)[:, self.is_integer]
        if integers.size and np.all(integers == np.floor(integers)):
            raise ValueError(
                "`x` must have noise on its integers, as `training_batches(..., "
                "domain=flow.config.domain)` draws, got whole numbers."
            )

    def describe(self, index: int) -> str:
        """Returns what a column is taken for, in a word or two."""
        kind, bound = self.kinds[index], self.bounds[index]
        return kind if bound is None else f"{kind}, {bound[0]:g} to {bound[1]:g}"

    def _above_floor(self, x: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
        floor = tf.floor(x)
        # A large integer leaves few digits: the sum must not be rounded up to the next one.
        moved = tf.minimum(floor + offset, tf.math.nextafter(floor + 1, floor))
        return tf.where(self.is_integer, moved, x)


class DequantizedRows:
    """Rows as a flow takes them, made when they are asked for; as `DequantizedImages`.

    Args:
      rows: `[n, D]`.
      columns: their kinds.
      draw: which draw of the noise; each is a function of the place of a row alone.
    """

    def __init__(self, rows: Array, columns: Columns, *, draw: int = 0) -> None:
        self._rows = rows
        self._columns = columns
        self._draw = draw

    @property
    def shape(self) -> tuple[int, ...]:
        """`(n, D)`."""
        return tuple(self._rows.shape)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._rows)

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Returns consecutive rows `[m, D]`, with noise."""
        first, _, step = rows.indices(len(self))
        if step != 1:
            raise ValueError(f"`rows` must be a slice of step 1, got step {step}.")
        with tf.device("CPU:0"):
            own = np.asarray(self._rows[rows])
            return self._columns.dequantize(own, seed=self._draw, first=first).numpy()


def _check_bound(kind: str, bound: Sequence[float] | None) -> None:
    if (bound is None and kind == "bounded") or (bound is not None and kind == "continuous"):
        rule = "given" if bound is None else "None"
        raise ValueError(f"`bounds` of a column that is {kind} must be {rule}, got {bound}.")
    if bound is None:
        return
    low, high = bound if len(bound) == 2 else (math.nan, math.nan)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"`bounds` must be finite numbers low < high, got {bound}.")
    if kind == "integer" and not (low.is_integer() and high.is_integer()):
        raise ValueError(f"`bounds` of integers must be integers, got {bound}.")
