"""What a transform of scalars has to be able to do."""

from __future__ import annotations

from typing import Protocol

import tensorflow as tf

__all__ = ["ScalarTransform"]


class ScalarTransform(Protocol):
    """A family of increasing maps of one real number, with a few parameters each.

    It has no weights: the parameters come from a conditioner, one set for each number. All zeros
    are the identity, so that a conditioner whose last layer starts at zero starts a flow there.

    Attributes:
      num_parameters: number P of parameters of one number.
    """

    num_parameters: int

    def inverse_and_ildj(self, x: tf.Tensor, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns z and log dz/dx, both `[..., C]`, for x `[..., C]`, parameters `[..., P, C]`."""

    def forward_and_fldj(self, z: tf.Tensor, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns x and log dx/dz, both `[..., C]`, for z `[..., C]`, parameters `[..., P, C]`."""
