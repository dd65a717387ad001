"""Masked autoregressive flow, and its inverse."""

from __future__ import annotations

import dataclasses

import keras
import tensorflow_probability as tfp

from tfp_distill.bijectors import MaskedAutoregressive, TracedChain
from tfp_distill.bijectors.conditional_affine import check_log_scale_bound
from tfp_distill.flows.config import FlowConfig, check_at_least, check_integer, weight_seed
from tfp_distill.networks import MADE

__all__ = ["MAFConfig"]


@keras.saving.register_keras_serializable("tfp_distill")
@dataclasses.dataclass(frozen=True)
class MAFConfig(FlowConfig):
    """Masked autoregressive flow (Papamakarios, Pavlakou and Murray, 2017, arXiv:1705.07057).

    K masked autoregressive steps, in alternating order of the dimensions; the order belongs to the
    network, so that every latent keeps the order of the data and teacher and student of different
    depth can be compared. Trainable parameters, with h units in n hidden layers:

        K * (D h + h + (n - 1)(h^2 + h) + 2 D h + 2 D)

    With `inverse_autoregressive` each step runs the other way round (IAF, Kingma et al., 2016,
    arXiv:1606.04934): sampling takes one pass and the likelihood is sequential.

    Attributes:
      dims: D, at least 2.
      num_steps: number of steps K.
      hidden_units: width h of each network.
      num_hidden_layers: number n of hidden layers of each network.
      activation: Keras name of the activation.
      log_scale_bound: bound of the log-scale, in nats.
      inverse_autoregressive: whether to build an IAF.
      condition_dims: size of the condition, 0 for none.
      seed: seed of the initial weights, any integer.
    """

    dims: int
    num_steps: int = 3
    hidden_units: int = 32
    num_hidden_layers: int = 2
    activation: str = "relu"
    log_scale_bound: float = 5.0
    inverse_autoregressive: bool = False
    condition_dims: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check_at_least(2, dims=self.dims)
        check_at_least(
            1,
            num_steps=self.num_steps,
            hidden_units=self.hidden_units,
            num_hidden_layers=self.num_hidden_layers,
        )
        check_at_least(0, condition_dims=self.condition_dims)
        check_integer(seed=self.seed)
        check_log_scale_bound(self.log_scale_bound)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """`(dims,)`."""
        return (self.dims,)

    def build_bijector(self) -> TracedChain:
        """Builds the chain: `Standardize`, then one masked autoregressive bijector a step."""
        steps = [self._build_step(index) for index in range(self.num_steps)]
        if self.inverse_autoregressive:
            steps = [tfp.bijectors.Invert(step) for step in steps]
        return self._standardized(steps, dims=self.dims, name="maf")

    def _build_step(self, index: int) -> MaskedAutoregressive:
        made = MADE(
            self.dims,
            hidden_units=self.hidden_units,
            num_hidden_layers=self.num_hidden_layers,
            activation=self.activation,
            reverse=index % 2 == 1,
            condition_dims=self.condition_dims,
            seed=weight_seed(1000 * self.seed + 100 * index),
            name=f"step_{index}_made",
        )
        return MaskedAutoregressive(
            made, log_scale_bound=self.log_scale_bound, name=f"step_{index}"
        )
