"""What likelihood costs: parameters and milliseconds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from tfp_distill.evaluation.figures.style import (
    FAINT,
    label_at_right,
    model_colours,
    new_figure,
    tidy,
)
from tfp_distill.evaluation.flow_result import Result

__all__ = ["fronts"]


def fronts(results: Sequence[Result]) -> Figure:
    """Draws test figures over parameters (left) and over the time of a batch of samples (right).

    Each panel has the line of its front: the models that no other is better than at no higher cost.

    Args:
      results: the models, at least one with a finite likelihood.
    """
    figure = new_figure(11, 4.2)
    left, right = figure.subplots(1, 2, sharey=True)
    are_images = all(result.bits_per_dim is not None for result in results)
    results = [result for result in results if np.isfinite(result.likelihood.mean)]
    figures = [
        r.bits_per_dim if are_images and r.bits_per_dim is not None else r.likelihood.mean
        for r in results
    ]
    names = [result.name for result in results]
    _draw(left, names, [r.parameters for r in results], figures, lower_is_better=are_images)
    milliseconds = [1e3 * r.speed.to_data_seconds for r in results]
    _draw(right, names, milliseconds, figures, lower_is_better=are_images)
    left.set_xlabel("trainable parameters")
    batch = results[0].speed.batch_size
    right.set_xlabel(f"milliseconds for {batch:,} samples")
    unit = "bits per dimension (lower" if are_images else "nats per example (higher"
    left.set_ylabel(f"test, {unit} is better)")
    colours = model_colours(names)
    points = list(zip(milliseconds, figures, strict=True))
    label_at_right(right, names, points, [colours[name] for name in names])
    return figure


def _draw(
    axes: Axes,
    names: Sequence[str],
    costs: Sequence[float],
    figures: Sequence[float],
    *,
    lower_is_better: bool,
) -> None:
    colours = model_colours(names)
    for name, cost, figure in zip(names, costs, figures, strict=True):
        axes.plot(cost, figure, "o", color=colours[name], ms=6, zorder=3)
    signed = np.asarray(figures) * (-1 if lower_is_better else 1)
    front, best = [], -np.inf
    for index in np.lexsort((-signed, np.asarray(costs))):
        if signed[index] > best:
            front.append(index)
            best = signed[index]
    axes.plot(
        [costs[i] for i in front],
        [figures[i] for i in front],
        drawstyle="steps-post",
        color=FAINT,
        lw=1.0,
        ls="--",
    )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.xaxis.set_minor_formatter("")
    tidy(axes)
    axes.margins(0.08, 0.12)
