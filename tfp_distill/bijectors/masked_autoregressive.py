"""Masked autoregressive flow over a conditioner that can also run unit by unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import tensorflow as tf

from tfp_distill.bijectors.keras_bijector import KerasBijector
from tfp_distill.bijectors.transforms import ScalarTransform

__all__ = ["AutoregressiveConditioner", "MaskedAutoregressive"]


class AutoregressiveConditioner(Protocol):
    """A built Keras layer whose outputs for x_i depend on x_1 ... x_{i-1} and condition only."""

    conditional: bool
    num_parameters: int

    def __call__(self, x: tf.Tensor, condition: tf.Tensor | None) -> tf.Tensor:
        """Returns the parameters `[batch, P, D]` of all dimensions, in one pass."""

    def autoregress(
        self,
        transform: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
        z: tf.Tensor,
        condition: tf.Tensor | None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Solves x_i = T(z_i; parameters_i) for x, at the cost of one pass.

        Returns x and log dx/dz `[batch, D]`, of `transform(values [M], parameters [P, M])`.
        """


class MaskedAutoregressive(KerasBijector):
    """Transforms every dimension by a map that the dimensions before it determine.

        parameters_i = conditioner(x_1, ..., x_{i-1})
        normalizing:  z_i = T^-1(x_i; parameters_i)      ildj = sum_i log dT^-1/dx_i
        generative:   x_i = T(z_i; parameters_i)         fldj = sum_i log dT/dz_i

    (Papamakarios, Pavlakou and Murray, 2017, arXiv:1705.07057, equations 2 to 4, for an affine T;
    Durkan et al., 2019, arXiv:1906.04032, for splines.)

    The normalizing direction is one pass of the network. The generative direction is sequential in
    the dimensions, but computes each hidden unit only once, as soon as the inputs that it may see
    are known; all of it costs the arithmetic of a single pass, not of D.

    The dimensions keep their places: a reversed order is a property of the conditioner and not a
    permutation of the state, so that latents of flows of different depth can be compared
    dimension by dimension.

    Args:
      conditioner: an `AutoregressiveConditioner`, for instance `tfp_distill.networks.MADE`.
      transform: T, with as many parameters as the conditioner returns.
      name: name of the bijector.

    Raises:
      ValueError: if conditioner and transform differ in their numbers of parameters.
    """

    def __init__(
        self,
        conditioner: AutoregressiveConditioner,
        *,
        transform: ScalarTransform,
        name: str = "masked_autoregressive",
    ) -> None:
        if conditioner.num_parameters != transform.num_parameters:
            raise ValueError(
                f"`conditioner` must return the {transform.num_parameters} parameters of "
                f"`transform`, got {conditioner.num_parameters}."
            )
        self._conditioner = conditioner
        self._transform = transform
        super().__init__(
            [conditioner], event_ndims=1, conditional=conditioner.conditional, name=name
        )

    @property
    def reversible(self) -> bool:
        """No: the generative direction takes as many steps as there are dimensions."""
        return False

    def _inverse_and_ildj(self, x, condition):
        z, log_derivative = self._transform.inverse_and_ildj(x, self._conditioner(x, condition))
        return z, tf.reduce_sum(log_derivative, axis=-1)

    def _forward_and_fldj(self, z, condition):
        x, log_derivative = self._conditioner.autoregress(
            self._transform.forward_and_fldj, z, condition
        )
        return x, tf.reduce_sum(log_derivative, axis=-1)
