"""How students learn from their teacher."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from tfp_distill.runs.recipe.flow_options import FlowOptions
from tfp_distill.runs.recipe.options import option

if TYPE_CHECKING:
    from tfp_distill.distillation import DistillationLoss

__all__ = ["METHODS", "DistillationOptions"]

# The losses of each way to train a student, in the order of their weights after that of the nll.
_LOSSES = {
    "student": (),
    "lkd": ("latent_loss",),
    "ilkd": ("intermediate_latent_loss",),
    "skd": ("intermediate_latent_loss", "synthesized_loss"),
    "forward_kl": ("forward_kl_loss",),
    "reverse_kl": ("reverse_kl_loss",),
    "guided": ("guided_loss",),
    "mixture": ("forward_kl_loss", "intermediate_latent_loss"),
}
METHODS = tuple(_LOSSES)
_OVER_SAMPLES = {"synthesized_loss", "forward_kl_loss"}
_HINTS = ("lkd", "ilkd", "skd")
_STARTS = ("new", "aligned", "copied")
_SPACES = ("data", "latent")


@dataclasses.dataclass(frozen=True)
class DistillationOptions(FlowOptions):
    """The methods to compare, and the losses of each."""

    teacher_path: str = option("", "A saved .keras flow to use as teacher instead of training one.")
    students: tuple[str, ...] = option(
        (),
        f"Students to train and compare, of {', '.join(METHODS)}; a race of candidates if empty.",
    )
    lkd_weights: tuple[float, ...] = option((1.0, 0.5), "Weights of nll, LKD.")
    ilkd_weights: tuple[float, ...] = option((1.0, 0.5), "Weights of nll, ILKD.")
    skd_weights: tuple[float, ...] = option((1.0, 0.5, 0.05), "Weights of nll, ILKD, SKD.")
    forward_kl_weights: tuple[float, ...] = option((0.0, 1.0), "Weights of nll, forward KL.")
    reverse_kl_weights: tuple[float, ...] = option((0.0, 1.0), "Weights of nll, reverse KL.")
    guided_weights: tuple[float, ...] = option(
        (0.0, 1.0),
        "Weights of nll, guided loss, which makes iaf students samplers of maf teachers.",
    )
    mixture_weights: tuple[float, ...] = option(
        (0.5, 0.5, 0.5),
        "Weights of nll, forward KL, ILKD, with which a mixture begins; ILKD only if its student "
        "starts aligned.",
    )
    teacher_pairs: int = option(
        65_536,
        "Samples of the teacher that students of rows draw from, made anew every 1,000 steps; 0: "
        "new ones at each step, as of images.",
    )
    rows_per_sample: int = option(
        1,
        "Draw one sample of the teacher for so many rows of a batch: losses over samples keep "
        "their weight and cost less.",
    )
    mixture_tolerance: float = option(
        1.0,
        "How much of the nll a mixture may learn by heart, as a part of what the teacher is ahead.",
    )
    student_start: str = option(
        "aligned",
        "Where distilled students start: new; aligned, which puts Glow students of LKD, ILKD, SKD "
        "and mixtures in the teacher's frame, and gives guided students of as many steps its "
        "linear maps; or copied, with the weights of those of its steps that fit.",
    )
    student_path: str = option(
        "", "A saved .keras flow that every student starts from, instead of student_start."
    )
    guard: bool = option(
        True,
        "Whether methods that fall behind the plain student, where students has it, let go of the "
        "teacher, and get the plain one's flow if they end behind it.",
    )
    distance: str = option("l1", "Distance of latents and samples: l1, l2 or huber.")
    synthesized_space: str = option("data", "Where SKD compares: data or latent.")
    synthesized_start: float = option(0.1, "Part of the training after which SKD starts.")
    temperature: float = option(1.0, "Standard deviation of the latents that are shared.")
    fade_out: float = option(
        0.3, "Part of the training in which LKD, ILKD and SKD fade to 0; 0: they stay."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        rule = f"different names out of {', '.join(METHODS)}"
        known = set(self.students) <= set(METHODS) and len(set(self.students)) == len(self.students)
        self.check("students", rule, known)
        self.check_at_least(0, "teacher_pairs")
        self.check_at_least(1, "rows_per_sample")
        self.check_positive("mixture_tolerance")
        for name in ("synthesized_start", "fade_out"):
            self.check(name, "between 0 and 1", 0 <= getattr(self, name) <= 1)
        rule = f"one of {', '.join(_STARTS)}"
        self.check("student_start", rule, self.student_start in _STARTS)
        is_legal = not self.student_path or self.student_start != "copied"
        self.check("student_path", "empty where `student_start` is copied", is_legal)
        for method in METHODS[1:]:
            number = 1 + len(_LOSSES[method])
            weights = getattr(self, f"{method}_weights")
            rule = f"{number} numbers, none negative and not all 0"
            is_legal = len(weights) == number and min(weights) >= 0 and max(weights) > 0
            self.check(f"{method}_weights", rule, is_legal)
        rule = "positive for nll and forward KL, which share one weight"
        self.check("mixture_weights", rule, min(self.mixture_weights[:2]) > 0)
        rule = f"one of {', '.join(_SPACES)}"
        self.check("synthesized_space", rule, self.synthesized_space in _SPACES)
        self.losses("skd")

    def losses(self, method: str) -> tuple[DistillationLoss, ...]:
        """Returns the distillation losses of a method, none for "student"."""
        from tfp_distill.distillation import (
            ForwardKLLoss,
            GuidedLoss,
            IntermediateLatentLoss,
            LatentLoss,
            ReverseKLLoss,
            SynthesizedLoss,
        )

        latents: dict[str, Any] = dict(distance=self.distance)
        drawn: dict[str, Any] = dict(temperature=self.temperature)
        made = {
            "latent_loss": lambda: LatentLoss(**latents),
            "intermediate_latent_loss": lambda: IntermediateLatentLoss(**latents),
            "synthesized_loss": lambda: SynthesizedLoss(
                **latents, **drawn, space=self.synthesized_space
            ),
            "forward_kl_loss": lambda: ForwardKLLoss(**drawn),
            "guided_loss": lambda: GuidedLoss(**latents, **drawn),
            "reverse_kl_loss": lambda: ReverseKLLoss(**drawn),
        }
        return tuple(made[name]() for name in self._loss_names(method))

    def weights(self, method: str) -> tuple[float, ...]:
        """Returns the weights of the nll and of the losses of a method."""
        weights = (1.0,) if method == "student" else getattr(self, f"{method}_weights")
        return weights[: 1 + len(self._loss_names(method))]

    def start(self, method: str) -> str:
        """Returns what a student starts from: "new", "aligned", "copied" or "linear_maps"."""
        if method == "student" or self.student_path:
            return "new"
        if self.student_start != "aligned":
            return self.student_start
        if method == "guided":
            return "linear_maps"
        can_align = method in (*_HINTS, "mixture") and self.student_architecture == "glow"
        return "aligned" if can_align else "new"

    def guards(self, method: str) -> bool:
        """Returns whether this method is compared with the plain student."""
        return self.guard and method != "student" and "student" in self.students

    def draws_pairs(self, method: str) -> bool:
        """Returns whether a method looks at samples of the teacher that can be made before."""
        return self.teacher_pairs > 0 and bool(_OVER_SAMPLES & set(_LOSSES[method]))

    def fades_out(self, method: str) -> bool:
        """Returns whether the weights of the distillation losses of this method go to 0."""
        return self.fade_out > 0 and method in (*_HINTS, "mixture")

    def check_method(self, method: str) -> None:
        """Raises `ValueError` if a method would have nothing to minimise, or SKD no step."""
        nll_weight, *weights = self.weights(method)
        if method == "skd" and self.fades_out(method):
            rule = f"less than `fade_out` ({self.fade_out})"
            self.check("synthesized_start", rule, self.synthesized_start < self.fade_out)
        if nll_weight:
            return
        rule = f"0 where `{method}_weights` gives the nll no weight"
        self.check("fade_out", rule, not self.fades_out(method))
        if method == "skd" and not weights[0]:
            rule = "0 where `skd_weights` gives nothing but SKD a weight"
            self.check("synthesized_start", rule, self.synthesized_start == 0)

    def _loss_names(self, method: str) -> tuple[str, ...]:
        names = _LOSSES[method]
        return names[:1] if method == "mixture" and self.start(method) != "aligned" else names
