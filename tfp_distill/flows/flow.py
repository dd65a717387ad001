"""A normalizing flow as a Keras model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_distill.arrays import Array
from tfp_distill.bijectors import (
    Standardize,
    State,
    Trace,
    recompute_passes,
    standard_normal_log_prob,
)
from tfp_distill.compiling import CompiledPasses, xla_pays
from tfp_distill.flows.adapting import ColumnStatistics, adapt_bijector, pixels_to_adapt_to
from tfp_distill.flows.batches import Batch, check_sampling, flat_batch, per_sample
from tfp_distill.flows.config import FlowConfig, check_integer
from tfp_distill.flows.distribution import FlowDistribution
from tfp_distill.flows.flow_in_parts import FlowInParts
from tfp_distill.flows.presets import preset_config
from tfp_distill.training import StepRandom, losses_by_name, sample_latents

__all__ = ["Flow"]

_GENERATIVE = ("generative_trace", "to_data", "to_data_and_fldj")


@keras.saving.register_keras_serializable("tfp_distill")
class Flow(FlowInParts):
    """A normalizing flow: an invertible map between data x and a standard-normal latent z.

        log p(x) = log N(z; 0, I) + log|det dz/dx|,  z = to_latent(x)

    It trains by maximum likelihood with `compile` and `fit` on batches of `x` or `(x, condition)`,
    and is saved and loaded as any Keras model. Likelihoods are in nats per example and in the units
    of x. Its passes take data of any batch shape, and are compiled: each at its first call, for
    batches of all sizes (see `tfp_distill.compiling`). Example:

        flow = Flow(TabularGlowConfig(dims=6))
        flow.compile(optimizer="adam")
        flow.fit(dataset_of_x, epochs=10, steps_per_epoch=1000)
        flow.sample(5)

    Args:
      config: the architecture.
      seed: seed of the noise that training draws, any integer.
      name: name of the model.
    """

    def __init__(self, config: FlowConfig, *, seed: int = 0, name: str | None = None) -> None:
        if not isinstance(config, FlowConfig):
            raise ValueError(f"`config` must be a FlowConfig, got {type(config).__name__}.")
        check_integer(seed=seed)
        super().__init__(loss_names=config.domain.figures, seed=seed, name=name)
        self.config = config
        self._adapted = self._add_counter("adapted")
        self._bijector = config.build_bijector()
        recompute_passes(self._bijector.bijectors[1:])
        self._bijector_layers = list(self._bijector.keras_layers)
        self._passes = CompiledPasses(suits_xla=xla_pays(config.suits_xla))
        self._rows_at_once = [config.rows_at_once(generative=way) for way in (False, True)]
        self._make_distribution = functools.cache(lambda: FlowDistribution(self))
        self.built = True

    @classmethod
    def from_preset(cls, name: str, *, seed: int = 0) -> Flow:
        """Returns a new flow of a paper's architecture, untrained: no weights come with it.

        Args:
          name: one of `preset_names()`.
          seed: as for `Flow`.
        """
        return cls(preset_config(name), seed=seed, name=name)

    @property
    def distribution(self) -> FlowDistribution:
        """The flow as a `tfd.TransformedDistribution`, see `FlowDistribution`."""
        with tf.init_scope():
            return self._make_distribution()

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one data point."""
        return self.config.event_shape

    @property
    def suits_xla(self) -> bool:
        """Whether XLA makes passes faster on CPUs."""
        return self.config.suits_xla

    @property
    def latent_dims(self) -> int:
        """Number of dimensions of z."""
        return int(np.prod(self.event_shape))

    @property
    def standardize(self) -> Standardize:
        """The bijector next to the data, which holds the statistics of the user's units."""
        return self._bijector.bijectors[0]

    @property
    def num_parameters(self) -> int:
        """Number of trainable parameters, as papers count.

        Fixed permutations, signs, statistics and counters are saved but not counted; `summary()`
        and `count_params()` are Keras's.
        """
        return int(sum(np.prod(weight.shape) for weight in self.trainable_variables))

    @property
    def adapted(self) -> bool:
        """Whether the flow was adapted to data, here or before saving."""
        return bool(self._adapted.numpy())

    def adapt(
        self,
        x: Array,
        condition: Array | None = None,
        *,
        statistics: ColumnStatistics | None = None,
        condition_statistics: ColumnStatistics | None = None,
    ) -> None:
        """Sets what depends on the data before training, as Keras's preprocessing layers do.

        That is the mean and scale that standardise data and conditions, and ActNorm, which is
        initialised from the data's end on, from up to 50,000 rows, evenly taken. Images, numbers in
        [0, 1), keep the mean 0.5 and scale 1 of `GlowConfig`, and of them fewer initialise. Nothing
        else does it but the first batches of `fit`, where it was not done: no first call, no
        sampling, no loading. Integers and bytes get noise, and columns with bounds are standardised
        as the flow models them (see `Columns`); a warning tells of other integers.

        Args:
          x: data `[n, ...]`, all there are or a sample.
          condition: `[n, C]` for a conditional flow.
          statistics: `mean` and `scale` of the data, where `x` is a sample and those of all are
            known, for instance `load("embedded").statistics`; by default those of `x`.
          condition_statistics: the same of the conditions.

        Raises:
          ValueError: if data are empty or not finite, or a shape breaks a rule; the flow is then
            as it was.
        """
        domain = self.config.domain
        if domain.is_images and getattr(x, "dtype", None) == np.uint8:
            x = pixels_to_adapt_to(np.asarray(x), domain)
        batch = self._batch(x, condition)
        adapt_bijector(
            self._bijector,
            self.weights,
            batch.events.numpy(),
            None if batch.condition is None else batch.condition.numpy(),
            statistics=statistics,
            condition_statistics=condition_statistics,
            columns=self.config.columns,
        )
        self._adapted.assign(1)

    @property
    def checks_first_rows(self) -> bool:
        """Whether there are columns of integers, or pixels, whose noise a person may forget."""
        return self.config.domain.has_noise

    def check_first_rows(self, x: Array, condition: Array | None = None) -> None:
        """Raises `ValueError` if rows are none of this flow, or integers have no noise.

        The likelihood of integers would have no bound.
        """
        if np.shape(x)[1:] != self.event_shape:
            expected = ", ".join(map(str, ("batch", *self.event_shape)))
            raise ValueError(
                f"`x` of {self.name!r} must have shape ({expected}), got {np.shape(x)}."
            )
        self.config.domain.check_noise(x)
        self._batch(x, condition)

    def trace(self, x: Array, condition: Array | None = None) -> Trace:
        """Runs the normalizing direction once and keeps every step's latent.

        Args:
          x: data `[..., *event_shape]`.
          condition: `[..., C]` for a conditional flow.

        Returns:
          A `Trace`; `latents[0]` is the standardised data, `latents[k]` comes after step k. All
          latents are `[..., D]`; those of images are in the order of pixels.
        """
        return self._pass("trace", self._bijector.trace, self._batch(x, condition))

    def generative_trace(self, z: Array, condition: Array | None = None) -> tuple[tf.Tensor, Trace]:
        """Returns x for latents `[..., D]`, and what `trace(x)` is up to rounding, in one pass."""
        batch = self._latents(z, condition)
        return self._pass("generative_trace", self._bijector.generative_trace, batch)

    def log_prob(self, x: Array, condition: Array | None = None) -> tf.Tensor:
        """Returns log p(x) `[...]`, in nats.

        Args:
          x: data `[..., *event_shape]`, with any batch shape.
          condition: `[..., C]` for a conditional flow, with the batch shape of x or one that
            broadcasts to it.
        """
        return self._pass("log_prob", self._log_prob, self._batch(x, condition))

    def to_latent(self, x: Array, condition: Array | None = None) -> tf.Tensor:
        """Returns z `[..., D]` for data `[..., *event_shape]`."""
        return self._pass("to_latent", self._to_latent, self._batch(x, condition))

    def to_data(self, z: Array, condition: Array | None = None) -> tf.Tensor:
        """Returns x `[..., *event_shape]` for latents `[..., D]`."""
        return self._pass("to_data", self._to_data, self._latents(z, condition))

    def to_data_and_fldj(
        self, z: Array, condition: Array | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns x `[..., *event_shape]` and log|det dx/dz| `[...]` for latents `[..., D]`."""
        run = self._bijector.forward_and_fldj
        return self._pass("to_data_and_fldj", run, self._latents(z, condition))

    def sample(
        self,
        n: int,
        condition: Array | None = None,
        *,
        temperature: float = 1.0,
        seed: int | None = None,
    ) -> tf.Tensor:
        """Draws samples from the flow.

        Args:
          n: number of samples.
          condition: for a conditional flow, `[n, C]`, or one for all: `[C]` or `[1, C]`.
          temperature: standard deviation of the latents; 1 samples from the model.
          seed: any integer: equal seeds give equal samples. None for new samples at each call,
            which `tf.random.set_seed` determines.

        Returns:
          `[n, ...]`, in the user's units; integers where `config.columns` has some, and within the
          bounds that it has.

        Raises:
          ValueError: if an argument breaks a rule.
        """
        x = self.to_data(*self._drawn(n, condition, temperature, seed))
        return x if self.config.columns is None else self.config.columns.quantize(x)

    def sample_and_log_prob(
        self,
        n: int,
        condition: Array | None = None,
        *,
        temperature: float = 1.0,
        seed: int | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Draws samples as `sample`, and their log p(x) `[n]` under the model, in one pass.

        Integers are not rounded down here: the density is that of the numbers with noise.
        """
        z, condition = self._drawn(n, condition, temperature, seed)
        x, fldj = self.to_data_and_fldj(z, condition)
        return x, standard_normal_log_prob(z) - fldj

    def objective(
        self, x: tf.Tensor, condition: tf.Tensor | None, random: StepRandom
    ) -> dict[str, tf.Tensor]:
        """Returns the negative log-likelihood `[batch]`, in nats per example.

        For images also `bits_per_dim`.
        """
        log_prob = self.log_prob(x, condition)
        return {"loss": -log_prob, **self.likelihood_metrics(log_prob)}

    def evaluation_losses(
        self, x: tf.Tensor, condition: tf.Tensor | None, random: StepRandom
    ) -> dict[str, tf.Tensor]:
        """As `objective`, and the losses of every part where there are several."""
        if self.all_parts is None:
            return self.objective(x, condition, random)
        of_parts = self.part_objectives(x, condition, self.all_parts)
        # The last part's nll is the flow's.
        return {**of_parts[self.all_parts[-1]], **losses_by_name(of_parts)}

    def call(self, x: tf.Tensor, condition: tf.Tensor | None = None) -> tf.Tensor:
        """Returns log p(x), so that `flow(x)` and `flow.predict(dataset)` give likelihoods."""
        return self.log_prob(x, condition)

    def predict_step(self, data: Any) -> tf.Tensor:
        """Returns log p(x) for a batch of `x` or `(x, condition)`; the step of `predict`."""
        x, condition, _ = keras.utils.unpack_x_y_sample_weight(data)
        return self(x, condition)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, for Keras serialisation."""
        return {
            "config": keras.saving.serialize_keras_object(self.config),
            "seed": self._seed,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Flow:
        """Makes an untrained flow from `get_config`'s result."""
        config = dict(config)
        return cls(keras.saving.deserialize_keras_object(config.pop("config")), **config)

    def _log_prob(self, x, condition=None):
        # As a segment: nothing that leaves the flow is arranged in a latent.
        return self._bijector.segment(0, self.num_steps, State(x), condition).ended()

    def _to_latent(self, x, condition=None):
        return self._bijector.inverse_and_ildj(x, condition)[0]

    def _to_data(self, z, condition=None):
        return self._bijector.forward_and_fldj(z, condition)[0]

    def _drawn(self, n, condition, temperature, seed):
        """Checks the arguments of `sample`; returns the latents and their conditions."""
        check_sampling(n, temperature, seed)
        condition = per_sample(condition, n, **self._of_conditions)
        return temperature * sample_latents(
            n, self.latent_dims, seed, self.compute_dtype
        ), condition

    def _pass(self, key: Hashable, function: Callable[..., Any], batch: Batch) -> Any:
        """Runs a function of the bijector on a batch, compiled where it is not within another."""
        rows = self._rows_at_once[key in _GENERATIVE]
        return batch.unflatten(self._passes(key, function, *batch.tensors, rows_at_once=rows))

    def _batch(self, x: Array, condition: Array | None) -> Batch:
        self.config.domain.check_numbers(x)
        return flat_batch(
            x, condition, name="x", event_shape=self.event_shape, **self._of_conditions
        )

    def _latents(self, z: Array, condition: Array | None) -> Batch:
        return flat_batch(
            z, condition, name="z", event_shape=(self.latent_dims,), **self._of_conditions
        )

    @property
    def _of_conditions(self) -> dict[str, Any]:
        return dict(
            condition_dims=self.config.condition_dims, dtype=self.compute_dtype, owner=self.name
        )
