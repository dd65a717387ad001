"""How trained flows are judged."""

from __future__ import annotations

import dataclasses

from tfp_distill.runs.recipe.options import Options, option

__all__ = ["EvaluationOptions"]


@dataclasses.dataclass(frozen=True)
class EvaluationOptions(Options):
    """Figures of images: noise, and Frechet distances."""

    evaluation_draws: int = option(1, "Draws of noise that the likelihood of images averages.")
    feature_extractor: str = option(
        "", "For Frechet distances: inception, or a .keras file of features; none if empty."
    )
    frechet_images: int = option(10_000, "Number of samples and of test images to compare.")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_at_least(1, "evaluation_draws")
        self.check_at_least(2, "frechet_images")
