"""How the teacher maps fixed rows, which is found once instead of at every step."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfp_distill.bijectors import Trace
from tfp_distill.distillation.teachers import TeacherLike, as_teacher, check_knowledge
from tfp_distill.flows.config import check_at_least
from tfp_distill.training import OrderedRows, check_ordered_rows, placed_batches

__all__ = ["TeacherTraces", "TracedRows"]


class TracedRows(NamedTuple):
    """Rows, and how the teacher maps them, in few tensors: each is drawn by itself.

    Attributes:
      x: data `[batch, ...]`.
      latents: those of the teacher's trace, as vectors `[batch, number, D]`.
      ildjs: its log-determinants `[batch, number]`.
    """

    x: tf.Tensor
    latents: tf.Tensor
    ildjs: tf.Tensor

    @classmethod
    def of(cls, x: tf.Tensor, trace: Trace) -> TracedRows:
        """Returns rows with their trace."""
        latents = [tf.reshape(latent, [len(latent), -1]) for latent in trace.latents]
        return cls(x, tf.stack(latents, axis=1), tf.stack(trace.ildjs, axis=1))

    @property
    def trace(self) -> Trace:
        """The teacher's trace."""
        latents, ildjs = (tuple(tf.unstack(v, axis=1)) for v in (self.latents, self.ildjs))
        return Trace(latents, ildjs)


class TeacherTraces:
    """Training rows whose batches come with the teacher's latents of them, which are made once.

        (x, h_t^(1)(x), ..., h_t^(K)(x), log-determinants)   for all rows x

    A step of `LatentLoss`, `IntermediateLatentLoss` or `LogDensityLoss` then costs no pass of the
    teacher. The teacher passes over all rows once: that pays where a training takes more steps than
    the rows have batches. Example:

        rows = tfp_distill.data.TrainingRows(x, 1024)
        distiller.fit(TeacherTraces(teacher, rows).batches(), steps_per_epoch=100)

    Where the data have no noise, a training is the one without it, up to rounding. The noise and
    the flips of images, and the noise of integers, are drawn once here: that is another training
    than on noise that is always fresh, and may overfit sooner.

    They are rows of a `PrefixCache` too, which is then filled without a pass of the teacher.

    Args:
      teacher: as for `FlowDistiller`, with a density or latents.
      rows: the `tfp_distill.data.TrainingRows`.
      max_bytes: the most that the traces may take in memory.

    Raises:
      ValueError: if an argument breaks a rule.
    """

    def __init__(self, teacher: TeacherLike, rows: OrderedRows, *, max_bytes: int = 2**30) -> None:
        check_ordered_rows(rows)
        check_at_least(1, max_bytes=max_bytes)
        self._teacher = as_teacher(teacher)
        check_knowledge(self._teacher, "density", "`TeacherTraces`")
        self._rows = rows
        self._max_bytes = max_bytes

    @functools.cached_property
    def num_bytes(self) -> int:
        """What the traces take, with the rows themselves."""
        first = self._trace(*next(placed_batches(self._rows))[1])
        values = [value.numpy() for value in tf.nest.flatten(first)]
        return len(self._rows) * sum(value.nbytes // len(value) for value in values)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._rows)

    @property
    def batch_size(self) -> int:
        """Rows a batch."""
        return self._rows.batch_size

    def batches(self, *, start_step: int = 0) -> tf.data.Dataset:
        """Returns an endless dataset of shuffled batches, those of `rows.batches`.

        Args:
          start_step: the step whose batch comes first.

        Returns:
          A dataset of `(TracedRows,)` or of `(TracedRows, condition)`.

        Raises:
          ValueError: if the traces take more than `max_bytes`; before they are made.
        """
        return self._rows.batches_of(self._traced, start_step=start_step)

    def batches_of(self, arrays: Any, *, start_step: int = 0) -> tf.data.Dataset:
        """Returns as `batches` what other arrays hold for the same rows, in the same order."""
        return self._rows.batches_of(arrays, start_step=start_step)

    def ordered(self, draw: int = 0) -> Iterator[tuple[Any, ...]]:
        """Yields all rows in their order, as `rows.ordered`, with the teacher's latents of them.

        Args:
          draw: of no effect: noise is drawn once.
        """
        for place, (_, *condition) in placed_batches(self._rows):
            yield tf.nest.map_structure(lambda v: v[place], self._traced), *condition  # noqa: B023

    def _trace(self, x: tf.Tensor, *condition: tf.Tensor) -> TracedRows:
        return TracedRows.of(x, self._teacher.trace(x, *condition))

    @functools.cached_property
    def _traced(self) -> TracedRows:
        """All rows in their order."""
        num_rows = len(self._rows)
        if (need := self.num_bytes) > self._max_bytes:
            raise ValueError(
                f"`max_bytes` must be at least {need:,} for {num_rows:,} rows and what the teacher "
                f"makes of them, got {self._max_bytes:,}."
            )
        arrays: list[np.ndarray] = []
        for place, batch in placed_batches(self._rows):
            traced = self._trace(*batch)
            values = [value.numpy() for value in tf.nest.flatten(traced)]
            arrays = arrays or [np.empty((num_rows, *v.shape[1:]), v.dtype) for v in values]
            for array, value in zip(arrays, values, strict=True):
                array[place] = value
        with tf.device("CPU:0"):
            return tf.nest.map_structure(
                tf.convert_to_tensor, tf.nest.pack_sequence_as(traced, arrays)
            )
