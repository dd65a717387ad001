"""Masked autoregressive flow, and its inverse."""

from __future__ import annotations

import dataclasses

import keras
import tensorflow_probability as tfp

from tfp_distill.bijectors import (
    ActNorm,
    InvertibleLinear,
    MaskedAutoregressive,
    ScalarTransform,
    TracedChain,
)
from tfp_distill.bijectors.transforms import make_transform
from tfp_distill.columns import Columns
from tfp_distill.compiling import rows_in_cache
from tfp_distill.flows.config import FlowConfig, check_at_least, check_integer, weight_seed
from tfp_distill.networks import MADE

__all__ = ["MAFConfig"]


@keras.saving.register_keras_serializable("tfp_distill")
@dataclasses.dataclass(frozen=True)
class MAFConfig(FlowConfig):
    """Masked autoregressive flow (Papamakarios, Pavlakou and Murray, 2017, arXiv:1705.07057).

    K masked autoregressive steps, in alternating order of the dimensions; the order belongs to the
    network, so that every latent keeps the order of the data and teacher and student of different
    depth can be compared. Trainable parameters, with h units in n hidden layers, P parameters of
    the transform (2 if affine, 3 num_bins - 1 if spline), and m = 1 with mixing, 0 without:

        K * (D h + h + (n - 1)(h^2 + h) + P D h + P D  +  m (D^2 + 2 D))

    With `inverse_autoregressive` each step runs the other way round (IAF, Kingma et al., 2016,
    arXiv:1606.04934): sampling takes one pass and the likelihood is sequential.

    Attributes:
      dims: D, at least 1.
      num_steps: number of steps K.
      hidden_units: width h of each network.
      num_hidden_layers: number n of hidden layers of each network.
      activation: Keras name of the activation.
      transform: "affine" or "spline" (autoregressive neural spline flow, Durkan et al., 2019,
        arXiv:1906.04032).
      mixing: whether an ActNorm and an invertible linear map, after which the latents keep the
        order of the data no longer, go before each step, as in Glow. Splines are far better with
        them. Before splines they start as the identity, otherwise as a rotation.
      log_scale_bound: bound of the affine transform's log-scale, in nats. It must be wide enough
        for the sharpest conditional of the data relative to its marginal; 5 is a factor of 148.
      num_bins: number of bins of a spline.
      tail_bound: where the tails of a spline begin, in units of the standardised data.
      min_slope: bound of a spline's derivatives; a larger one makes round trips more exact, a
        smaller one sharper densities possible.
      inverse_autoregressive: whether to build an IAF.
      condition_dims: size of the condition, 0 for none.
      seed: seed of the initial weights, any integer.
      columns: kinds of the D columns; None for continuous ones.
    """

    dims: int
    num_steps: int = 3
    hidden_units: int = 32
    num_hidden_layers: int = 2
    activation: str = "relu"
    transform: str = "affine"
    mixing: bool = False
    log_scale_bound: float = 5.0
    num_bins: int = 8
    tail_bound: float = 4.0
    min_slope: float = 0.01
    inverse_autoregressive: bool = False
    condition_dims: int = 0
    seed: int = 0
    columns: Columns | None = None

    def __post_init__(self) -> None:
        check_at_least(1, dims=self.dims)
        check_at_least(
            1,
            num_steps=self.num_steps,
            hidden_units=self.hidden_units,
            num_hidden_layers=self.num_hidden_layers,
        )
        check_at_least(0, condition_dims=self.condition_dims)
        check_integer(seed=self.seed)
        self._check_columns(self.dims)
        if self.transform not in ("affine", "spline"):
            raise ValueError(f'`transform` must be "affine" or "spline", got {self.transform!r}.')
        self._transform()

    @property
    def event_shape(self) -> tuple[int, ...]:
        """`(dims,)`."""
        return (self.dims,)

    def rows_at_once(self, *, generative: bool) -> int | None:
        """Few where a pass is one of the networks; in the other direction, as many as there are."""
        if generative != self.inverse_autoregressive:
            return None
        return rows_in_cache(self.dims * self._transform().num_parameters)

    @property
    def fewest_weights(self) -> int:
        """Matrices of the networks, and of the linear maps if there are any."""
        outputs = self._transform().num_parameters * self.dims
        hidden = self.hidden_units * (self.num_hidden_layers - 1)
        network = self.hidden_units * (self.dims + self.condition_dims + hidden + outputs)
        return self.num_steps * (network + self.mixing * self.dims**2)

    def build_bijector(self) -> TracedChain:
        """Builds the chain: `Standardize`, then one bijector, or chain with mixing, a step."""
        steps = [self._build_step(index) for index in range(self.num_steps)]
        return self._standardized(steps, dims=self.dims, name="maf")

    def _build_step(self, index: int) -> tfp.bijectors.Bijector:
        name, seed = f"step_{index}", weight_seed(1000 * self.seed + 100 * index)
        transform = self._transform()
        made = MADE(
            self.dims,
            num_parameters=transform.num_parameters,
            hidden_units=self.hidden_units,
            num_hidden_layers=self.num_hidden_layers,
            activation=self.activation,
            reverse=index % 2 == 1,
            condition_dims=self.condition_dims,
            seed=seed,
            name=f"{name}_made",
        )
        own_name = f"{name}_autoregressive" if self.mixing else name
        step = MaskedAutoregressive(made, transform=transform, name=own_name)
        if self.inverse_autoregressive:
            step = tfp.bijectors.Invert(step)
        if not self.mixing:
            return step
        members = [
            ActNorm(self.dims, name=f"{name}_actnorm"),
            InvertibleLinear(
                self.dims,
                start="identity" if self.transform == "spline" else "rotation",
                seed=weight_seed(seed + 99),
                name=f"{name}_linear",
            ),
            step,
        ]
        return TracedChain(members, name=name)

    def _transform(self) -> ScalarTransform:
        return make_transform(
            "transform",
            self.transform,
            log_scale_bound=self.log_scale_bound,
            num_bins=self.num_bins,
            tail_bound=self.tail_bound,
            min_slope=self.min_slope,
        )
