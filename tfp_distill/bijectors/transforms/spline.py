"""A monotonic rational-quadratic spline."""

from __future__ import annotations

import math
from typing import NamedTuple

import tensorflow as tf

__all__ = ["SplineTransform", "check_spline"]

_SMALLEST_BIN = 1e-3
_SMALLEST_DERIVATIVE = 1e-3


class _Bin(NamedTuple):
    """The bin in which a number lies, `[..., C]` each.

    `raw_left` and `raw_right` are what the conditioner says of the derivatives at its ends.
    """

    width: tf.Tensor
    height: tf.Tensor
    left: tf.Tensor
    bottom: tf.Tensor
    raw_left: tf.Tensor
    raw_right: tf.Tensor


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
    derivatives, by softplus. No bin is smaller than 1e-3 of the interval, no derivative smaller
    than 1e-3, so that slopes are within [1e-3, 1e3].

    Args:
      num_bins: number K of bins, 2 to 100.
      tail_bound: B, positive.
    """

    def __init__(self, num_bins: int, tail_bound: float) -> None:
        check_spline(num_bins, tail_bound)
        self._num_bins = num_bins
        self._bound = float(tail_bound)
        self.num_parameters = 3 * num_bins - 1

    def inverse_and_ildj(self, x: tf.Tensor, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """See `ScalarTransform`."""
        clipped = tf.clip_by_value(x, -self._bound, self._bound)
        found = self._find_bin(clipped, parameters, by_height=False)
        xi = tf.clip_by_value((clipped - found.left) / found.width, 0.0, 1.0)
        slope, d_0, d_1 = _slopes(found)
        z = found.bottom + found.height * _progress(xi, slope, d_0, d_1)
        return self._with_tails(x, z, _log_derivative(xi, slope, d_0, d_1))

    def forward_and_fldj(self, z: tf.Tensor, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """See `ScalarTransform`."""
        clipped = tf.clip_by_value(z, -self._bound, self._bound)
        found = self._find_bin(clipped, parameters, by_height=True)
        slope, d_0, d_1 = _slopes(found)
        # 0 = a xi^2 + b xi + c, solved without a difference of equals: where b < 0, a > 0.
        eta = tf.clip_by_value((clipped - found.bottom) / found.height, 0.0, 1.0)
        curvature = eta * (d_0 + d_1 - 2.0 * slope)
        a, b, c = slope - d_0 + curvature, d_0 - curvature, -slope * eta
        root = tf.sqrt(tf.maximum(b * b - 4.0 * a * c, _SMALLEST_DERIVATIVE**4))
        is_rising = b >= 0.0
        twice = tf.where(is_rising, b + root, root - b)
        xi = tf.where(is_rising, -2.0 * c / twice, twice / (2.0 * tf.where(is_rising, 1.0, a)))
        xi = tf.clip_by_value(xi, 0.0, 1.0)
        x = found.left + found.width * xi
        return self._with_tails(z, x, -_log_derivative(xi, slope, d_0, d_1))

    def _with_tails(self, value, mapped, log_derivative):
        inside = tf.abs(value) < self._bound
        return tf.where(inside, mapped, value), tf.where(inside, log_derivative, 0.0)

    def _find_bin(self, value: tf.Tensor, parameters: tf.Tensor, *, by_height: bool) -> _Bin:
        """Returns the bin of each value, with gradients to the parameters.

        The gradient is written out, because what automatic differentiation makes of softmax,
        cumulative sums and selection takes several times as long. With p = softmax(u), bin i and
        size_k = c_0 + c_1 p_k, start = c_0 i + c_1 sum_{j<i} p_j - B:

            dL/du_k = p_k (a_k - sum_j a_j p_j),    a_k = c_1 (dL/dsize [k = i] + dL/dstart [k < i])
        """
        bins, bound = self._num_bins, self._bound
        smallest = 2.0 * bound * _SMALLEST_BIN
        rest = 2.0 * bound * (1.0 - _SMALLEST_BIN * bins)

        @tf.custom_gradient
        def find(value, parameters):
            raw = parameters[..., 2 * bins :, :]
            shares = _softmax(_both(parameters[..., : 2 * bins, :], bins))  # [..., 2, K, C]
            count = tf.range(1, bins, dtype=value.dtype)[:, None]
            knots = rest * tf.cumsum(shares[..., int(by_height), :-1, :], axis=-2)
            passed = tf.cast(value[..., None, :] >= knots + (smallest * count - bound), value.dtype)
            ends = tf.ones_like(passed[..., :1, :])
            before = tf.concat([passed, tf.zeros_like(ends)], axis=-2)  # [k < i]
            here = tf.concat([ends, passed], axis=-2) - before  # [k = i]
            share = tf.reduce_sum(here[..., None, :, :] * shares, axis=-2)
            shares_before = tf.reduce_sum(before[..., None, :, :] * shares, axis=-2)
            index = tf.reduce_sum(passed, axis=-2, keepdims=True)
            found = (
                *tf.unstack(smallest + rest * share, axis=-2),
                *tf.unstack(smallest * index + rest * shares_before - bound, axis=-2),
                tf.reduce_sum(here[..., 1:, :] * raw, axis=-2),
                tf.reduce_sum(here[..., :-1, :] * raw, axis=-2),
            )

            def gradient(width, height, left, bottom, raw_left, raw_right):
                of_size = tf.stack([width, height], axis=-2)
                of_start = tf.stack([left, bottom], axis=-2)
                mean = of_size * share + of_start * shares_before
                own = here[..., None, :, :] * of_size[..., None, :]
                own += before[..., None, :, :] * of_start[..., None, :]
                of_shares = rest * shares * (own - mean[..., None, :])
                of_raw = here[..., 1:, :] * raw_left[..., None, :]
                of_raw += here[..., :-1, :] * raw_right[..., None, :]
                of_sizes = tf.reshape(of_shares, tf.shape(parameters[..., : 2 * bins, :]))
                return None, tf.concat([of_sizes, of_raw], axis=-2)

            return found, gradient

        return _Bin(*find(value, parameters))


def check_spline(num_bins: int, tail_bound: float) -> None:
    """Raises `ValueError` unless the sizes of a spline are usable."""
    if not isinstance(num_bins, int) or isinstance(num_bins, bool) or not 2 <= num_bins <= 100:
        raise ValueError(f"`num_bins` must be an integer from 2 to 100, got {num_bins!r}.")
    if not (math.isfinite(tail_bound) and tail_bound > 0):
        raise ValueError(f"`tail_bound` must be positive and finite, got {tail_bound}.")


def _softmax(raw):
    """Returns softmax over the axis before the last, for which `tf.nn.softmax` transposes."""
    raised = tf.exp(raw - tf.reduce_max(raw, axis=-2, keepdims=True))
    return raised / tf.reduce_sum(raised, axis=-2, keepdims=True)


def _both(raw, bins):
    """Returns what the conditioner says of widths and heights, `[..., 2, K, C]`."""
    shape = tf.concat([tf.shape(raw)[:-2], [2, bins], tf.shape(raw)[-1:]], axis=0)
    both = tf.reshape(raw, shape)
    both.set_shape([*raw.shape[:-2], 2, bins, raw.shape[-1]])
    return both


def _slopes(found: _Bin) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the slope of the bin and the derivatives at its ends."""
    one = math.log(math.expm1(1.0 - _SMALLEST_DERIVATIVE))  # A raw derivative of 0 is one of 1.
    d_0 = _SMALLEST_DERIVATIVE + tf.nn.softplus(found.raw_left + one)
    d_1 = _SMALLEST_DERIVATIVE + tf.nn.softplus(found.raw_right + one)
    return found.height / found.width, d_0, d_1


def _progress(xi, slope, d_0, d_1):
    both = xi * (1.0 - xi)
    return (slope * xi * xi + d_0 * both) / (slope + (d_0 + d_1 - 2.0 * slope) * both)


def _log_derivative(xi, slope, d_0, d_1):
    """Returns log dz/dx at the part xi of the bin."""
    both, rest = xi * (1.0 - xi), 1.0 - xi
    below = slope + (d_0 + d_1 - 2.0 * slope) * both
    above = d_1 * xi * xi + 2.0 * slope * both + d_0 * rest * rest
    return 2.0 * tf.math.log(slope / below) + tf.math.log(above)
