"""What training asks of flows and of rows, which it does not import."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import keras
import tensorflow as tf

from tfp_distill.arrays import Array
from tfp_distill.bijectors import TracedChain

__all__ = ["Handed", "OrderedRows", "PartedModel", "PartitionedTraining", "SteppedFlow"]


class Handed(NamedTuple):
    """What a part receives of the parts before it; nothing is handed back.

    Attributes:
      value: what is in the flow `[batch, ...]`.
      log_prob: the log-likelihood so far `[batch]`, in nats.
      besides: what else losses of this part and of those behind it look at, `[batch, ...]` each.
    """

    value: tf.Tensor
    log_prob: tf.Tensor
    besides: tuple[tf.Tensor, ...] = ()


class SteppedFlow(Protocol):
    """A flow whose steps a `Partition` divides, counted from 1; `tfp_distill.Flow` is one."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def num_steps(self) -> int:
        """Number of steps."""

    @property
    def level_ends(self) -> tuple[int, ...]:
        """The last step of each level; none where there are no levels."""

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one data point."""

    @property
    def bijector(self) -> TracedChain:
        """The chain; `bijectors[k]` is step k, and what is before the first one standardises."""

    def step_weights(self, first_step: int, last_step: int) -> list[keras.Variable]:
        """Returns the trainable weights of the steps first to last."""


class PartitionedTraining(Protocol):
    """A compiled model whose training may be divided; `PartitionedModel` is one."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def all_parts(self) -> tuple[int, ...] | None:
        """The numbers of all parts; None where it is not divided."""

    @property
    def distribute_strategy(self) -> tf.distribute.Strategy:
        """The strategy that it was compiled in."""


class PartedModel(Protocol):
    """A compiled model whose parts run on their own; `PartitionedModel` is one."""

    @property
    def optimizers(self) -> tuple[keras.optimizers.Optimizer, ...]:
        """The optimiser of each part."""

    @property
    def part_loss_names(self) -> Sequence[str]:
        """The names of what `run_part` returns besides what it hands on."""

    @property
    def objective_weights(self) -> tf.Tensor | tuple[()]:
        """The weights of the losses in the objective, as they are now."""

    @property
    def compute_dtype(self) -> str:
        """The type of the losses."""

    @property
    def run_eagerly(self) -> bool:
        """Whether its steps are not compiled."""

    @property
    def steps_per_execution(self) -> int:
        """Number of batches a call of the train function."""

    @property
    def recomputes(self) -> bool:
        """Whether the backward pass rebuilds activations."""

    def part_weights(self, part: int) -> list[keras.Variable]:
        """Returns the trainable weights of a part."""

    def part_variables(self, part: int) -> list[keras.Variable]:
        """Returns all variables that a part reads."""

    def first_input(self, x: Array, condition: Array | None = None) -> Handed:
        """Returns what the first part receives."""

    def run_part(
        self, part: int, handed: Handed, condition: Array | None = None
    ) -> tuple[Handed, dict[str, tf.Tensor]]:
        """Returns what a part hands on, of what it receives, and its losses `[batch]`."""

    def weigh(self, losses: Mapping[str, tf.Tensor], weights: Any) -> dict[str, tf.Tensor]:
        """Returns the losses of a part, and `loss`, which it minimises, first."""

    def report_parts(
        self, of_parts: dict[int, dict[str, tf.Tensor]], rows: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Counts a step, and returns its logs."""


@runtime_checkable
class OrderedRows(Protocol):
    """The rows of a training, batch by batch; `TrainingRows` and `TeacherTraces` are such."""

    @property
    def batch_size(self) -> int:
        """Rows a batch."""

    def __len__(self) -> int:
        """Number of rows."""

    def batches(self, *, start_step: int = 0) -> tf.data.Dataset:
        """Returns an endless dataset of shuffled batches."""

    def batches_of(self, arrays: Any, *, start_step: int = 0) -> tf.data.Dataset:
        """Returns as `batches` what other arrays hold for the same rows, in the same order."""

    def ordered(self, draw: int = 0) -> Iterable[Any]:
        """Returns all rows in their order, with the noise of a draw."""
