"""The batches that `fit` is given, means over their rows, and all rows in their order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_distill.arrays import check_finite, check_numbers, rows_to_look_at
from tfp_distill.training.contracts import OrderedRows

__all__ = [
    "can_look_ahead",
    "check_data",
    "check_ordered_rows",
    "conditions_beside_weights",
    "first_rows",
    "is_array",
    "placed_batches",
    "unpack_batch",
    "weighted_mean",
    "without_tuner",
]

_DATASETS = (tf.data.Dataset, tf.distribute.DistributedDataset, keras.utils.PyDataset)
_ROWS = 4096


def without_tuner(data: Any) -> Any:
    """Returns a dataset without TensorFlow's tuner of input pipelines, unless it asks for one.

    The tuner sleeps for 10 ms, then for 20 and so on, up to a minute at a time, and whoever drops
    an iterator waits until it wakes up: a training of one second could take two.

    Args:
      data: a `tf.data.Dataset`; anything else is returned as it is.
    """
    if not isinstance(data, tf.data.Dataset) or data.options().autotune.enabled is not None:
        return data
    options = tf.data.Options()
    options.autotune.enabled = False
    return data.with_options(options)


def unpack_batch(data: Any) -> tuple[Any, Any, Any]:
    """Returns x, condition and weights of a batch, None for what it has not.

    Conditions without columns are none, see `conditions_beside_weights`.
    """
    # Keras replaces None in a dataset.
    x, condition, weights = (
        None if isinstance(value, tf.experimental.Optional) else value
        for value in keras.utils.unpack_x_y_sample_weight(data)
    )
    if condition is not None and np.shape(condition)[-1:] == (0,):
        condition = None
    return x, condition, weights


def check_data(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    names: tuple[str, str, str] = ("x", "y", "sample_weight"),
) -> None:
    """Checks what `fit` or `evaluate` is given as data, before any work.

    Args:
      x: an array, or anything that batches come from, which is not looked at.
      y: the array of conditions where `x` is an array, or None.
      sample_weight: the weights of the rows where `x` is an array, or None.
      names: what a message calls these.

    Raises:
      ValueError: if `x` is several arrays, as Keras takes them; or if an array is none of finite
        real numbers with a row for each of `x`, or a weight is negative.
    """
    of_x, of_y, of_weights = names
    if isinstance(x, tuple | list | dict):
        raise ValueError(
            f"`{of_x}` must be one array or a dataset, with the conditions in `{of_y}`, got a "
            f"{type(x).__name__} of {len(x)}."
        )
    if not is_array(x):
        return
    for name, values in zip(names, (x, y, sample_weight), strict=True):
        if values is not None:
            check_numbers(name, values)
            if not np.ndim(values):
                raise ValueError(f"`{name}` must be an array of rows, got the number {values}.")
            if len(values) != len(x):
                rule = f"have a row for each of the {len(x):,} of `{of_x}`"
                raise ValueError(f"`{name}` must {rule}, got {len(values):,}.")
            check_finite(name, values)
    if not len(x):
        raise ValueError(f"`{of_x}` must have at least 1 row, got none.")
    if sample_weight is not None:
        weights = np.asarray(sample_weight)
        if weights.ndim != 1 or (weights < 0).any():
            got = f"shape {weights.shape}" if weights.ndim != 1 else f"{weights.min():g}"
            raise ValueError(f"`{of_weights}` must be one number a row, 0 or more, got {got}.")


def conditions_beside_weights(x: Any, y: Any, weights: Any) -> Any:
    """Returns the conditions of an array: of no column where Keras would drop the weights."""
    if y is None and weights is not None and hasattr(x, "shape"):
        return np.zeros([len(x), 0], np.float32)
    return y


def weighted_mean(values: tf.Tensor, weights: tf.Tensor | None) -> tf.Tensor:
    """Returns the mean over the rows of a batch, in which weight 2 is a row given twice.

        sum_i w_i v_i / sum_i w_i

    Args:
      values: `[batch]`.
      weights: `[batch]`, not negative; None for 1 each.

    Raises:
      ValueError: if these are no batch.
    """
    if values.shape.rank != 1:
        raise ValueError(
            "`x` must come in batches, so that there is a figure for each row of one, got figures "
            f"of shape {values.shape}."
        )
    if weights is None:
        return tf.reduce_mean(values)
    weights = tf.cast(weights, values.dtype)
    return tf.reduce_sum(weights * values) / tf.reduce_sum(weights)


def can_look_ahead(x: Any) -> bool:
    """Returns whether `first_rows` can look at data without using them up."""
    return isinstance(x, _DATASETS) or is_array(x)


def is_array(x: Any) -> bool:
    """Returns whether data is an array, and nothing that batches come from."""
    return hasattr(x, "shape")


def first_rows(
    x: Any, y: Any, batch_size: int, strategy: tf.distribute.Strategy
) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the first data, and conditions, of what `fit` was given.

    Of batches as many as hold 4,096 rows, of an array as many rows; fewer where a row has many
    values, as an image has, but a batch at least. Weights of rows are left out of account.

    Args:
      x: a dataset or an array, as for `fit`.
      y: the array of conditions where `x` is an array.
      batch_size: rows of a batch where `x` is an array.
      strategy: the model's; what its replicas get is put together.

    Raises:
      ValueError: if `x` cannot be looked at without using it up, or has no batch.
    """
    found: list[list[Any]] = []
    rows, limit = 0, 1
    for batch in _batches(x, y, batch_size):
        x_of_batch, y_of_batch, _ = unpack_batch(batch)
        # What comes with the data, as `TeacherTraces` are, comes behind them.
        values = [tf.nest.flatten(x_of_batch)[0], y_of_batch]
        found.append([_whole(value, strategy) for value in values])
        first = found[0][0]
        rows += len(found[-1][0])
        limit = min(_ROWS, rows_to_look_at(np.shape(first)[1:]))
        if rows >= limit:
            break
    if not found:
        raise ValueError("`x` must have at least one batch, got none.")
    columns = zip(*found, strict=True)
    x, y = (None if column[0] is None else np.concatenate(column) for column in columns)
    return x, y


