"""What Keras's `compile`, `fit` and `evaluate` do around the steps."""

from __future__ import annotations

import abc
from collections.abc import Hashable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_distill.arrays import Array
from tfp_distill.compiling import uses_xla
from tfp_distill.training.batches import (
    can_look_ahead,
    check_data,
    conditions_beside_weights,
    first_rows,
    is_array,
    without_tuner,
)
from tfp_distill.training.partitioned_model import PartitionedModel
from tfp_distill.training.parts.partition import Partition
from tfp_distill.training.parts.pipeline import PartPipeline
from tfp_distill.training.replicas import has_replicas
from tfp_distill.training.step_metrics import StepMetrics

__all__ = ["MEMORY", "CompiledModel"]

DTYPES = ("float32", "float64")
MEMORY = ("plain", "reversible")
_HELD_OUT = ("validation_data[0]", "validation_data[1]", "validation_data[2]")


class CompiledModel(PartitionedModel, abc.ABC):
    """A model that adapts itself to its first batches, and keeps every step that it has compiled.

    A step depends on the losses that are active and on the parts that train. `fit` may change both
    from epoch to epoch: each choice is traced once and kept.
    """

    def __init__(self, *, loss_names: Sequence[str], name: str | None = None) -> None:
        super().__init__(name=name)
        if self.compute_dtype not in DTYPES:
            raise ValueError(
                f"Keras's dtype policy must be one of {', '.join(DTYPES)}, because fewer bits "
                f"cannot invert a flow, got {self.dtype_policy.name!r}."
            )
        self._loss_names = tuple(loss_names)
        self._figures: StepMetrics | None = None
        self._train_functions: dict[Hashable, Any] = {}
        self._test_functions: dict[Hashable, Any] = {}
        self._pipeline: PartPipeline | None = None
        self._xla_as_asked: str | bool = "auto"
        self._memory = "plain"
        self._use_xla = True

    @property
    def suits_xla(self) -> bool:
        """Whether XLA makes steps faster on CPUs, see `tfp_distill.compiling.xla_pays`."""
        return True

    @abc.abstractmethod
    def adapt(self, x: Array, condition: Array | None = None) -> None:
        """Sets what depends on the data before training: statistics and initial weights."""

    @property
    @abc.abstractmethod
    def adapted(self) -> bool:
        """Whether what depends on the data has been set, here or before saving."""

    @property
    def checks_first_rows(self) -> bool:
        """Whether `fit` looks at its first batches even where the model is adapted."""
        return False

    def check_first_rows(self, x: Array, condition: Array | None = None) -> None:  # noqa: B027
        """Raises `ValueError` if the first batches are none to train on."""

    @property
    def loss_names(self) -> tuple[str, ...]:
        """Names of all figures that the objective may report besides `loss`."""
        return self._loss_names

    @property
    @abc.abstractmethod
    def active_losses(self) -> tuple[str, ...]:
        """Names of the losses that training computes now."""

    @property
    def uses_xla(self) -> bool:
        """Whether XLA compiles the steps, as wholes or on each replica."""
        return self._use_xla

    @property
    def recomputes(self) -> bool:
        """Whether the backward pass rebuilds activations, see `compile`."""
        return self._memory == "reversible"

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer | Sequence[keras.optimizers.Optimizer] = "adam",
        *,
        partition: Partition | None = None,
        jit_compile: str | bool = "auto",
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        memory: str = "plain",
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
          steps_per_execution: steps per call of the compiled function; 1 on replicas, whose steps
            TensorFlow cannot put into a loop.
          memory: "plain" keeps the activations of all steps of a flow for the backward pass;
            "reversible" rebuilds them there, step by step from the latents, so that the memory they
            take does not grow with the number of steps; autoregressive steps are computed again
            from latents that are kept. A training step then takes about a third longer. The log
            `drift` is how far what is rebuilt is from what it was (`Recomputation.drift`); where
            that is above 0.1, the training step is skipped and counted, by all parts that take it
            together; parts on devices of their own skip it by themselves.

        Raises:
          ValueError: if optimisers, partition and model do not fit each other, or another argument
            is none of its values.
        """
        if memory not in MEMORY:
            raise ValueError(f"`memory` must be one of {', '.join(MEMORY)}, got {memory!r}.")
        use_xla = uses_xla(jit_compile, suits_xla=self.suits_xla) and not run_eagerly
        on_one_device = not has_replicas(self.distribute_strategy)
        super().compile(
            optimizer,
            partition=partition,
            jit_compile=use_xla and on_one_device,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution if on_one_device else 1,
        )
        self._xla_as_asked, self._use_xla, self._memory = jit_compile, use_xla, memory
        self._forget_train_functions()
        self._pipeline, self._test_functions = None, {}
        with self.distribute_strategy.scope():
            self._figures = StepMetrics(
                self._loss_names, self.all_parts or (), recomputes=self.recomputes
            )

    def get_compile_config(self) -> dict[str, Any] | None:
        """Returns what `compile_from_config` needs to compile a loaded model again."""
        if not self.compiled:
            return None
        return {
            **(super().get_compile_config() or {}),
            "jit_compile": self._xla_as_asked,
            "run_eagerly": self.run_eagerly,
            "steps_per_execution": self.steps_per_execution,
            "memory": self._memory,
        }

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a loaded model as it was compiled when it was saved."""
        self.compile(**keras.saving.deserialize_keras_object(config))

    def fit(self, x: Any = None, y: Any = None, **kwargs: Any) -> keras.callbacks.History:
        """Trains the model; arguments as `keras.Model.fit`.

        A model that was not adapted to data is adapted to its first batches, of 4,096 rows; call
        `adapt` before `fit` to do it with other rows.

        Args:
          x: a `tf.data.Dataset` or `keras.utils.PyDataset` of batches, or an array. A dataset whose
            options do not ask for `autotune` runs without, see `without_tuner`.
          y: the array of conditions where `x` is an array.
          **kwargs: passed on to `keras.Model.fit`: `sample_weight` are the weights of rows where
            `x` is an array; `shuffle` is True by default for arrays; a dataset shuffles itself.

        Raises:
          ValueError: if an array holds anything but finite real numbers, a row for each of `x`, or
            `x` is several arrays; the model has no trainable weights, or the first batches are
            empty or not finite, or have no noise where the model needs it; that holds of
            `validation_data` too; or if `class_weight` is given.
        """
        if kwargs.get("class_weight") is not None:
            raise ValueError(
                "`class_weight` must be None, because rows have no classes: weights of rows are "
                f"`sample_weight`, got {kwargs['class_weight']!r}."
            )
        check_data(x, y, kwargs.get("sample_weight"))
        held_out = keras.utils.unpack_x_y_sample_weight(kwargs.get("validation_data"))
        check_data(*held_out, names=_HELD_OUT)
        if not self.trainable_variables:
            raise ValueError(f"`{self.name}` must have trainable weights to be fitted, got none.")
        x = without_tuner(x)
        if self.compiled:
            batch_size = kwargs.get("batch_size") or 32
            self._look_ahead(kwargs.get("validation_data"), batch_size)
            self._look_ahead((x, y), batch_size, adapts=not self.adapted)
        y = conditions_beside_weights(x, y, kwargs.get("sample_weight"))
        if isinstance(kwargs.get("validation_data"), tuple) and len(kwargs["validation_data"]) == 3:
            x_val, y_val, weights = kwargs["validation_data"]
            y_val = conditions_beside_weights(x_val, y_val, weights)
            kwargs["validation_data"] = x_val, y_val, weights
        elif "validation_data" in kwargs:
            kwargs["validation_data"] = without_tuner(kwargs["validation_data"])
        # Keras's own default, True, makes it warn about every dataset.
        kwargs.setdefault("shuffle", is_array(x))
        self._active_parts, self._batches, self._devices = self.all_parts, None, None
        try:
            history = super().fit(x, y, **kwargs)
        finally:
            # Of a training that was interrupted: it must not overwrite what happens to the weights.
            if self._pipeline is not None:
                self._pipeline.discard()
        self.finalize_part_weights()
        return history

    def _look_ahead(self, data: Any, batch_size: int, *, adapts: bool = False) -> None:
        """Checks the first rows of training or validation, and adapts the model to them."""
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        if adapts or (self.checks_first_rows and can_look_ahead(x)):
            rows = first_rows(x, y, batch_size, self.distribute_strategy)
            self.check_first_rows(*rows)
            if adapts:
                self.adapt(*rows)
        elif is_array(x):
            self.check_first_rows(np.asarray(x[:1]), None if y is None else np.asarray(y[:1]))

    def evaluate(self, x: Any = None, y: Any = None, **kwargs: Any) -> Any:
        """Evaluates the model; arguments as `keras.Model.evaluate`, `y` are conditions.

        Raises:
          ValueError: if an array is none of finite real numbers with a row for each of `x`, or a
            weight of `sample_weight` is negative.
        """
        check_data(x, y, kwargs.get("sample_weight"))
        y = conditions_beside_weights(x, y, kwargs.get("sample_weight"))
        return super().evaluate(without_tuner(x), y, **kwargs)

    def make_train_function(self, force: bool = False) -> None:
        """Selects the step of the active losses and parts, and makes it where there is none yet."""
        if force:
            self._forget_train_functions()
        self.drain()
        key = (self.active_losses, self.active_parts, self._devices)
        if key not in self._train_functions:
            self._train_functions[key] = (
                self._make_function(self.train_step)
                if self._devices is None
                else PartPipeline(self, self._devices, jit_compile=self._use_xla)
            )
        function, batches = self._train_functions[key], self._batches
        self._pipeline = None if self._devices is None else function
        # Keras calls it with the iterator of its own data.
        self.train_function = function if batches is None else lambda _: function(batches())

    def drain(self) -> None:
        """Completes the steps that parts on devices of their own have begun, see `PartPipeline`."""
        if self._pipeline is not None:
            self._pipeline.drain()

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

    @property
    def figures(self) -> StepMetrics:
        """The figures of the steps; there are some as soon as the model is compiled."""
        if self._figures is None:
            raise ValueError(f"`{self.name}` must be compiled, got no call of `compile`.")
        return self._figures

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The loss, each loss by name, the gradient norm and the number of skipped steps."""
        return [] if self._figures is None else self._figures.metrics

    def make_test_function(self, force: bool = False) -> None:
        """Selects the compiled evaluation of the active losses, as `make_train_function`."""
        if force:
            self._test_functions = {}
        if self.active_losses not in self._test_functions:
            self._test_functions[self.active_losses] = self._make_function(self.test_step)
        self.test_function = self._test_functions[self.active_losses]

    def _forget_train_functions(self) -> None:
        self._train_functions = {}
