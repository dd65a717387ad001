"""Learning curves of training in parts, in the manner of PARTS, figure 2."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from matplotlib.figure import Figure

from tfp_distill.evaluation.figures.curves import Curve, draw_curves
from tfp_distill.evaluation.parts.part_history import PartHistory

__all__ = ["part_curves"]


def part_curves(
    histories: Mapping[str, PartHistory], *, unit: str = "bits per dimension"
) -> Figure:
    """Draws the validation figure against epochs (left) and against training time (right).

    A tick on the curve of a training in parts is where training end to end begins. Limits and gaps
    are those of `learning_curves`.

    Args:
      histories: the trainings by name.
      unit: unit of the figures.
    """
    return draw_curves(
        {name: _curve(history) for name, history in histories.items()},
        count="epoch",
        figure=f"validation, {unit}",
        mark="end to end begins",
    )


def _curve(history: PartHistory) -> Curve:
    epochs = history.epochs
    end_to_end = [index for index, epoch in enumerate(epochs) if epoch.parts is None]
    return Curve(
        range(1, len(epochs) + 1),
        list(itertools.accumulate(epoch.seconds for epoch in epochs)),
        [epoch.validation for epoch in epochs],
        # The last epoch in parts: its end is the beginning of the next one.
        mark=end_to_end[0] - 1 if end_to_end and end_to_end[0] else None,
    )