def check_ordered_rows(rows: Any) -> None:
    """Raises `ValueError` if an argument `rows` is nothing that batches come from in order."""
    if not isinstance(rows, OrderedRows):
        raise ValueError(
            f"`rows` must be `tfp_distill.data.TrainingRows`, got {type(rows).__name__}."
        )


def placed_batches(rows: OrderedRows, draw: int = 0) -> Iterator[tuple[slice, tuple[Any, ...]]]:
    """Yields the batches of all rows, `(x,)` or `(x, condition)`, and which rows they are.

    All batches are full: the last one repeats rows of the one before.

    Args:
      rows: the rows.
      draw: which noise they get.
    """
    num_rows, size = len(rows), rows.batch_size
    for index, batch in enumerate(rows.ordered(draw)):
        first = min(index * size, num_rows - size)
        yield slice(first, first + size), batch if isinstance(batch, tuple) else (batch,)


def _batches(x: Any, y: Any, batch_size: int) -> Iterator[Any]:
    if not can_look_ahead(x):
        raise ValueError(
            "`x` must be a dataset or an array where `adapt` was not called before, "
            f"got {type(x).__name__}."
        )
    if isinstance(x, keras.utils.PyDataset):
        number = x.num_batches  # None for endless ones.
        return map(x.__getitem__, itertools.count() if number is None else range(number))
    if is_array(x):
        places = range(0, len(x), batch_size)
        rows = (slice(first, first + batch_size) for first in places)
        return ((x[own],) if y is None else (x[own], y[own]) for own in rows)
    return iter(x)


def _whole(value: Any, strategy: tf.distribute.Strategy) -> np.ndarray | None:
    if value is None:
        return None
    local = strategy.experimental_local_results(value)
    return np.concatenate([np.asarray(part) for part in local])
