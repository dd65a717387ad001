"""What all sources of images share: sizes, parts and arrays of bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf

from tfp_distill.data.splits import drawn_size

__all__ = [
    "BATCH_SIZE",
    "batches_of",
    "collect",
    "crop_and_resize",
    "draw_parts",
]

BATCH_SIZE = 256


def crop_and_resize(
    images: tf.Tensor, image_size: int | None, crop: int | None = None
) -> tf.Tensor:
    """Cuts the centre square out of images and resizes it, with antialiasing.

    Args:
      images: uint8 `[..., h, w, C]`, one image or a batch of them.
      image_size: Height and width of the result, or None to leave images as they are.
      crop: Height and width of the square, by default the smaller side of the images.

    Returns:
      uint8 `[..., image_size, image_size, C]`.
    """
    if image_size is None:
        return images
    height, width = tf.shape(images)[-3], tf.shape(images)[-2]
    side = tf.minimum(height, width) if crop is None else crop
    top, left = (height - side) // 2, (width - side) // 2
    images = images[..., top : top + side, left : left + side, :]
    resized = tf.image.resize(images, [image_size, image_size], antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)


def draw_parts(num_images: int, fractions: Iterable[float], seed: int) -> np.ndarray:
    """Draws at random which part an image belongs to.

    Args:
      num_images: How many images there are.
      fractions: Of the images, for part 1 and the ones after it, which get at least 2 each;
        part 0 gets the rest.
      seed: Equal seeds give equal parts.

    Returns:
      int8 `[num_images]`.
    """
    order = np.random.default_rng(seed).permutation(num_images)
    part_of = np.zeros(num_images, np.int8)
    start = 0
    for part, fraction in enumerate(fractions, start=1):
        end = start + drawn_size(fraction, num_images)
        part_of[order[start:end]] = part
        start = end
    return part_of


def batches_of(images: np.ndarray, image_size: int | None) -> Iterator[np.ndarray]:
    """Yields batches of an array `[n, h, w, C]`, resized."""
    for start in range(0, len(images), BATCH_SIZE):
        batch = images[start : start + BATCH_SIZE]
        if image_size is not None:
            with tf.device("CPU:0"):
                batch = crop_and_resize(tf.constant(batch), image_size).numpy()
        yield batch


def collect(batches: Iterable[np.ndarray], part_of: np.ndarray, num_parts: int) -> list[np.ndarray]:
    """Sorts batches of images into arrays, each allocated once.

    Args:
      batches: uint8 `[m, H, W, C]`.
      part_of: Which part an image belongs to, `[n]`.
      num_parts: How many parts there are.

    Returns:
      uint8 `[m, H, W, C]` for each part; the images of a part keep their order.

    Raises:
      ValueError: If there are more or fewer than n images.
    """
    sizes = np.bincount(part_of, minlength=num_parts)
    parts: list[np.ndarray] = []
    filled = [0] * num_parts
    start = 0
    for batch in batches:
        if not parts:
            parts = [np.empty([size, *batch.shape[1:]], np.uint8) for size in sizes]
        chosen = part_of[start : start + len(batch)]
        start += len(batch)
        if start > len(part_of):
            break
        for part, images in enumerate(parts):
            found = batch[chosen == part]
            images[filled[part] : filled[part] + len(found)] = found
            filled[part] += len(found)
    if start != len(part_of):
        raise ValueError(f"`batches` must hold {len(part_of)} images, got {start}.")
    return parts
