"""Batches of examples that are held in memory, for training and for evaluation."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfp_distill.arrays import Array
from tfp_distill.data.training_rows import TrainingRows, finish, to_tensors, unpack
from tfp_distill.domains import CONTINUOUS_ROWS, Domain

__all__ = [
    "evaluation_batches",
    "training_batches",
]


def training_batches(
    x: Array,
    batch_size: int,
    *,
    condition: Array | None = None,
    seed: int = 0,
    start_step: int = 0,
    domain: Domain = CONTINUOUS_ROWS,
    random_flip: bool = False,
) -> tf.data.Dataset:
    """Returns an endless dataset of shuffled batches, a pure function of seed and step.

        steps_per_epoch = n // batch_size
        batch(step) = x[permutation(seed, step // steps_per_epoch)][part step % steps_per_epoch]

    So are the noise and the flips of images, and the noise of integers, which are drawn anew for
    every step.

    An epoch visits the rows in a new random order and leaves out the `n % batch_size` rows at its
    end, which are others in each epoch. The batch of a step does not depend on where the dataset
    started, so that an interrupted run resumes with `start_step` and sees what it would have seen.

    Under a `tf.distribute` strategy a batch is the global batch, and each replica gets its rows.

    Args:
      x: The rows, `[n, ...]`, or images, uint8 `[n, h, w, C]`. They are kept in memory once,
        whatever the number of epochs.
      batch_size: Rows a batch.
      condition: The conditions of the rows, `[n, C]`, if the flow is conditional.
      seed: Equal seeds give equal batches.
      start_step: The step whose batch comes first.
      domain: What the examples are, that of the data or of the flow's configuration; required for
        images, and for integers, which get noise. By default rows of continuous columns.
      random_flip: Whether each image is mirrored, left to right, with probability 1/2.

    Returns:
      A dataset of `x`, or of `(x, condition)`, with a static batch size.

    Raises:
      ValueError: If an argument breaks its rule.
    """
    rows = TrainingRows(
        x,
        batch_size,
        condition=condition,
        seed=seed,
        domain=domain,
        random_flip=random_flip,
    )
    return rows.batches(start_step=start_step)


def evaluation_batches(
    x: Array,
    batch_size: int,
    *,
    condition: Array | None = None,
    domain: Domain = CONTINUOUS_ROWS,
    draw: int = 0,
) -> tf.data.Dataset:
    """Returns a dataset of the rows in their order, each once; the last batch may be smaller.

    The noise of an image, or of a row's integers, depends on its place and on `draw` alone.

    Args:
      x: The rows, `[n, ...]`, or images, uint8 `[n, h, w, C]`.
      batch_size: Rows a batch, but for the last one.
      condition: The conditions of the rows, `[n, C]`, if the flow is conditional.
      domain: As for `training_batches`.
      draw: Which draw of the noise.

    Returns:
      A finite dataset of `x`, or of `(x, condition)`.

    Raises:
      ValueError: If an argument breaks its rule.
    """
    tensors = to_tensors(x, condition, domain)
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")

    def batch(start: tf.Tensor) -> Any:
        rows, *rest = (t[start : start + batch_size] for t in tensors)
        return unpack((domain.dequantize(rows, seed=draw, first=start), *rest))

    return finish(tf.data.Dataset.range(0, tensors[0].shape[0], batch_size).map(batch))
