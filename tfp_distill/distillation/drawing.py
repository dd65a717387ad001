"""Samples of the teacher that the losses of a step look at, and whose they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from tfp_distill.bijectors import Trace
from tfp_distill.training import StepRandom

__all__ = ["DrawnPairs", "Drawing", "Generated", "average_over"]


class Generated(NamedTuple):
    """What a flow makes of shared latents.

    Attributes:
      z: the latents `[samples, D]`; `[samples, 0]` of a teacher that has none.
      x: the data `[samples, ...]`.
      fldj: log|det dx/dz| `[samples]`; 0 without latents.
    """

    z: tf.Tensor
    x: tf.Tensor
    fldj: tf.Tensor


class DrawnPairs(NamedTuple):
    """Where samples of the teacher come from that were made before, see `TeacherPairs`.

    Attributes:
      temperature: standard deviation of their latents.
      draw: takes the noise of a step and a number of samples; returns those that the teacher is
        sure of, and how it maps them back.
      left_out: returns the share of samples that it was not sure of.
    """

    temperature: float
    draw: Callable[[StepRandom, tf.Tensor], tuple[Generated, Trace]]
    left_out: Callable[[], tf.Tensor]


class Drawing:
    """One sample of the teacher for every n-th row of a batch.

    Of the global batch, so that replicas draw together what one device would.

    Args:
      random: noise of the step.
      rows: number of this replica's rows.
      condition: theirs.
      rows_per_sample: n.

    Attributes:
      random: noise for the samples.
      number: of samples; some replicas draw one that is not their own.
      is_own: which are, bool `[samples]`.
      condition: that of the row that each belongs to.
    """

    def __init__(
        self,
        random: StepRandom,
        rows: tf.Tensor,
        condition: tf.Tensor | None,
        rows_per_sample: int,
    ) -> None:
        self._rows = rows
        self._is_one_each = rows_per_sample == 1
        if self._is_one_each:
            self.random, self.number, self.condition = random, rows, condition
            self.is_own = tf.ones([rows], tf.bool)
            return
        self.random, places, self._samples_per_row = random.of_every(rows_per_sample, rows)
        self.number = tf.shape(places)[0]
        self.is_own = places < rows
        self.condition = condition
        if condition is not None:
            self.condition = tf.gather(condition, tf.minimum(places, rows - 1))

    def of_rows(self, values: tf.Tensor) -> tf.Tensor:
        """Returns values of samples `[samples]` as such of rows `[batch]`.

        Their mean over the rows of all replicas is that over all samples.
        """
        if self._is_one_each:
            return values
        total = tf.reduce_sum(tf.where(self.is_own, values, 0.0))
        number = tf.cast(self._rows, values.dtype) * tf.cast(self._samples_per_row, values.dtype)
        return tf.fill([self._rows], total / number)


def average_over(
    rows: tf.Tensor, losses: tf.Tensor, *, instead_of: tf.Tensor | None = None
) -> tf.Tensor:
    """Returns losses `[batch]` whose mean is that of some rows.

    That is, 0 for a row that is left out, and the others as much more as makes up for it; 0 for all
    where none is left. Under a strategy each replica averages over its own rows.

    Args:
      rows: which of them, bool `[batch]`.
      losses: `[batch]`.
      instead_of: the rows whose mean that is, bool `[batch]`, by default all.
    """
    number = tf.reduce_sum(tf.cast(rows, losses.dtype))
    replaced = tf.ones_like(rows) if instead_of is None else instead_of
    size = tf.reduce_sum(tf.cast(replaced, losses.dtype))
    return tf.where(rows, losses, 0.0) * (size / tf.maximum(number, 1.0))
