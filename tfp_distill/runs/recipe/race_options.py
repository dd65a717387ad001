"""What a race of candidates looks for."""

from __future__ import annotations

import dataclasses

from tfp_distill.runs.recipe.distillation_options import METHODS
from tfp_distill.runs.recipe.options import Options, option

__all__ = ["RaceOptions"]


@dataclasses.dataclass(frozen=True)
class RaceOptions(Options):
    """Candidates, the tolerance and the limits of the flow to find."""

    candidates: tuple[str, ...] = option(
        (), "Architectures to race, as spline_3x32 (depth, width); usual smaller ones if empty."
    )
    within: float = option(
        0.05, "How far behind the teacher the flow may be: nats, or bits per dimension of images."
    )
    max_parameters: int = option(0, "Race no candidate with more parameters; 0: no limit.")
    max_ms: float = option(
        0.0, "Race no candidate that takes longer for 1,000 samples (64 of images); 0: no limit."
    )
    race_methods: tuple[str, ...] = option(
        ("ilkd",),
        "How to distill the chosen architecture, and the next smaller one if it is close.",
    )
    few_rows: int = option(
        0, "Also train the chosen architecture on so many rows, with and without the teacher."
    )
    workers: int = option(0, "Trainings of a race side by side; 0: one a core.")

    def __post_init__(self) -> None:
        super().__post_init__()
        names = ("within", "max_parameters", "max_ms", "few_rows", "workers")
        self.check_at_least(0, *names)
        rule = f"different names out of {', '.join(METHODS[1:])}"
        different = len(set(self.race_methods)) == len(self.race_methods)
        is_legal = different and set(self.race_methods) <= set(METHODS[1:])
        self.check("race_methods", rule, is_legal)
