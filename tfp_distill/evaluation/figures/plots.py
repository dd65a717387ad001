"""Data beside samples: one column at a time, and in pairs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from tfp_distill.evaluation.figures.style import (
    DATA_COLOUR,
    FAINT,
    model_colours,
    new_figure,
    tidy,
)

__all__ = ["marginals", "pairwise"]

_RANGE = (0.2, 99.8)  # percentiles of the data that the axes cover
_QUANTILES = np.linspace(0.5, 99.5, 100)
_ROWS_TO_CHOOSE = 20_000
_CHARACTERS, _HANDLE = 150, 9  # Of a line of the legend, and what a handle takes of them.


def marginals(
    data: np.ndarray,
    samples: Mapping[str, np.ndarray],
    *,
    feature_names: Sequence[str] | None = None,
    max_columns: int = 12,
    bins: int = 45,
) -> Figure:
    """Draws a histogram of every column: the data as an area, each model as a line.

    The outermost bin of each side, beyond a dotted line, holds everything that lies farther out,
    as if it were in a bin of the usual width; what is not finite is in none.

    If there are more columns than `max_columns`, those are shown in which some model is farthest
    from the data, by the mean distance of their quantiles in standard deviations of the data.

    Args:
      data: `[n, D]`, for instance test data.
      samples: samples of each model `[m, D]`, by name.
      feature_names: names of the D columns; x1 ... xD by default.
      max_columns: largest number of columns to show.
      bins: number of bins between the 0.2 and the 99.8 percentile of the data, the outermost two
        not counted.
    """
    names = _check(data, samples, feature_names)
    columns = _farthest_columns(data, samples, max_columns)
    across = min(len(columns), 4 if len(columns) > 6 else 3)
    down = -(-len(columns) // across)
    figure = new_figure(11, 2.3 * down + 0.7)
    panels = figure.subplots(down, across, squeeze=False).flatten()
    colours = model_colours(samples)
    for axes, column in itertools.zip_longest(panels, columns):
        if column is None:
            axes.set_axis_off()
            continue
        low, high = _range(data[:, column])
        width = (high - low) / bins
        edges = np.linspace(low - width, high + width, bins + 3)
        of_data = _density(data[:, column], edges)
        axes.stairs(of_data, edges, fill=True, color=DATA_COLOUR, label="data")
        highest = of_data.max()
        for name, values in samples.items():
            density = _density(values[:, column], edges)
            axes.stairs(density, edges, color=colours[name], lw=1.2, label=name, baseline=None)
            highest = max(highest, density[0], density[-1])  # What lies beyond is never cut off.
        for end in (low, high):
            axes.axvline(end, color=FAINT, lw=0.6, ls=":", zorder=0)
        axes.set_xlabel(names[column])
        axes.set_yscale("log")
        _limit_density(axes, of_data, highest)
        tidy(axes)
    for row in range(down):
        panels[row * across].set_ylabel("density (log)")
    handles, labels = panels[0].get_legend_handles_labels()
    columns_of_legend = max(1, _CHARACTERS // (_HANDLE + max(map(len, labels))))
    figure.legend(
        handles,
        labels,
        loc="outside upper left",
        ncols=min(len(labels), columns_of_legend),
        frameon=False,
        fontsize=10,
    )
    text = "beyond the dotted lines: all that lies farther out"
    if len(columns) < data.shape[1]:
        text = f"the {len(columns)} of {data.shape[1]} columns farthest from the data; {text}"
    # Below, because above are the names of the models.
    figure.supxlabel(text, x=0.995, ha="right", fontsize=9, color=FAINT)
    return figure


def pairwise(
    data: np.ndarray,
    samples: Mapping[str, np.ndarray],
    *,
    feature_names: Sequence[str] | None = None,
    max_pairs: int = 3,
    bins: int = 50,
) -> Figure:
    """Draws two-dimensional histograms: a row per pair of columns; data and each model beside it.

    The pairs are those whose ranks are most strongly correlated in the data, first among columns
    that no other pair has.

    Args:
      data: `[n, D]` with D at least 2, for instance test data.
      samples: samples of each model `[m, D]`, by name.
      feature_names: names of the D columns; x1 ... xD by default.
      max_pairs: largest number of pairs to show.
      bins: number of bins of each axis, between the 0.2 and the 99.8 percentile of the data.
    """
    names = _check(data, samples, feature_names)
    pairs = _correlated_pairs(data, max_pairs)
    sources = {"data": data, **samples}
    colours = {"data": FAINT, **model_colours(samples)}
    width = min(2.3, 13 / len(sources))
    figure = new_figure(width * len(sources) + 0.5, width * len(pairs) + 0.5)
    panels = figure.subplots(len(pairs), len(sources), squeeze=False, sharex="row", sharey="row")
    for (first, second), row in zip(pairs, panels, strict=True):
        limits = [_range(data[:, column]) for column in (first, second)]
        # One norm a row: the same colour is the same density for data and every model.
        parts = [
            np.histogram2d(v[:, first], v[:, second], bins=bins, range=limits)[0] / len(v)
            for v in sources.values()
        ]
        top = max(parts[0].max(), 1 / len(data))  # Of few rows none may be within the limits.
        norm = LogNorm(vmin=max(top * 1e-4, 0.5 / len(data)), vmax=top)
        for axes, part in zip(row, parts, strict=True):
            axes.imshow(
                np.ma.masked_equal(part.T, 0),
                origin="lower",
                extent=(*limits[0], *limits[1]),
                aspect="auto",
                interpolation="nearest",
                cmap="viridis_r",
                norm=norm,
            )
            tidy(axes)
            axes.locator_params(nbins=3)
            axes.set_xlabel(names[first])
        row[0].set_ylabel(names[second])
    for axes, name in zip(panels[0], sources, strict=True):
        # A name of two parts may be wider than its column.
        axes.set_title(name.replace("/", "/\n"), color=colours[name], fontsize=11)
    return figure


def _check(
    data: np.ndarray, samples: Mapping[str, np.ndarray], feature_names: Sequence[str] | None
) -> list[str]:
    """Checks the shapes and returns the names of the columns."""
    if np.ndim(data) != 2:
        raise ValueError(f"`data` must have shape ('n', 'D'), got {np.shape(data)}.")
    dims = data.shape[1]
    for name, values in samples.items():
        if np.ndim(values) != 2 or values.shape[1] != dims:
            raise ValueError(
                f"`samples` of {name!r} must have shape ('n', {dims}), got {np.shape(values)}."
            )
    if feature_names is None:
        return [f"x{index + 1}" for index in range(dims)]
    if len(feature_names) != dims:
        raise ValueError(f"`feature_names` must hold {dims} names, got {len(feature_names)}.")
    return list(feature_names)


def _range(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, _RANGE)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _density(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Returns the density of *all* values in each bin; what lies beyond is in the outermost."""
    counts = np.histogram(values, [-np.inf, *edges[1:-1], np.inf])[0]
    return counts / (len(values) * np.diff(edges))


