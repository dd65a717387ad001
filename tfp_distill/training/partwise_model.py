"""The one train_step of the library."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_distill.compiling import inlined, uses_xla
from tfp_distill.training.batches import (
    conditions_beside_weights,
    first_rows,
    unpack_batch,
    weighted_mean,
)
from tfp_distill.training.partitioned_model import PartitionedModel
from tfp_distill.training.parts.part_optimizers import check_gradients
from tfp_distill.training.parts.partition import Partition
from tfp_distill.training.parts.pipeline import PartPipeline
from tfp_distill.training.replicas import (
    apply_if,
    logs_of_replica,
    mean_over_replicas,
    place_in_global_batch,
)
from tfp_distill.training.step_random import StepRandom

__all__ = ["PartwiseModel", "losses_by_name"]


class PartwiseModel(PartitionedModel, abc.ABC):
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
        super().__init__(name=name)
        self._loss_names = tuple(loss_names)
        self._seed = seed
        self._step = self._add_counter("step")
        self._skipped_steps = self._add_counter("skipped_steps")
        self._train_functions: dict[Hashable, Any] = {}
        self._test_functions: dict[Hashable, Any] = {}
        self._updates_of_parts: dict[int, Any] = {}
        self._means = {name: _MeanOrNan(name=name) for name in ("loss", *loss_names, "grad_norm")}
        self._skipped_metric = keras.metrics.Sum(name="skipped_steps")
        self._part_means: dict[str, keras.metrics.Metric] = {}
        self._xla_as_asked: str | bool = "auto"
        self._use_xla = True

    @property
    def loss_names(self) -> tuple[str, ...]:
        """Names of all figures that the objective may report besides `loss`."""
        return self._loss_names

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

    def part_objectives(
        self,
        x: tf.Tensor,
        condition: tf.Tensor | None,
        random: StepRandom,
        parts: Collection[int],
    ) -> dict[int, dict[str, tf.Tensor]]:
        """Returns for each of `parts` what `objective` returns for the whole.

        The losses of a part have gradients to its own weights only, and nothing behind the last one
        of `parts` is computed. A model that can be partitioned implements it.
        """
        raise NotImplementedError

    @property
    def suits_xla(self) -> bool:
        """Whether XLA makes steps faster on CPUs, see `tfp_distill.compiling.xla_pays`."""
        return True

    @abc.abstractmethod
    def adapt(self, x: Any, condition: Any = None) -> None:
        """Sets what depends on the data before training: statistics and initial weights."""

    @property
    @abc.abstractmethod
    def adapted(self) -> bool:
        """Whether what depends on the data has been set, here or before saving."""

    @property
    def checks_first_rows(self) -> bool:
        """Whether `fit` looks at its first batches even where the model is adapted."""
        return False

    def check_first_rows(self, x: Any, condition: Any = None) -> None:  # noqa: B027
        """Raises `ValueError` if the first batches are none to train on."""

    @property
    def seed(self) -> int:
        """Seed of the noise that training draws."""
        return self._seed

    @property
    def step(self) -> int:
        """Number of training steps seen so far, the skipped ones included."""
        return int(self._step.numpy())

    @property
    def skipped_steps(self) -> int:
        """Number of training steps that were skipped because something was not finite."""
        return int(self._skipped_steps.numpy())

    def restart(self) -> None:
        """Counts steps from 0 again, in a model that begins with the weights of another."""
        self._step.value.assign(0)
        self._skipped_steps.value.assign(0)

    @property
    def uses_xla(self) -> bool:
        """Whether XLA compiles the steps, as wholes or on each replica."""
        return self._use_xla

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer | Sequence[keras.optimizers.Optimizer] = "adam",
        *,
        partition: Partition | None = None,
        jit_compile: str | bool = "auto",
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
    ) -> None:
        """Configures training. There is no `loss` argument: the objective is the model's own.

        Args:
          optimizer: a Keras optimiser or its name. Warm-up, decay, clipping and averaging of the
            weights (EMA) are the optimiser's. With a partition, one a part, or one that is cloned,
            without its state, for each; a schedule then counts the steps of its part.
          partition: where gradients stop; by default nowhere. With several parts the model has no
            `optimizer` but `optimizers`.
          jit_compile: whether XLA compiles the step; "auto" means where it pays: on GPUs, and on
            CPUs but for images.
          run_eagerly: run without graphs, for debugging.
          steps_per_execution: steps per call of the compiled function; 1 on several replicas, whose
            steps TensorFlow cannot put into a loop.

        Raises:
          ValueError: if optimisers, partition and model do not fit each other.
        """
        use_xla = uses_xla(jit_compile, suits_xla=self.suits_xla) and not run_eagerly
        on_one_device = self.distribute_strategy.num_replicas_in_sync == 1
        super().compile(
            optimizer,
            partition=partition,
            jit_compile=use_xla and on_one_device,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution if on_one_device else 1,
        )
        self._xla_as_asked, self._use_xla = jit_compile, use_xla
        self._train_functions, self._test_functions, self._updates_of_parts = {}, {}, {}
        losses = ("loss", *self._loss_names)
        names = [f"{_prefix(part)}{name}" for part in self.all_parts or () for name in losses]
        self._part_means = {name: _MeanOrNan(name=name) for name in names}

    def get_compile_config(self) -> dict[str, Any] | None:
        """Returns what `compile_from_config` needs to compile a loaded model again."""
        if not self.compiled:
            return None
        return {
            **(super().get_compile_config() or {}),
            "jit_compile": self._xla_as_asked,
            "run_eagerly": self.run_eagerly,
            "steps_per_execution": self.steps_per_execution,
        }

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a loaded model as it was compiled when it was saved."""
        self.compile(**keras.saving.deserialize_keras_object(config))

    def fit(self, x: Any = None, y: Any = None, **kwargs: Any) -> keras.callbacks.History:
        """Trains the model; arguments as `keras.Model.fit`.

        A model that was not adapted to data is adapted to its first batches, of 4,096 rows; call
        `adapt` before `fit` to do it with other rows.

        Args:
          x: a `tf.data.Dataset` or `keras.utils.PyDataset` of batches, or an array.
          y: the array of conditions where `x` is an array.
          **kwargs: passed on to `keras.Model.fit`: `sample_weight` are the weights of rows where
            `x` is an array; `shuffle` is True by default for arrays; a dataset shuffles itself.

        Raises:
          ValueError: if the model has no trainable weights, or the first batches are empty or not
            finite, or have no noise where the model needs it.
        """
        if not self.trainable_variables:
            raise ValueError(f"`{self.name}` must have trainable weights to be fitted, got none.")
        if self.compiled and (self.checks_first_rows or not self.adapted):
            batch_size = kwargs.get("batch_size") or 32
            rows = first_rows(x, y, batch_size, self.distribute_strategy)
            self.check_first_rows(*rows)
            if not self.adapted:
                self.adapt(*rows)
        y = conditions_beside_weights(x, y, kwargs.get("sample_weight"))
        if isinstance(kwargs.get("validation_data"), tuple) and len(kwargs["validation_data"]) == 3:
            x_val, y_val, weights = kwargs["validation_data"]
            y_val = conditions_beside_weights(x_val, y_val, weights)
            kwargs["validation_data"] = x_val, y_val, weights
        # Keras's own default, True, makes it warn about every dataset.
        kwargs.setdefault("shuffle", hasattr(x, "shape"))
        self._active_parts, self._batches, self._devices = self.all_parts, None, None
        try:
            history = super().fit(x, y, **kwargs)
        finally:
            # Of a training that was interrupted: it must not overwrite what happens to the weights.
            if isinstance(self.train_function, PartPipeline):
                self.train_function.discard()
        self.finalize_part_weights()
        return history

    def evaluate(self, x: Any = None, y: Any = None, **kwargs: Any) -> Any:
        """Evaluates the model; arguments as `keras.Model.evaluate`, `y` are conditions."""
        y = conditions_beside_weights(x, y, kwargs.get("sample_weight"))
        return super().evaluate(x, y, **kwargs)

    def make_train_function(self, force: bool = False) -> None:
        """Selects the step of the active losses and parts, and makes it where there is none yet."""
        if force:
            self._train_functions, self._updates_of_parts = {}, {}
        self.drain()
        key = (self.active_losses, self.active_parts, self._devices)
        if key not in self._train_functions:
            self._train_functions[key] = (
                self._make_function(self.train_step)
                if self._devices is None
                else PartPipeline(self, self._devices, jit_compile=self._use_xla)
            )
        function, batches = self._train_functions[key], self._batches
        # Keras calls it with the iterator of its own data.
        self.train_function = function if batches is None else lambda _: function(batches())

    def drain(self) -> None:
        """Completes the steps that parts on devices of their own have begun, see `PartPipeline`."""
        if isinstance(self.train_function, PartPipeline):
            self.train_function.drain()

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Builds nothing, because `compile` has built everything.

        Keras's, under a strategy, adds up the replicas' rows of the first batch to look at it, and
        fails where they hold different numbers of rows.
        """

    def get_metrics_result(self) -> dict[str, tf.Tensor]:
        """Returns the values of the metrics, for which `fit` asks at the end of an epoch."""
        self.drain()
        return super().get_metrics_result()

    def save_own_variables(self, store: Any) -> None:
        """Saves the model's own weights, which Keras does before those of its layers."""
        self.drain()
        super().save_own_variables(store)

    def make_test_function(self, force: bool = False) -> None:
        """Selects the compiled evaluation of the active losses, as `make_train_function`."""
        if force:
            self._test_functions = {}
        if self.active_losses not in self._test_functions:
            self._test_functions[self.active_losses] = self._make_function(self.test_step)
        self.test_function = self._test_functions[self.active_losses]

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The loss, each loss by name, the gradient norm and the number of skipped steps."""
        means = [*self._means.values(), *self._part_means.values()]
        return [*means, self._skipped_metric] if self.compiled else []

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Takes one step and returns the logs."""
        x, condition, weights = unpack_batch(data)
        with inlined() if self.run_eagerly else contextlib.nullcontext():
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
            finite = _is_finite(means, norms, prefix)
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
          of_parts: for each part the means of its losses, and `grad_norm`.
          rows: number of rows of the batch.
        """
        of_parts = {part: dict(own) for part, own in of_parts.items()}
        norms = {_prefix(part): own.pop("grad_norm") for part, own in of_parts.items()}
        loss = tf.add_n([own["loss"] for own in of_parts.values()])
        means = {"loss": loss, **losses_by_name(of_parts)}
        taken = {prefix: _is_finite(means, norms, prefix) for prefix in norms}
        return self._report(means, norms, taken, rows)

    def _report(self, means, norms, taken, rows):
        """Counts a step, taken or skipped, and accumulates its means; returns the logs."""
        norms = list(norms.values())
        finite = tf.reduce_all(list(taken.values()))
        skipped = 1 - tf.cast(finite, tf.int32)
        self._step.value.assign_add(1)
        self._skipped_steps.value.assign_add(skipped)
        num_replicas = self.distribute_strategy.num_replicas_in_sync
        # Keras sums the replicas' metrics, but averages the logs that they return.
        self._skipped_metric.update_state(tf.cast(skipped, tf.float32) / num_replicas)
        norm = norms[0] if len(norms) == 1 else tf.linalg.global_norm(norms)
        logs = self._update_metrics({"loss": means["loss"], "grad_norm": norm}, rows, finite)
        for prefix, finite in taken.items():
            rest = {n: v for n, v in means.items() if n != "loss" and n.startswith(prefix)}
            logs.update(self._update_metrics(rest, rows, finite))
        logs["skipped_steps"] = self._skipped_metric.result() * num_replicas
        return logs_of_replica(self.distribute_strategy, logs)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Evaluates the active losses on a batch; noise is that of step 0 of the run."""
        x, condition, weights = unpack_batch(data)
        # 0, but not a constant: TensorFlow would draw the noise of a constant seed instead of XLA.
        step = tf.minimum(self._step.value, 0)
        random = self._random(x)._replace(step=step, stream="evaluation")
        with inlined() if self.run_eagerly else contextlib.nullcontext():
            means = self._xla(self._evaluation_means)(x, condition, weights, random)
        rows = _num_rows(x, weights)
        means, _, rows = mean_over_replicas(self.distribute_strategy, means, [], rows)
        logs = self._update_metrics(means, rows, tf.constant(True))
        return logs_of_replica(self.distribute_strategy, logs)

    def _update(self, part, finite, gradients, weights):
        """Applies the gradients of a part if they are finite.

        The operations of an optimiser are most of those of a step. They are traced once for each
        part, and called by the steps of all selections of parts.
        """
        strategy, optimizer = self.distribute_strategy, self.optimizers[part]
        if self.run_eagerly or strategy.num_replicas_in_sync > 1:
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

    def _random(self, x: Any) -> StepRandom:
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
        return [(_prefix(part), (part,)) for part in self.active_parts]

    def _loss_and_gradients(self, x, condition, row_weights, random):
        parts = [part for _, parts in self._updates for part in parts]
        variables = [weight for part in parts for weight in self.part_weights(part)]
        weights = [weight.value for weight in variables]
        # Parts before the active ones have no watched weight: they run without the tape.
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            if self.active_parts is None:
                losses = self.objective(x, condition, random)
            else:
                of_parts = self.part_objectives(x, condition, random, self.active_parts)
                loss = tf.add_n([own["loss"] for own in of_parts.values()])
                losses = {"loss": loss, **losses_by_name(of_parts)}
            means = {name: weighted_mean(v, row_weights) for name, v in losses.items()}
        gradients = tape.gradient(means["loss"], weights)
        check_gradients(gradients, variables)
        return means, gradients

    def _evaluation_means(self, x, condition, row_weights, random):
        losses = self.evaluation_losses(x, condition, random)
        return {name: weighted_mean(value, row_weights) for name, value in losses.items()}

    def _update_metrics(self, values, rows, finite):
        """Accumulates the means of a global batch; a skipped batch leaves the metrics alone."""
        weight = tf.where(finite, tf.cast(rows, tf.float32), 0.0)
        metrics = {**self._means, **self._part_means}
        logs = {}
        for name, value in values.items():
            value = tf.where(finite, tf.cast(value, tf.float32), 0.0)
            metrics[name].update_state(value, sample_weight=weight)
            logs[name] = metrics[name].result()
        return logs

    def _add_counter(self, name: str) -> keras.Variable:
        return self.add_weight(
            shape=(),
            dtype="int32",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
            name=name,
        )


