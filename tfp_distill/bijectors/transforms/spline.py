"""A monotonic rational-quadratic spline."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import tensorflow as tf

__all__ = ["SplineTransform"]

_SMALLEST_ROOT = 1e-12


class _Bin(NamedTuple):
    """The bin in which each of M numbers lies, and the derivatives at its ends, `[M]` each."""

    width: tf.Tensor
    height: tf.Tensor
    left: tf.Tensor
    bottom: tf.Tensor
    d_0: tf.Tensor
    d_1: tf.Tensor


class SplineTransform:
    """Monotonic rational-quadratic spline with linear tails (Durkan et al., 2019).

    [-B, B] is divided into K bins of x, with widths w_k, and of z, with heights h_k. In a bin that
    begins at (l, b), with slope s = h / w, with derivatives d_0 and d_1 at its ends, and with
    xi = (x - l) / w:

        z = b + h (s xi^2 + d_0 xi (1 - xi)) / q,     q = s + (d_0 + d_1 - 2 s) xi (1 - xi)
        dz/dx = s^2 (d_1 xi^2 + 2 s xi (1 - xi) + d_0 (1 - xi)^2) / q^2

    (arXiv:1906.04032, equations 4 and 5). The generative direction solves a quadratic for xi
    (equations 6 to 8). Outside of [-B, B] the map is the identity, and its derivative is 1 there.

    3K - 1 parameters: K of the widths and K of the heights, by softmax, and K - 1 of the inner
    derivatives, by softplus. No derivative at an end of a bin is smaller than `min_slope`, and no
    bin is smaller than min(min_slope, 0.1 / K) of the interval: the inverse divides the rounding of
    its argument by the slope.

    Args:
      num_bins: number K of bins, 2 to 100.
      tail_bound: B, positive.
      min_slope: bound of derivatives and of the sizes of bins, 1e-4 to 0.1.
    """

    def __init__(self, num_bins: int, tail_bound: float, min_slope: float = 0.01) -> None:
        _check(num_bins, tail_bound, min_slope)
        self._num_bins = num_bins
        self._bound = float(tail_bound)
        self._min_slope = float(min_slope)
        self._min_share = min(self._min_slope, 0.1 / num_bins)
        self.num_parameters = 3 * num_bins - 1

    def inverse_and_ildj(self, x: tf.Tensor, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """See `ScalarTransform`."""
        return self._map(self._normalize, x, parameters)

    def forward_and_fldj(self, z: tf.Tensor, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """See `ScalarTransform`."""
        return self._map(self._generate, z, parameters)

    def _map(self, function, value, parameters):
        """Applies a function of the numbers `[M]` inside of the tails, and of `[P, M]`.

        Sums over bins are fastest along a first axis.
        """
        shape = tf.shape(value)
        rows = tf.reshape(parameters, [-1, self.num_parameters, shape[-1]])
        first = tf.reshape(tf.transpose(rows, [1, 0, 2]), [self.num_parameters, -1])
        clipped = tf.clip_by_value(value, -self._bound, self._bound)
        mapped, log_derivative = (
            tf.reshape(result, shape) for result in function(tf.reshape(clipped, [-1]), first)
        )
        inside = tf.abs(value) < self._bound
        return tf.where(inside, mapped, value), tf.where(inside, log_derivative, 0.0)

    def _normalize(self, x, parameters):
        found = self._find_bin(x, parameters, by_height=False)
        xi = tf.clip_by_value((x - found.left) / found.width, 0.0, 1.0)
        slope, d_0, d_1 = found.height / found.width, found.d_0, found.d_1
        z = found.bottom + found.height * _progress(xi, slope, d_0, d_1)
        return z, _log_derivative(xi, slope, d_0, d_1)

    def _generate(self, z, parameters):
        found = self._find_bin(z, parameters, by_height=True)
        slope, d_0, d_1 = found.height / found.width, found.d_0, found.d_1
        # 0 = a xi^2 + b xi + c, solved without a difference of equals: where b < 0, a > 0.
        eta = tf.clip_by_value((z - found.bottom) / found.height, 0.0, 1.0)
        curvature = eta * (d_0 + d_1 - 2.0 * slope)
        a, b, c = slope - d_0 + curvature, d_0 - curvature, -slope * eta
        root = tf.sqrt(tf.maximum(b * b - 4.0 * a * c, _SMALLEST_ROOT))
        is_rising = b >= 0.0
        twice = tf.where(is_rising, b + root, root - b)
        a = tf.where(is_rising, tf.ones_like(a), a)
        xi = tf.where(is_rising, -2.0 * c / twice, twice / (2.0 * a))
        xi = tf.clip_by_value(xi, 0.0, 1.0)
        return found.left + found.width * xi, -_log_derivative(xi, slope, d_0, d_1)

    def _find_bin(self, value: tf.Tensor, parameters: tf.Tensor, *, by_height: bool) -> _Bin:
        """Returns the bin of each of `[M]` values, with gradients to the parameters `[P, M]`.

        The gradient is written out, because what automatic differentiation makes of softmax,
        cumulative sums and selection takes several times as long. With e_k = exp(u_k), their sum E,
        bin i and size_k = c_0 + c_1 e_k / E, start = c_0 i + c_1 sum_{j<i} e_j / E - B:

            dL/du_k = e_k (a_k - sum_j a_j e_j / E)
            a_k = c_1 / E (dL/dsize [k = i] + dL/dstart [k < i])

        In it, what is spread over the bins is the result of a division: XLA computes that once for
        each number, but a product, and all that leads to it, anew for every bin.
        """
        bins, bound = self._num_bins, self._bound
        smallest = 2.0 * bound * self._min_share
        rest = 2.0 * bound * (1.0 - self._min_share * bins)
        one = math.log(math.expm1(1.0 - self._min_slope))  # A raw derivative of 0 is one of 1.

        @tf.custom_gradient
        def find(value, parameters):
            number = tf.size(value)
            raw = tf.reshape(parameters[: 2 * bins], [2, bins, -1])
            raised = tf.exp(raw - tf.reduce_max(raw, axis=1, keepdims=True))
            total = tf.reduce_sum(raised, axis=1) / rest
            scale = 1.0 / total
            # `tf.cumsum` takes five times as long.
            first, *others, _ = tf.unstack(raised, axis=1)
            sums = itertools.accumulate(others, initial=first)
            before = tf.stack([tf.zeros_like(first), *sums], axis=1)
            count = tf.range(1, bins, dtype=value.dtype)[:, None]
            axis = int(by_height)
            knots = scale[axis] * before[axis, 1:] + (smallest * count - bound)
            index = tf.reduce_sum(tf.cast(value >= knots, value.dtype), axis=0)
            # Where bin i of each number is, were all bins in a row.
            place = tf.cast(index, tf.int32) * number + tf.range(number)
            own, own_before = (
                tf.gather(tf.reshape(all_of, [2, -1]), place, axis=1) for all_of in (raised, before)
            )
            ends = tf.reshape(tf.pad(parameters[2 * bins :], [[1, 1], [0, 0]]), [-1])
            raw_0, raw_1 = tf.gather(ends, place) + one, tf.gather(ends, place + number) + one
            found = (
                *tf.unstack(smallest + scale * own),
                *tf.unstack(smallest * index + scale * own_before - bound),
                self._min_slope + tf.nn.softplus(raw_0),
                self._min_slope + tf.nn.softplus(raw_1),
            )

            def gradient(width, height, left, bottom, d_0, d_1):
                count = tf.range(bins, dtype=value.dtype)[:, None]
                is_here, is_before = tf.equal(count, index), count < index
                gradients = []
                for axis, (size, start) in enumerate([(width, left), (height, bottom)]):
                    size, start = size / total[axis], start / total[axis]
                    mean = (size * own[axis] + start * own_before[axis]) / (rest * total[axis])
                    of_shares = tf.where(is_here, size, tf.where(is_before, start, 0.0))
                    gradients.append(raised[axis] * (of_shares - mean))
                d_0, d_1 = d_0 / (1.0 + tf.exp(-raw_0)), d_1 / (1.0 + tf.exp(-raw_1))
                gradients.append(tf.where(is_here[1:], d_0, tf.where(is_here[:-1], d_1, 0.0)))
                return None, tf.concat(gradients, axis=0)

            return found, gradient

        return _Bin(*find(value, parameters))


def _check(num_bins: int, tail_bound: float, min_slope: float) -> None:
    """Raises `ValueError` unless the sizes of a spline are usable."""
    if not isinstance(num_bins, int) or isinstance(num_bins, bool) or not 2 <= num_bins <= 100:
        raise ValueError(f"`num_bins` must be an integer from 2 to 100, got {num_bins!r}.")
    if not (math.isfinite(tail_bound) and tail_bound > 0):
        raise ValueError(f"`tail_bound` must be positive and finite, got {tail_bound}.")
    if not 1e-4 <= min_slope <= 0.1:
        raise ValueError(f"`min_slope` must be from 1e-4 to 0.1, got {min_slope}.")


def _progress(xi, slope, d_0, d_1):
    both = xi * (1.0 - xi)
    return (slope * xi * xi + d_0 * both) / (slope + (d_0 + d_1 - 2.0 * slope) * both)


def _log_derivative(xi, slope, d_0, d_1):
    """Returns log dz/dx at the part xi of the bin."""
    both, rest = xi * (1.0 - xi), 1.0 - xi
    below = slope + (d_0 + d_1 - 2.0 * slope) * both
    above = d_1 * xi * xi + 2.0 * slope * both + d_0 * rest * rest
    return 2.0 * tf.math.log(slope / below) + tf.math.log(above)
