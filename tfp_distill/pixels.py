"""Pixels as bytes, and as the numbers in [0, 1) that flows of images model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_distill.arrays import Array

__all__ = ["DequantizedImages", "PixelFormat", "bits_per_dim", "uniform_noise"]

_PHILOX = 1
_NUMBERS_A_BLOCK = 4  # Philox makes four numbers of 32 bits for each value of its counter.
_NOISE_LEVELS = 2.0**16
# How bytes are scaled without noise, to [-1, 1] too: what becomes 1, and what they are called.
_WITHOUT_NOISE = {1: "whole numbers", 255: "multiples of 1/255", 256: "multiples of 1/256"}
_CHECKED, _ROUNDING = 16, 1e-3


@dataclasses.dataclass(frozen=True)
class PixelFormat:
    """How bytes become numbers in [0, 1), with uniform noise, and the other way.

        x = (floor(byte / 2^(8 - num_bits)) + u) / 2^num_bits,   u uniform in [0, 1)

    The noise makes a density of pixels that are integers meaningful; its mean log-likelihood is a
    lower bound of that of the integers (Theis, van den Oord and Bethge, 2016, arXiv:1511.01844,
    section 3.1). It is drawn once per example, in the input pipeline, so that teacher and student
    see the same numbers.

    Attributes:
      num_bits: bits of a pixel's channel that are modelled, 1 to 8.
      padding: number of black pixels to add at each border, to reach a size that a flow of several
        levels can halve. Padding gets noise as other pixels do.
    """

    num_bits: int = 8
    padding: int = 0

    def __post_init__(self) -> None:
        for name, (low, high) in {"num_bits": (1, 8), "padding": (0, 1024)}.items():
            value = getattr(self, name)
            is_integer = isinstance(value, int) and not isinstance(value, bool)
            if not is_integer or not low <= value <= high:
                raise ValueError(
                    f"`{name}` must be an integer from {low} to {high}, got {value!r}."
                )

    @property
    def bins(self) -> int:
        """Number of values of a pixel's channel, 2^num_bits."""
        return 2**self.num_bits

    def padded_shape(self, image_shape: Sequence[int]) -> tuple[int, int, int]:
        """Returns the shape `(H, W, C)` of an example, for images of a shape."""
        height, width, channels = image_shape
        return height + 2 * self.padding, width + 2 * self.padding, channels

    def image_shape(self, example_shape: Sequence[int]) -> tuple[int, int, int]:
        """Returns the shape `(h, w, C)` of an image, for examples of a shape."""
        height, width, channels = example_shape
        return height - 2 * self.padding, width - 2 * self.padding, channels

    def dequantize(self, pixels: Array, *, seed: Any, first: Any = 0) -> tf.Tensor:
        """Returns the numbers of images, with noise that depends on `seed` and the place alone.

        The noise of image i is number `first + i` of the seed's endless sequence, however the
        images are cut into batches.

        Args:
          pixels: uint8 `[n, h, w, C]`.
          seed: equal seeds give equal noise; an integer or a tensor of one.
          first: place of the first image in the sequence, an integer or int64 tensor.

        Returns:
          float32 `[n, H, W, C]`, less than 1.

        Raises:
          ValueError: if `pixels` are not uint8 images.
        """
        values = self._values(pixels)
        return (values + uniform_noise(values, seed=seed, first=first)) / self.bins

    def check_noise(self, x: np.ndarray) -> None:
        """Raises `ValueError` if examples `[n, H, W, C]` are bytes, or scaled bytes, without noise.

        The likelihood that a training makes of such images has no bound.
        """
        pixels = np.asarray(x[:_CHECKED], np.float64)
        for one, what in _WITHOUT_NOISE.items():
            values = pixels * one
            if pixels.size and np.all(abs(values - np.round(values)) < _ROUNDING):
                raise ValueError(
                    "`x` must have noise on its pixels, as `training_batches(..., "
                    f"domain=flow.config.domain)` draws, got {what}."
                )

    def midpoints(self, pixels: Array) -> tf.Tensor:
        """Returns the numbers of images without noise: `(value + 1/2) / 2^num_bits`.

        Args:
          pixels: uint8 `[n, h, w, C]`.

        Returns:
          float32 `[n, H, W, C]`; `quantize` gives the pixels back, but for bits not modelled.
        """
        return (self._values(pixels) + 0.5) / self.bins

    def quantize(self, x: Array) -> tf.Tensor:
        """Returns the bytes of examples, without the padding; the inverse of `dequantize`.

            byte = clip(floor(x 2^num_bits), 0, 2^num_bits - 1) * 255 / (2^num_bits - 1)

        so that the largest value is white, whatever the number of bits. What is not a number
        becomes 0.

        Args:
          x: float `[n, H, W, C]`.

        Returns:
          uint8 `[n, h, w, C]`.
        """
        x = tf.convert_to_tensor(x)
        x = tf.where(tf.math.is_nan(x), tf.zeros_like(x), x)
        values = tf.clip_by_value(tf.floor(x * self.bins), 0, self.bins - 1)
        if pad := self.padding:
            values = values[:, pad:-pad, pad:-pad, :]
        return tf.cast(tf.round(values * (255 / (self.bins - 1))), tf.uint8)

    def _values(self, pixels: Array) -> tf.Tensor:
        """Returns the padded values 0 ... bins-1 as float32 `[n, H, W, C]`."""
        pixels = tf.convert_to_tensor(pixels)
        if pixels.dtype != tf.uint8 or pixels.shape.rank != 4:
            raise ValueError(
                "`pixels` must be uint8 of shape ('n', 'height', 'width', 'channels'), got "
                f"{pixels.dtype.name} of shape {pixels.shape}."
            )
        values = tf.cast(tf.bitwise.right_shift(pixels, np.uint8(8 - self.num_bits)), tf.float32)
        border = [self.padding, self.padding]
        return tf.pad(values, [[0, 0], border, border, [0, 0]]) if self.padding else values

    def bits_per_dim(self, log_prob: Any, example_shape: Sequence[int]) -> Any:
        """Returns `bits_per_dim` of images, for log-likelihoods of their examples.

        Args:
          log_prob: nats per example.
          example_shape: `(H, W, C)` of an example, padding included.
        """
        dims = math.prod(self.image_shape(example_shape))
        modelled = math.prod(example_shape)
        return bits_per_dim(log_prob, dims, bins=self.bins, modelled_dims=modelled)


