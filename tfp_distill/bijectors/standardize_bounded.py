"""The map between the user's units and standardised data, where columns have bounds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfp_distill.bijectors.standardize import Standardize

__all__ = ["StandardizeBounded"]


class StandardizeBounded(Standardize):
    """Maps columns with bounds to all real numbers, then standardises.

        normalizing:  y = log((x - a) / (b - x)),   z = (y - mean) / scale
        generative:   y = mean + z * scale,         x = a + (b - a) sigmoid(y)

    for a column in the open interval (a, b), and y = x for others. With the log-determinants

        ildj = sum_d log((b - a) / ((x - a) (b - x))) - sum_d log scale
        fldj = sum_d log((b - a) sigmoid(y) sigmoid(-y)) + sum_d log scale

    the first sums over columns with bounds alone. Beyond its interval x has no density: ildj is
    -inf, and z is finite. `mean` and `scale` are those of y; a difference of data is measured in
    units of the scale of x, which the layer keeps too.

    Args:
      intervals: (a, b) of each of the D columns; None for a column without bounds.
      name: name of the bijector and of its layer.
    """

    def __init__(
        self, intervals: Sequence[tuple[float, float] | None], *, name: str = "standardize"
    ) -> None:
        dims = len(intervals)
        super().__init__(
            dims, name=name, fixed={"units": np.ones(dims)}, is_constant_jacobian=False
        )
        self._has_bounds = np.array([interval is not None for interval in intervals])
        # What other columns get is not used, but has no nan whose gradient would be.
        self._low, self._high = np.array([(0.0, 1.0) if i is None else i for i in intervals]).T

    def set_units(self, units: np.ndarray) -> None:
        """Replaces the units of differences, the scale `[D]` of the data in the user's units."""
        self._weights.units.assign(units)

    def in_units_of_scale(self, difference: tf.Tensor) -> tf.Tensor:
        """Returns a difference of two data points in units of the scale of the data."""
        return difference / self._weights.units.value

    def unbounded(self, x: tf.Tensor) -> tf.Tensor:
        """Returns y `[batch, D]`, which is standardised, for data x."""
        return self._to_y(tf.convert_to_tensor(x))[0]

    def _inverse_and_ildj(self, x, condition):
        y, log_slope = self._to_y(x)
        z, ildj = super()._inverse_and_ildj(y, condition)
        return z, ildj + log_slope

    def _forward_and_fldj(self, z, condition):
        y, fldj = super()._forward_and_fldj(z, condition)
        low, high = self._ends(y)
        width = high - low
        # From the nearer end, where float32 has more digits left.
        x = tf.where(y < 0, low + width * tf.sigmoid(y), high - width * tf.sigmoid(-y))
        log_slope = tf.math.log(width) + tf.math.log_sigmoid(y) + tf.math.log_sigmoid(-y)
        x = tf.where(self._has_bounds, x, y)
        return x, fldj + self._sum(log_slope)

    def _to_y(self, x):
        """Returns y, and the sum of log dy/dx `[batch]`."""
        low, high = self._ends(x)
        is_inside = (x > low) & (x < high)
        inner = tf.where(is_inside, x, 0.5 * (low + high))
        below, above = tf.math.log(inner - low), tf.math.log(high - inner)
        log_slope = tf.math.log(high - low) - below - above
        outside = tf.constant(-np.inf, x.dtype)
        y = tf.where(self._has_bounds, below - above, x)
        return y, self._sum(tf.where(is_inside, log_slope, outside))

    def _ends(self, x):
        return tf.constant(self._low, x.dtype), tf.constant(self._high, x.dtype)

    def _sum(self, log_slope):
        """Sums over the columns that have bounds."""
        return tf.reduce_sum(tf.where(self._has_bounds, log_slope, 0.0), axis=-1)
