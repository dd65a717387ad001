"""Coupling: one half of the channels determines how the other is transformed."""

from __future__ import annotations

import keras
import tensorflow as tf

from tfp_distill.bijectors.keras_bijector import INVERSE, KerasBijector
from tfp_distill.bijectors.transforms import ScalarTransform
from tfp_distill.recomputation import Backpropagation

__all__ = ["Coupling"]


class Coupling(KerasBijector):
    """Transforms one half of the channels by maps that the other half determines.

        x = (a, b),  parameters = conditioner(a)
        normalizing:  z = (a, T^-1(b; parameters))       ildj = sum(log dT^-1/db)
        generative:   x = (a, T(b'; parameters))         fldj = sum(log dT/db')

    a is the first floor(C/2) channels, b the remaining ceil(C/2) (Dinh, Sohl-Dickstein and Bengio,
    2017, arXiv:1605.08803, equations 7 and 8, for an affine T; Durkan et al., 2019,
    arXiv:1906.04032, for splines). A single channel is b, and the conditioner sees the condition,
    or a constant of 1 where there is none.

    Args:
      conditioner: Keras layer or model,
        `[..., max(1, floor(C/2) + condition_dims)] -> [..., P ceil(C/2)]`: the first of the P
        parameters of all channels, then the second, and so on. Where it has a method
        `initialize(inputs)`, `initialize` of the coupling calls it.
      channels: size C of the last axis, at least 1.
      transform: T, with P parameters.
      condition_dims: size of the condition that is concatenated to a; 0 for none.
      event_ndims: 1 for vectors, 3 for images.
      name: name of the bijector.
    """

    def __init__(
        self,
        conditioner: keras.layers.Layer,
        channels: int,
        *,
        transform: ScalarTransform,
        condition_dims: int = 0,
        event_ndims: int = 1,
        name: str = "coupling",
    ) -> None:
        if channels < 1:
            raise ValueError(f"`channels` must be at least 1, got {channels}.")
        self._kept = channels // 2
        self._changed = channels - self._kept
        if not conditioner.built:
            conditioner.build((None,) * event_ndims + (max(1, self._kept + condition_dims),))
        self._conditioner = conditioner
        self._transform = transform
        super().__init__(
            [conditioner], conditional=condition_dims > 0, event_ndims=event_ndims, name=name
        )

    def initialize(self, x: tf.Tensor, condition: tf.Tensor | None = None) -> tf.Tensor:
        """Initialises the conditioner, where it has a method `initialize`, from its inputs."""
        if hasattr(self._conditioner, "initialize"):
            self._conditioner.initialize(self._conditioner_inputs(self._split(x)[0], condition))
        return super().initialize(x, condition)

    def _inverse_and_ildj(self, x, condition):
        return self._apply(self._transform.inverse_and_ildj, x, condition)

    def _forward_and_fldj(self, z, condition):
        return self._apply(self._transform.forward_and_fldj, z, condition)

    def _backward(self, way, known, condition, gradients):
        # As any bijector's, but for the conditioner, which runs once for both: to rebuild x, and
        # for the gradients.
        kept, changed = self._split(known)
        (dkept, dchanged), dlog_det = self._split(gradients[0]), gradients[1]
        ways = [self._transform.inverse_and_ildj, self._transform.forward_and_fldj]
        transform, opposite = ways if way == INVERSE else reversed(ways)
        with Backpropagation([kept, condition, *self.layer_weights]) as conditioner:
            parameters = self._parameters_of(kept, condition)
        changed, _ = opposite(changed, parameters)
        with Backpropagation([changed, parameters]) as of_transform:
            outputs = self._changed_and_log_det(transform, changed, parameters)
        dchanged, dparameters = of_transform.gradients(outputs, (dchanged, dlog_det))
        through_parameters, dcondition, *dweights = conditioner.gradients(parameters, dparameters)
        dx = tf.concat([dkept + through_parameters, dchanged], axis=-1)
        return tf.concat([kept, changed], axis=-1), dx, dcondition, dweights

    def _apply(self, transform, state, condition):
        kept, changed = self._split(state)
        parameters = self._parameters_of(kept, condition)
        changed, log_det = self._changed_and_log_det(transform, changed, parameters)
        return _joined(kept, changed), log_det

    def _changed_and_log_det(self, transform, changed, parameters):
        changed, log_derivative = transform(changed, parameters)
        return changed, tf.reduce_sum(log_derivative, axis=list(range(-self.event_ndims, 0)))

    def _split(self, x):
        return tf.split(x, [self._kept, self._changed], axis=-1)

    def _conditioner_inputs(self, kept, condition):
        if not self.conditional:
            return kept if self._kept else _ones_behind(kept)
        if condition is None:
            raise ValueError(f"`condition` must be given to the conditional {self.name!r}.")
        return tf.concat([kept, condition], axis=-1)

    def _parameters_of(self, kept, condition):
        """Returns the parameters `[..., P, ceil(C/2)]`."""
        outputs = self._conditioner(self._conditioner_inputs(kept, condition))
        number = self._transform.num_parameters
        if outputs.shape[-1] != number * self._changed:
            raise ValueError(
                f"`conditioner` of {self.name!r} must return {number * self._changed} channels, "
                f"got {outputs.shape[-1]}."
            )
        shape = tf.concat([tf.shape(kept)[:-1], [number, self._changed]], axis=0)
        parameters = tf.reshape(outputs, shape)
        parameters.set_shape([*kept.shape[:-1], number, self._changed])
        return parameters


def _ones_behind(x):
    return tf.pad(x, [*[[0, 0]] * (x.shape.rank - 1), [0, 1]], constant_values=1)


@tf.custom_gradient
def _joined(kept, changed):
    """Returns (kept, changed) as one, whose gradient is split at once instead of sliced twice."""
    sizes = [kept.shape[-1], changed.shape[-1]]
    return tf.concat([kept, changed], axis=-1), lambda d: tf.split(d, sizes, axis=-1)
