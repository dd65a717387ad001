"""Masked autoregressive flow over a conditioner that can also run unit by unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import tensorflow as tf

from tfp_distill.bijectors.conditional_affine import bounded_log_scale, check_log_scale_bound
from tfp_distill.bijectors.keras_bijector import KerasBijector

__all__ = ["AutoregressiveConditioner", "MaskedAutoregressive"]


class AutoregressiveConditioner(Protocol):
    """A built Keras layer whose outputs for x_i depend on x_1 ... x_{i-1} and condition only."""

    conditional: bool

    def __call__(self, x: tf.Tensor, condition: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns shift and raw log-scale, both `[batch, D]`, in one pass."""

    def autoregress(
        self,
        emit: Callable[[slice, tf.Tensor, tf.Tensor], tf.Tensor],
        batch_size: tf.Tensor,
        condition: tf.Tensor | None,
    ) -> tf.Tensor:
        """Builds x `[batch, D]` block by block, at the cost of one pass.

        Calls `x_block = emit(block, shift, raw_log_scale)` for successive slices of dimensions.
        """


class MaskedAutoregressive(KerasBijector):
    """Masked autoregressive flow (Papamakarios, Pavlakou and Murray, 2017, equations 2 to 4).

        (shift_i, raw_i) = conditioner(x_1, ..., x_{i-1}),  log_scale = bound * tanh(raw / bound)
        normalizing:  z_i = (x_i - shift_i) * exp(-log_scale_i)       ildj = -sum(log_scale)
        generative:   x_i = shift_i + z_i * exp(log_scale_i)          fldj =  sum(log_scale)

    The normalizing direction is one pass of the network. The generative direction is sequential in
    the dimensions, but computes each hidden unit only once, as soon as the inputs that it may see
    are known; all of it costs the arithmetic of a single pass, not of D.

    The dimensions keep their places: a reversed order is a property of the conditioner and not a
    permutation of the state, so that latents of flows of different depth can be compared
    dimension by dimension.

    Args:
      conditioner: an `AutoregressiveConditioner`, for instance `tfp_distill.networks.MADE`.
      log_scale_bound: the bound, in nats. 5 by default: a factor of 148. It must be wide enough for
        the sharpest conditional of the data relative to its marginal.
      name: name of the bijector.
    """

    def __init__(
        self,
        conditioner: AutoregressiveConditioner,
        *,
        log_scale_bound: float = 5.0,
        name: str = "masked_autoregressive",
    ) -> None:
        check_log_scale_bound(log_scale_bound)
        self._conditioner = conditioner
        self._bound = log_scale_bound
        super().__init__(
            [conditioner], event_ndims=1, conditional=conditioner.conditional, name=name
        )

    def _inverse_and_ildj(self, x, condition):
        shift, raw = self._conditioner(x, condition)
        log_scale = bounded_log_scale(raw, self._bound)
        return (x - shift) * tf.exp(-log_scale), -tf.reduce_sum(log_scale, axis=-1)

    def _forward_and_fldj(self, z, condition):
        log_dets = []

        def emit(block, shift, raw):
            log_scale = bounded_log_scale(raw, self._bound)
            log_dets.append(tf.reduce_sum(log_scale, axis=-1))
            return shift + z[:, block] * tf.exp(log_scale)

        x = self._conditioner.autoregress(emit, tf.shape(z)[0], condition)
        return x, tf.add_n(log_dets)
