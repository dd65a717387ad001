"""The rows of a data set that a training sees: batches, and some to look at."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfp_distill.data import FlowData, TrainingRows

__all__ = ["batch_size_of", "first_rows", "initial_rows", "statistics_of", "training_rows"]

_INITIAL_ROWS = 50_000


def batch_size_of(usual: int, num_rows: int) -> int:
    """Returns the usual rows of a batch, but at most a quarter of all of them, and at least one."""
    return min(usual, max(1, num_rows // 4))


def training_rows(
    data: FlowData, batch_size: int, *, seed: int, random_flip: bool = False
) -> TrainingRows:
    """Returns the training data as batches.

    Args:
      data: what is trained on.
      batch_size: rows of a batch.
      seed: seed of the batches.
      random_flip: whether images are mirrored at random.
    """
    return TrainingRows(
        data.train,
        batch_size,
        condition=data.train_condition,
        seed=seed,
        domain=data.domain,
        random_flip=random_flip,
    )


def initial_rows(data: FlowData) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the rows, and their conditions, that data-dependent weights are initialised from."""
    return first_rows(data, "train", _INITIAL_ROWS)


def statistics_of(data: FlowData) -> dict[str, Any]:
    """Returns the statistics of all training rows, as `Flow.adapt` takes them beside a sample."""
    return dict(statistics=data.statistics, condition_statistics=data.condition_statistics)


def first_rows(data: FlowData, part: str, number: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the first rows of a part in a random order, and their conditions if there are any.

    The order is always the same. Without it, the first rows of sorted data would be of few classes,
    and those of a time series of one time.

    Of images there are fewer, because each has many more dimensions and takes longer.
    """
    rows, condition = getattr(data, part), data.condition(part)
    number = data.domain.rows_to_begin_with(number, data.event_shape)
    if number < len(rows):
        places = np.sort(np.random.default_rng(0).choice(len(rows), number, replace=False))
        rows, condition = rows[places], None if condition is None else condition[places]
    return data.domain.examples(rows)[:], condition
