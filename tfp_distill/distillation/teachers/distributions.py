"""TFP distributions as teachers: with latents, or with samples and a density."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_distill.arrays import Array
from tfp_distill.bijectors import Trace, forward_and_fldj, inverse_and_ildj
from tfp_distill.distillation.teachers.contracts import AnyTeacher, TeacherWithoutLatents
from tfp_distill.training import StepRandom

__all__ = ["DistributionTeacher", "teacher_of_distribution"]

tfb = tfp.bijectors
tfd = tfp.distributions

# TFP returns objects of these base classes where a part of them is no composite tensor.
_TRANSFORMED_DISTRIBUTION = tfd.TransformedDistribution.__mro__[1]
_CHAIN = tfb.Chain.__mro__[1]
# So many conditions are tried.
_TRIED = 3


class _Source:
    """One distribution, or one for each condition.

    Args:
      distribution: a distribution, or a function of conditions `[n, C]` that returns one.
      condition_dims: C; 0 for a distribution.

    Attributes:
      condition_dims: C.
      first: the distribution, or that of a few conditions.
      event_shape: shape of one example.
      dtype: of its samples. Teachers take and return numbers of the student's type.
    """

    def __init__(
        self,
        distribution: tfp.distributions.Distribution | Callable[[tf.Tensor], Any],
        condition_dims: int,
    ) -> None:
        self._distribution = distribution
        self.condition_dims = condition_dims
        tried = tf.zeros([_TRIED, condition_dims]) if condition_dims else None
        self.first = self.at(tried)
        if not isinstance(self.first, tfp.distributions.Distribution):
            raise ValueError(
                "`make` must return a tfd.Distribution for conditions, got "
                f"{type(self.first).__name__}."
            )
        if not isinstance(self.first.event_shape, tf.TensorShape):
            raise ValueError(
                "`teacher` must be a distribution of one array, got one of "
                f"{type(self.first.event_shape).__name__} {self.first.event_shape}."
            )
        if not self.first.dtype.is_floating:
            raise ValueError(
                f"`teacher` must be a distribution of real numbers, got {self.first.dtype.name}."
            )
        batch_shape = tuple(self.first.batch_shape)
        if batch_shape and batch_shape != (_TRIED,) * bool(condition_dims):
            without = f" but [n] for [n, {condition_dims}] conditions" if condition_dims else ""
            raise ValueError(
                f"`teacher` must be a distribution without batch shape{without}, got batch shape "
                f"{batch_shape}."
            )
        self.event_shape = tuple(self.first.event_shape)
        self.dtype = self.first.dtype

    def at(self, condition: Array | None) -> tfp.distributions.Distribution:
        """Returns the distribution for conditions `[n, C]`, None if there are none."""
        if not self.condition_dims:
            if condition is not None:
                raise ValueError(
                    "`condition` must be None for a distribution that takes none, got a condition "
                    f"of shape {condition.shape}."
                )
            return self._distribution
        if condition is None or condition.shape[-1] != self.condition_dims:
            raise ValueError(
                f"`condition` must be [n, {self.condition_dims}], as the distribution takes it, "
                f"got {None if condition is None else condition.shape}."
            )
        return self._distribution(condition)


class DistributionTeacher:
    """Makes a teacher of any `tfd.TransformedDistribution` over a standard-normal base.

    If its bijector is a `tfb.Chain` whose members keep the shape of the event, each member is a
    step with a latent of its own; otherwise the whole bijector is the only step.

    Args:
      distribution: without batch shape; the base must be a standard normal, because teacher and
        student share latents. Or a function of conditions, see `conditional_teacher`.
      condition_dims: numbers of a condition; 0 for a distribution.

    Raises:
      ValueError: if the distribution has a batch shape or another base.
    """

    def __init__(
        self,
        distribution: tfp.distributions.TransformedDistribution | Callable[[tf.Tensor], Any],
        condition_dims: int = 0,
    ) -> None:
        self._source = _Source(distribution, condition_dims)
        self.event_shape = self._source.event_shape
        self.condition_dims = condition_dims
        first = self._source.first
        if why := _why_without_latents(first):
            raise ValueError(f"`teacher` must have latents, got {why}.")
        self._latent_shape = _latent_shape(first)
        self.num_steps = len(_steps(first.bijector, self.event_shape))

    def trace(self, x: Array, condition: Array | None = None) -> Trace:
        """Runs data to latent, step by step; see `Teacher.trace`."""
        x = tf.convert_to_tensor(x)
        dtype, x = x.dtype, tf.cast(x, self._source.dtype)
        latents, ildjs = [x], [tf.zeros(tf.shape(x)[:1], x.dtype)]
        for step in _steps(self._source.at(condition).bijector, self.event_shape):
            x, ildj = inverse_and_ildj(step, x, event_ndims=len(self.event_shape))
            latents.append(x)
            ildjs.append(ildj)
        latents[-1] = tf.reshape(x, [-1, int(np.prod(self._latent_shape))])
        return _cast(Trace(tuple(latents), tuple(ildjs)), dtype)

    def to_data_and_fldj(
        self, z: Array, condition: Array | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Runs latent to data; see `Teacher.to_data_and_fldj`."""
        z = tf.convert_to_tensor(z)
        dtype = z.dtype
        z = tf.cast(tf.reshape(z, (-1, *self._latent_shape)), self._source.dtype)
        bijector = self._source.at(condition).bijector
        return _cast(forward_and_fldj(bijector, z, event_ndims=len(self._latent_shape)), dtype)


