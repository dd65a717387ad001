"""How figures that fall during trainings are drawn: by count and by time, side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tfp_distill.evaluation.figures.style import (
    FAINT,
    label_at_right,
    model_colours,
    new_figure,
    tidy,
)

__all__ = ["Curve", "draw_curves"]

_FEW = 4  # So few points are hardly a line.


@dataclasses.dataclass(frozen=True)
class Curve:
    """A figure that was measured several times, lower being better.

    Attributes:
      counts: steps or epochs so far.
      seconds: training time so far.
      values: the figures.
      mark: index of a measurement that is marked by a tick, if any.
    """

    counts: Sequence[float]
    seconds: Sequence[float]
    values: Sequence[float]
    mark: int | None = None


def draw_curves(curves: Mapping[str, Curve], *, count: str, figure: str, mark: str = "") -> Figure:
    """Draws figures against a count (left) and against training time (right).

    The axis covers the best values of all curves, and the course of each after the first third of
    its measurements; the beginning may lie above it, and so may what is far above most of them.
    Values that are not finite leave a gap.

    Args:
      curves: the curves by name.
      count: what is counted.
      figure: what is measured.
      mark: what marked measurements are.
    """
    drawing = new_figure(11, 4.2)
    panels = drawing.subplots(1, 2, sharey=True)
    longest = max((max(curve.seconds, default=0.0) for curve in curves.values()), default=0.0)
    unit, divisor = _time_unit(longest)
    curves = {name: curve for name, curve in curves.items() if np.any(np.isfinite(curve.values))}
    limits = _limits([np.asarray(curve.values, float) for curve in curves.values()])
    by_count = {name: np.asarray(curve.counts, float) for name, curve in curves.items()}
    by_time = {name: np.asarray(curve.seconds) / divisor for name, curve in curves.items()}
    _draw(panels[0], by_count, curves, limits, count)
    _draw(panels[1], by_time, curves, limits, f"training time, {unit}")
    panels[0].xaxis.get_major_locator().set_params(integer=True)
    if mark and any(curve.mark is not None for curve in curves.values()):
        style: dict[str, Any] = dict(color=FAINT, marker="|", ms=11, mew=1.6, ls="", label=mark)
        legend: dict[str, Any] = dict(loc="best", frameon=False, fontsize=8, labelcolor=FAINT)
        panels[0].legend(handles=[Line2D([], [], **style)], handletextpad=0, **legend)
    panels[0].set_ylabel(f"{figure} (lower is better)")
    panels[1].tick_params(labelleft=True)
    return drawing


def _draw(
    axes: Axes,
    positions: Mapping[str, np.ndarray],
    curves: Mapping[str, Curve],
    limits: tuple[float, float],
    label: str,
) -> None:
    colours = model_colours(curves)
    ends, figures = [], []
    for name, curve in curves.items():
        x, y = positions[name], np.asarray(curve.values, float)
        finite = np.isfinite(y)
        marker = "o" if len(y) < _FEW else None
        axes.plot(x, np.where(finite, y, np.nan), color=colours[name], lw=1.6, marker=marker)
        if curve.mark is not None:
            # At the top where the curve is beyond it, or has a gap.
            height = min(y[curve.mark], limits[1]) if finite[curve.mark] else limits[1]
            style: dict[str, Any] = dict(marker="|", ms=15, mew=1.8, clip_on=False)
            axes.plot(x[curve.mark], height, color=colours[name], **style)
        last = np.flatnonzero(finite)[-1]
        # A label outside of the axes would leave them no room.
        ends.append((x[last], np.clip(y[last], *limits)))
        figures.append(y[last])
    axes.set_ylim(*limits)
    axes.set_xlim(left=0)
    axes.set_xlabel(label)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    tidy(axes)
    axes.grid(axis="y", color="#eeeeee", zorder=0)
    axes.set_axisbelow(True)
    texts = [f"{name} {y:.3f}" for name, y in zip(curves, figures, strict=True)]
    label_at_right(axes, texts, ends, [colours[name] for name in curves])


def _time_unit(seconds: float) -> tuple[str, float]:
    if seconds < 180:
        return "seconds", 1.0
    return ("minutes", 60.0) if seconds < 3 * 3600 else ("hours", 3600.0)


def _limits(curves: Sequence[np.ndarray]) -> tuple[float, float]:
    """Returns limits that show how the curves end rather than how they start."""
    late = np.concatenate([np.zeros(0), *(values[len(values) // 3 :] for values in curves)])
    everything = np.concatenate([np.zeros(0), *curves])
    late, everything = late[np.isfinite(late)], everything[np.isfinite(everything)]
    if not len(everything):
        return 0.0, 1.0
    late = late if len(late) else everything
    low, high, middle = everything.min(), late.max(), np.median(late)
    if middle > low:  # A training that diverged must not press the others together.
        high = min(high, low + 5 * (middle - low))
    margin = 0.06 * (high - low) or 0.5
    return low - margin, high + margin
