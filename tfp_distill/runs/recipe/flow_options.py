"""Which flows a run trains."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from tfp_distill.runs.recipe.options import Options, option

# A script knows its flags before TensorFlow is there: what needs it is imported where it is used.
if TYPE_CHECKING:
    from tfp_distill.domains import Domain
    from tfp_distill.flows import FlowConfig

__all__ = ["FlowOptions"]

_ARCHITECTURES = ("glow", "maf", "iaf")
# Added to the seed of the recipe: teacher and students do not start with the same weights.
_SEEDS = {"teacher": 0, "student": 1_000_003}
_RATES_OF_ROWS = {"teacher": 0.01, "student": 0.02}
_RATE_OF_IMAGES = 0.003
# So many columns a linear map may mix at these rates.
_MIXED_COLUMNS = 64
_MOST_LEVELS = 3


@dataclasses.dataclass(frozen=True)
class FlowOptions(Options):
    """Architectures of teacher and students, and how long and how fast each learns."""

    seed: int = option(0, "Seed of weights, batches and latents.")
    teacher_architecture: str = option("glow", "glow, maf or iaf.")
    teacher_depth: int = option(5, "Number of steps, for images of each level.")
    teacher_levels: int = option(
        0, "Number of levels of a Glow of images; 0: as many as their size halves, at most 3."
    )
    teacher_coupling: str = option(
        "", "affine, additive (glow only) or spline; if empty spline for a glow of rows."
    )
    teacher_hidden_layers: int = option(
        0, "Hidden layers of conditioners of rows; 0: 5 of an affine or additive glow, else 2."
    )
    teacher_width: int = option(64, "Hidden units or channels of the conditioners.")
    teacher_training_steps: int = option(
        4000, "Training steps of the teacher, rounded up to a multiple of report_steps."
    )
    teacher_learning_rate: float = option(
        0.0,
        "Peak learning rate of the teacher; 0: 0.01, or less where linear maps mix more than 64 "
        "columns, or 0.003 for images.",
    )
    student_architecture: str = option("glow", "glow, maf or iaf.")
    student_depth: int = option(3, "Number of steps, for images of each level.")
    student_levels: int = option(
        0, "Number of levels of a Glow of images; 0: as many as their size halves, at most 3."
    )
    student_coupling: str = option(
        "", "affine, additive (glow only) or spline; if empty spline for a glow of rows."
    )
    student_hidden_layers: int = option(
        0, "Hidden layers of conditioners of rows; 0: 5 of an affine or additive glow, else 2."
    )
    student_width: int = option(32, "Hidden units or channels of the conditioners.")
    student_training_steps: int = option(
        3000, "Training steps of each student, rounded up to a multiple of report_steps."
    )
    student_learning_rate: float = option(
        0.0, "Peak learning rate of each student; 0: as the teacher's, with 0.02 instead of 0.01."
    )
    num_bins: int = option(8, "Bins of splines.")
    tail_bound: float = option(4.0, "Where the tails of splines begin.")
    min_slope: float = option(
        0.01, "Bound of the slopes of splines; smaller for data with spikes, less exact inverses."
    )
    mixing: bool = option(
        True,
        "Whether linear maps go before the steps of maf and iaf; the papers' flows have none.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_at_least(0, "seed")
        for role in ("teacher", "student"):
            self.check_at_least(0, f"{role}_levels", f"{role}_hidden_layers")
            self.check_at_least(1, f"{role}_depth", f"{role}_width")
        self.check_at_least(1, "teacher_training_steps", "student_training_steps")
        self.check_at_least(0, "teacher_learning_rate", "student_learning_rate")
        for role in ("teacher", "student"):
            architecture, coupling = f"{role}_architecture", f"{role}_coupling"
            rule = f"one of {', '.join(_ARCHITECTURES)}"
            self.check(architecture, rule, getattr(self, architecture) in _ARCHITECTURES)
            is_glow = getattr(self, architecture) == "glow"
            couplings = ("affine", "additive", "spline") if is_glow else ("affine", "spline")
            is_legal = getattr(self, coupling) in ("", *couplings)
            self.check(coupling, f"one of {', '.join(couplings)}", is_legal)
        self.teacher_config((2,))
        self.student_config((2,))

    def teacher_config(
        self,
        event_shape: tuple[int, ...],
        *,
        condition_dims: int = 0,
        domain: Domain | None = None,
    ) -> FlowConfig:
        """Returns the architecture of the teacher for examples of a shape.

        Raises:
          ValueError: if the architecture does not fit examples of that shape.
        """
        return self._config("teacher", event_shape, condition_dims, domain)

    def student_config(
        self,
        event_shape: tuple[int, ...],
        *,
        condition_dims: int = 0,
        domain: Domain | None = None,
    ) -> FlowConfig:
        """Returns the architecture of every student, as `teacher_config`."""
        return self._config("student", event_shape, condition_dims, domain)

    def learning_rate(self, role: str, event_shape: tuple[int, ...]) -> float:
        """Returns the peak learning rate of "teacher" or "student" for examples of a shape.

        A step of Adam moves every entry of a D x D map by as much, and what it maps to by as much
        as D times that: rates that suit tens of columns make hundreds of them explode.
        """
        if asked := getattr(self, f"{role}_learning_rate"):
            return asked
        if len(event_shape) > 1:
            return _RATE_OF_IMAGES
        mixes = self.mixing or getattr(self, f"{role}_architecture") == "glow"
        return _RATES_OF_ROWS[role] * min(1.0, _MIXED_COLUMNS / event_shape[0] if mixes else 1.0)

    def coupling(self, role: str, *, images: bool) -> str:
        """Returns the coupling of "teacher" or "student"."""
        is_glow_of_rows = not images and getattr(self, f"{role}_architecture") == "glow"
        return getattr(self, f"{role}_coupling") or ("spline" if is_glow_of_rows else "affine")

    def _config(
        self,
        role: str,
        event_shape: tuple[int, ...],
        condition_dims: int,
        domain: Domain | None,
    ) -> FlowConfig:
        from tfp_distill.domains import CONTINUOUS_ROWS, ImageDomain
        from tfp_distill.flows import GlowConfig, MAFConfig, TabularGlowConfig

        architecture, depth, width = (
            getattr(self, f"{role}_{name}") for name in ("architecture", "depth", "width")
        )
        domain = domain or CONTINUOUS_ROWS
        coupling = self.coupling(role, images=domain.is_images)
        splines: dict[str, Any] = dict(
            num_bins=self.num_bins, tail_bound=self.tail_bound, min_slope=self.min_slope
        )
        seed = self.seed + _SEEDS[role]
        if isinstance(domain, ImageDomain):
            self.check(f"{role}_architecture", "glow for images", architecture == "glow")
            height, breadth, channels = event_shape
            return GlowConfig(
                (height, breadth, channels),
                num_levels=getattr(self, f"{role}_levels") or _levels_of(height, breadth),
                steps_per_level=depth,
                hidden_channels=width,
                coupling=coupling,
                **splines,
                **dataclasses.asdict(domain.pixel_format),
                seed=seed,
            )
        common: dict[str, Any] = dict(
            dims=event_shape[0],
            num_steps=depth,
            hidden_units=width,
            num_hidden_layers=getattr(self, f"{role}_hidden_layers")
            or (5 if architecture == "glow" and coupling != "spline" else 2),
            condition_dims=condition_dims,
            seed=seed,
            columns=domain.columns,
            **splines,
        )
        if architecture == "glow":
            return TabularGlowConfig(**common, coupling=coupling)
        return MAFConfig(
            **common,
            transform=coupling,
            mixing=self.mixing,
            inverse_autoregressive=architecture == "iaf",
        )


def _levels_of(height: int, width: int) -> int:
    for levels in range(_MOST_LEVELS, 0, -1):
        if height % 2**levels == 0 and width % 2**levels == 0:
            return levels
    raise ValueError(
        f"`data` must have images of an even height and width, got {height} x {width}: "
        "`image_size` brings them to a square of another size."
    )
