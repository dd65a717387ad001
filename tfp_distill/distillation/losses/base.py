"""What all losses have in common: distances, drawn latents, samples of the teacher."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import tensorflow as tf

from tfp_distill.distillation.alignment import HasSteps, Taps
from tfp_distill.distillation.shared_pass import SharedPass
from tfp_distill.distillation.teachers import (
    AnyTeacher,
    Knowledge,
    TeacherWithoutLatents,
    check_knowledge,
)
from tfp_distill.training import Part, Partition

__all__ = ["DistanceLoss", "DistillationLoss", "FromLatents", "OverTeacherSamples"]

_DISTANCES = {
    "l1": lambda difference, delta: tf.abs(difference),
    "l2": lambda difference, delta: tf.square(difference),
    "huber": lambda difference, delta: tf.where(
        tf.abs(difference) <= delta,
        0.5 * tf.square(difference) / delta,
        tf.abs(difference) - 0.5 * delta,
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillationLoss(abc.ABC):
    """A loss between teacher and student, per example.

    Attributes:
      name: name in the logs; unique within a `FlowDistiller`.
      needed_of_teacher: what a teacher must have, "samples", "density" or "latents".
    """

    needed_of_teacher: ClassVar[Knowledge] = "latents"
    name: str

    @property
    def needs_data(self) -> bool:
        """Whether the loss looks at the data, or at latents only."""
        return True

    def check(self, *, student_steps: int, teacher_steps: int) -> None:  # noqa: B027
        """Raises `ValueError` if the loss does not fit flows of so many steps."""

    def check_teacher(self, teacher: AnyTeacher) -> None:
        """Raises `ValueError` if a teacher does not know what the loss needs."""
        check_knowledge(teacher, self.needed_of_teacher, f"{self.name!r}")

    @abc.abstractmethod
    def __call__(self, shared: SharedPass) -> tf.Tensor:
        """Returns the loss `[batch]`; 0 where student and teacher are the same function."""

    def taps_in(self, part: Part, student: HasSteps, teacher: HasSteps) -> Taps:
        """Returns at which latents of the data the loss of a part of the student looks.

        Pairs of one of its steps and of a step of the teacher, counted from 1. There are none of a
        loss that `check_partition` refuses.
        """
        raise NotImplementedError

    def over_taps(
        self, taps: Taps, student: Mapping[int, tf.Tensor], teacher: Mapping[int, tf.Tensor]
    ) -> tf.Tensor:
        """Returns the loss `[batch]` of latents by their steps, of a part or of all."""
        raise NotImplementedError

    def left_out(self, shared: SharedPass) -> tf.Tensor | None:
        """Returns which samples the loss leaves out, 0 or 1, or None if it looks at none."""
        return None

    def check_partition(self, partition: Partition) -> None:
        """Raises `ValueError` if a part of the partition can have no loss of its own."""
        raise ValueError(
            "`distillation_losses` must be LatentLoss or IntermediateLatentLoss where a student is "
            f"trained in parts, got {type(self).__name__}, which looks at the whole student."
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the fields, for Keras serialisation."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> DistillationLoss:
        """Makes the loss from `get_config`'s result."""
        return cls(**config)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistanceLoss(DistillationLoss):
    """A loss that is a distance, averaged over dimensions.

    With d the difference and "l1" |d|, "l2" d^2, "huber" d^2 / (2 delta) for |d| <= delta and
    |d| - delta / 2 beyond.

    Attributes:
      distance: "l1", "l2" or "huber".
      huber_delta: where "huber" turns from quadratic to linear.
    """

    distance: str = "l1"
    huber_delta: float = 1.0

    def __post_init__(self) -> None:
        if self.distance not in _DISTANCES:
            raise ValueError(
                f"`distance` must be one of {', '.join(_DISTANCES)}, got {self.distance!r}."
            )
        if not self.huber_delta > 0:
            raise ValueError(f"`huber_delta` must be positive, got {self.huber_delta}.")

    def _distance(self, a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        """Mean distance over all axes but the first; images and their vectors are the same."""
        a, b = (tf.reshape(value, [tf.shape(value)[0], -1]) for value in (a, b))
        return tf.reduce_mean(_DISTANCES[self.distance](a - b, self.huber_delta), axis=-1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FromLatents(DistillationLoss):
    """A loss over latents that are drawn, not data.

    Attributes:
      temperature: standard deviation of the latents.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"`temperature` must be positive, got {self.temperature}.")

    @property
    def needs_data(self) -> bool:
        """No."""
        return False


@dataclasses.dataclass(frozen=True, kw_only=True)
class OverTeacherSamples(FromLatents):
    """A loss over samples of the teacher, those that it can be sure of, see `SharedPass`."""

    def check_teacher(self, teacher: AnyTeacher) -> None:
        """Also checks that a teacher without latents is sampled at temperature 1."""
        super().check_teacher(teacher)
        if self.temperature != 1 and isinstance(teacher, TeacherWithoutLatents):
            raise ValueError(
                f"`temperature` must be 1 for a teacher without latents, got {self.temperature} "
                f"in {self.name!r}."
            )

    def left_out(self, shared: SharedPass) -> tf.Tensor:
        """Those that the `SharedPass` does not keep."""
        return shared.left_out(self.temperature)
