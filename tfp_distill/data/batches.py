"""Batches of examples that are held in memory, for training and for evaluation."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfp_distill.pixels import PixelFormat, uniform_noise

__all__ = [
    "evaluation_batches",
    "training_batches",
]

# Training draws from other sequences of noise than an evaluation with a small `draw`.
_NOISE, _FLIPS = 1 << 32, 2 << 32


def training_batches(
    x: Any,
    batch_size: int,
    *,
    condition: Any = None,
    seed: int = 0,
    start_step: int = 0,
    pixel_format: PixelFormat | None = None,
    random_flip: bool = False,
) -> tf.data.Dataset:
    """Returns an endless dataset of shuffled batches, a pure function of seed and step.

        steps_per_epoch = n // batch_size
        batch(step) = x[permutation(seed, step // steps_per_epoch)][part step % steps_per_epoch]

    So are the noise and the flips of images, which are drawn anew for every step.

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
      pixel_format: How images are dequantised; required for images.
      random_flip: Whether each image is mirrored, left to right, with probability 1/2.

    Returns:
      A dataset of `x`, or of `(x, condition)`, with a static batch size.

    Raises:
      ValueError: If an argument breaks its rule.
    """
    tensors = _to_tensors(x, condition, pixel_format)
    num_rows = tensors[0].shape[0]
    if random_flip and pixel_format is None:
        raise ValueError("`random_flip` must be False where `x` holds no images, got True.")
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

    def batch(step: tf.Tensor, places: tf.Tensor) -> Any:
        rows, *rest = (tf.gather(t, places) for t in tensors)
        first = step * batch_size
        if random_flip:
            rows = _flip(rows, uniform_noise(places[:, None], seed=seed + _FLIPS, first=first))
        if pixel_format:
            rows = pixel_format.dequantize(rows, seed=seed + _NOISE, first=first)
        return _unpack((rows, *rest))

    # Whole batches of places are shuffled and gathered: a pipeline of single rows costs far more.
    places = tf.data.Dataset.counter(start_epoch).flat_map(places_of_epoch).skip(skipped_steps)
    steps = tf.data.Dataset.counter(start_step)
    return _finish(
        tf.data.Dataset.zip(steps, places).map(
            batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
    )


def evaluation_batches(
    x: Any,
    batch_size: int,
    *,
    condition: Any = None,
    pixel_format: PixelFormat | None = None,
    draw: int = 0,
) -> tf.data.Dataset:
    """Returns a dataset of the rows in their order, each once; the last batch may be smaller.

    The noise of an image depends on its place and on `draw` alone.

    Args:
      x: The rows, `[n, ...]`, or images, uint8 `[n, h, w, C]`.
      batch_size: Rows a batch, but for the last one.
      condition: The conditions of the rows, `[n, C]`, if the flow is conditional.
      pixel_format: How images are dequantised; required for images.
      draw: Which draw of the noise of images.

    Returns:
      A finite dataset of `x`, or of `(x, condition)`.

    Raises:
      ValueError: If an argument breaks its rule.
    """
    tensors = _to_tensors(x, condition, pixel_format)
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")

    def batch(start: tf.Tensor) -> Any:
        rows, *rest = (t[start : start + batch_size] for t in tensors)
        if pixel_format:
            rows = pixel_format.dequantize(rows, seed=draw, first=start)
        return _unpack((rows, *rest))

    return _finish(tf.data.Dataset.range(0, tensors[0].shape[0], batch_size).map(batch))


def _flip(images: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
    """Mirrors the images `[n, h, w, C]` whose number `[n, 1]` is less than 1/2."""
    return tf.where(uniform[:, :, None, None] < 0.5, tf.reverse(images, axis=[2]), images)


def _to_tensors(x: Any, condition: Any, pixel_format: PixelFormat | None) -> tuple[tf.Tensor, ...]:
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
    is_image = tensors[0].dtype == tf.uint8
    if is_image != (pixel_format is not None):
        rule = "be given for uint8 images" if is_image else "be None where `x` holds no bytes"
        got = f"{pixel_format} for `x` of {tensors[0].dtype.name}"
        raise ValueError(f"`pixel_format` must {rule}, got {got}.")
    return tensors


def _unpack(values: Any) -> Any:
    values = tuple(values)
    return values if len(values) > 1 else values[0]


def _finish(dataset: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    # Every worker makes the same global batches and keeps its part of each.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)
