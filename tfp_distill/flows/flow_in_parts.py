"""What a flow can do because it is a chain: train a run of its steps by itself."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_distill.arrays import Array
from tfp_distill.bijectors import Segment, State, TracedChain, uninverted
from tfp_distill.flows.batches import Batch
from tfp_distill.flows.config import FlowConfig
from tfp_distill.training import Handed, PartwiseModel

__all__ = ["FlowInParts"]


class FlowInParts(PartwiseModel):
    """The part of `Flow` that a `Partition` divides.

    Attributes:
      config: the architecture.
    """

    config: FlowConfig
    _bijector: TracedChain

    @property
    def bijector(self) -> TracedChain:
        """The bijector, `forward`: latent to data; `bijectors[0]` standardises the data."""
        return self._bijector

    def trained_flow(self) -> FlowInParts:
        """Returns the flow itself."""
        return self

    @property
    def num_steps(self) -> int:
        """Number of steps, each of which has a latent in the trace."""
        return len(self._bijector.bijectors) - 1

    @property
    def level_ends(self) -> tuple[int, ...]:
        """The last step of each level of a multi-scale flow, counted from 1; () for others."""
        return self.config.level_ends

    def step_weights(self, first_step: int, last_step: int) -> list[keras.Variable]:
        """Returns the trainable weights of the steps first to last, counted from 1."""
        layers = self._bijector.layers_of(first_step, last_step)
        return [weight for layer in layers for weight in layer.trainable_variables]

    def step_variables(self, first_step: int, last_step: int) -> list[keras.Variable]:
        """Returns all variables that steps read, the first one those that standardise too."""
        layers = self._bijector.layers_of(_first_bijector(first_step), last_step)
        if self._bijector.condition_bijector is not None:
            layers += self._bijector.condition_bijector.keras_layers
        return [weight for layer in layers for weight in layer.weights]

    def run_steps(
        self,
        first_step: int,
        last_step: int,
        state: State,
        condition: tf.Tensor | None = None,
        *,
        shown: Collection[int] = (),
    ) -> Segment:
        """Runs steps by themselves, the first one behind what standardises the data.

        Args:
          first_step: the first one, counted from 1.
          last_step: the last one.
          state: what arrives at the first one, see `TracedChain.segment`.
          condition: `[batch, C]` for a conditional flow.
          shown: steps whose latents are to be shown.
        """
        first = _first_bijector(first_step)
        return self._bijector.segment(first, last_step, state, condition, shown=shown)

    def part_variables(self, part: int) -> list[keras.Variable]:
        """Returns all variables that a part of the partition reads, the fixed ones too."""
        return self.step_variables(*self.parts[part].steps)

    @property
    def part_loss_names(self) -> tuple[str, ...]:
        """Names of the figures of a likelihood, see `likelihood_metrics`."""
        return self.active_losses

    def first_input(self, x: Array, condition: Array | None = None) -> Handed:
        """Returns the data as the first part receives them."""
        x, _, _ = self._batch(x, condition)
        return Handed(x, tf.zeros(tf.shape(x)[:1], x.dtype))

    def run_part(
        self, part: int, handed: Handed, condition: Array | None = None
    ) -> tuple[Handed, dict[str, tf.Tensor]]:
        """Returns what a part hands on, and the nll as if the flow ended after it.

            nll_k = -log N(h_k; 0, I) - sum_{j <= k} log|det df_j / dh_{j-1}|,   h_k = f_k(h_{k-1})

        with gradients to part k only, where what it receives, h_{k-1} and the log-determinants
        before it, is a constant, as in `part_objectives`. Both sides of PARTS, eq. 3, have this
        gradient; the left side, which is written here, is a likelihood of the data, comparable
        between parts, and of the last part that of the flow.
        """
        own = self.run_steps(*self.parts[part].steps, State(handed.value), condition)
        metrics = self.likelihood_metrics(handed.log_prob + own.ended())
        return Handed(own.state.value, handed.log_prob + own.log_prob), metrics

    def weigh(self, losses: Mapping[str, tf.Tensor], weights: Any) -> dict[str, tf.Tensor]:
        """Returns the nll as `loss` too."""
        return {"loss": losses["nll"], **losses}

    def handed_size(self, part: int) -> int:
        """Returns how many numbers of a row a part receives: its input, and its likelihood."""
        return self.parts[part].dims_in + 1

    def likelihood_metrics(self, log_prob: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns `nll`, and for images `bits_per_dim`, of log-likelihoods in nats per example."""
        return self.config.domain.likelihoods(log_prob, self.event_shape)

    def __repr__(self) -> str:
        """The steps, those that are alike in one line."""
        lines = [f"<Flow {self.name!r} of {self.event_shape}, {self.num_parameters:,} parameters:"]
        groups = itertools.groupby(enumerate(self._bijector.bijectors), lambda b: _kind(b[1]))
        for kind, members in groups:
            (first, _), *rest = members
            numbers = f"{first}-{rest[-1][0]}" if rest else f"{first}"
            lines.append(f"  {numbers:<7} {kind}")
        return "\n".join(lines) + ">"

    def _batch(self, x: Array, condition: Array | None) -> Batch:
        """Returns data and condition as tensors with one batch axis, checked."""
        raise NotImplementedError


def _first_bijector(first_step: int) -> int:
    """Returns the index of the first bijector of a run of steps: 0 standardises the data."""
    return first_step if first_step > 1 else 0


def _kind(bijector: tfp.bijectors.Bijector) -> str:
    """Returns the names of the classes that a step is made of."""
    if isinstance(bijector, TracedChain):
        return ", ".join(_kind(member) for member in bijector.bijectors)
    inner = uninverted(bijector)
    return type(inner).__name__ if inner is bijector else f"Invert({_kind(inner)})"
