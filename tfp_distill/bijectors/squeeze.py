"""Squeeze: trades resolution for channels."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfp_distill.bijectors.keras_bijector import KerasBijector

__all__ = ["Squeeze", "depth_to_space", "space_to_depth"]


def space_to_depth(x: tf.Tensor) -> tf.Tensor:
    """Returns `[..., H, W, C]` with even H and W as `[..., H/2, W/2, 4C]`.

    y[i, j, (2a + b) C + c] = x[2i + a, 2j + b, c]  for a, b in {0, 1}
    """
    return _on_images(lambda images: tf.nn.space_to_depth(images, 2), x)


def depth_to_space(y: tf.Tensor) -> tf.Tensor:
    """Returns `[..., H, W, 4C]` as `[..., 2H, 2W, C]`, the inverse of `space_to_depth`."""
    return _on_images(lambda images: tf.nn.depth_to_space(images, 2), y)


class Squeeze(KerasBijector):
    """Turns each 2x2 square of pixels into one with four times the channels.

        normalizing:  z = space_to_depth(x)     ildj = 0      [H, W, C] -> [H/2, W/2, 4C]
        generative:   x = depth_to_space(z)     fldj = 0      [H, W, 4C] -> [2H, 2W, C]

    (Dinh, Sohl-Dickstein and Bengio, 2017, arXiv:1605.08803, section 3.6.)

    Args:
      name: name of the bijector.
    """

    def __init__(self, *, name: str = "squeeze") -> None:
        super().__init__([], event_ndims=3, name=name, is_constant_jacobian=True)

    def _inverse_and_ildj(self, x, condition):
        if any(size is not None and size % 2 for size in x.shape[-3:-1]):
            raise ValueError(
                f"`x` of {self.name!r} must have an even height and width, got {x.shape}."
            )
        return space_to_depth(x), tf.zeros(tf.shape(x)[:-3], x.dtype)

    def _forward_and_fldj(self, z, condition):
        if z.shape[-1] % 4:
            raise ValueError(
                f"`z` of {self.name!r} must have a multiple of 4 channels, got {z.shape}."
            )
        return depth_to_space(z), tf.zeros(tf.shape(z)[:-3], z.dtype)

    def _forward_event_shape(self, shape):
        height, width, channels = shape
        return tf.TensorShape([2 * height, 2 * width, channels // 4])

    def _forward_event_shape_tensor(self, shape):
        return tf.stack([2 * shape[0], 2 * shape[1], shape[2] // 4])

    def _inverse_event_shape(self, shape):
        height, width, channels = shape
        return tf.TensorShape([height // 2, width // 2, 4 * channels])

    def _inverse_event_shape_tensor(self, shape):
        return tf.stack([shape[0] // 2, shape[1] // 2, 4 * shape[2]])


def _on_images(function: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor) -> tf.Tensor:
    """Applies a function of `[batch, H, W, C]` to tensors with any number of batch axes."""
    if x.shape.rank == 4:
        return function(x)
    y = function(tf.reshape(x, tf.concat([[-1], tf.shape(x)[-3:]], axis=0)))
    return tf.reshape(y, tf.concat([tf.shape(x)[:-3], tf.shape(y)[1:]], axis=0))
