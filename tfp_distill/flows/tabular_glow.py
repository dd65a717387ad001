"""Glow for vectors: steps of ActNorm, an invertible linear map and a coupling."""

from __future__ import annotations

import dataclasses

import keras

from tfp_distill.bijectors import (
    ActNorm,
    Coupling,
    InvertibleLinear,
    ScalarTransform,
    TracedChain,
)
from tfp_distill.bijectors.transforms import make_transform
from tfp_distill.columns import Columns
from tfp_distill.compiling import rows_in_cache
from tfp_distill.flows.config import FlowConfig, check_at_least, check_integer, weight_seed
from tfp_distill.networks import dense_conditioner

__all__ = ["TabularGlowConfig"]


@keras.saving.register_keras_serializable("tfp_distill")
@dataclasses.dataclass(frozen=True)
class TabularGlowConfig(FlowConfig):
    """Single-level Glow for data of D dimensions (Kingma and Dhariwal, 2018, arXiv:1807.03039).

    A step, in the normalizing direction: ActNorm, invertible linear map, coupling on the first
    floor(D/2) dimensions with a multilayer perceptron as conditioner. Trainable parameters, with
    h units in n hidden layers, a = floor(D/2) (1 if D is), and b = P ceil(D/2) for P parameters of
    the coupling's transform (2 if affine, 1 if additive, 3 num_bins - 1 if spline):

        K * (2 D + D^2 + a h + h + (n - 1)(h^2 + h) + h b + b)

    Attributes:
      dims: D, at least 1.
      num_steps: number of steps K.
      hidden_units: width h of the conditioner.
      num_hidden_layers: number n of hidden layers of the conditioner.
      activation: Keras name of the conditioner's activation.
      coupling: "affine", "additive" or "spline" (neural spline flow, Durkan et al., 2019,
        arXiv:1906.04032), for which two hidden layers are enough, and whose linear maps start as
        permutations instead of rotations.
      log_scale_bound: bound of the affine coupling's log-scale, in nats.
      num_bins: number of bins of a spline.
      tail_bound: where the tails of a spline begin, in units of the standardised data.
      min_slope: bound of a spline's derivatives; a larger one makes round trips more exact, a
        smaller one sharper densities possible.
      condition_dims: size of the condition, 0 for none.
      seed: seed of the initial weights, any integer.
      columns: kinds of the D columns; None for continuous ones.
    """

    dims: int
    num_steps: int = 3
    hidden_units: int = 32
    num_hidden_layers: int = 5
    activation: str = "relu"
    coupling: str = "affine"
    log_scale_bound: float = 3.0
    num_bins: int = 8
    tail_bound: float = 4.0
    min_slope: float = 0.01
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
        self._transform()

    @property
    def event_shape(self) -> tuple[int, ...]:
        """`(dims,)`."""
        return (self.dims,)

    def rows_at_once(self, *, generative: bool) -> int | None:
        """Few where a coupling makes many parameters of each row."""
        return rows_in_cache((self.dims - self.dims // 2) * self._transform().num_parameters)

    @property
    def fewest_weights(self) -> int:
        """Matrices of the linear maps and of the conditioners."""
        outputs = self._transform().num_parameters * (self.dims // 2)
        hidden = self.hidden_units * (self.num_hidden_layers - 1)
        network = self.hidden_units * (self.condition_dims + hidden + outputs)
        return self.num_steps * (self.dims**2 + network)

    def build_bijector(self) -> TracedChain:
        """Builds the chain: `Standardize`, then one `TracedChain` a step."""
        steps = [self._build_step(index) for index in range(self.num_steps)]
        return self._standardized(steps, dims=self.dims, name="tabular_glow")

    def _build_step(self, index: int) -> TracedChain:
        seed = weight_seed(1000 * self.seed + 100 * index)
        return TracedChain(
            [
                ActNorm(self.dims, name=f"step_{index}_actnorm"),
                InvertibleLinear(
                    self.dims,
                    start="permutation" if self.coupling == "spline" else "rotation",
                    seed=seed,
                    name=f"step_{index}_linear",
                ),
                self._build_coupling(index, seed + 1),
            ],
            name=f"step_{index}",
        )

    def _build_coupling(self, index: int, seed: int) -> Coupling:
        changed = self.dims - self.dims // 2
        transform = self._transform()
        conditioner = dense_conditioner(
            max(1, self.dims // 2 + self.condition_dims),
            transform.num_parameters * changed,
            hidden_units=self.hidden_units,
            num_hidden_layers=self.num_hidden_layers,
            activation=self.activation,
            seed=seed,
            name=f"step_{index}_conditioner",
        )
        return Coupling(
            conditioner,
            self.dims,
            transform=transform,
            condition_dims=self.condition_dims,
            name=f"step_{index}_coupling",
        )

    def _transform(self) -> ScalarTransform:
        return make_transform(
            "coupling",
            self.coupling,
            log_scale_bound=self.log_scale_bound,
            num_bins=self.num_bins,
            tail_bound=self.tail_bound,
            min_slope=self.min_slope,
        )