def losses_by_name(of_parts: Mapping[int, Mapping[str, tf.Tensor]]) -> dict[str, tf.Tensor]:
    """Returns what `part_objectives` returns by the names in the logs: `part_0_loss`, ..."""
    return {
        f"{_prefix(part)}{name}": value
        for part, losses in of_parts.items()
        for name, value in losses.items()
    }


def _is_finite(means, norms, prefix):
    return tf.math.is_finite(means[f"{prefix}loss"]) & tf.math.is_finite(norms[prefix])


def _prefix(part: int) -> str:
    return f"part_{part}_"


def _split(values: Sequence[Any], size: int) -> tuple[Sequence[Any], Sequence[Any]]:
    return values[:size], values[size:]


class _MeanOrNan(keras.metrics.Mean):
    """A mean that is not a number, where Keras's is 0, as long as nothing was averaged."""

    def result(self):
        return self.total / keras.ops.cast(self.count, self.dtype)


def _num_rows(x: Any, weights: tf.Tensor | None) -> tf.Tensor:
    """Returns the number of rows of a batch, or the sum of their weights."""
    if weights is not None:
        return tf.reduce_sum(tf.cast(weights, tf.float32))
    return tf.shape(tf.nest.flatten(x)[0])[0]  # What a part receives is several tensors.
