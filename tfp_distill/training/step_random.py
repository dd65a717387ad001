"""Random numbers of a training step, as a pure function of seed and step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

__all__ = ["StepRandom", "sample_latents"]


class StepRandom(NamedTuple):
    """Source of the noise of one training step.

    The noise is drawn for the global batch and each replica takes its rows, so that N replicas see
    the same noise as one device; and it depends on the step and not on any generator's state, so
    that a resumed run sees the same noise as an uninterrupted one. (XLA draws other numbers than
    TensorFlow does for the same seed, so a run that is compiled differently sees other noise.)

    Attributes:
      seed: seed of the run, any integer.
      step: number of the step, int32 `[]`.
      global_rows: a tensor with as many rows as the global batch; None if that is this replica's.
        XLA has to know how many they are: it knows shapes, but no values.
      first_row: where this replica's rows begin in the global batch, int32 `[]`.
      stream: what the noise is for; each use has noise of its own for the same seed and step.
    """

    seed: int
    step: tf.Tensor | int
    global_rows: tf.Tensor | None = None
    first_row: tf.Tensor | int = 0
    stream: str = "training"

    def normal(self, rows: tf.Tensor | int, dims: int, dtype: tf.DType = tf.float32) -> tf.Tensor:
        """Returns standard-normal noise for this replica's own rows, `[rows, dims]`.

        Every call within a step returns the same numbers: latents are shared, not drawn twice.
        """
        # XLA's own choice of algorithm is tens of times slower on a CPU.
        return self.rows_of(
            rows,
            lambda n, seeds: tf.random.stateless_normal(
                [n, dims], seeds, dtype=dtype, alg="philox"
            ),
        )

    def integers(self, rows: tf.Tensor | int, limit: tf.Tensor | int) -> tf.Tensor:
        """Returns this replica's `[rows]` of uniform integers from 0 to below `limit`, int32."""
        return self.rows_of(
            rows,
            lambda n, seeds: tf.random.stateless_uniform(
                [n], seeds, 0, limit, tf.int32, alg="philox"
            ),
        )

    def rows_of(
        self, rows: tf.Tensor | int, draw: Callable[[tf.Tensor | int, tf.Tensor], tf.Tensor]
    ) -> tf.Tensor:
        """Returns this replica's own `rows` of what is drawn for the global batch.

        Args:
          rows: their number.
          draw: takes the number of rows of the global batch and a stateless seed, int32 `[2]`.
        """
        if self.global_rows is None:
            return draw(rows, self._seeds())
        drawn = draw(tf.shape(self.global_rows)[0], self._seeds())
        return drawn[self.first_row : self.first_row + rows]

    def of_every(self, n: int, rows: tf.Tensor | int) -> tuple[StepRandom, tf.Tensor, tf.Tensor]:
        """Returns the source of noise for every n-th row of the global batch, the first included.

        Args:
          n: at least 1.
          rows: number of this replica's rows.

        Returns:
          The source, for ceil(rows / n) rows; which of this replica's rows they are, int32, beyond
          its end for one too many; and the number of them in the global batch over that of its
          rows.
        """
        everything = tf.zeros([rows]) if self.global_rows is None else self.global_rows
        few = everything[::n]
        first = (self.first_row + n - 1) // n
        # With one more row, because a replica's own may seem to go on beyond the end.
        source = self._replace(global_rows=tf.concat([few, few[:1]], axis=0), first_row=first)
        places = first * n - self.first_row + n * tf.range((rows + n - 1) // n)
        return source, places, tf.shape(few)[0] / tf.shape(everything)[0]

    def own_seeds(self) -> tf.Tensor:
        """Returns a stateless seed, int32 `[2]`, that other replicas do not have."""
        if self.global_rows is None:
            return self._seeds()
        return tf.random.fold_in(self._seeds(), self.first_row)

    def _seeds(self):
        return tf.stack([_salted(self.stream, self.seed), tf.cast(self.step, tf.int32)])


def sample_latents(
    n: tf.Tensor | int, dims: int, seed: tf.Tensor | int | None, dtype: tf.DType = tf.float32
) -> tf.Tensor:
    """Returns the latents `[n, dims]` that a flow makes samples of.

    Args:
      n: number of samples.
      dims: number of dimensions of a latent.
      seed: equal seeds give equal latents: any integer, or an int32 tensor; None for new ones at
        each call, which `tf.random.set_seed` determines.
      dtype: type of the result.
    """
    if seed is None:
        limits = dict(minval=tf.int32.min, maxval=tf.int32.max, dtype=tf.int32)
        return tf.random.stateless_normal([n, dims], tf.random.uniform([2], **limits), dtype=dtype)
    high, low = 0, seed
    if not tf.is_tensor(seed):  # An integer of Python may be larger than 32 bits.
        low = (int(seed) + 2**31) % 2**32 - 2**31
        high = (int(seed) - low) // 2**32
    return StepRandom(high, low, stream="samples").normal(n, dims, dtype)


def _salted(stream: str, seed: int) -> int:
    """Returns 32 bits, as a signed number, that depend on both."""
    digest = hashlib.blake2b(f"{stream}/{int(seed)}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little", signed=True)
