"""How all figures look: one colour per model, and labels where the lines are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

__all__ = [
    "DATA_COLOUR",
    "FAINT",
    "label_at_right",
    "model_colours",
    "new_figure",
    "tidy",
]

DATA_COLOUR = "#c4c4c4"
FAINT = "#666666"

# From the palette of Okabe and Ito, which readers with impaired colour vision can tell apart.
_KNOWN = {
    "teacher": "#1a1a1a",
    "end_to_end": "#1a1a1a",
    "student": "#E69F00",
    "lkd": "#56B4E9",
    "ilkd": "#009E73",
    "skd": "#D55E00",
}
_OTHERS = ("#0072B2", "#CC79A7", "#8C6D1F", "#7F3C8D", "#5C9D00", "#A83232")


def model_colours(names: Iterable[str]) -> dict[str, str]:
    """Returns a colour per model: the usual names always have the same one, others in order."""
    names = list(names)
    others = [name for name in names if name not in _KNOWN]
    colours = {name: _OTHERS[i % len(_OTHERS)] for i, name in enumerate(others)}
    return {name: _KNOWN.get(name) or colours[name] for name in names}


def new_figure(width: float, height: float) -> Figure:
    """Returns a figure, in inches, that pyplot knows nothing of."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def tidy(axes: Axes) -> None:
    """Takes away what carries no information."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#aaaaaa")
    axes.tick_params(colors=FAINT, labelsize=8)
    axes.xaxis.label.set(fontsize=9, color=FAINT)
    axes.yaxis.label.set(fontsize=9, color=FAINT)


def label_at_right(
    axes: Axes,
    labels: Sequence[str],
    points: Sequence[tuple[float, float]],
    colours: Sequence[str],
    *,
    gap: float = 0.065,
) -> None:
    """Writes labels beside the right edge, each as near to its point's height as the others allow.

    Args:
      axes: the axes, with their final limits.
      labels: the texts.
      points: the data coordinates that the labels belong to.
      colours: the colours.
      gap: smallest distance of two labels, as a part of the height.
    """
    low, high = axes.get_ylim()
    wanted = [min(max((y - low) / (high - low), 0.0), 1.0) for _, y in points]
    order = sorted(range(len(labels)), key=lambda i: wanted[i])
    heights: dict[int, float] = {}
    for rank, i in enumerate(order):
        below = heights[order[rank - 1]] + gap if rank else 0.0
        heights[i] = max(wanted[i], below)
    overshoot = max(0.0, max(heights.values(), default=0.0) - 1.0)
    for rank, i in enumerate(reversed(order)):  # push down again what left through the top
        limit = 1.0 - rank * gap
        heights[i] = min(heights[i], limit) if overshoot else heights[i]
    for i, label in enumerate(labels):
        x, y = points[i]
        axes.annotate(
            label,
            xy=(x, min(max(y, low), high)),  # A line from outside would shrink the axes.
            xytext=(1.03, heights[i]),
            textcoords="axes fraction",
            color=colours[i],
            fontsize=9,
            va="center",
            annotation_clip=False,
            arrowprops=dict(
                arrowstyle="-",
                color=colours[i],
                lw=0.6,
                ls=":",
                shrinkA=0,
                shrinkB=2,
                relpos=(0, 0.5),
            ),
        )