class DequantizedImages:
    """Images as a flow takes them, made when they are asked for; the rows of an evaluation.

    Args:
      images: uint8 `[n, h, w, C]`.
      pixel_format: how they are dequantised.
      draw: which draw of the noise; each is a function of the place of an image alone.
    """

    def __init__(self, images: np.ndarray, pixel_format: PixelFormat, *, draw: int = 0) -> None:
        self._images = images
        self._format = pixel_format
        self._draw = draw

    @property
    def shape(self) -> tuple[int, ...]:
        """`(n, H, W, C)`."""
        return (len(self._images), *self._format.padded_shape(self._images.shape[1:]))

    def __len__(self) -> int:
        """Number of images."""
        return len(self._images)

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Returns float32 `[m, H, W, C]` of consecutive images."""
        first, _, step = rows.indices(len(self))
        if step != 1:
            raise ValueError(f"`rows` must be a slice of step 1, got step {step}.")
        with tf.device("CPU:0"):
            x = self._format.dequantize(self._images[rows], seed=self._draw, first=first)
        return x.numpy()


def bits_per_dim(
    log_prob: Any, dims: int, *, bins: int = 256, modelled_dims: int | None = None
) -> Any:
    """Converts log-likelihoods of dequantised images to bits per dimension of the discrete ones.

        bits_per_dim = (-log_prob / ln 2 + modelled_dims log2(bins)) / dims

    for data in [0, 1): integers 0 ... bins-1 with uniform noise, divided by `bins`. A density in
    that unit is bins^modelled_dims times that of the integers. In expectation over the noise this
    is an upper bound of the bits per dimension of the integers themselves (Theis, van den Oord and
    Bethge, 2016, arXiv:1511.01844, section 3.1). Where the data was not divided, `bins` is 1.

    Padding is no data: all bits, those that a flow spends on padding too, are shared out among the
    dimensions of the image, so that padding never makes the figure better.

    Args:
      log_prob: nats per example, a number, array or tensor; `Likelihood.mean` too.
      dims: number of dimensions of an image, channels included, padding not.
      bins: number of values of a dimension: 2^num_bits, 256 for bytes.
      modelled_dims: number of dimensions of an example, with padding; `dims` by default.

    Returns:
      Bits per dimension, like `log_prob`.

    Raises:
      ValueError: if `dims` or `bins` is less than 1, or `modelled_dims` less than `dims`.
    """
    modelled_dims = dims if modelled_dims is None else modelled_dims
    for name, value, low in (
        ("dims", dims, 1),
        ("bins", bins, 1),
        ("modelled_dims", modelled_dims, dims),
    ):
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            raise ValueError(f"`{name}` must be an integer of at least {low}, got {value!r}.")
    return -log_prob / (dims * math.log(2)) + math.log2(bins) * (modelled_dims / dims)


def uniform_noise(values: tf.Tensor, *, seed: Any, first: Any) -> tf.Tensor:
    """Returns multiples of 2^-16 in [0, 1), uniform, as `PixelFormat.dequantize` says.

    With 16 bits the sum of noise and a byte is exact in float32: none is rounded up to the next.

    Args:
      values: `[n, ...]`; the result has its shape.
      seed: equal seeds give equal numbers.
      first: place of the first example in the seed's sequence.
    """
    size = int(np.prod(values.shape[1:]))
    blocks = -(-size // _NUMBERS_A_BLOCK)  # An example starts with a block of its own.
    counter = tf.cast(first, tf.int64) * blocks
    noise = tf.raw_ops.StatelessRandomUniformV2(
        shape=tf.stack([tf.shape(values)[0], blocks * _NUMBERS_A_BLOCK]),
        key=tf.cast([seed], tf.uint64),
        counter=tf.stack([tf.cast(counter, tf.uint64), tf.constant(0, tf.uint64)]),
        alg=tf.constant(_PHILOX),
    )
    noise = tf.floor(noise * _NOISE_LEVELS) / _NOISE_LEVELS
    return tf.reshape(noise[:, :size], tf.shape(values))
