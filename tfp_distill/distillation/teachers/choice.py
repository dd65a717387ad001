"""From what a user has to what a student can learn from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_distill.arrays import Array
from tfp_distill.distillation.teachers.contracts import (
    AnyTeacher,
    Teacher,
    TeacherWithoutLatents,
)
from tfp_distill.distillation.teachers.distributions import teacher_of_distribution
from tfp_distill.distillation.teachers.samples import SampleTeacher
from tfp_distill.flows.config import check_at_least

__all__ = ["TeacherLike", "as_teacher", "conditional_teacher"]

TeacherLike: TypeAlias = (
    AnyTeacher | tfp.distributions.Distribution | Callable[[int, int], Any] | Array
)


def as_teacher(teacher: TeacherLike) -> AnyTeacher:
    """Returns a teacher of what there is.

    Args:
      teacher: a `Flow` or another `Teacher`, returned as it is; a `tfd.Distribution`; a function
        of a number n and a seed that returns n samples; or samples `[n, ...]`.

    Raises:
      ValueError: if it is none of these, or cannot be used.
    """
    if isinstance(teacher, tfp.distributions.Distribution):
        return teacher_of_distribution(teacher)
    if isinstance(teacher, Teacher | TeacherWithoutLatents):
        return teacher
    is_model = isinstance(teacher, keras.layers.Layer | type)
    if isinstance(teacher, np.ndarray | tf.Tensor) or (callable(teacher) and not is_model):
        return SampleTeacher(teacher)
    raise ValueError(
        "`teacher` must be a Flow, a tfd.Distribution, a function of a number and a seed that "
        f"returns samples, or an array of samples, got {type(teacher).__name__}."
    )


def conditional_teacher(
    make: Callable[[tf.Tensor], tfp.distributions.Distribution], condition_dims: int
) -> AnyTeacher:
    """Returns a teacher of distributions that depend on a condition.

    With latents, if the distributions are `tfd.TransformedDistribution`s over a standard normal.

    Example:
        network = tfb.AutoregressiveNetwork(
            params=2, event_shape=[3], conditional=True, conditional_event_shape=[2], ...)

        def make(condition):
            flow = tfb.MaskedAutoregressiveFlow(lambda x: network(x, conditional_input=condition))
            return tfd.TransformedDistribution(tfd.MultivariateNormalDiag(tf.zeros(3)), flow)

        teacher = conditional_teacher(make, 2)

    Args:
      make: returns the distribution of one example for each of the conditions `[n, C]`, with batch
        shape `[n]`; or with none, if its methods take n examples and use a condition for each.
      condition_dims: C.

    Raises:
      ValueError: if it returns something else.
    """
    check_at_least(1, condition_dims=condition_dims)
    return teacher_of_distribution(make, condition_dims)
