"""A part of a model on a device of its own: its weights, its optimiser and its step."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfp_distill.recomputation import recomputed_activations
from tfp_distill.training.contracts import Handed, PartedModel
from tfp_distill.training.fused_adam import apply_gradients
from tfp_distill.training.parts.part_optimizers import check_gradients, clone_optimizer
from tfp_distill.training.step_metrics import can_be_taken

__all__ = ["Arrival", "PlacedPart"]


class Arrival(NamedTuple):
    """What a part on a device of its own receives, or the types of that.

    Attributes:
      x: what the part before hands on; the data, for the first part. No rows mean that there is
        nothing to do.
      condition: `(condition,)` for a conditional flow, else nothing.
      weights: what `weigh` takes, as it was when the batch came.
    """

    x: Any
    condition: tuple[tf.Tensor, ...]
    weights: Any

    @property
    def rows(self) -> tf.Tensor:
        """The number of rows."""
        return tf.shape(tf.nest.flatten(self.x)[0])[0]

    @property
    def types(self) -> Arrival:
        """The types, of any number of rows."""
        x, condition = tf.nest.map_structure(
            lambda value: tf.TensorSpec([None, *value.shape[1:]], value.dtype),
            (self.x, self.condition),
        )
        return Arrival(x, condition, tf.nest.map_structure(tf.type_spec_from_value, self.weights))

    def emptied(self) -> Arrival:
        """Returns tensors of these types without rows."""
        return tf.nest.map_structure(
            lambda spec: tf.zeros([size or 0 for size in spec.shape], spec.dtype), self
        )


class PlacedPart:
    """Copies of a part's weights and of its optimiser on a device, and the step taken there.

    Args:
      model: a compiled model with several parts.
      part: number of the part.
      device: where its variables lie and its step runs.
      hands_on: types of what it hands on; None for the last part.
      jit_compile: whether XLA compiles the step.
    """

    def __init__(
        self,
        model: PartedModel,
        part: int,
        device: str,
        hands_on: Arrival | None,
        *,
        jit_compile: bool,
    ) -> None:
        self.device = device
        self.hands_on = hands_on
        self._model, self._part, self._use_xla = model, part, jit_compile
        self._weights = model.part_weights(part)
        trainable = {id(weight) for weight in self._weights}
        self._fixed = [v for v in model.part_variables(part) if id(v) not in trainable]
        self._optimizer = model.optimizers[part]
        with tf.device(device):
            self._own_weights = [_copy(weight) for weight in self._weights]
            self._own_fixed = [_copy(variable) for variable in self._fixed]
            self._own_optimizer = clone_optimizer(self._optimizer, self._weights, self._own_weights)
        self._step = self._train
        if not model.run_eagerly:
            self._step = tf.function(self._train, autograph=False, jit_compile=jit_compile)

    @property
    def variables(self) -> list[keras.Variable]:
        """All that lies on the device."""
        return [*self._own_weights, *self._own_fixed, *self._own_optimizer.variables]

    def take(self) -> None:
        """Copies the model's variables to the device."""
        _assign(self.variables, [*self._weights, *self._fixed, *self._optimizer.variables])

    def give_back(self) -> None:
        """Copies what training changed to the model."""
        changed = [*self._own_weights, *self._own_optimizer.variables]
        _assign([*self._weights, *self._optimizer.variables], changed)

    def work(self, received: Arrival) -> tuple[Any, dict[str, tf.Tensor]]:
        """Trains on what lies in the inbox, if it is not empty.

        Args:
          received: what the part before hands on, or the batch.

        Returns:
          What the part hands on, made before it learnt, `()` if it is the last one; its mean
          losses, `grad_norm`, and `drift` if the model recomputes activations.
        """
        with tf.device(self.device), tf.name_scope(f"part_{self._part}"):
            return tf.cond(received.rows > 0, lambda: self._step(received), self._rest)

    def _train(self, received):
        with tf.device(self.device):
            weights = [tf.convert_to_tensor(weight.value) for weight in self._own_weights]
            fixed = [tf.convert_to_tensor(variable.value) for variable in self._own_fixed]
            own = zip([*self._weights, *self._fixed], [*weights, *fixed], strict=True)
            recomputing = recomputed_activations(self._model.recomputes, use_xla=self._use_xla)
            taping = tf.GradientTape(watch_accessed_variables=False)
            with recomputing as recomputation, taping as tape:
                tape.watch(weights)
                # The model's code runs as it is, on the copies instead of its own variables.
                with keras.StatelessScope(list(own)):
                    arriving = received.x
                    if not isinstance(arriving, Handed):
                        arriving = self._model.first_input(arriving, *received.condition)
                    handed, losses = self._model.run_part(self._part, arriving, *received.condition)
                    losses = self._model.weigh(losses, received.weights)
                means = {name: tf.reduce_mean(value) for name, value in losses.items()}
            gradients = tape.gradient(means["loss"], weights)
            check_gradients(gradients, self._weights)
            figures = {"grad_norm": tf.linalg.global_norm(gradients)}
            if recomputation is not None:
                figures["drift"] = recomputation.drift
            tf.cond(
                can_be_taken(means["loss"], **figures),
                lambda: apply_gradients(self._own_optimizer, gradients, self._own_weights),
                lambda: None,
            )
            hands_on = () if self.hands_on is None else received._replace(x=handed)
            return hands_on, {**means, **figures}

    def _rest(self):
        with tf.device(self.device):
            names = ["loss", *self._model.part_loss_names, "grad_norm"]
            names += ["drift"] if self._model.recomputes else []
            nothing = {name: tf.zeros([], self._model.compute_dtype) for name in names}
            return () if self.hands_on is None else self.hands_on.emptied(), nothing


def _copy(variable):
    return keras.Variable(
        variable.numpy(), dtype=variable.dtype, trainable=variable.trainable, name=variable.name
    )


def _assign(variables, values):
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value.numpy())
