"""Random numbers of a training step, as a pure function of seed and step."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

__all__ = ["StepRandom"]


class StepRandom(NamedTuple):
    """Source of the noise of one training step.

    The noise is drawn for the global batch and each replica takes its rows, so that N replicas see
    the same noise as one device; and it depends on the step and not on any generator's state, so
    that a resumed run sees the same noise as an uninterrupted one. (XLA draws other numbers than
    TensorFlow does for the same seed, so a run that is compiled differently sees other noise.)

    Attributes:
      seed: seed of the run.
      step: number of the step, int32 `[]`.
      replica: index of this replica, int32 `[]`.
      num_replicas: number of replicas.
    """

    seed: int
    step: tf.Tensor | int
    replica: tf.Tensor | int = 0
    num_replicas: int = 1

    def normal(self, rows: tf.Tensor | int, dims: int, dtype: tf.DType = tf.float32) -> tf.Tensor:
        """Returns this replica's `[rows, dims]` of standard-normal noise.

        Every call within a step returns the same numbers: latents are shared, not drawn twice.
        """
        seed = tf.stack([tf.cast(self.seed, tf.int32), tf.cast(self.step, tf.int32)])
        # XLA's own choice of algorithm is tens of times slower on a CPU.
        noise = tf.random.stateless_normal(
            [rows * self.num_replicas, dims], seed, dtype=dtype, alg="philox"
        )
        if self.num_replicas == 1:
            return noise
        return tf.slice(noise, [tf.cast(self.replica, tf.int32) * rows, 0], [rows, dims])
