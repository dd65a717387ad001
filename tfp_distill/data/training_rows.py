"""The rows of a training, and all that is drawn of them: a pure function of seed and step."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfp_distill.arrays import Array
from tfp_distill.domains import CONTINUOUS_ROWS, Domain
from tfp_distill.pixels import uniform_noise

__all__ = ["TrainingRows", "finish", "to_tensors", "unpack"]

# Training draws from other sequences of noise than an evaluation with a small `draw`.
_NOISE, _FLIPS, _ORDERED_NOISE, _ORDERED_FLIPS = (number << 32 for number in range(1, 5))

# Batches that are made at the same time, and that wait to be taken.
_BATCHES_AHEAD = 4


class TrainingRows:
    """The rows of a training, which are kept in memory once, whatever is made of them.

    Args:
      x: The rows, `[n, ...]`, or images, uint8 `[n, h, w, C]`.
      batch_size: Rows a batch; under a `tf.distribute` strategy, of the global batch.
      condition: The conditions of the rows, `[n, C]`, if the flow is conditional.
      seed: Equal seeds give equal batches.
      domain: What the examples are, that of the data or of the flow's configuration; required for
        images, and for integers, which get noise. By default rows of continuous columns.
      random_flip: Whether each image is mirrored, left to right, with probability 1/2.

    Raises:
      ValueError: If an argument breaks its rule.
    """

    def __init__(
        self,
        x: Array,
        batch_size: int,
        *,
        condition: Array | None = None,
        seed: int = 0,
        domain: Domain = CONTINUOUS_ROWS,
        random_flip: bool = False,
    ) -> None:
        self._tensors = to_tensors(x, condition, domain)
        if random_flip and not domain.is_images:
            raise ValueError("`random_flip` must be False where `x` holds no images, got True.")
        if not 1 <= batch_size <= len(self):
            raise ValueError(
                f"`batch_size` must be between 1 and the {len(self)} rows of `x`, got {batch_size}."
            )
        self._batch_size = batch_size
        self._seed = seed
        self._domain = domain
        self._random_flip = random_flip

    def __len__(self) -> int:
        """Number of rows."""
        return self._tensors[0].shape[0]

    @property
    def batch_size(self) -> int:
        """Rows a batch."""
        return self._batch_size

    @property
    def steps_per_epoch(self) -> int:
        """Number of whole batches of the rows."""
        return len(self) // self._batch_size

    def batches(self, *, start_step: int = 0) -> tf.data.Dataset:
        """Returns an endless dataset of shuffled batches, see `training_batches`."""

        def batch(step: tf.Tensor, places: tf.Tensor) -> Any:
            rows, *rest = (tf.gather(t, places) for t in self._tensors)
            rows = self._draw(rows, _FLIPS, _NOISE, step * self._batch_size)
            return unpack((rows, *rest))

        return self._shuffled(batch, start_step)

    def batches_of(self, arrays: Any, *, start_step: int = 0) -> tf.data.Dataset:
        """Returns as `batches` what other arrays hold for the same rows, in the same order.

        Args:
          arrays: A structure of tensors `[n, ...]`, or of arrays, memory-mapped ones too, which
            stay on disk. Arrays are not copied, so the batches show what is written into them, and
            not kept: the caller keeps them as long as batches are drawn.
          start_step: The step whose batch comes first.

        Returns:
          A dataset of `(arrays,)` or of `(arrays, condition)`.
        """
        flat = tf.nest.flatten(arrays)
        if all(isinstance(array, tf.Tensor) for array in flat):
            tensors = (arrays, *self._tensors[1:])
            return self._shuffled(
                lambda _, places: tf.nest.map_structure(lambda t: tf.gather(t, places), tensors),
                start_step,
            )
        # TensorFlow keeps a Python function of a dataset for ever, and would keep the arrays.
        kept: list[Callable[[], Any]] = [weakref.ref(array) for array in flat]

        def batch(step: tf.Tensor, places: tf.Tensor) -> Any:
            values = tf.numpy_function(
                lambda places: [array().take(places, axis=0) for array in kept],
                [places],
                [tf.as_dtype(array.dtype) for array in flat],
                stateful=False,
            )
            for value, array in zip(values, flat, strict=True):
                value.set_shape([self._batch_size, *array.shape[1:]])
            rest = (tf.gather(t, places) for t in self._tensors[1:])
            return (tf.nest.pack_sequence_as(arrays, values), *rest)

        return self._shuffled(batch, start_step)

    def ordered(self, draw: int = 0) -> tf.data.Dataset:
        """Returns all rows in their order, with the noise and the flips of a draw.

        All batches have the same number of rows: the last one begins so early that it ends with the
        last row, and repeats rows of the one before where `batch_size` does not divide `n`. Noise
        and flips of a row depend on its place and on `draw` alone.

        Args:
          draw: Which draw of noise and flips; none is that of a training step.
        """
        size, num_rows = self._batch_size, len(self)

        def batch(start: tf.Tensor) -> Any:
            start = tf.minimum(start, num_rows - size)
            rows, *rest = (
                tf.ensure_shape(t[start : start + size], [size, *t.shape[1:]])
                for t in self._tensors
            )
            first = draw * num_rows + start
            rows = self._draw(rows, _ORDERED_FLIPS, _ORDERED_NOISE, first)
            return unpack((rows, *rest))

        return finish(tf.data.Dataset.range(0, num_rows, size).map(batch))

    def _shuffled(self, batch, start_step):
        """Maps steps and the places of their rows to batches."""
        if start_step < 0:
            raise ValueError(f"`start_step` must be at least 0, got {start_step}.")
        num_rows, steps_per_epoch = len(self), self.steps_per_epoch
        start_epoch, skipped_steps = divmod(start_step, steps_per_epoch)

        def places_of_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
            seed = tf.stack([tf.constant(self._seed, tf.int64), epoch])
            places = tf.random.experimental.stateless_shuffle(
                tf.range(num_rows), seed=seed, alg="philox"
            )
            places = places[: steps_per_epoch * self._batch_size]
            places = tf.reshape(places, [steps_per_epoch, self._batch_size])
            return tf.data.Dataset.from_tensor_slices(places)

        # Whole batches of places are shuffled: a pipeline of single rows costs far more.
        places = _count_from(start_epoch).flat_map(places_of_epoch).skip(skipped_steps)
        steps = _count_from(start_step)
        return finish(
            tf.data.Dataset.zip(steps, places).map(
                batch, num_parallel_calls=_BATCHES_AHEAD, deterministic=True
            )
        )

    def _draw(self, rows, flips, noise, first):
        """Mirrors images, and draws the noise of examples; the first is at a place in sequences."""
        if self._random_flip:
            index = tf.range(self._batch_size)[:, None]
            rows = _flip(rows, uniform_noise(index, seed=self._seed + flips, first=first))
        return self._domain.dequantize(rows, seed=self._seed + noise, first=first)


def to_tensors(x: Array, condition: Array | None, domain: Domain) -> tuple[tf.Tensor, ...]:
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
    domain.check(tensors[0])
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
    # TensorFlow's tuner sleeps for up to a minute at a time, and whoever drops an iterator waits
    # until it wakes up.
    options.autotune.enabled = False
    return dataset.prefetch(_BATCHES_AHEAD).with_options(options)


def _count_from(start: int) -> tf.data.Dataset:
    """Counts without end; TensorFlow never lets go of a `Dataset.counter`."""
    return tf.data.Dataset.range(start, tf.int64.max)


def _flip(images: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
    """Mirrors the images `[n, h, w, C]` whose number `[n, 1]` is less than 1/2."""
    return tf.where(uniform[:, :, None, None] < 0.5, tf.reverse(images, axis=[2]), images)
