"""Teachers of which there are samples and nothing else."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_distill.arrays import Array
from tfp_distill.distillation.teachers.contracts import TeacherWithoutLatents
from tfp_distill.flows.config import check_at_least
from tfp_distill.training import StepRandom

__all__ = ["SampleTeacher"]


class SampleTeacher(TeacherWithoutLatents):
    """Teaches by samples: those of a simulator, of a model of another library, of a file.

    They are kept, and each step of a training draws some of them, uniformly. Only losses over
    samples can learn from it: `ForwardKLLoss` is then the student's cross-entropy on them,
    -E log p_s(x), which is the divergence up to a constant. Example:

        def simulate(n, seed):
            return np.random.default_rng(seed).gamma(2.0, size=[n, 3])

        teacher = SampleTeacher(simulate, size=100_000)
        teacher = SampleTeacher(numpy.load("their_samples.npy"))

    Args:
      samples: at least 2 samples `[n, ...]`, in the units of the data; or a function of a number n
        and a seed, which returns n of them.
      size: how many a function is asked for.
      seed: what it is given.

    Raises:
      ValueError: if samples are bytes, or not finite numbers of one shape, or not as many as asked
        for; or if a function takes other arguments.
    """

    def __init__(
        self, samples: Any | Callable[[int, int], Any], *, size: int = 65_536, seed: int = 0
    ) -> None:
        description = "an array of samples"
        if callable(samples):
            check_at_least(2, size=size)
            name = getattr(samples, "__name__", type(samples).__name__)
            _check_arguments(samples, name)
            description, samples = f"the function {name!r}", np.asarray(samples(size, seed))
            if samples.shape[:1] != (size,):
                raise ValueError(
                    f"`samples` must return as many samples as it is asked for, {size:,}, got an "
                    f"array of shape {samples.shape}."
                )
        samples = np.asarray(samples)
        if samples.ndim < 2 or len(samples) < 2 or not np.issubdtype(samples.dtype, np.number):
            raise ValueError(
                "`samples` must be at least 2 rows or images of numbers [n, ...], got an array of "
                f"shape {samples.shape} and type {samples.dtype}."
            )
        if samples.dtype == np.uint8:
            raise ValueError(
                "`samples` must be numbers as the student's flow takes them, got bytes: "
                "`student.config.domain.dequantize(samples, seed=0)` has their noise."
            )
        # What is too large for float32 is infinite there.
        with np.errstate(over="ignore"):
            samples = np.asarray(samples, np.float32)
        bad = ~np.isfinite(samples.reshape(len(samples), -1)).all(axis=-1)
        if bad.any():
            raise ValueError(
                f"`samples` must be finite, got {bad.sum():,} of {len(bad):,} that are not, the "
                f"first at {int(np.argmax(bad)):,}."
            )
        super().__init__(samples.shape[1:], knows="samples", description=description)
        self._samples = tf.constant(samples)

    def sample(
        self, random: StepRandom, rows: tf.Tensor | int, condition: Array | None = None
    ) -> tf.Tensor:
        """Draws of the kept samples, with replacement; see `TeacherWithoutLatents.sample`."""
        drawn = random._replace(stream="pairs").integers(rows, len(self._samples))
        return tf.gather(self._samples, drawn)

    def log_prob(self, x: Array, condition: Array | None = None) -> tf.Tensor:
        """Zeros, in the place of a density that is not known."""
        return tf.zeros(tf.shape(x)[:1], tf.convert_to_tensor(x).dtype)


def _check_arguments(function: Callable[..., Any], name: str) -> None:
    try:
        signature = inspect.signature(function)
    except ValueError:
        return  # Of some functions written in C nothing is known.
    try:
        signature.bind(2, 0)
    except TypeError:
        raise ValueError(
            f"`samples` must be a function of a number and a seed, got {name!r} with the arguments "
            f"{signature}."
        ) from None
