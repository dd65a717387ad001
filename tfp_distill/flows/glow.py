"""Glow for images: levels of steps at falling resolutions."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np

from tfp_distill.bijectors import (
    ActNorm,
    Coupling,
    FactorOut,
    InvertibleLinear,
    KerasBijector,
    MultiScaleChain,
    ScalarTransform,
    Standardize,
    TracedChain,
    share_passes,
)
from tfp_distill.bijectors.transforms import make_transform
from tfp_distill.flows.config import FlowConfig, check_at_least, check_integer, weight_seed
from tfp_distill.networks import ConvConditioner, ZeroConv
from tfp_distill.pixels import PixelFormat

__all__ = ["GlowConfig"]


@keras.saving.register_keras_serializable("tfp_distill")
@dataclasses.dataclass(frozen=True)
class GlowConfig(FlowConfig):
    """Multi-scale Glow for images (Kingma and Dhariwal, 2018, arXiv:1807.03039).

    A level squeezes 2x2 pixels into channels, runs its steps, and, but for the last level, factors
    out half of its channels. A step, in the normalizing direction: ActNorm, invertible 1x1
    convolution, coupling with a `ConvConditioner`. Trainable parameters of a level of C channels
    (after its squeeze; C = 2^(l+1) image channels in level l), with h hidden channels, and with
    o = P C/2 outputs for P parameters of the coupling's transform (2 if affine, 1 if additive,
    3 num_bins - 1 if spline):

        K (2 C + C^2 + 9 C/2 h + 2 h + h^2 + 2 h + 9 h o + 2 o)  +  9 C/2 C + 2 C

    where the last two terms, of the factoring out, are not in the last level.

    Images come as numbers in [0, 1): pixel values with uniform noise, divided by their number, such
    as (uint8 + noise) / 256; `pixel_format` makes them of bytes. Likelihoods are densities in that
    unit. The statistics start as mean 0.5 and scale 1 for each channel.

    Attributes:
      image_shape: `(H, W, C)` with 1 to 4 channels, padding included; H and W are divisible by
        2^num_levels.
      num_levels: number of levels L.
      steps_per_level: number of steps K of each level.
      hidden_channels: number h of hidden channels of the conditioners.
      coupling: "affine", "additive" or "spline".
      log_scale_bound: bound of the affine couplings' log-scales, in nats. The scales of all steps
        multiply: a bound of 3, good for few steps, lets a careless first update of a network of 24
        steps reach latents of 1e20. (What is factored out, once a level, has `FactorOut`'s bound.)
      num_bins: number of bins of a spline.
      tail_bound: where the tails of a spline begin.
      min_slope: bound of a spline's derivatives; a larger one makes round trips more exact, a
        smaller one sharper densities possible.
      num_bits: bits of a pixel's channel, 1 to 8; see `PixelFormat`.
      padding: number of pixels at each border that are padding.
      seed: seed of the initial weights, any integer.
    """

    image_shape: tuple[int, int, int]
    num_levels: int = 3
    steps_per_level: int = 8
    hidden_channels: int = 128
    coupling: str = "affine"
    log_scale_bound: float = 1.0
    num_bins: int = 8
    tail_bound: float = 4.0
    min_slope: float = 0.01
    num_bits: int = 8
    padding: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        # A list, where it comes from a saved file.
        object.__setattr__(self, "image_shape", tuple(self.image_shape))
        check_at_least(
            1,
            num_levels=self.num_levels,
            steps_per_level=self.steps_per_level,
            hidden_channels=self.hidden_channels,
        )
        check_integer(seed=self.seed)
        self._transform()
        self._check_image_shape()
        if 2 * self.pixel_format.padding >= min(self.image_shape[:2]):
            raise ValueError(
                f"`padding` must leave an image within {self.image_shape}, got {self.padding}."
            )

    @property
    def pixel_format(self) -> PixelFormat:
        """`num_bits` and `padding`: how bytes become examples."""
        return PixelFormat(self.num_bits, self.padding)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """`image_shape`."""
        return self.image_shape

    @property
    def condition_dims(self) -> int:
        """0: image flows take no condition."""
        return 0

    @property
    def num_steps(self) -> int:
        """Number of steps of all levels."""
        return self.num_levels * self.steps_per_level

    @property
    def level_ends(self) -> tuple[int, ...]:
        """The last step of each level: K, 2K, ..., LK."""
        return tuple(range(self.steps_per_level, self.num_steps + 1, self.steps_per_level))

    @property
    def suits_xla(self) -> bool:
        """No: on CPUs, XLA slows convolutions of large batches and of many channels down."""
        return False

    @property
    def fewest_weights(self) -> int:
        """Matrices of the linear maps of the last level, and kernels of all hidden layers."""
        channels = [self.image_shape[-1] * 2 ** (n + 2) for n in range(self.num_levels)]
        hidden = self.num_levels * self.hidden_channels**2
        kernels = hidden + 9 * sum(channels) * self.hidden_channels  # 1x1, and both of 3x3.
        return self.steps_per_level * (channels[-1] ** 2 + kernels)

    def build_bijector(self) -> MultiScaleChain:
        """Builds the chain: `Standardize`, then one `TracedChain` a step."""
        channels = self.image_shape[-1]
        standardize = Standardize(channels, event_ndims=3)
        standardize.set_statistics(np.full(channels, 0.5), np.ones(channels))
        levels = []
        for level in range(self.num_levels):
            is_last = level == self.num_levels - 1
            channels = 4 * channels
            levels.append(self._build_level(level, channels, factors_out=not is_last))
            channels = channels // 2
        return MultiScaleChain(standardize, levels, image_shape=self.image_shape, name="glow")

    def _build_level(self, level: int, channels: int, *, factors_out: bool) -> list[TracedChain]:
        first = level * self.steps_per_level
        steps = [self._build_step(first + index, channels) for index in range(self.steps_per_level)]
        if factors_out:
            name = f"level_{level}_factor_out"
            prior = ZeroConv(channels // 2, channels, name=f"{name}_prior")
            steps[-1].append(FactorOut(prior, channels, name=name))
        chains = [
            TracedChain(step, event_ndims=3, name=f"step_{first + index}")
            for index, step in enumerate(steps)
        ]
        share_passes(chains[:-1] if factors_out else chains)
        return chains

    def _build_step(self, index: int, channels: int) -> list[KerasBijector]:
        seed = weight_seed(100_000 * self.seed + 100 * index)
        name = f"step_{index}"
        return [
            ActNorm(channels, event_ndims=3, name=f"{name}_actnorm"),
            InvertibleLinear(channels, event_ndims=3, seed=seed, name=f"{name}_linear"),
            self._build_coupling(name, channels, seed + 1),
        ]

    def _build_coupling(self, name: str, channels: int, seed: int) -> Coupling:
        transform = self._transform()
        conditioner = ConvConditioner(
            channels // 2,
            transform.num_parameters * (channels // 2),
            hidden_channels=self.hidden_channels,
            seed=seed,
            name=f"{name}_conditioner",
        )
        return Coupling(
            conditioner, channels, transform=transform, event_ndims=3, name=f"{name}_coupling"
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

    def _check_image_shape(self) -> None:
        if len(self.image_shape) != 3:
            raise ValueError(
                f"`image_shape` must be (height, width, channels), got {self.image_shape}."
            )
        names = ("height", "width", "channels")
        check_at_least(1, **dict(zip(names, self.image_shape, strict=True)))
        *size, channels = self.image_shape
        if channels > 4:
            raise ValueError(f"`image_shape` must have 1 to 4 channels, got {channels}.")
        if any(pixels % 2**self.num_levels for pixels in size):
            raise ValueError(
                f"`image_shape` must have a height and width divisible by {2**self.num_levels} "
                f"for {self.num_levels} levels, got {self.image_shape}."
            )
