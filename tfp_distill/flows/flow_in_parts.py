"""What a flow can do because it is a chain: train a run of its steps by itself."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_distill.bijectors import Segment, TracedChain, uninverted
from tfp_distill.flows.batches import Batch
from tfp_distill.flows.config import FlowConfig
from tfp_distill.training import PartwiseModel, StepRandom

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

    @property
    def num_steps(self) -> int:
        """Number of steps, each of which has a latent in the trace."""
        return len(self._bijector.bijectors) - 1

    @property
    def level_ends(self) -> tuple[int, ...]:
        """The last step of each level of a multi-scale flow, counted from 1; () for others."""
        return self.config.level_ends

    @property
    def parts_run_alone(self) -> bool:
        """Yes: `run_part` needs what `part_input` returns, and no data."""
        return True

    def step_weights(self, first_step: int, last_step: int) -> list[keras.Variable]:
        """Returns the trainable weights of the steps first to last, counted from 1."""
        layers = self._bijector.layers_of(first_step, last_step)
        return [weight for layer in layers for weight in layer.trainable_variables]

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
        log_prob = handed.ended()
        return {"loss": -log_prob, **self.likelihood_metrics(log_prob)}

    def part_input(self, part: int, x: Any, condition: Any = None) -> Segment:
        """Returns what a part of the partition receives: the state, and the log-likelihood so far.

        Args:
          part: number of the part.
          x: data `[batch, ...]`.
          condition: `[batch, C]` for a conditional flow.
        """
        x, condition, _ = self._batch(x, condition)
        handed = Segment(x, tf.zeros(tf.shape(x)[:1], x.dtype))
        for before in range(part):
            handed = self.run_part(before, handed, condition)
        return handed

    def run_part(self, part: int, handed: Segment, condition: Any = None) -> Segment:
        """Returns what a part of the partition hands on, of what it receives."""
        steps = self.parts[part]
        first = steps.first_step if part else 0  # The data are standardised in the first part.
        own = self._bijector.segment(first, steps.last_step, handed.state, condition)
        return Segment(own.state, handed.log_prob + own.log_prob)

    def part_variables(self, part: int) -> list[keras.Variable]:
        """Returns all variables that a part of the partition reads, the fixed ones too."""
        steps = self.parts[part]
        layers = self._bijector.layers_of(steps.first_step if part else 0, steps.last_step)
        if self._bijector.condition_bijector is not None:
            layers += self._bijector.condition_bijector.keras_layers
        return [weight for layer in layers for weight in layer.weights]

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

    def _batch(self, x: Any, condition: Any) -> Batch:
        """Returns data and condition as tensors with one batch axis, checked."""
        raise NotImplementedError


def _kind(bijector: tfp.bijectors.Bijector) -> str:
    """Returns the names of the classes that a step is made of."""
    if isinstance(bijector, TracedChain):
        return ", ".join(_kind(member) for member in bijector.bijectors)
    inner = uninverted(bijector)
    return type(inner).__name__ if inner is bijector else f"Invert({_kind(inner)})"
