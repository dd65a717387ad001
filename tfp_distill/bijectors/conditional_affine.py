"""The affine map of coupling and autoregressive bijectors: a shift and a bounded log-scale."""

from __future__ import annotations

import tensorflow as tf

__all__ = ["bounded_log_scale", "check_log_scale_bound"]


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
