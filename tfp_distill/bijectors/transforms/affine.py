"""A shift and a bounded log-scale."""

from __future__ import annotations

import tensorflow as tf

__all__ = ["AffineTransform", "bounded_log_scale", "check_log_scale_bound"]


class AffineTransform:
    """Shifts and scales (Dinh, Sohl-Dickstein and Bengio, 2017, arXiv:1605.08803, eq. 7 and 8).

        log_scale = bound * tanh(raw / bound)
        normalizing:  z = (x - shift) * exp(-log_scale)      log dz/dx = -log_scale
        generative:   x = shift + z * exp(log_scale)         log dx/dz =  log_scale

    Two parameters: the shift and the raw log-scale. The bound keeps every scale within
    [exp(-bound), exp(bound)], see `bounded_log_scale`.

    Args:
      log_scale_bound: the bound, in nats.
    """

    num_parameters = 2

    def __init__(self, log_scale_bound: float) -> None:
        check_log_scale_bound(log_scale_bound)
        self._bound = log_scale_bound

    def inverse_and_ildj(self, x: tf.Tensor, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """See `ScalarTransform`."""
        shift, log_scale = self._shift_and_log_scale(parameters)
        return (x - shift) * tf.exp(-log_scale), -log_scale

    def forward_and_fldj(self, z: tf.Tensor, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """See `ScalarTransform`."""
        shift, log_scale = self._shift_and_log_scale(parameters)
        return shift + z * tf.exp(log_scale), log_scale

    def _shift_and_log_scale(self, parameters):
        shift, raw = tf.unstack(parameters, 2, axis=-2)
        return shift, bounded_log_scale(raw, self._bound)


def bounded_log_scale(raw: tf.Tensor, bound: float) -> tf.Tensor:
    """Squashes the raw output of a conditioner to (-bound, bound).

        log_scale = bound * tanh(raw / bound)

    The slope at 0 is 1, so that a new network behaves as if there were no bound. However badly a
    conditioner is trained, one map scales by at most exp(bound) in either direction, and the value
    and its gradient stay finite; exp(log_scale) without a bound is what makes published flows
    overflow when they generate from latents that they do not cover.
    """
    return bound * tf.tanh(raw / bound)


def check_log_scale_bound(bound: float) -> None:
    """Raises `ValueError` unless `bound` is in (0, 20], where float32 cannot overflow."""
    if not 0 < bound <= 20:
        raise ValueError(f"`log_scale_bound` must be in (0, 20], got {bound}.")
