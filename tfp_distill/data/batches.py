"""Batches of rows that are held in memory, for training and for evaluation."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

__all__ = [
    "evaluation_batches",
    "training_batches",
]


def training_batches(
    x: Any,
    batch_size: int,
    *,
    condition: Any = None,
    seed: int = 0,
    start_step: int = 0,
) -> tf.data.Dataset:
    """Returns an endless dataset of shuffled batches, a pure function of seed and step.

        steps_per_epoch = n // batch_size
        batch(step) = x[permutation(seed, step // steps_per_epoch)][part step % steps_per_epoch]

    An epoch visits the rows in a new random order and leaves out the `n % batch_size` rows at its
    end, which are others in each epoch. The batch of a step does not depend on where the dataset
    started, so that an interrupted run resumes with `start_step` and sees what it would have seen.

    Under a `tf.distribute` strategy a batch is the global batch, and each replica gets its rows.

    Args:
      x: The rows, `[n, ...]`. They are kept in memory once, whatever the number of epochs.
      batch_size: Rows a batch.
      condition: The conditions of the rows, `[n, C]`, if the flow is conditional.
      seed: Equal seeds give equal batches.
      start_step: The step whose batch comes first.

    Returns:
      A dataset of `x`, or of `(x, condition)`, with a static batch size.

    Raises:
      ValueError: If an argument breaks its rule.
    """
    tensors = _to_tensors(x, condition)
    num_rows = tensors[0].shape[0]
    if not 1 <= batch_size <= num_rows:
        raise ValueError(
            f"`batch_size` must be between 1 and the {num_rows} rows of `x`, got {batch_size}."
        )
    if start_step < 0:
        raise ValueError(f"`start_step` must be at least 0, got {start_step}.")
    steps_per_epoch = num_rows // batch_size
    start_epoch, skipped_steps = divmod(start_step, steps_per_epoch)

    def places_of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        places = tf.random.experimental.stateless_shuffle(
            tf.range(num_rows), seed=tf.stack([tf.constant(seed, tf.int64), epoch]), alg="philox"
        )
        places = tf.reshape(places[: steps_per_epoch * batch_size], [steps_per_epoch, batch_size])
        return tf.data.Dataset.from_tensor_slices(places)

    # Whole batches of places are shuffled and gathered: a pipeline of single rows costs far more.
    dataset = tf.data.Dataset.counter(start_epoch).flat_map(places_of_epoch).skip(skipped_steps)
    return _finish(dataset.map(lambda places: _unpack(tf.gather(t, places) for t in tensors)))


def evaluation_batches(x: Any, batch_size: int, *, condition: Any = None) -> tf.data.Dataset:
    """Returns a dataset of the rows in their order, each once; the last batch may be smaller.

    Args:
      x: The rows, `[n, ...]`.
      batch_size: Rows a batch, but for the last one.
      condition: The conditions of the rows, `[n, C]`, if the flow is conditional.

    Returns:
      A finite dataset of `x`, or of `(x, condition)`.

    Raises:
      ValueError: If an argument breaks its rule.
    """
    tensors = _to_tensors(x, condition)
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
    starts = tf.data.Dataset.range(0, tensors[0].shape[0], batch_size)
    return _finish(
        starts.map(lambda start: _unpack(t[start : start + batch_size] for t in tensors))
    )


def _to_tensors(x: Any, condition: Any) -> tuple[tf.Tensor, ...]:
    # An eager tensor that a dataset captures is not copied into its graph, which has a limit of
    # 2 GB; and input pipelines run on the CPU.
    with tf.device("CPU:0"):
        tensors = tuple(
            tf.convert_to_tensor(value) for value in (x, condition) if value is not None
        )
    if tensors[0].shape.rank == 0 or tensors[0].shape[0] == 0:
        raise ValueError(f"`x` must have at least 1 row, got shape {tensors[0].shape}.")
    if condition is not None and tensors[1].shape[:1] != tensors[0].shape[:1]:
        raise ValueError(
            "`x` and `condition` must have the same number of rows, got shapes "
            f"{tensors[0].shape} and {tensors[1].shape}."
        )
    return tensors


def _unpack(values: Any) -> Any:
    values = tuple(values)
    return values if len(values) > 1 else values[0]


def _finish(dataset: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    # Every worker makes the same global batches and keeps its part of each.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)
