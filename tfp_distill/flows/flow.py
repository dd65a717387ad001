"""A normalizing flow as a Keras model."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_distill.bijectors import (
    Segment,
    Standardize,
    Trace,
    TracedChain,
    standard_normal_log_prob,
)
from tfp_distill.flows.config import FlowConfig
from tfp_distill.flows.presets import preset_config
from tfp_distill.training import PartwiseModel, StepRandom, losses_by_name

__all__ = ["Flow", "load_flow"]

tfd = tfp.distributions


@keras.saving.register_keras_serializable("tfp_distill")
class Flow(PartwiseModel):
    """A normalizing flow: an invertible map between data x and a standard-normal latent z.

        log p(x) = log N(z; 0, I) + log|det dz/dx|,  z = to_latent(x)

    It trains by maximum likelihood with `compile` and `fit` on batches of `x` or `(x, condition)`,
    and is saved and loaded as any Keras model. Likelihoods are in nats per example and in the units
    of x. Example:

        flow = Flow(TabularGlowConfig(dims=6))
        flow.compile(optimizer="adam")
        flow.fit(dataset_of_x, epochs=10, steps_per_epoch=1000)
        flow.sample(5)

    Args:
      config: the architecture.
      seed: seed of the noise that training draws.
      name: name of the model.
    """

    def __init__(self, config: FlowConfig, *, seed: int = 0, name: str | None = None) -> None:
        if not isinstance(config, FlowConfig):
            raise ValueError(f"`config` must be a FlowConfig, got {type(config).__name__}.")
        names = ("nll", "bits_per_dim") if config.pixel_format else ("nll",)
        super().__init__(loss_names=names, seed=seed, name=name)
        self.config = config
        self._initialized = self._add_counter("initialized")
        self._bijector = config.build_bijector()
        self._bijector_layers = list(self._bijector.keras_layers)
        self.built = True

    @classmethod
    def from_preset(cls, name: str, *, seed: int = 0) -> Flow:
        """Returns a new, untrained flow of a paper's architecture; see `preset_names()`."""
        return cls(preset_config(name), seed=seed, name=name)

    @property
    def bijector(self) -> TracedChain:
        """The bijector, `forward`: latent to data; `bijectors[0]` standardises the data."""
        return self._bijector

    @property
    def distribution(self) -> tfd.TransformedDistribution:
        """The flow as a TFP distribution (with `bijector_kwargs` for a condition)."""
        zeros = tf.zeros(self.latent_dims, self.compute_dtype)
        base = tfd.Independent(tfd.Normal(zeros, tf.ones_like(zeros)), 1)
        return tfd.TransformedDistribution(base, self._bijector, name=self.name)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one data point."""
        return self.config.event_shape

    @property
    def latent_dims(self) -> int:
        """Number of dimensions of z."""
        return int(np.prod(self.event_shape))

    @property
    def num_steps(self) -> int:
        """Number of steps, each of which has a latent in the trace."""
        return len(self._bijector.bijectors) - 1

    @property
    def level_ends(self) -> tuple[int, ...]:
        """The last step of each level of a multi-scale flow, counted from 1; () for others."""
        return self.config.level_ends

    @property
    def standardize(self) -> Standardize:
        """The bijector next to the data, which holds the statistics of the user's units."""
        return self._bijector.bijectors[0]

    def set_statistics(self, mean: np.ndarray, scale: np.ndarray) -> None:
        """Sets the mean and scale that standardise the data, see `Standardize.set_statistics`."""
        self.standardize.set_statistics(mean, scale)

    def set_condition_statistics(self, mean: np.ndarray, scale: np.ndarray) -> None:
        """Sets the mean and scale `[C]` that standardise the condition.

        Raises:
          ValueError: if the flow takes no condition, or a shape or value breaks a rule.
        """
        if self._bijector.condition_bijector is None:
            raise ValueError(f"`{self.name}` must take a condition to have its statistics set.")
        self._bijector.condition_bijector.set_statistics(mean, scale)

    @property
    def initialized(self) -> bool:
        """Whether data-dependent weights were initialised, here or before saving."""
        return bool(self._initialized.numpy())

    def initialize(self, x: Any, condition: Any = None) -> None:
        """Initialises ActNorm from a batch of data, from the data's end on.

        Args:
          x: data `[batch, ...]`; under a strategy, the global batch.
          condition: `[batch, C]` for a conditional flow.
        """
        self._bijector.initialize(*self._inputs(x, condition))
        self._initialized.assign(1)

    def trace(
        self,
        x: Any,
        condition: Any = None,
        *,
        stop_gradient_after: Collection[int] = (),
        until: int | None = None,
    ) -> Trace:
        """Runs the normalizing direction once and keeps every step's latent.

        Args:
          x: data `[batch, ...]`.
          condition: `[batch, C]` for a conditional flow.
          stop_gradient_after: steps, counted from 1, that no gradient reaches from behind.
          until: the last step that runs; by default all do.

        Returns:
          A `Trace`; `latents[0]` is the standardised data, `latents[k]` comes after step k. All
          latents are `[batch, D]`; those of images are in the order of pixels.
        """
        x, condition = self._inputs(x, condition)
        return self._bijector.trace(
            x, condition, stop_gradient_after=stop_gradient_after, until=until
        )

    def step_weights(self, first_step: int, last_step: int) -> list[keras.Variable]:
        """Returns the trainable weights of the steps first to last, counted from 1."""
        layers = self._bijector.layers_of(first_step, last_step)
        return [weight for layer in layers for weight in layer.trainable_variables]

    def log_prob(self, x: Any, condition: Any = None) -> tf.Tensor:
        """Returns log p(x), `[batch]`, in nats, for data `[batch, ...]`."""
        z, ildj = self._bijector.inverse_and_ildj(*self._inputs(x, condition))
        return standard_normal_log_prob(z) + ildj

    def to_latent(self, x: Any, condition: Any = None) -> tf.Tensor:
        """Returns z `[batch, D]` for data `[batch, ...]`."""
        return self._bijector.inverse_and_ildj(*self._inputs(x, condition))[0]

    def to_data(self, z: Any, condition: Any = None) -> tf.Tensor:
        """Returns x `[batch, ...]` for latents `[batch, D]`."""
        return self.to_data_and_fldj(z, condition)[0]

    def to_data_and_fldj(self, z: Any, condition: Any = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns x `[batch, ...]` and log|det dx/dz| `[batch]` for latents `[batch, D]`."""
        z, condition = self._inputs(z, condition, name="z", shape=(self.latent_dims,))
        return self._bijector.forward_and_fldj(z, condition)

    def sample(
        self, n: int, condition: Any = None, *, temperature: float = 1.0, seed: int = 0
    ) -> tf.Tensor:
        """Draws samples from the flow.

        Args:
          n: number of samples.
          condition: `[n, C]` for a conditional flow.
          temperature: standard deviation of the latents; 1 samples from the model.
          seed: equal seeds give equal samples.

        Returns:
          `[n, ...]`, in the user's units.
        """
        z = StepRandom(0, seed).normal(n, self.latent_dims, self.compute_dtype)
        return self.to_data(temperature * z, condition)

    def objective(
        self, x: tf.Tensor, condition: tf.Tensor | None, random: StepRandom
    ) -> dict[str, tf.Tensor]:
        """Returns the negative log-likelihood `[batch]`, in nats per example.

        For images also `bits_per_dim`.
        """
        log_prob = self.log_prob(x, condition)
        return {"loss": -log_prob, **self.likelihood_metrics(log_prob)}

    def part_objectives(
        self,
        x: tf.Tensor | Segment,
        condition: tf.Tensor | None,
        random: StepRandom,
        parts: Collection[int],
    ) -> dict[int, dict[str, tf.Tensor]]:
        """Returns what each of `parts` minimises: the nll as if the flow ended after the part.

            nll_k = -log N(h_k; 0, I) - sum_{j <= k} log|det df_j / dh_{j-1}|,   h_k = f_k(h_{k-1})

        with gradients to part k only: h_{k-1} and the log-determinants before it are constants.
        Both sides of PARTS, eq. 3, have this gradient; the left side, which is written here, is a
        likelihood of the data, comparable between parts, and of the last part that of the flow.

        Args:
          x: data `[batch, ...]`, or what the first of `parts` receives, see `part_input`.
          condition: optional `[batch, C]`.
          random: the noise of this step.
          parts: the parts, rising.
        """
        is_input = isinstance(x, Segment)
        handed = x if is_input else self.part_input(0, x, condition)
        losses = {}
        for part in range(min(parts) if is_input else 0, max(parts) + 1):
            handed = self.run_part(part, Segment(*map(tf.stop_gradient, handed)), condition)
            if part in parts:
                losses[part] = self.part_losses(handed)
        return losses

    def part_losses(self, handed: Segment) -> dict[str, tf.Tensor]:
        """Returns what a part minimises, of what it hands on; see `part_objectives`."""
        log_prob = handed.log_prob + standard_normal_log_prob(_flat(handed.state))
        return {"loss": -log_prob, **self.likelihood_metrics(log_prob)}

    def part_input(self, part: int, x: Any, condition: Any = None) -> Segment:
        """Returns what a part of the partition receives: the state, and the log-likelihood so far.

        Args:
          part: number of the part.
          x: data `[batch, ...]`.
          condition: `[batch, C]` for a conditional flow.
        """
        x, condition = self._inputs(x, condition)
        handed = Segment(x, tf.zeros(tf.shape(x)[:1], x.dtype))
        for before in range(part):
            handed = self.run_part(before, handed, condition)
        return handed

    def run_part(self, part: int, handed: Segment, condition: Any = None) -> Segment:
        """Returns what a part of the partition hands on, of what it receives."""
        steps = self.partition.parts[part]
        first = steps.first_step if part else 0  # The data are standardised in the first part.
        own = self._bijector.segment(first, steps.last_step, handed.state, condition)
        return Segment(own.state, handed.log_prob + own.log_prob)

    def part_variables(self, part: int) -> list[keras.Variable]:
        """Returns all variables that a part of the partition reads, the fixed ones too."""
        steps = self.partition.parts[part]
        layers = self._bijector.layers_of(steps.first_step if part else 0, steps.last_step)
        if self._bijector.condition_bijector is not None:
            layers += self._bijector.condition_bijector.keras_layers
        return [weight for layer in layers for weight in layer.weights]

    def evaluation_losses(
        self, x: tf.Tensor, condition: tf.Tensor | None, random: StepRandom
    ) -> dict[str, tf.Tensor]:
        """As `objective`, and the losses of every part where there are several."""
        if self.all_parts is None:
            return self.objective(x, condition, random)
        of_parts = self.part_objectives(x, condition, random, self.all_parts)
        # The last part's nll is the flow's.
        return {**of_parts[self.all_parts[-1]], **losses_by_name(of_parts)}

    def likelihood_metrics(self, log_prob: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns `nll`, and for images `bits_per_dim`, of log-likelihoods in nats per example."""
        metrics = {"nll": -log_prob}
        if pixel_format := self.config.pixel_format:
            metrics["bits_per_dim"] = pixel_format.bits_per_dim(log_prob, self.event_shape)
        return metrics

    def call(self, x: tf.Tensor, condition: tf.Tensor | None = None) -> tf.Tensor:
        """Returns log p(x), so that `flow(x)` and `flow.predict(dataset)` give likelihoods."""
        return self.log_prob(x, condition)

    def predict_step(self, data: Any) -> tf.Tensor:
        """Returns log p(x) for a batch of `x` or `(x, condition)`; the step of `predict`."""
        x, condition, _ = keras.utils.unpack_x_y_sample_weight(data)
        return self(x, condition)

    def count_params(self) -> int:
        """Returns the number of trainable parameters.

        Fixed permutations, signs, statistics and counters are saved but not counted; `summary()`
        shows them as non-trainable.
        """
        return int(sum(np.prod(weight.shape) for weight in self.trainable_variables))

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

    def _inputs(self, x, condition, name="x", shape=None):
        """Converts and checks what a user passed, before any work is done."""
        shape = self.event_shape if shape is None else shape
        x = _to_tensor(x, self.compute_dtype)
        if x.shape.rank != len(shape) + 1 or tuple(x.shape[1:]) != shape:
            raise ValueError(
                f"`{name}` of {self.name!r} must have shape {('batch', *shape)}, got {x.shape}."
            )
        dims = self.config.condition_dims
        if (condition is None) != (dims == 0):
            rule = f"be given, with shape ('batch', {dims})" if dims else "be None"
            got = "None" if condition is None else f"shape {np.shape(condition)}"
            raise ValueError(f"`condition` of {self.name!r} must {rule}, got {got}.")
        if condition is not None:
            condition = _to_tensor(condition, self.compute_dtype)
            if condition.shape.rank != 2 or condition.shape[-1] != dims:
                raise ValueError(
                    f"`condition` of {self.name!r} must have shape ('batch', {dims}), "
                    f"got {condition.shape}."
                )
        return x, condition


def _flat(state: tf.Tensor) -> tf.Tensor:
    return tf.reshape(state, [tf.shape(state)[0], int(np.prod(state.shape[1:]))])


def _to_tensor(x: Any, dtype: str) -> tf.Tensor:
    return tf.cast(x, dtype) if tf.is_tensor(x) else tf.convert_to_tensor(np.asarray(x, dtype))


def load_flow(path: str | os.PathLike[str]) -> Flow:
    """Loads a flow that `flow.save("NAME.keras")` wrote, with its optimiser if it was compiled.

    Args:
      path: the `.keras` file.

    Raises:
      ValueError: if the file does not exist or holds something else than a flow.
    """
    if not os.path.isfile(path):
        raise ValueError(f"`path` must be an existing .keras file, got {str(path)!r}.")
    model = keras.models.load_model(path)
    if not isinstance(model, Flow):
        raise ValueError(f"`path` must hold a Flow, got a {type(model).__name__} in {str(path)!r}.")
    return model
