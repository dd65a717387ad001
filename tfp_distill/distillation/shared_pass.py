"""Everything that the losses of one step have in common, computed once and only when asked for."""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfp_distill.bijectors import Trace
from tfp_distill.distillation.teacher import Teacher
from tfp_distill.flows import Flow
from tfp_distill.training import StepRandom

__all__ = ["Generated", "SharedPass"]


class Generated(NamedTuple):
    """What a flow makes of shared latents.

    Attributes:
      z: the latents `[batch, D]`.
      x: the data `[batch, ...]`.
      fldj: log|det dx/dz| `[batch]`.
    """

    z: tf.Tensor
    x: tf.Tensor
    fldj: tf.Tensor


class SharedPass:
    """One batch seen by student and teacher.

    Both see the same (dequantised) `x` and the same latents z. Whatever several losses need is
    computed once; what no loss asks for does not become part of the graph. Everything of the
    teacher is a constant, except where `teacher_trace_of` is asked about the student's samples.

    Args:
      student: learns.
      teacher: is learned from.
      x: data `[batch, ...]`.
      condition: optional `[batch, C]`.
      random: noise of the step.
      stop_gradient_after: steps of the student, counted from 1, that no gradient reaches from
        behind in `student_trace`.
      until: the last step that `student_trace` shows; by default all.
    """

    def __init__(
        self,
        student: Flow,
        teacher: Teacher,
        x: tf.Tensor,
        condition: tf.Tensor | None,
        random: StepRandom,
        *,
        stop_gradient_after: Collection[int] = (),
        until: int | None = None,
    ) -> None:
        self.student = student
        self.teacher = teacher
        self.x = x
        self.condition = condition
        self._random = random
        self._stop_gradient_after = stop_gradient_after
        self._until = until
        # Methods with arguments are cached per instance, so that no tensor outlives its graph.
        self.latents = functools.cache(self._latents)
        self.teacher_sample = functools.cache(self._teacher_sample)
        self.student_sample = functools.cache(self._student_sample)
        self.student_trace_of_teacher_sample = functools.cache(
            self._student_trace_of_teacher_sample
        )
        self.teacher_trace_of_teacher_sample = functools.cache(
            self._teacher_trace_of_teacher_sample
        )

    @functools.cached_property
    def student_trace(self) -> Trace:
        """The student's trace of the data."""
        return self.student.trace(
            self.x,
            self.condition,
            stop_gradient_after=self._stop_gradient_after,
            until=self._until,
        )

    @functools.cached_property
    def teacher_trace(self) -> Trace:
        """The teacher's trace of the data, a constant."""
        return _constant(self.teacher.trace(self.x, self.condition))

    def teacher_trace_of(self, x: tf.Tensor) -> Trace:
        """The teacher's trace of other data, with gradients to `x`."""
        return self.teacher.trace(x, self.condition)

    def _latents(self, temperature: float) -> tf.Tensor:
        """Shared latents `[batch, D]` with standard deviation `temperature`."""
        rows = tf.shape(self.x)[0]
        dims = int(np.prod(self.student.event_shape))
        return temperature * self._random.normal(rows, dims, self.x.dtype)

    def _teacher_sample(self, temperature: float) -> Generated:
        """The teacher's samples, constants."""
        z = self.latents(temperature)
        return Generated(z, *map(tf.stop_gradient, self._generate(self.teacher, z)))

    def _student_sample(self, temperature: float) -> Generated:
        """The student's samples from the same latents."""
        z = self.latents(temperature)
        return Generated(z, *self._generate(self.student, z))

    def _student_trace_of_teacher_sample(self, temperature: float) -> Trace:
        """How the student maps the teacher's samples back."""
        return self.student.trace(self.teacher_sample(temperature).x, self.condition)

    def _teacher_trace_of_teacher_sample(self, temperature: float) -> Trace:
        """How the teacher maps its own samples back, a constant."""
        x = self.teacher_sample(temperature).x
        return _constant(self.teacher.trace(x, self.condition))

    def _generate(self, flow, z):
        # The identity hides from TFP's cache that a bijector may have made z itself.
        return flow.to_data_and_fldj(tf.identity(z), self.condition)


def _constant(trace: Trace) -> Trace:
    return tf.nest.map_structure(tf.stop_gradient, trace)
