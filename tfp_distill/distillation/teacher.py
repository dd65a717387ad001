"""What a teacher has to be able to do, and how a TFP distribution does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_distill.bijectors import Trace, forward_and_fldj, inverse_and_ildj
from tfp_distill.flows import Flow

__all__ = ["DistributionTeacher", "Teacher", "as_teacher"]

tfb = tfp.bijectors
tfd = tfp.distributions

# TFP returns objects of these base classes where a part of them is no composite tensor.
_TRANSFORMED_DISTRIBUTION = tfd.TransformedDistribution.__mro__[1]
_CHAIN = tfb.Chain.__mro__[1]


@runtime_checkable
class Teacher(Protocol):
    """A flow to learn from; `Flow` is one.

    Attributes:
      event_shape: shape of one data point.
      num_steps: number of steps that a trace shows.
    """

    event_shape: tuple[int, ...]
    num_steps: int

    def trace(self, x: Any, condition: Any = None) -> Trace:
        """Runs data to latent: `latents[0]` is (standardised) data, `latents[k]` after step k."""

    def to_data_and_fldj(self, z: Any, condition: Any = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns x for latents `[batch, D]`, and log|det dx/dz| `[batch]`."""


def as_teacher(teacher: Flow | Teacher | tfp.distributions.TransformedDistribution) -> Teacher:
    """Returns `teacher` itself, or a `DistributionTeacher` around a TFP distribution.

    Raises:
      ValueError: if `teacher` is neither.
    """
    if isinstance(teacher, _TRANSFORMED_DISTRIBUTION):
        return DistributionTeacher(teacher)
    if isinstance(teacher, Teacher):
        return teacher
    raise ValueError(
        f"`teacher` must be a Flow or a tfd.TransformedDistribution, got {type(teacher).__name__}."
    )


class DistributionTeacher:
    """Makes a teacher of any `tfd.TransformedDistribution` over a standard-normal base.

    If its bijector is a `tfb.Chain` whose members keep the shape of the event, each member is a
    step with a latent of its own; otherwise the whole bijector is the only step.

    Args:
      distribution: without batch shape; the base must be a standard normal, because teacher and
        student share latents.

    Raises:
      ValueError: if the distribution has a batch shape or another base.
    """

    def __init__(self, distribution: tfp.distributions.TransformedDistribution) -> None:
        self.event_shape = tuple(distribution.event_shape)
        if tuple(distribution.batch_shape):
            raise ValueError(
                "`teacher` must be a distribution without batch shape, got batch shape "
                f"{tuple(distribution.batch_shape)}."
            )
        self._distribution = distribution
        self._latent_shape = tuple(
            distribution.bijector.inverse_event_shape(distribution.event_shape)
        )
        _check_standard_normal(distribution.distribution, self._latent_shape)
        self._steps = _steps(distribution.bijector, self.event_shape)
        self.num_steps = len(self._steps)

    def trace(self, x: Any, condition: Any = None) -> Trace:
        """Runs data to latent, step by step; see `Teacher.trace`."""
        _check_no_condition(condition)
        x = tf.convert_to_tensor(x)
        latents, ildjs = [x], [tf.zeros(tf.shape(x)[:1], x.dtype)]
        for step in self._steps:
            x, ildj = inverse_and_ildj(step, x, event_ndims=len(self.event_shape))
            latents.append(x)
            ildjs.append(ildj)
        latents[-1] = tf.reshape(x, [-1, int(np.prod(self._latent_shape))])
        return Trace(tuple(latents), tuple(ildjs))

    def to_data_and_fldj(self, z: Any, condition: Any = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Runs latent to data; see `Teacher.to_data_and_fldj`."""
        _check_no_condition(condition)
        z = tf.reshape(z, (-1, *self._latent_shape))
        return forward_and_fldj(self._distribution.bijector, z, event_ndims=len(self._latent_shape))


def _steps(
    bijector: tfp.bijectors.Bijector, event_shape: tuple[int, ...]
) -> Sequence[tfp.bijectors.Bijector]:
    if isinstance(bijector, _CHAIN) and all(
        tuple(member.inverse_event_shape(event_shape)) == event_shape
        for member in bijector.bijectors
    ):
        return tuple(bijector.bijectors)
    return (bijector,)


def _check_standard_normal(
    base: tfp.distributions.Distribution, latent_shape: tuple[int, ...]
) -> None:
    """Compares densities at random points: there are many ways to write a standard normal."""
    dims = int(np.prod(latent_shape))
    z = np.random.RandomState(0).normal(size=(16, dims)).astype(base.dtype.as_numpy_dtype)
    density = np.asarray(base.log_prob(z.reshape((-1, *latent_shape))))
    density = density.reshape(len(z), -1).sum(axis=-1)
    expected = -0.5 * np.sum(z**2 + np.log(2 * np.pi), axis=-1)
    error = float(np.max(np.abs(density - expected)))
    if not error <= 1e-4 * dims:
        raise ValueError(
            "`teacher` must have a standard-normal base distribution, because teacher and student "
            f"share latents; got {base.name!r}, whose log-density differs by up to {error:.3g}."
        )


def _check_no_condition(condition: Any) -> None:
    if condition is not None:
        raise ValueError(
            "`condition` must be None: a tfd.TransformedDistribution cannot teach a conditional "
            f"flow, got a condition of shape {condition.shape}."
        )
