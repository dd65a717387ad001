"""Batches of examples that are held in memory, in their order."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfp_distill.pixels import PixelFormat

__all__ = ["evaluation_batches", "finish", "to_tensors", "unpack"]


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
    tensors = to_tensors(x, condition, pixel_format)
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")

    def batch(start: tf.Tensor) -> Any:
        rows, *rest = (t[start : start + batch_size] for t in tensors)
        if pixel_format:
            rows = pixel_format.dequantize(rows, seed=draw, first=start)
        return unpack((rows, *rest))

    return finish(tf.data.Dataset.range(0, tensors[0].shape[0], batch_size).map(batch))


def to_tensors(x: Any, condition: Any, pixel_format: PixelFormat | None) -> tuple[tf.Tensor, ...]:
    """Returns the rows and, if there are any, the conditions, after checking them."""
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


def unpack(values: Any) -> Any:
    """Returns several values as a tuple, and a single one as it is."""
    values = tuple(values)
    return values if len(values) > 1 else values[0]


def finish(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Adds what all datasets of batches have: they prefetch, and workers share each batch."""
    options = tf.data.Options()
    # Every worker makes the same global batches and keeps its part of each.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)
