"""Activation normalisation with explicit data-dependent initialisation."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfp_distill.bijectors.keras_bijector import KerasBijector, weights_layer

__all__ = ["ActNorm"]

_SMALLEST_SCALE = 1e-6


class ActNorm(KerasBijector):
    """Normalises each channel by a learned affine map (Kingma and Dhariwal, 2018, section 3.1).

        normalizing:  z = (x - shift) * exp(-log_scale)     ildj = -H*W * sum(log_scale)
        generative:   x = shift + z * exp(log_scale)        fldj =  H*W * sum(log_scale)

    for images `[H, W, C]`; H*W is 1 for vectors. `log_scale` and `shift` are `[C]` and start as 0,
    so that a new ActNorm is the identity, and `initialize(x)` sets them to the statistics of `x`,
    after which z has mean 0 and standard deviation 1 per channel. Nothing else initialises: not
    sampling, not loading, not a first call.

    Args:
      channels: size C of the last axis.
      event_ndims: 1 for vectors, 3 for images.
      name: name of the bijector and of its layer.
    """

    def __init__(self, channels: int, *, event_ndims: int = 1, name: str = "actnorm") -> None:
        self._weights = weights_layer(
            name, trainable={"shift": np.zeros(channels), "log_scale": np.zeros(channels)}
        )
        super().__init__(
            [self._weights], event_ndims=event_ndims, name=name, is_constant_jacobian=True
        )

    def initialize(self, x: tf.Tensor, condition: tf.Tensor | None = None) -> tf.Tensor:
        """Sets shift and log-scale to the mean and log standard deviation of `x` per channel.

        Standard deviations below 1e-6 count as 1e-6, so that a constant channel stays finite.
        """
        mean, variance = tf.nn.moments(x, axes=list(range(x.shape.rank - 1)))
        self._weights.shift.assign(mean)
        self._weights.log_scale.assign(tf.math.log(tf.maximum(tf.sqrt(variance), _SMALLEST_SCALE)))
        return super().initialize(x, condition)

    def _inverse_and_ildj(self, x, condition):
        log_scale = self._weights.log_scale.value
        z = (x - self._weights.shift.value) * tf.exp(-log_scale)
        return z, self._constant_log_det(x, -tf.reduce_sum(log_scale))

    def _forward_and_fldj(self, z, condition):
        log_scale = self._weights.log_scale.value
        x = self._weights.shift.value + z * tf.exp(log_scale)
        return x, self._constant_log_det(z, tf.reduce_sum(log_scale))
