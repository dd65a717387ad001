"""What of a flow depends on the data before it is trained."""

from __future__ import annotations

import warnings
from typing import Protocol

import keras
import numpy as np
import tensorflow as tf

from tfp_distill.arrays import check_finite, rows_to_look_at
from tfp_distill.bijectors import Standardize, StandardizeBounded, TracedChain
from tfp_distill.columns import Columns, are_integers
from tfp_distill.domains import Domain

__all__ = ["ColumnStatistics", "adapt_bijector", "pixels_to_adapt_to", "statistics_of"]

_MOST_SHOWN = 10
_MOST_ROWS = 50_000
_NOISE_SEED = 0


class ColumnStatistics(Protocol):
    """The mean and scale of columns, as `tfp_distill.data.Statistics` has them.

    Attributes:
      mean: `[D]`.
      scale: `[D]`, positive.
    """

    mean: np.ndarray
    scale: np.ndarray


def statistics_of(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean and standard deviation of columns, and scale 1 for constant ones."""
    moments = [(c.mean(), c.std()) for c in (column.astype(np.float64) for column in rows.T)]
    mean, scale = np.array(moments).T
    return mean, np.where(scale > 0, scale, 1.0)


def pixels_to_adapt_to(x: np.ndarray, domain: Domain) -> tf.Tensor:
    """Returns images of bytes with noise; of `[n, h, w, C]` an even sample, as large as is used."""
    return domain.dequantize(x[_evenly(x)] if x.ndim == 4 else x, seed=_NOISE_SEED)


def adapt_bijector(
    bijector: TracedChain,
    weights: list[keras.Variable],
    x: np.ndarray,
    condition: np.ndarray | None,
    *,
    statistics: ColumnStatistics | None,
    condition_statistics: ColumnStatistics | None,
    columns: Columns | None = None,
) -> None:
    """Standardises the data, and initialises every bijector from them as they arrive there.

    Args:
      bijector: the flow's; `bijectors[0]` standardises.
      weights: all weights of the flow, which get their values back where something is not finite.
      x: data `[n, ...]`.
      condition: `[n, C]`, or None.
      statistics: of the data; by default those of `x`, but of images those that they have.
      condition_statistics: of the conditions; by default those of `condition`.
      columns: the kinds of the columns of `x`; None where all are continuous, and a warning tells
        of integers.

    Raises:
      ValueError: if `x` or `condition` are empty or not finite, or what becomes of them is not, or
        `x` is out of its bounds.
    """
    for name, value in (("x", x), ("condition", condition)):
        if value is not None:
            _check_values(name, value)
    if columns is None and x.ndim == 2:
        _warn_of_integers(x)
    if columns is not None:
        _check_bounds(columns, x)
        x = columns.dequantize(x, seed=_NOISE_SEED).numpy()
    before = [weight.numpy() for weight in weights]
    try:
        if statistics is not None or x.ndim == 2:
            _standardize(bijector.bijectors[0], statistics, x, columns)
        if condition is not None and isinstance(bijector.condition_bijector, Standardize):
            _standardize(bijector.condition_bijector, condition_statistics, condition)
        some = _evenly(x)
        sample = [None if v is None else tf.constant(v[some]) for v in (x, condition)]
        if not np.all(np.isfinite(bijector.initialize(*sample))):
            raise ValueError(f"`x` must have finite latents, got some of {len(x):,} that are not.")
        if not all(np.isfinite(weight).all() for weight in weights):
            raise ValueError("`x` and its statistics must give finite weights, got some not so.")
    except ValueError:
        for weight, value in zip(weights, before, strict=True):
            weight.assign(value)
        raise


def _standardize(
    bijector: Standardize,
    statistics: ColumnStatistics | None,
    rows: np.ndarray,
    columns: Columns | None = None,
) -> None:
    mean, scale = statistics_of(rows) if statistics is None else (statistics.mean, statistics.scale)
    if columns is None:
        bijector.set_statistics(mean, scale)
        return
    # What was measured knows of no noise and no bounds.
    modelled = rows
    if isinstance(bijector, StandardizeBounded):
        bijector.set_units(scale)
        modelled = bijector.unbounded(rows).numpy()
    is_plain = np.array([kind == "continuous" for kind in columns.kinds])
    own = statistics_of(modelled)
    pairs = zip((mean, scale), own, strict=True)
    bijector.set_statistics(*(np.where(is_plain, *pair) for pair in pairs))


def _evenly(x: np.ndarray) -> slice:
    """Returns which rows, or images, are enough."""
    limit = _MOST_ROWS if x.ndim == 2 else rows_to_look_at(x.shape[1:])
    return slice(None, None, max(1, -(-len(x) // limit)))


def _warn_of_integers(x: np.ndarray) -> None:
    x = x[_evenly(x)]
    found = np.flatnonzero(are_integers(x) & (x != x[0]).any(axis=0))
    if len(found):
        shown = ", ".join(map(str, found[:_MOST_SHOWN])) + ", ..." * (len(found) > _MOST_SHOWN)
        warnings.warn(
            f"`x` holds integers as continuous numbers in columns {shown}, so that its likelihood "
            "has no bound: `tfp_distill.Columns` gives them noise",
            UserWarning,
            stacklevel=4,
        )


def _check_bounds(columns: Columns, x: np.ndarray) -> None:
    outside = columns.outside(x)
    if outside.any():
        found = ", ".join(
            f"{outside[i]:,} of column {i} ({columns.describe(i)})"
            for i in map(int, outside.nonzero()[0])
        )
        raise ValueError(f"`x` must be within the bounds of its columns, got values out: {found}.")


def _check_values(name: str, value: np.ndarray) -> None:
    if not len(value):
        raise ValueError(f"`{name}` must have at least 1 row to adapt to, got none.")
    check_finite(name, value)
