"""The fixed map between the user's units and standardised data."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfp_distill.bijectors.keras_bijector import KerasBijector
from tfp_distill.bijectors.weights import weights_layer

__all__ = ["Standardize"]


class Standardize(KerasBijector):
    """Standardises data with fixed statistics; likelihoods and samples keep the user's units.

        normalizing:  z = (x - mean) / scale        ildj = -sum(log scale)
        generative:   x = mean + z * scale          fldj =  sum(log scale)

    The statistics are saved with the flow and never trained. They start as 0 and 1.

    Args:
      dims: number of dimensions D.
      name: name of the bijector and of its layer.
    """

    def __init__(self, dims: int, *, name: str = "standardize") -> None:
        self._weights = weights_layer(
            name, trainable={}, fixed={"mean": np.zeros(dims), "scale": np.ones(dims)}
        )
        super().__init__([self._weights], event_ndims=1, name=name, is_constant_jacobian=True)

    @property
    def mean(self) -> np.ndarray:
        """Mean `[D]`, in the user's units."""
        return self._weights.mean.numpy()

    @property
    def scale(self) -> np.ndarray:
        """Scale `[D]`, in the user's units."""
        return self._weights.scale.numpy()

    def set_statistics(self, mean: np.ndarray, scale: np.ndarray) -> None:
        """Replaces the statistics.

        Args:
          mean: `[D]`, finite.
          scale: `[D]`, finite and positive.

        Raises:
          ValueError: if a shape or a value breaks these rules.
        """
        mean, scale = np.asarray(mean), np.asarray(scale)
        expected = tuple(self._weights.mean.shape)
        for name, value in (("mean", mean), ("scale", scale)):
            if value.shape != expected:
                raise ValueError(f"`{name}` must have shape {expected}, got {value.shape}.")
            if not np.all(np.isfinite(value)):
                raise ValueError(f"`{name}` must be finite, got {value}.")
        if np.any(scale <= 0):
            raise ValueError(f"`scale` must be positive, got {scale}.")
        self._weights.mean.assign(mean)
        self._weights.scale.assign(scale)

    def in_units_of_scale(self, difference: tf.Tensor) -> tf.Tensor:
        """Returns a difference of two data points `[..., D]` in units of the scale."""
        return difference / self._weights.scale.value

    def _inverse_and_ildj(self, x, condition):
        scale = self._weights.scale.value
        ildj = -tf.reduce_sum(tf.math.log(scale))
        return (x - self._weights.mean.value) / scale, tf.fill(tf.shape(x)[:-1], ildj)

    def _forward_and_fldj(self, z, condition):
        scale = self._weights.scale.value
        fldj = tf.reduce_sum(tf.math.log(scale))
        return self._weights.mean.value + z * scale, tf.fill(tf.shape(z)[:-1], fldj)
