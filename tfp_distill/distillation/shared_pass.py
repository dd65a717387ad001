"""Everything that the losses of one step have in common, computed once and only when asked for."""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf

from tfp_distill.bijectors import Trace
from tfp_distill.distillation.drawing import Drawing, DrawnPairs, Generated, average_over
from tfp_distill.distillation.teacher_traces import TracedRows
from tfp_distill.distillation.teachers import AnyTeacher, TeacherWithoutLatents
from tfp_distill.flows import Flow
from tfp_distill.training import StepRandom

__all__ = ["SharedPass", "sample_teacher"]

# Samples further from the student's mean, in units of its scale, are no data of any kind.
_REGION = 30.0
# Root mean square of z - f_t(f_t^-1(z)), beyond which the teacher does not know its own sample.
_ROUND_TRIP = 0.1
# Latents of a size that a standard normal distribution does not have, which come of a teacher that
# is far from all data that it has seen.
_LATENT = 10.0


class SharedPass:
    """One batch seen by student and teacher.

    Both see the same (dequantised) `x` and the same latents z. Whatever several losses need is
    computed once; what no loss asks for does not become part of the graph. Everything of the
    teacher is a constant, except `teacher_trace_of_student_sample`.

    Samples of the teacher that it cannot be sure of are left out of every loss over them, because a
    single one can outweigh all others: an autoregressive teacher feeds its errors to itself, and
    makes values of -5e9 of data between 0 and 360. A sample x of z is kept where

        x, its fldj and the teacher's log p_t(x) are finite
        sqrt(mean_d (f_t(x)_d - z_d)^2) <= 0.1
        |x_d - mean_d| <= 30 scale_d    with the student's statistics, if it was given any

    where a teacher that has no latents, or no density, is sure of those.

    Of the student's samples x, those are left out that the teacher knows nothing of, where not all
    |f_t(x)_d| <= 10: what an affine autoregressive teacher says there, of numbers without limit, is
    no guide.

    Args:
      student: learns.
      teacher: is learned from.
      x: data `[batch, ...]`, or `TracedRows`, which the teacher has seen before.
      condition: optional `[batch, C]`.
      random: noise of the step.
      pairs: samples of the teacher to draw from, instead of making some.
      rows_per_sample: there is one sample of the teacher for so many rows of the data.
    """

    def __init__(
        self,
        student: Flow,
        teacher: AnyTeacher,
        x: tf.Tensor | TracedRows,
        condition: tf.Tensor | None,
        random: StepRandom,
        *,
        pairs: DrawnPairs | None = None,
        rows_per_sample: int = 1,
    ) -> None:
        self.student = student
        self.teacher = teacher
        known = x if isinstance(x, TracedRows) else None
        self.x: tf.Tensor = x if known is None else known.x
        self._known_trace = None if known is None else known.trace
        self.condition = condition
        self._random = random
        self._pairs = pairs
        self._rows_per_sample = rows_per_sample
        # Methods with arguments are cached per instance, so that no tensor outlives its graph.
        self.latents = functools.cache(self._latents)
        self.teacher_sample = functools.cache(self._teacher_sample)
        self.student_generation = functools.cache(self._student_generation)
        self.teacher_trace_of_student_sample = functools.cache(
            self._teacher_trace_of_student_sample
        )
        self.student_sample_is_known = functools.cache(self._student_sample_is_known)
        self.student_sample_of_kept = functools.cache(self._student_sample_of_kept)
        self.kept = functools.cache(self._kept)
        self._drawn = functools.cache(self._draw)
        self._raw_sample = functools.cache(self._make_raw_sample)
        self._raw_trace = functools.cache(self._make_raw_trace)
        self.student_trace_of_teacher_sample = functools.cache(
            self._student_trace_of_teacher_sample
        )
        self.teacher_trace_of_teacher_sample = functools.cache(
            self._teacher_trace_of_teacher_sample
        )

    @functools.cached_property
    def student_trace(self) -> Trace:
        """The student's trace of the data."""
        return self.student.trace(self.x, self.condition)

    @functools.cached_property
    def teacher_trace(self) -> Trace:
        """The teacher's trace of the data, a constant."""
        if self._known_trace is not None:
            return self._known_trace
        return _constant(self.teacher.trace(self.x, self.condition))

    @functools.cached_property
    def student_generation_of_data(self) -> tuple[tf.Tensor, Trace]:
        """What the student makes of the teacher's latents of the data: x, and its trace."""
        z = self.teacher_trace.latents[-1]
        return self.student.generative_trace(tf.identity(z), self.condition)

    def _latents(self, temperature: float) -> tf.Tensor:
        """Shared latents `[batch, D]` with standard deviation `temperature`."""
        return self._latents_of(self._random, tf.shape(self.x)[0], temperature)

    def _latents_of(self, random: StepRandom, rows: tf.Tensor, temperature: float) -> tf.Tensor:
        dims = int(np.prod(self.student.event_shape))
        return temperature * random.normal(rows, dims, self.x.dtype)

    def _teacher_sample(self, temperature: float) -> Generated:
        """The teacher's samples, constants; the student's mean, of z = 0, in the place of others.

        So that what is left out can be replaced after a loss has been computed, without a gradient
        that is not finite (0 times infinity).
        """
        if (pairs := self._pairs_of(temperature)) is not None:
            return self._drawn(pairs)[0]
        kept, raw = self.kept(temperature), self._raw_sample(temperature)
        mean = self.student.standardize.forward_and_fldj(tf.zeros_like(raw.x))[0]
        return Generated(
            _where(kept, raw.z, 0.0), _where(kept, raw.x, mean), _where(kept, raw.fldj, 0.0)
        )

    def _student_generation(self, temperature: float) -> tuple[tf.Tensor, Trace]:
        """What the student makes of the shared latents, whatever the teacher does: x, its trace."""
        z = tf.identity(self.latents(temperature))
        return self.student.generative_trace(z, self.condition)

    def _teacher_trace_of_student_sample(self, temperature: float) -> Trace:
        """The teacher's trace of the student's samples, with gradients to the student."""
        return self.teacher.trace(self.student_generation(temperature)[0], self.condition)

    def _student_sample_is_known(self, temperature: float) -> tf.Tensor:
        """Which of the student's samples the teacher knows something of, bool `[batch]`."""
        latents = self.teacher_trace_of_student_sample(temperature).latents[-1]
        return tf.reduce_all(tf.abs(latents) <= _LATENT, axis=-1)  # NaN is at most nothing.

    def _student_sample_of_kept(self, temperature: float) -> Generated:
        """The student's samples from the latents of `teacher_sample`."""
        z = self.teacher_sample(temperature).z
        return Generated(z, *self._generate(self.student, z, self._drawing.condition))

    def _student_trace_of_teacher_sample(self, temperature: float) -> Trace:
        """How the student maps the teacher's samples back."""
        return self.student.trace(self.teacher_sample(temperature).x, self._drawing.condition)

    def _teacher_trace_of_teacher_sample(self, temperature: float) -> Trace:
        """How the teacher maps its own samples back, a constant; 0 where they are left out.

        Of samples that were made before it is the last latent, and no other one.
        """
        if (pairs := self._pairs_of(temperature)) is not None:
            return self._drawn(pairs)[1]
        kept, trace = self.kept(temperature), self._raw_trace(temperature)
        return tf.nest.map_structure(lambda value: _where(kept, value, 0.0), trace)

    def _kept(self, temperature: float) -> tf.Tensor:
        """Which of the teacher's samples count, bool `[samples]`."""
        is_own = self._drawing.is_own
        if self._pairs_of(temperature) is not None:
            return is_own
        sample, trace = self._raw_sample(temperature), self._raw_trace(temperature)
        # The sum, because a teacher may have no latents. What is no number is at most nothing.
        error = tf.reduce_sum(tf.square(trace.latents[-1] - sample.z), axis=-1)
        largest = _ROUND_TRIP**2 * sample.z.shape[-1]
        kept = is_own & (error <= largest) & tf.math.is_finite(sample.fldj)
        return kept & tf.math.is_finite(trace.log_prob()) & self._is_in_region(sample.x)

    def kept_teacher_samples(self) -> tf.Tensor:
        """The teacher's samples that count, of latents of temperature 1, `[m, ...]`.

        Raises:
          ValueError: if there are fewer than two.
        """
        rows = len(self.x)
        x = tf.boolean_mask(self.teacher_sample(1.0).x, self.kept(1.0))
        if len(x) < 2:
            raise ValueError(
                "`teacher` must make samples that it maps back to their latents, got "
                f"{rows - len(x):,} of {rows:,} that it does not."
            )
        return x

    def average_over_kept(self, temperature: float, losses: tf.Tensor) -> tf.Tensor:
        """Returns losses `[batch]`, whose mean is that of those of the teacher's samples kept.

        Args:
          temperature: of the samples.
          losses: one for each sample.
        """
        if self._pairs_of(temperature) is None:
            kept, own = self.kept(temperature), self._drawing.is_own
            losses = average_over(kept, losses, instead_of=own)
        return self._drawing.of_rows(losses)

    def left_out(self, temperature: float) -> tf.Tensor:
        """Returns the share of the teacher's samples that do not count, as the mean of `[batch]`.

        Of samples that were made before, each stands for the share of those that did not count.
        """
        if (pairs := self._pairs_of(temperature)) is not None:
            return tf.fill(tf.shape(self.x)[:1], pairs.left_out())
        return self._drawing.of_rows(1.0 - tf.cast(self.kept(temperature), self.x.dtype))

    @functools.cached_property
    def _drawing(self) -> Drawing:
        """Whose samples the teacher draws in this step."""
        rows = tf.shape(self.x)[0]
        return Drawing(self._random, rows, self.condition, self._rows_per_sample)

    def _pairs_of(self, temperature: float) -> DrawnPairs | None:
        """Returns where samples of this temperature come from that were made before, or None."""
        pairs = self._pairs
        return pairs if pairs is not None and pairs.temperature == temperature else None

    def _draw(self, pairs: DrawnPairs) -> tuple[Generated, Trace]:
        return pairs.draw(self._drawing.random, self._drawing.number)

    def _is_in_region(self, x: tf.Tensor) -> tf.Tensor:
        standardize = self.student.standardize
        units = standardize.inverse_and_ildj(x)[0]
        axes = list(range(1, x.shape.rank))
        is_in = tf.reduce_all(tf.abs(units) <= _REGION, axis=axes)
        # Without statistics, of mean 0 and scale 1, nothing is known of the user's units.
        ends = tf.constant([0.0, 1.0], x.dtype, shape=[2] + [1] * len(axes))
        ends = tf.broadcast_to(ends, [2, *x.shape[1:]])
        return is_in | tf.reduce_all(standardize.forward_and_fldj(ends)[0] == ends)

    def _make_raw_sample(self, temperature: float) -> Generated:
        if isinstance(self.teacher, TeacherWithoutLatents):
            rows, dtype = self._drawing.number, self.x.dtype
            x = self.teacher.sample(self._drawing.random, rows, self._drawing.condition)
            x = tf.stop_gradient(tf.cast(x, dtype))
            return Generated(tf.zeros([rows, 0], dtype), x, tf.zeros([rows], dtype))
        z = self._latents_of(self._drawing.random, self._drawing.number, temperature)
        made = self._generate(self.teacher, z, self._drawing.condition)
        return Generated(z, *map(tf.stop_gradient, made))

    def _make_raw_trace(self, temperature: float) -> Trace:
        x = self._raw_sample(temperature).x
        return _constant(self.teacher.trace(x, self._drawing.condition))

    def _generate(self, flow, z, condition):
        # The identity hides from TFP's cache that a bijector may have made z itself.
        return flow.to_data_and_fldj(tf.identity(z), condition)


def sample_teacher(student: Flow, teacher: AnyTeacher, n: int, *, seed: int) -> tf.Tensor:
    """Returns those of n samples of a teacher without condition that it is sure of.

    Args:
      student: whose statistics say what is no data of any kind, see `SharedPass`.
      teacher: makes the samples.
      n: number of latents.
      seed: of the latents.

    Raises:
      ValueError: if fewer than two are left.
    """
    placeholder = tf.zeros([n, *student.event_shape], student.compute_dtype)
    random = StepRandom(seed, 0, stream="initialization")
    return SharedPass(student, teacher, placeholder, None, random).kept_teacher_samples()


def _constant(trace: Trace) -> Trace:
    return tf.nest.map_structure(tf.stop_gradient, trace)


def _where(rows: tf.Tensor, value: tf.Tensor, other: tf.Tensor | float) -> tf.Tensor:
    """Returns `value` in these rows, and `other` elsewhere."""
    return tf.where(tf.reshape(rows, [-1] + [1] * (value.shape.rank - 1)), value, other)
