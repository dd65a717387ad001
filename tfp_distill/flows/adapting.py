"""What of a flow depends on the data before it is trained."""

from __future__ import annotations

from typing import Protocol

import keras
import numpy as np
import tensorflow as tf

from tfp_distill.bijectors import Standardize, TracedChain

__all__ = ["ColumnStatistics", "adapt_bijector", "statistics_of"]

_MOST_ROWS = 50_000
_MOST_VALUES_OF_IMAGES = 2_000_000


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


def adapt_bijector(
    bijector: TracedChain,
    weights: list[keras.Variable],
    x: np.ndarray,
    condition: np.ndarray | None,
    *,
    statistics: ColumnStatistics | None,
    condition_statistics: ColumnStatistics | None,
) -> None:
    """Standardises the data, and initialises every bijector from them as they arrive there.

    Args:
      bijector: the flow's; `bijectors[0]` standardises.
      weights: all weights of the flow, which get their values back where something is not finite.
      x: data `[n, ...]`.
      condition: `[n, C]`, or None.
      statistics: of the data; by default those of `x`, but of images those that they have.
      condition_statistics: of the conditions; by default those of `condition`.

    Raises:
      ValueError: if `x` or `condition` are empty or not finite, or what becomes of them is not.
    """
    for name, value in (("x", x), ("condition", condition)):
        if value is not None:
            _check_values(name, value)
    before = [weight.numpy() for weight in weights]
    try:
        if statistics is not None or x.ndim == 2:
            _standardize(bijector.bijectors[0], statistics, x)
        if condition is not None:
            _standardize(bijector.condition_bijector, condition_statistics, condition)
        limit = _MOST_ROWS if x.ndim == 2 else max(2, _MOST_VALUES_OF_IMAGES // x[0].size)
        every = -(-len(x) // limit)
        sample = [None if v is None else tf.constant(v[::every]) for v in (x, condition)]
        if not np.all(np.isfinite(bijector.initialize(*sample))):
            raise ValueError(f"`x` must have finite latents, got some of {len(x):,} that are not.")
    except ValueError:
        for weight, value in zip(weights, before, strict=True):
            weight.assign(value)
        raise


def _standardize(
    bijector: Standardize, statistics: ColumnStatistics | None, rows: np.ndarray
) -> None:
    if statistics is None:
        bijector.set_statistics(*statistics_of(rows))
    else:
        bijector.set_statistics(statistics.mean, statistics.scale)


def _check_values(name: str, value: np.ndarray) -> None:
    if not len(value):
        raise ValueError(f"`{name}` must have at least 1 row to adapt to, got none.")
    finite = np.isfinite(value).reshape(len(value), -1).all(axis=1)
    if not finite.all():
        number = np.count_nonzero(~finite)
        raise ValueError(f"`{name}` must be finite, got {number:,} of {len(value):,} rows not so.")
