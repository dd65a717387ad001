"""Learning curves: validation nll by step and by time."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from tfp_distill.evaluation.style import label_at_right, model_colours, new_figure, tidy

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
    its measurements; the beginning may lie above it. Values that are not finite leave a gap.

    Args:
      curves: the curves by name of the model.
    """
    figure = new_figure(11, 4.2)
    panels = figure.subplots(1, 2, sharey=True)
    colours = model_colours(curves)
    longest = max((max(c.seconds, default=0.0) for c in curves.values()), default=0.0)
    unit, divisor = _time_unit(longest)
    low, high = _limits(curves)
    names = [name for name, curve in curves.items() if np.any(np.isfinite(curve.nll))]
    for axes, label in zip(panels, ("training step", f"training time, {unit}"), strict=True):
        ends = []
        for name in names:
            curve, colour = curves[name], colours[name]
            x = curve.steps if axes is panels[0] else np.asarray(curve.seconds) / divisor
            x, y = np.asarray(x, float), np.asarray(curve.nll, float)
            marker = "o" if len(y) < 4 else None
            axes.plot(x, np.where(np.isfinite(y), y, np.nan), color=colour, lw=1.6, marker=marker)
            last = np.flatnonzero(np.isfinite(y))[-1]
            ends.append((x[last], y[last]))
        axes.set_ylim(low, high)
        axes.set_xlim(left=0)
        axes.set_xlabel(label)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
        tidy(axes)
        axes.grid(axis="y", color="#eeeeee", zorder=0)
        axes.set_axisbelow(True)
        texts = [f"{name} {y:.3f}" for name, (_, y) in zip(names, ends, strict=True)]
        label_at_right(axes, texts, ends, [colours[name] for name in names])
    panels[0].set_ylabel("validation nll, nats per example (lower is better)")
    panels[1].tick_params(labelleft=True)
    return figure


def _time_unit(seconds: float) -> tuple[str, float]:
    if seconds < 180:
        return "seconds", 1.0
    return ("minutes", 60.0) if seconds < 3 * 3600 else ("hours", 3600.0)


def _limits(curves: Mapping[str, LearningCurve]) -> tuple[float, float]:
    """Returns limits that show how the curves end rather than how they start."""
    late = [np.asarray(curve.nll, float)[len(curve.nll) // 3 :] for curve in curves.values()]
    everything = [np.asarray(curve.nll, float) for curve in curves.values()]
    late, everything = (np.concatenate([np.zeros(0), *values]) for values in (late, everything))
    late, everything = late[np.isfinite(late)], everything[np.isfinite(everything)]
    if not len(everything):
        return 0.0, 1.0
    low, high = everything.min(), (late if len(late) else everything).max()
    margin = 0.06 * (high - low) or 0.5
    return low - margin, high + margin