class _DensityTeacher(TeacherWithoutLatents):
    """Makes a teacher of any distribution: of its samples, and of its density if it has one.

    Args:
      source: the distribution.
      description: what messages call it, and why it has no latents.
    """

    def __init__(self, source: _Source, description: str) -> None:
        super().__init__(
            source.event_shape,
            knows="density" if _has_density(source.first) else "samples",
            description=description,
            condition_dims=source.condition_dims,
        )
        self._source = source

    def sample(
        self, random: StepRandom, rows: tf.Tensor | int, condition: Array | None = None
    ) -> tf.Tensor:
        """As the distribution draws them; see `TeacherWithoutLatents.sample`."""
        distribution = self._source.at(condition)
        if distribution.batch_shape.rank:  # One for each condition of this replica's rows.
            return distribution.sample(seed=random.own_seeds())
        return random.rows_of(rows, lambda n, seeds: distribution.sample(n, seed=seeds))

    def log_prob(self, x: Array, condition: Array | None = None) -> tf.Tensor:
        """The distribution's; see `TeacherWithoutLatents.log_prob`."""
        x = tf.convert_to_tensor(x)
        if self.knows == "samples":
            return tf.zeros(tf.shape(x)[:1], x.dtype)
        distribution = self._source.at(condition)
        return tf.cast(distribution.log_prob(tf.cast(x, distribution.dtype)), x.dtype)


def teacher_of_distribution(
    distribution: tfp.distributions.Distribution | Callable[[tf.Tensor], Any],
    condition_dims: int = 0,
) -> AnyTeacher:
    """Returns a teacher with latents, where a distribution has some; and one without elsewhere.

    Args:
      distribution: without batch shape; or a function of conditions, see `conditional_teacher`.
      condition_dims: numbers of a condition; 0 for a distribution.

    Raises:
      ValueError: if it has a batch shape, or is none of one array of real numbers.
    """
    source = _Source(distribution, condition_dims)
    if why := _why_without_latents(source.first):
        return _DensityTeacher(source, why)
    return DistributionTeacher(distribution, condition_dims)


def _why_without_latents(distribution: tfp.distributions.Distribution) -> str:
    """Returns what a distribution is that has no latents to share with a student; "" if it has.

    The base's density is compared at random points: there are many ways to write a standard normal.
    """
    if not isinstance(distribution, _TRANSFORMED_DISTRIBUTION):
        return f"{type(distribution).__name__}, which is no tfd.TransformedDistribution"
    base, latent_shape = distribution.distribution, _latent_shape(distribution)
    dims = int(np.prod(latent_shape))
    points = (16, *distribution.batch_shape)
    z = np.random.RandomState(0).normal(size=(*points, dims)).astype(base.dtype.as_numpy_dtype)
    density = np.asarray(base.log_prob(z.reshape((*points, *latent_shape))))
    density = density.reshape(*points, -1).sum(axis=-1)
    expected = -0.5 * np.sum(z**2 + np.log(2 * np.pi), axis=-1)
    error = float(np.max(np.abs(density - expected)))
    if error <= 1e-4 * dims:
        return ""
    return (
        f"{type(distribution).__name__}, whose base {base.name!r} is no standard normal (its "
        f"log-density differs by up to {error:.3g})"
    )


def _latent_shape(distribution: tfp.distributions.TransformedDistribution) -> tuple[int, ...]:
    return tuple(distribution.bijector.inverse_event_shape(distribution.event_shape))


def _steps(
    bijector: tfp.bijectors.Bijector, event_shape: tuple[int, ...]
) -> Sequence[tfp.bijectors.Bijector]:
    if isinstance(bijector, _CHAIN) and all(
        tuple(member.inverse_event_shape(event_shape)) == event_shape
        for member in bijector.bijectors
    ):
        return tuple(bijector.bijectors)
    return (bijector,)


def _cast(tensors: Any, dtype: tf.DType) -> Any:
    return tf.nest.map_structure(lambda tensor: tf.cast(tensor, dtype), tensors)


def _has_density(distribution: tfp.distributions.Distribution) -> bool:
    try:
        distribution.log_prob(distribution.sample(seed=[0, 0]))
    except NotImplementedError:
        return False
    return True
