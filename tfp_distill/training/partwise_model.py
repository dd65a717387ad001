"""The one train_step of the library."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_distill.arrays import Array
from tfp_distill.compiling import inlined, shared_traces
from tfp_distill.recomputation import recomputed_activations
from tfp_distill.training.batches import unpack_batch, weighted_mean
from tfp_distill.training.compiled_model import CompiledModel
from tfp_distill.training.parts.part_optimizers import check_gradients
from tfp_distill.training.replicas import (
    apply_if,
    has_replicas,
    logs_of_replica,
    mean_over_replicas,
    place_in_global_batch,
)
from tfp_distill.training.step_metrics import can_be_taken, losses_by_name, part_prefix
from tfp_distill.training.step_random import StepRandom

__all__ = ["PartwiseModel"]


class PartwiseModel(CompiledModel):
    """A `keras.Model` that minimises an objective of named per-example losses.

    Subclasses say what is minimised (`objective`), a `Partition` says where gradients stop, and
    this class says how a step is taken:

    - the step is compiled by XLA, as a whole on one device, or its loss and gradients on each
      replica of a `tf.distribute` strategy;
    - losses are averaged over the *global* batch, gradients are reduced before they are clipped,
      so that N replicas take the step of one device with the same global batch;
    - a step whose loss or gradient is not finite changes nothing, neither weights nor optimiser
      slots, on no replica; it is counted in the log `skipped_steps`;
    - which losses are active is decided before tracing: a loss of weight 0 costs nothing, and each
      set of active losses is traced once and kept.

    Compiled with a partition of several parts, each part has its own optimiser and minimises its
    own losses (`part_objectives`): all parts in every step, or those that a callback selects by
    `train_parts`, as `PartSchedule` does; each selection is traced once and kept. Parts do not wait
    for each other: where the loss or the gradient of one is not finite, that one skips the step
    and the others take it. The logs hold `part_0_loss`, ... of the active parts; `loss` is their
    sum, and `skipped_steps` counts the steps that some part skipped. End to end, `objective` is
    minimised with the parts' optimisers, and the step is taken or skipped as a whole. Evaluation
    reports the whole objective and every part, whatever is trained.

    Batches are `x`, `(x, condition)` or `(x, condition, weight)`, where the condition may be None.
    A row of weight 2 counts as if it were given twice, in losses, gradients and logs.

    Args:
      loss_names: names of all figures that the objective may report besides `loss`.
      seed: seed of the noise that training draws (see `StepRandom`).
      name: name of the model.
    """

    def __init__(
        self, *, loss_names: Sequence[str], seed: int = 0, name: str | None = None
    ) -> None:
        super().__init__(loss_names=loss_names, name=name)
        self._seed = seed
        self._step = self._add_counter("step")
        self._skipped_steps = self._add_counter("skipped_steps")
        self._updates_of_parts: dict[int, Any] = {}

    @property
    def active_losses(self) -> tuple[str, ...]:
        """Names of the losses that training computes now."""
        return self._loss_names

    @abc.abstractmethod
    def objective(
        self, x: tf.Tensor, condition: tf.Tensor | None, random: StepRandom
    ) -> dict[str, tf.Tensor]:
        """Returns `loss`, which is minimised, and one entry per name of `active_losses`.

        Args:
          x: data `[batch, ...]`.
          condition: optional `[batch, C]`.
          random: the noise of this step.

        Returns:
          Per-example losses `[batch]`.
        """

    def evaluation_losses(
        self, x: tf.Tensor, condition: tf.Tensor | None, random: StepRandom
    ) -> dict[str, tf.Tensor]:
        """Returns what validation reports, as `objective` does; by default the same."""
        return self.objective(x, condition, random)

    @property
    def seed(self) -> int:
        """Seed of the noise that training draws."""
        return self._seed

    @property
    def step(self) -> int:
        """Number of training steps seen so far, the skipped ones included."""
        return int(self._step.numpy())

    @property
    def steps_begun(self) -> int:
        """As `step`, with those that parts on devices of their own have begun (`PartPipeline`)."""
        return self.step + (0 if self._pipeline is None else self._pipeline.num_on_their_way)

    @property
    def skipped_steps(self) -> int:
        """Number of training steps that were skipped because something was not finite."""
        return int(self._skipped_steps.numpy())

    def restart(self) -> None:
        """Counts steps from 0 again, in a model that begins with the weights of another."""
        self._step.value.assign(0)
        self._skipped_steps.value.assign(0)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Takes one step and returns the logs."""
        x, condition, weights = unpack_batch(data)
        with self._tracing():
            random = self._random(x)
            run = self._xla(self._loss_and_gradients)
            means, gradients = run(x, condition, weights, random)
        means, gradients, rows = mean_over_replicas(
            self.distribute_strategy, means, gradients, _num_rows(x, weights)
        )
        norms, taken = {}, {}
        for prefix, parts in self._updates:
            weights = {part: self.part_weights(part) for part in parts}
            own, gradients = _split(gradients, sum(map(len, weights.values())))
            norms[prefix] = tf.linalg.global_norm(own)
            drift = means.get("drift", 0.0)
            finite = can_be_taken(means[f"{prefix}loss"], norms[prefix], drift)
            for part, variables in weights.items():
                of_part, own = _split(own, len(variables))
                self._update(part, finite, of_part, variables)
            taken[prefix] = finite
        return self._report(means, norms, taken, rows)

    def report_parts(
        self, of_parts: Mapping[int, dict[str, tf.Tensor]], rows: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Counts a step that the parts took elsewhere, and returns the logs, as `train_step`.

        Args:
          of_parts: for each part the means of its losses, `grad_norm`, and `drift` if there is one.
          rows: number of rows of the batch.
        """
        of_parts = {part: dict(own) for part, own in of_parts.items()}
        norms = {part_prefix(part): own.pop("grad_norm") for part, own in of_parts.items()}
        drifts = {part_prefix(part): own.pop("drift", 0.0) for part, own in of_parts.items()}
        loss = tf.add_n([own["loss"] for own in of_parts.values()])
        means = {"loss": loss, **losses_by_name(of_parts)}
        taken = {
            prefix: can_be_taken(means[f"{prefix}loss"], norm, drifts[prefix])
            for prefix, norm in norms.items()
        }
        if self.recomputes:
            means["drift"] = tf.reduce_max(list(drifts.values()))
        return self._report(means, norms, taken, rows)

    def _report(self, means, norms, taken, rows):
        """Counts a step, taken or skipped, and accumulates its means; returns the logs."""
        norms = list(norms.values())
        finite = tf.reduce_all(list(taken.values()))
        is_taken = tf.cast(finite, tf.int32)
        skipped = 1 - is_taken
        # A constant 1 would not wait for the batch, of which there is none where the data end.
        self._step.value.assign_add(tf.cast(is_taken + skipped, self._step.dtype))
        self._skipped_steps.value.assign_add(skipped)
        norm = norms[0] if len(norms) == 1 else tf.linalg.global_norm(norms)
        whole = {name: means[name] for name in ("loss", "drift") if name in means}
        logs = self.figures.update({**whole, "grad_norm": norm}, rows, finite)
        for prefix, finite in taken.items():
            rest = {n: v for n, v in means.items() if n not in whole and n.startswith(prefix)}
            logs.update(self.figures.update(rest, rows, finite))
        num_replicas = self.distribute_strategy.num_replicas_in_sync
        logs["skipped_steps"] = self.figures.count_skipped(skipped, num_replicas)
        return logs_of_replica(self.distribute_strategy, logs)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Evaluates the active losses on a batch; noise is that of step 0 of the run."""
        x, condition, weights = unpack_batch(data)
        # 0, but not a constant: TensorFlow would draw the noise of a constant seed instead of XLA.
        step = tf.minimum(self._step.value, 0)
        random = self._random(x)._replace(step=step, stream="evaluation")
        with self._tracing():
            means = self._xla(self._evaluation_means)(x, condition, weights, random)
        rows = _num_rows(x, weights)
        means, _, rows = mean_over_replicas(self.distribute_strategy, means, [], rows)
        logs = self.figures.update(means, rows, tf.constant(True))
        return logs_of_replica(self.distribute_strategy, logs)

    def _update(self, part, finite, gradients, weights):
        """Applies the gradients of a part if they are finite.

        The operations of an optimiser are most of those of a step. They are traced once for each
        part, and called by the steps of all selections of parts.
        """
        strategy, optimizer = self.distribute_strategy, self.optimizers[part]
        if self.run_eagerly or has_replicas(strategy):
            apply_if(strategy, finite, optimizer, gradients, weights)
            return
        if part not in self._updates_of_parts:
            self._updates_of_parts[part] = tf.function(
                lambda finite, *gradients: apply_if(
                    strategy, finite, optimizer, gradients, weights
                ),
                autograph=False,
            )
        self._updates_of_parts[part](finite, *gradients)

    def _forget_train_functions(self) -> None:
        super()._forget_train_functions()
        self._updates_of_parts = {}

    def _tracing(self) -> contextlib.AbstractContextManager[None]:
        return inlined() if self.run_eagerly else shared_traces(not self._use_xla)

    def _random(self, x: Array) -> StepRandom:
        """Returns the noise of this step: each replica takes that of its own rows of `x`."""
        random = StepRandom(self._seed, self._step.value)
        if self.distribute_strategy.num_replicas_in_sync == 1:
            return random
        first_row, number = place_in_global_batch(_num_rows(x, None))
        return random._replace(global_rows=tf.zeros([number]), first_row=first_row)

    def _xla(self, function):
        """Compiles `function` where Keras does not compile the whole step (under a strategy)."""
        if not self._use_xla or self.jit_compile:
            return function
        return lambda x, condition, weights, random: tf.function(
            lambda x, condition, weights, step, global_rows, first_row: function(
                x,
                condition,
                weights,
                random._replace(step=step, global_rows=global_rows, first_row=first_row),
            ),
            autograph=False,
            jit_compile=True,
        )(x, condition, weights, random.step, random.global_rows, random.first_row)

    @property
    def _updates(self) -> list[tuple[str, tuple[int, ...]]]:
        """What is taken or skipped as a whole: the prefix of its losses' names, and its parts."""
        if self.active_parts is None:
            return [("", self.all_parts or (0,))]
        return [(part_prefix(part), (part,)) for part in self.active_parts]

    def _loss_and_gradients(self, x, condition, row_weights, random):
        parts = [part for _, parts in self._updates for part in parts]
        variables = [weight for part in parts for weight in self.part_weights(part)]
        weights = [weight.value for weight in variables]
        recomputing = recomputed_activations(self.recomputes, use_xla=self._use_xla)
        # Parts before the active ones have no watched weight: they run without the tape.
        with recomputing as recomputation, tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            if self.active_parts is None:
                losses = self.objective(x, condition, random)
            else:
                of_parts = self.part_objectives(x, condition, self.active_parts)
                loss = tf.add_n([own["loss"] for own in of_parts.values()])
                losses = {"loss": loss, **losses_by_name(of_parts)}
            means = {name: weighted_mean(v, row_weights) for name, v in losses.items()}
        gradients = tape.gradient(means["loss"], weights)
        if recomputation is not None:
            means["drift"] = recomputation.drift
        check_gradients(gradients, variables)
        return means, gradients

    def _evaluation_means(self, x, condition, row_weights, random):
        losses = self.evaluation_losses(x, condition, random)
        return {name: weighted_mean(value, row_weights) for name, value in losses.items()}

    def _add_counter(self, name: str) -> keras.Variable:
        return self.add_weight(
            shape=(),
            dtype="int32",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
            name=name,
        )


def _split(values: Sequence[Any], size: int) -> tuple[Sequence[Any], Sequence[Any]]:
    return values[:size], values[size:]


def _num_rows(x: Array, weights: tf.Tensor | None) -> tf.Tensor:
    """Returns the number of rows of a batch, or the sum of their weights."""
    if weights is not None:
        return tf.reduce_sum(tf.cast(weights, tf.float32))
    return tf.shape(tf.nest.flatten(x)[0])[0]  # What a part receives is several tensors.
