"""What a model that is trained in parts has: a partition, optimisers, and the parts' turns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_distill.arrays import Array
from tfp_distill.training.contracts import Handed, SteppedFlow
from tfp_distill.training.parts.part_optimizers import optimizers_of_parts, reset_optimizer
from tfp_distill.training.parts.partition import Part, Partition
from tfp_distill.training.parts.pipeline import check_devices

__all__ = ["PartitionedModel"]

_CALLBACK_STATE = "callback_state_"


class PartitionedModel(keras.Model):
    """A `keras.Model` with an optimiser for each part of a partition, or a single one.

    A model that can be partitioned has `num_steps` and `part_loss_names`, and implements
    `step_weights`, `part_variables`, `first_input`, `run_part`, `weigh` and `handed_size`. All ways
    of training in parts come of these: together in a step, on devices of their own, from a cache.
    """

    def __init__(self, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self._partition: Partition | None = None
        self._active_parts: tuple[int, ...] | None = None
        self._batches: Callable[[], Iterator[Any]] | None = None
        self._devices: tuple[str, ...] | None = None
        self._part_optimizers: list[keras.optimizers.Optimizer] = []
        self._callback_state: dict[str, np.ndarray] = {}

    def trained_flow(self) -> SteppedFlow | None:
        """Returns the flow whose steps learn; None where there is none.

        No property: Keras saves what properties return, and would go around in circles.
        """
        return None

    def step_weights(self, first_step: int, last_step: int) -> list[keras.Variable]:
        """Returns the trainable weights of the steps first to last, counted from 1."""
        raise NotImplementedError

    def part_variables(self, part: int) -> list[keras.Variable]:
        """Returns all variables that a part reads, the fixed ones too."""
        raise NotImplementedError

    @property
    def part_loss_names(self) -> tuple[str, ...]:
        """The names of the losses that `run_part` returns."""
        raise NotImplementedError

    @property
    def objective_weights(self) -> tf.Tensor | tuple[()]:
        """The weights that `weigh` gives the losses, as they are now; by default there are none."""
        return ()

    def first_input(self, x: Array, condition: Array | None = None) -> Handed:
        """Returns what the first part receives.

        Args:
          x: data `[batch, ...]`.
          condition: `[batch, C]` for a conditional flow.
        """
        raise NotImplementedError

    def run_part(
        self, part: int, handed: Handed, condition: Array | None = None
    ) -> tuple[Handed, dict[str, tf.Tensor]]:
        """Returns what a part of the partition hands on, of what it receives, and its losses.

        Args:
          part: number of the part.
          handed: what it receives.
          condition: `[batch, C]` for a conditional flow.

        Returns:
          What it hands on, and per-example losses `[batch]` by name.
        """
        raise NotImplementedError

    def weigh(self, losses: Mapping[str, tf.Tensor], weights: Any) -> dict[str, tf.Tensor]:
        """Returns the losses of a part, and `loss`, which it minimises, first.

        Args:
          losses: what `run_part` returns.
          weights: `objective_weights`, of the step that the losses are of.
        """
        raise NotImplementedError

    def handed_size(self, part: int) -> int:
        """Returns how many numbers of a row a part receives, one behind the first one."""
        raise NotImplementedError

    def part_input(self, part: int, x: Array, condition: Array | None = None) -> Handed:
        """Returns what a part of the partition receives.

        Args:
          part: number of the part.
          x: data `[batch, ...]`.
          condition: `[batch, C]` for a conditional flow.
        """
        handed = self.first_input(x, condition)
        for before in range(part):
            handed, _ = self.run_part(before, handed, condition)
        return handed

    def part_objectives(
        self, x: Array, condition: tf.Tensor | None, parts: Collection[int]
    ) -> dict[int, dict[str, tf.Tensor]]:
        """Returns for each of `parts` what it minimises, as `loss`, and its losses by name.

        They have gradients to its own weights only: what a part receives is a constant. Nothing
        behind the last one of `parts` is computed.

        Args:
          x: data `[batch, ...]`, or what the first of `parts` receives, see `part_input`.
          condition: optional `[batch, C]`.
          parts: the parts, rising.
        """
        is_input = isinstance(x, Handed)
        handed, found = x if is_input else self.first_input(x, condition), {}
        for part in range(min(parts) if is_input else 0, max(parts) + 1):
            handed = tf.nest.map_structure(tf.stop_gradient, handed)
            handed, losses = self.run_part(part, handed, condition)
            if part in parts:
                found[part] = self.weigh(losses, self.objective_weights)
        return found

    @property
    def partition(self) -> Partition | None:
        """Where gradients stop; None where they do not."""
        return self._partition

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts of the partition; none where there is no partition."""
        return () if self._partition is None else self._partition.parts

    @property
    def optimizers(self) -> tuple[keras.optimizers.Optimizer, ...]:
        """The optimiser of each part; the model's `optimizer` where there is one part."""
        return tuple(self._part_optimizers) or (self.optimizer,)

    @property
    def all_parts(self) -> tuple[int, ...] | None:
        """The numbers of all parts; None where there is one part, which is end to end."""
        return tuple(range(len(self._part_optimizers))) or None

    @property
    def active_parts(self) -> tuple[int, ...] | None:
        """The parts that training optimises now, each by itself; None for end to end."""
        return self._active_parts

    def train_parts(
        self,
        parts: Sequence[int] | None,
        *,
        batches: Iterator[Any] | None = None,
        devices: Sequence[str] | None = None,
    ) -> None:
        """Selects the parts that a running `fit` optimises from now on; it starts with all.

        Args:
          parts: rising numbers of parts, which minimise their own losses; None to minimise the
            objective end to end.
          batches: what they are trained on instead of the data that `fit` was given: a dataset's
            endless iterator of `(x,)` or `(x, condition)`, where `x` is what `part_objectives`
            takes.
          devices: the device of each part, if all are to work at the same time, on successive
            batches (see `PartPipeline`).

        Raises:
          ValueError: if the model was not compiled with several parts, has not these, or they
            cannot work on these devices.
        """
        known = self.all_parts
        if known is None:
            raise ValueError(f"`{self.name}` must be compiled with a partition of several parts.")
        if parts is not None:
            parts = tuple(parts)
            if not parts or parts != tuple(part for part in known if part in parts):
                raise ValueError(f"`parts` must be rising, from 0 to {known[-1]}, got {parts}.")
        if devices is not None:
            if parts != known:
                raise ValueError(f"`parts` must be all, {known}, on `devices`, got {parts}.")
            if batches is not None:
                raise ValueError("`batches` must be None where `devices` are, got some.")
            check_devices(self, devices)
            devices = tuple(devices)
        self._active_parts, self._devices = parts, devices
        # In a function: as an attribute, Keras would save the iterator with the model.
        self._batches = None if batches is None else lambda: batches
        if self.train_function is not None:
            self.make_train_function()

    def part_weights(self, part: int) -> list[keras.Variable]:
        """Returns the trainable weights that `optimizers[part]` optimises."""
        if not self._part_optimizers:
            return self.trainable_variables
        steps = self.parts[part]
        return self.step_weights(steps.first_step, steps.last_step)

    def reset_optimizers(self) -> None:
        """Gives the optimisers of all parts the state of new ones."""
        with self.distribute_strategy.scope():
            for part, optimizer in enumerate(self.optimizers):
                reset_optimizer(optimizer, self.part_weights(part))

    def check_partition(self, partition: Partition) -> None:
        """Raises `ValueError` if the model cannot be trained in these parts."""
        partition.check(self)

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer | Sequence[keras.optimizers.Optimizer],
        *,
        partition: Partition | None,
        jit_compile: bool,
        run_eagerly: bool,
        steps_per_execution: int,
    ) -> None:
        """Makes and builds the optimisers; see `PartwiseModel.compile`."""
        if not isinstance(partition, Partition | None):
            raise ValueError(f"`partition` must be a Partition or None, got {partition!r}.")
        optimizers = optimizers_of_parts(optimizer, partition)
        if partition is not None:
            self.check_partition(partition)
        # Without a single optimiser, None: Keras would make one.
        super().compile(
            optimizer=optimizers[0] if len(optimizers) == 1 else None,
            jit_compile=jit_compile,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
        )
        self._partition, self._callback_state = partition, {}
        self._part_optimizers = optimizers if len(optimizers) > 1 else []
        self._active_parts, self._devices = self.all_parts, None
        if self.trainable_variables:
            for part, built in enumerate(self.optimizers):
                built.build(self.part_weights(part))

    def get_compile_config(self) -> dict[str, Any] | None:
        """Returns the optimisers and the partition, for Keras serialisation."""
        serialize = keras.saving.serialize_keras_object
        optimizers = [serialize(optimizer) for optimizer in self.optimizers]
        return {
            "optimizer": optimizers if self._part_optimizers else optimizers[0],
            "partition": serialize(self._partition),
        }

    def finalize_part_weights(self, parts: Sequence[int] | None = None) -> None:
        """Ends a training as Keras does with a single optimiser: averages become the weights.

        Args:
          parts: the parts whose training ends; None for all.
        """
        for part, optimizer in enumerate(self._part_optimizers):
            # Before its first step, an optimiser has no average.
            if (parts is None or part in parts) and int(optimizer.iterations.numpy()):
                optimizer.finalize_variable_values(self.part_weights(part))

    def rest_part(self, part: int) -> None:
        """Gives a part that waits for its next turn its averages, and keeps its weights for it.

        Nothing happens where its optimiser does not average (EMA), or the part rests already.
        """
        if self.optimizers[part].use_ema and _kept(part, 0) not in self._callback_state:
            for index, weight in enumerate(self.part_weights(part)):
                self._callback_state[_kept(part, index)] = weight.numpy()
            self.finalize_part_weights([part])

    def wake_part(self, part: int) -> None:
        """Gives a part the weights back that `rest_part` has kept, if any."""
        for index, weight in enumerate(self.part_weights(part)):
            value = self._callback_state.pop(_kept(part, index), None)
            if value is not None:
                weight.assign(value)

    @property
    def callback_state(self) -> dict[str, np.ndarray]:
        """Arrays by name, where callbacks keep what has to be saved with the weights."""
        return self._callback_state

    def save_own_variables(self, store: Any) -> None:
        """Saves the model's own weights, and what callbacks keep with them."""
        super().save_own_variables(store)
        for name, value in self._callback_state.items():
            store[f"{_CALLBACK_STATE}{name}"] = value

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Restores what `save_own_variables` saved."""
        values = {name: np.array(store[name]) for name in store.keys()}  # noqa: SIM118
        states = [name for name in values if name.startswith(_CALLBACK_STATE)]
        self._callback_state = {
            name.removeprefix(_CALLBACK_STATE): values.pop(name) for name in states
        }
        super().load_own_variables(values)


def _kept(part: int, index: int) -> str:
    """Returns the name in `callback_state` of a weight of a part that waits."""
    return f"part_{part}_weight_{index}"
