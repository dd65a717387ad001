"""A shift."""

from __future__ import annotations

import tensorflow as tf

__all__ = ["AdditiveTransform"]


class AdditiveTransform:
    """Shifts; it preserves volume (Dinh, Krueger and Bengio, 2015, arXiv:1410.8516, section 3.2).

    normalizing:  z = x - shift        log dz/dx = 0
    generative:   x = z + shift        log dx/dz = 0

    One parameter: the shift.
    """

    num_parameters = 1

    def inverse_and_ildj(self, x: tf.Tensor, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """See `ScalarTransform`."""
        return x - parameters[..., 0, :], tf.zeros_like(x)

    def forward_and_fldj(self, z: tf.Tensor, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """See `ScalarTransform`."""
        return z + parameters[..., 0, :], tf.zeros_like(z)