def _limit_density(axes: Axes, density: np.ndarray, highest: float) -> None:
    """Shows the density of the data, and of models what is not higher than `highest`."""
    top, positive = density.max(), density[density > 0]
    if len(positive):
        axes.set_ylim(min(max(positive.min() / 2, top * 1e-4), top / 30), highest * 2)
    axes.yaxis.set_minor_formatter(NullFormatter())


def _farthest_columns(
    data: np.ndarray, samples: Mapping[str, np.ndarray], number: int
) -> list[int]:
    dims = data.shape[1]
    if dims <= number:
        return list(range(dims))
    data = data[:_ROWS_TO_CHOOSE]
    expected = np.percentile(data, _QUANTILES, axis=0)
    scale = np.maximum(data.std(axis=0), 1e-12)
    distances = [
        np.mean(np.abs(np.percentile(v[:_ROWS_TO_CHOOSE], _QUANTILES, axis=0) - expected), axis=0)
        for v in samples.values()
    ]
    distance = np.nan_to_num(np.max(distances, axis=0) / scale, nan=np.inf)
    return sorted(np.argsort(-distance, kind="stable")[:number].tolist())


def _correlated_pairs(data: np.ndarray, number: int) -> list[tuple[int, int]]:
    ranks = np.argsort(np.argsort(data[:_ROWS_TO_CHOOSE], axis=0), axis=0)
    correlation = np.abs(np.corrcoef(ranks, rowvar=False))
    pairs = sorted(
        itertools.combinations(range(data.shape[1]), 2), key=lambda pair: -correlation[pair]
    )
    chosen: list[tuple[int, int]] = []
    for pair in pairs:
        if not set(pair) & set(itertools.chain(*chosen)):
            chosen.append(pair)
    chosen += [pair for pair in pairs if pair not in chosen]
    return chosen[:number]
