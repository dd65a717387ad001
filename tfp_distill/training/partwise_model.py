"""The one train_step of the library."""

from __future__ import annotations

import abc
from collections.abc import Hashable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_distill.training.step_random import StepRandom

__all__ = ["PartwiseModel"]


class PartwiseModel(keras.Model, abc.ABC):
    """A `keras.Model` that minimises an objective of named per-example losses.

    Subclasses say what is minimised (`objective`); this class says how a step is taken:

    - the step is compiled by XLA, as a whole on one device, or its loss and gradients on each
      replica of a `tf.distribute` strategy;
    - losses are averaged over the *global* batch, gradients are reduced before they are clipped,
      so that N replicas take the step of one device with the same global batch;
    - a step whose loss or gradient is not finite changes nothing, neither weights nor optimiser
      slots, on no replica; it is counted in the log `skipped_steps`;
    - which losses are active is decided before tracing: a loss of weight 0 costs nothing, and each
      set of active losses is traced once and kept.

    Batches are `x` or `(x, condition)`.

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
        self._means = {name: _MeanOrNan(name=name) for name in ("loss", *loss_names, "grad_norm")}
        self._skipped_metric = keras.metrics.Sum(name="skipped_steps")
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

    @abc.abstractmethod
    def initialize(self, x: Any, condition: Any = None) -> None:
        """Sets data-dependent initial weights from a batch of data."""

    @property
    @abc.abstractmethod
    def initialized(self) -> bool:
        """Whether data-dependent initial weights have been set, here or before saving."""

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

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer = "adam",
        *,
        jit_compile: str | bool = "auto",
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
    ) -> None:
        """Configures training. There is no `loss` argument: the objective is the model's own.

        Args:
          optimizer: a Keras optimiser or its name. Warm-up, decay, clipping and averaging of the
            weights (EMA) are the optimiser's.
          jit_compile: whether XLA compiles the step; "auto" means yes.
          run_eagerly: run without graphs, for debugging.
          steps_per_execution: steps per call of the compiled function.
        """
        self._use_xla = bool(jit_compile) and not run_eagerly
        on_one_device = self.distribute_strategy.num_replicas_in_sync == 1
        super().compile(
            optimizer=optimizer,
            jit_compile=self._use_xla and on_one_device,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
        )
        self._train_functions, self._test_functions = {}, {}
        if self.trainable_variables:
            self.optimizer.build(self.trainable_variables)

    def get_compile_config(self) -> dict[str, Any] | None:
        """Returns what `compile_from_config` needs to compile a loaded model again."""
        if not self.compiled:
            return None
        return {
            "optimizer": keras.saving.serialize_keras_object(self.optimizer),
            "jit_compile": self._use_xla,
            "run_eagerly": self.run_eagerly,
            "steps_per_execution": self.steps_per_execution,
        }

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a loaded model as it was compiled when it was saved."""
        self.compile(**keras.saving.deserialize_keras_object(config))

    def fit(self, x: Any = None, y: Any = None, **kwargs: Any) -> keras.callbacks.History:
        """Trains the model; arguments as `keras.Model.fit`.

        Where data-dependent weights were not initialised yet, the first batch initialises them: of
        an array, its first `batch_size` rows (32 by default), which is a noisy estimate of the
        statistics; call `initialize` with more rows before `fit` for a better one.

        Args:
          x: a `tf.data.Dataset` or `keras.utils.PyDataset` of `x` or `(x, condition)`, or an array.
          y: the array of conditions where `x` is an array.
          **kwargs: passed on to `keras.Model.fit`. `shuffle` is True by default for arrays; a
            dataset shuffles itself.

        Raises:
          ValueError: if the model has no trainable weights.
        """
        if not self.trainable_variables:
            raise ValueError(f"`{self.name}` must have trainable weights to be fitted, got none.")
        if self.compiled and not self.initialized:
            batch_size = kwargs.get("batch_size") or 32
            self.initialize(*_first_batch(x, y, batch_size, self.distribute_strategy))
        # Keras's own default, True, makes it warn about every dataset.
        kwargs.setdefault("shuffle", hasattr(x, "shape"))
        return super().fit(x, y, **kwargs)

    def make_train_function(self, force: bool = False) -> None:
        """Selects the compiled step of the active losses, and makes it where there is none yet."""
        if force:
            self._train_functions = {}
        if self.active_losses not in self._train_functions:
            self._train_functions[self.active_losses] = self._make_function(self.train_step)
        self.train_function = self._train_functions[self.active_losses]

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
        return [*self._means.values(), self._skipped_metric] if self.compiled else []

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Takes one step and returns the logs."""
        x, condition, _ = keras.utils.unpack_x_y_sample_weight(data)
        means, gradients = self._xla(self._loss_and_gradients)(x, condition, self._random())
        means, gradients, rows = self._mean_over_replicas(means, gradients, tf.shape(x)[0])
        norm = tf.linalg.global_norm(gradients)
        finite = tf.math.is_finite(means["loss"]) & tf.math.is_finite(norm)
        self._apply_if(finite, gradients)
        skipped = 1 - tf.cast(finite, tf.int32)
        self._step.value.assign_add(1)
        self._skipped_steps.value.assign_add(skipped)
        num_replicas = self.distribute_strategy.num_replicas_in_sync
        # Keras sums the replicas' metrics, but averages the logs that they return.
        self._skipped_metric.update_state(tf.cast(skipped, tf.float32) / num_replicas)
        logs = self._update_metrics({**means, "grad_norm": norm}, rows, finite)
        return {**logs, "skipped_steps": self._skipped_metric.result() * num_replicas}

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Evaluates the active losses on a batch; noise is that of step 0 of the run."""
        x, condition, _ = keras.utils.unpack_x_y_sample_weight(data)
        # 0, but not a constant: TensorFlow would draw the noise of a constant seed instead of XLA.
        random = self._random()._replace(step=tf.minimum(self._step.value, 0))
        losses = self._xla(self.evaluation_losses)(x, condition, random)
        means = {name: tf.reduce_mean(value) for name, value in losses.items()}
        means, _, rows = self._mean_over_replicas(means, [], tf.shape(x)[0])
        return self._update_metrics(means, rows, tf.constant(True))

    def _random(self) -> StepRandom:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return StepRandom(
            self._seed, self._step.value, replica, self.distribute_strategy.num_replicas_in_sync
        )

    def _xla(self, function):
        """Compiles `function` where Keras does not compile the whole step (under a strategy)."""
        if not self._use_xla or self.jit_compile:
            return function
        return lambda x, condition, random: tf.function(
            lambda x, condition, step, replica: function(
                x, condition, random._replace(step=step, replica=replica)
            ),
            jit_compile=True,
        )(x, condition, random.step, random.replica)

    def _loss_and_gradients(self, x, condition, random):
        weights = [weight.value for weight in self.trainable_variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            losses = self.objective(x, condition, random)
            means = {name: tf.reduce_mean(value) for name, value in losses.items()}
        gradients = tape.gradient(means["loss"], weights)
        for weight, gradient in zip(self.trainable_variables, gradients, strict=True):
            if gradient is None:
                raise ValueError(
                    f"Every trainable weight must have a gradient, got none for {weight.path!r}."
                )
        return means, gradients

    def _apply_if(self, finite, gradients):
        """Applies the gradients, or leaves weights and optimiser exactly as they were."""
        if self.distribute_strategy.num_replicas_in_sync == 1:
            tf.cond(
                finite,
                lambda: self.optimizer.apply(gradients, self.trainable_variables),
                lambda: None,
            )
            return
        # Keras merges the replicas inside `apply`, which TensorFlow forbids inside a `tf.cond`:
        # apply a zero gradient, then put everything back. Every replica holds the reduced gradient
        # already; only the first contributes it to Keras's sum, so that clipping sees all of it.
        first = tf.distribute.get_replica_context().replica_id_in_sync_group == 0
        contributes = finite & first
        variables = [v.value for v in self.trainable_variables + self.optimizer.variables]
        before = [tf.identity(v) for v in variables]
        self.optimizer.apply(
            [tf.where(contributes, g, tf.zeros_like(g)) for g in gradients],
            self.trainable_variables,
        )
        tf.distribute.get_replica_context().merge_call(
            _restore_unless, args=(finite, variables, before)
        )

    def _mean_over_replicas(self, means, gradients, rows):
        """Returns means and gradients of the global batch, and its number of rows.

        Replicas may hold different numbers of rows, or none: a mean over no rows, which is not a
        number, counts as 0.
        """
        if self.distribute_strategy.num_replicas_in_sync == 1:
            return means, gradients, rows
        values = [*means.values(), *gradients]
        weight = tf.cast(rows, values[0].dtype)
        *sums, total = tf.distribute.get_replica_context().all_reduce(
            tf.distribute.ReduceOp.SUM,
            [*(tf.math.multiply_no_nan(value, weight) for value in values), weight],
        )
        averages = [value / total for value in sums]
        return dict(zip(means, averages, strict=False)), averages[len(means) :], total

    def _update_metrics(self, values, rows, finite):
        """Accumulates the means of a global batch; a skipped batch leaves the metrics alone."""
        weight = tf.where(finite, tf.cast(rows, tf.float32), 0.0)
        logs = {}
        for name, value in values.items():
            value = tf.where(finite, tf.cast(value, tf.float32), 0.0)
            self._means[name].update_state(value, sample_weight=weight)
            logs[name] = self._means[name].result()
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


class _MeanOrNan(keras.metrics.Mean):
    """A mean that is not a number, where Keras's is 0, as long as nothing was averaged."""

    def result(self):
        return self.total / keras.ops.cast(self.count, self.dtype)


def _first_batch(
    x: Any, y: Any, batch_size: int, strategy: tf.distribute.Strategy
) -> tuple[Any, Any]:
    """Returns the first (x, condition) of what `fit` was given."""
    if isinstance(x, tf.data.Dataset):
        batch = next(iter(x.take(1)))
    elif isinstance(x, tf.distribute.DistributedDataset):
        batch = next(iter(x))
        batch = tf.nest.map_structure(
            lambda value: tf.concat(strategy.experimental_local_results(value), axis=0), batch
        )
    elif isinstance(x, keras.utils.PyDataset):
        batch = x[0]
    elif hasattr(x, "shape"):
        batch = (x[:batch_size],) if y is None else (x[:batch_size], y[:batch_size])
    else:
        raise ValueError(
            "`x` must be a dataset or an array where `initialize` was not called before, "
            f"got {type(x).__name__}."
        )
    x, condition, _ = keras.utils.unpack_x_y_sample_weight(batch)
    return x, condition


def _restore_unless(strategy, keep, variables, before):
    """Gives variables their values of before unless `keep`; runs in the cross-replica context."""
    for variable, value in zip(variables, before, strict=True):
        strategy.extended.update(
            variable,
            lambda v, old, keep: v.assign(tf.where(keep, v, old)),
            args=(value, keep),
            group=False,
        )
