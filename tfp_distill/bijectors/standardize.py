"""The fixed map between the user's units and standardised data."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tfp_distill.bijectors.keras_bijector import KerasBijector, weights_layer

__all__ = ["Standardize"]


class Standardize(KerasBijector):
    """Standardises data with fixed statistics; likelihoods and samples keep the user's units.

        normalizing:  z = (x - mean) / scale        ildj = -H*W * sum(log scale)
        generative:   x = mean + z * scale          fldj =  H*W * sum(log scale)

    for images `[H, W, C]`, with statistics per channel `[C]`; H*W is 1 for vectors. The
    statistics are saved with the flow and never trained. They start as 0 and 1.

    Args:
      dims: number of dimensions D of a vector, or of channels C of an image.
      event_ndims: 1 for vectors, 3 for images.
      name: name of the bijector and of its layer.
      fixed: initial values of what a subclass keeps besides, by name.
      is_constant_jacobian: False for a subclass that does more.
    """

    def __init__(
        self,
        dims: int,
        *,
        event_ndims: int = 1,
        name: str = "standardize",
        fixed: Mapping[str, np.ndarray] | None = None,
        is_constant_jacobian: bool = True,
    ) -> None:
        own = {"mean": np.zeros(dims), "scale": np.ones(dims)}
        self._weights = weights_layer(name, trainable={}, fixed={**own, **(fixed or {})})
        super().__init__(
            [self._weights],
            event_ndims=event_ndims,
            name=name,
            is_constant_jacobian=is_constant_jacobian,
        )

    @property
    def mean(self) -> np.ndarray:
        """Mean `[D]` or `[C]`, in the user's units."""
        return self._weights.mean.numpy()

    @property
    def scale(self) -> np.ndarray:
        """Scale `[D]` or `[C]`, in the user's units."""
        return self._weights.scale.numpy()

    def set_statistics(self, mean: np.ndarray, scale: np.ndarray) -> None:
        """Replaces the statistics.

        Args:
          mean: `[D]`, or `[C]` for images; finite.
          scale: `[D]`, or `[C]` for images; finite and positive.

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
        """Returns a difference of two data points, vectors or images, in units of the scale."""
        return difference / self._weights.scale.value

    def _inverse_and_ildj(self, x, condition):
        scale = self._weights.scale.value
        z = (x - self._weights.mean.value) / scale
        return z, self._constant_log_det(z, -tf.reduce_sum(tf.math.log(scale)))

    def _forward_and_fldj(self, z, condition):
        scale = self._weights.scale.value
        x = self._weights.mean.value + z * scale
        return x, self._constant_log_det(x, tf.reduce_sum(tf.math.log(scale)))
