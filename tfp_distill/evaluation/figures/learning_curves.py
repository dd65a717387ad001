"""Learning curves: validation nll by step and by time."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from tfp_distill.evaluation.figures.curves import Curve, draw_curves

__all__ = ["LearningCurve", "learning_curves"]


@dataclasses.dataclass(frozen=True)
class LearningCurve:
    """What was measured while a model was trained, in the order of the measurements.

    Attributes:
      steps: training steps so far.
      seconds: training time so far.
      nll: negative log-likelihood on validation data, nats per example.
    """

    steps: Sequence[float]
    seconds: Sequence[float]
    nll: Sequence[float]

    def __post_init__(self) -> None:
        """Checks the lengths."""
        lengths = {len(self.steps), len(self.seconds), len(self.nll)}
        if len(lengths) > 1:
            raise ValueError(
                "`steps`, `seconds` and `nll` must have equal lengths, got "
                f"{len(self.steps)}, {len(self.seconds)} and {len(self.nll)}."
            )


def learning_curves(curves: Mapping[str, LearningCurve]) -> Figure:
    """Draws validation nll against training steps (left) and against training time (right).

    The axis covers the best values of all models, and the course of each after the first third of
    its measurements; the beginning may lie above it, and so may what is far above most of them.
    Values that are not finite leave a gap.

    Args:
      curves: the curves by name of the model.
    """
    return draw_curves(
        {name: Curve(curve.steps, curve.seconds, curve.nll) for name, curve in curves.items()},
        count="training step",
        figure="validation nll, nats per example",
    )
