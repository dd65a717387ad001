"""The figures of the steps of an epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf

__all__ = ["StepMetrics", "can_be_taken", "losses_by_name", "part_prefix"]

_MOST_DRIFT = 0.1


class StepMetrics:
    """Means of a step's figures over the rows of an epoch; skipped steps do not count in them.

    Args:
      loss_names: names of the losses besides `loss`.
      parts: the numbers of the parts that have losses of their own.
      recomputes: whether there is the drift of what is recomputed.
    """

    def __init__(
        self, loss_names: Sequence[str], parts: Sequence[int], *, recomputes: bool = False
    ) -> None:
        losses = ("loss", *loss_names)
        of_parts = [f"{part_prefix(part)}{name}" for part in parts for name in losses]
        names = (*losses, "grad_norm", *(["drift"] if recomputes else []), *of_parts)
        self._means = {name: _MeanOrNan(name=name) for name in names}
        self._skipped = keras.metrics.Sum(name="skipped_steps")

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The mean of each figure, and the number of skipped steps."""
        return [*self._means.values(), self._skipped]

    def update(
        self, values: Mapping[str, tf.Tensor], rows: tf.Tensor, finite: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Accumulates the means of a global batch, if they are finite; returns the logs."""
        weight = tf.where(finite, tf.cast(rows, tf.float32), 0.0)
        logs = {}
        for name, value in values.items():
            value = tf.where(finite, tf.cast(value, tf.float32), 0.0)
            self._means[name].update_state(value, sample_weight=weight)
            logs[name] = self._means[name].result()
        return logs

    def count_skipped(self, skipped: tf.Tensor, num_replicas: int) -> tf.Tensor:
        """Counts a step if `skipped` is 1, and returns the number of those of the epoch."""
        # Keras sums the replicas' metrics, but averages the logs that they return.
        self._skipped.update_state(tf.cast(skipped, tf.float32) / num_replicas)
        return self._skipped.result() * num_replicas


def can_be_taken(
    loss: tf.Tensor, grad_norm: tf.Tensor, drift: tf.Tensor | float = 0.0
) -> tf.Tensor:
    """Returns whether a step may change weights: whether its gradients are numbers, and right.

    Args:
      loss: the mean loss.
      grad_norm: norm of the gradients.
      drift: how far what was rebuilt for them is from what it was, see `Recomputation`.
    """
    return tf.math.is_finite(loss) & tf.math.is_finite(grad_norm) & (drift <= _MOST_DRIFT)


def losses_by_name(of_parts: Mapping[int, Mapping[str, tf.Tensor]]) -> dict[str, tf.Tensor]:
    """Returns what `part_objectives` returns by the names in the logs: `part_0_loss`, ..."""
    return {
        f"{part_prefix(part)}{name}": value
        for part, losses in of_parts.items()
        for name, value in losses.items()
    }


def part_prefix(part: int) -> str:
    """Returns what the names of the losses of a part begin with in the logs."""
    return f"part_{part}_"


class _MeanOrNan(keras.metrics.Mean):
    """A mean that is not a number, where Keras's is 0, as long as nothing was averaged."""

    def result(self):
        return self.total / keras.ops.cast(self.count, self.dtype)
