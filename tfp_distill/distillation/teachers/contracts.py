"""What a teacher has to be able to do: to sample, to tell densities, to have latents."""

from __future__ import annotations

import abc
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import tensorflow as tf

from tfp_distill.arrays import Array
from tfp_distill.bijectors import Trace
from tfp_distill.training import StepRandom

__all__ = ["AnyTeacher", "Knowledge", "Teacher", "TeacherWithoutLatents", "check_knowledge"]

Knowledge: TypeAlias = Literal["samples", "density", "latents"]
_HAS: dict[str, str] = {
    "samples": "samples only",
    "density": "samples and a density only",
    "latents": "latents",
}
_ORDER = tuple(_HAS)


@runtime_checkable
class Teacher(Protocol):
    """A flow to learn from; `Flow` is one.

    Attributes:
      event_shape: shape of one data point.
      num_steps: number of steps that a trace shows.
    """

    event_shape: tuple[int, ...]
    num_steps: int

    def trace(self, x: Array, condition: Array | None = None) -> Trace:
        """Runs data to latent: `latents[0]` is (standardised) data, `latents[k]` after step k."""

    def to_data_and_fldj(
        self, z: Array, condition: Array | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns x for latents `[batch, D]`, and log|det dx/dz| `[batch]`."""


class TeacherWithoutLatents(abc.ABC):
    """Something that makes samples, and may know their density, but maps nothing to latents.

    Attributes:
      event_shape: shape of one data point.
      condition_dims: numbers of a condition, 0 if it takes none.
      knows: "samples" or "density".
      description: what messages call it, and why it has no latents where that needs to be said.
      num_steps: 0.
    """

    num_steps = 0

    def __init__(
        self,
        event_shape: tuple[int, ...],
        *,
        knows: Knowledge,
        description: str,
        condition_dims: int = 0,
    ) -> None:
        self.event_shape = event_shape
        self.condition_dims = condition_dims
        self.knows = knows
        self.description = description

    @abc.abstractmethod
    def sample(
        self, random: StepRandom, rows: tf.Tensor | int, condition: Array | None = None
    ) -> tf.Tensor:
        """Returns samples `[rows, ...]`; the same source and rows give the same ones."""

    @abc.abstractmethod
    def log_prob(self, x: Array, condition: Array | None = None) -> tf.Tensor:
        """Returns the log-density `[batch]` in nats; 0 where it is not known."""

    def trace(self, x: Array, condition: Array | None = None) -> Trace:
        """Returns a trace without latents, `[batch, 0]`, whose `log_prob` is the log-density."""
        x = tf.convert_to_tensor(x)
        return Trace((tf.zeros([tf.shape(x)[0], 0], x.dtype),), (self.log_prob(x, condition),))


AnyTeacher: TypeAlias = Teacher | TeacherWithoutLatents


def check_knowledge(teacher: AnyTeacher, needed: Knowledge, needed_by: str) -> None:
    """Raises `ValueError` if a teacher does not know what something needs.

    Args:
      teacher: as `as_teacher` returns it.
      needed: "samples", "density" or "latents", each of which implies those before it.
      needed_by: what needs it.
    """
    if not isinstance(teacher, TeacherWithoutLatents):
        return
    if _ORDER.index(teacher.knows) < _ORDER.index(needed):
        raise ValueError(
            f"`teacher` must have {'a ' * (needed == 'density')}{needed} for {needed_by}, got "
            f"{teacher.description}, with {_HAS[teacher.knows]}."
        )
