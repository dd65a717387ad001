"""Latents of the same data: LKD and ILKD."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping

import keras
import tensorflow as tf

from tfp_distill.distillation.alignment import (
    HasSteps,
    Taps,
    align_boundary,
    align_flows,
    check_taps,
)
from tfp_distill.distillation.losses.base import DistanceLoss
from tfp_distill.distillation.shared_pass import SharedPass
from tfp_distill.training import Part, Partition

__all__ = ["IntermediateLatentLoss", "LatentLoss"]


class _MatchedLatents(DistanceLoss):
    """Distances of latents at pairs of steps, which a part of a student has at its own steps."""

    @abc.abstractmethod
    def _all_taps(self, student: HasSteps, teacher: HasSteps) -> Taps:
        """Returns the pairs of steps of whole flows."""

    def __call__(self, shared: SharedPass) -> tf.Tensor:
        student, teacher = shared.student_trace.latents, shared.teacher_trace.latents
        taps = self._all_taps(shared.student, shared.teacher)
        return self.over_taps(taps, dict(enumerate(student)), dict(enumerate(teacher)))

    def over_taps(
        self, taps: Taps, student: Mapping[int, tf.Tensor], teacher: Mapping[int, tf.Tensor]
    ) -> tf.Tensor:
        """The sum of the distances of the pairs."""
        return tf.add_n([self._distance(student[i], teacher[j]) for i, j in taps])


@keras.saving.register_keras_serializable("tfp_distill")
@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentLoss(_MatchedLatents):
    """LKD: the final latents of the same data (Walton et al., 2023, section 3.1).

    mean_d distance(f_s(x)_d, f_t(x)_d)
    """

    name: str = "latent_loss"

    def taps_in(self, part: Part, student: HasSteps, teacher: HasSteps) -> Taps:
        """The latents after the part and at the teacher's matched depth (`align_boundary`)."""
        return ((part.last_step, align_boundary(student, teacher, part.last_step)),)

    def check_partition(self, partition: Partition) -> None:
        """Every part has latents at its end."""

    def _all_taps(self, student, teacher):
        return ((student.num_steps, teacher.num_steps),)


@keras.saving.register_keras_serializable("tfp_distill")
@dataclasses.dataclass(frozen=True, kw_only=True)
class IntermediateLatentLoss(_MatchedLatents):
    """ILKD: latents at matched depths, summed (Walton et al., 2023, section 3.2).

    sum_taps mean_d distance(h_s^(i)_d, h_t^(j)_d)

    Attributes:
      taps: pairs (student step i, teacher step j), counted from 1; by default the ends of levels
        where both flows have several, and matched fractions of depth elsewhere (`align_flows`). A
        part has those at its own steps, and by default one at its end (`align_boundary`).
    """

    name: str = "intermediate_latent_loss"
    taps: Taps | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.taps is not None:  # Lists, where they come from a saved file.
            object.__setattr__(self, "taps", tuple(tuple(pair) for pair in self.taps))

    def check(self, *, student_steps: int, teacher_steps: int) -> None:
        """Checks explicit taps."""
        if self.taps is not None:
            check_taps(self.taps, student_steps=student_steps, teacher_steps=teacher_steps)

    def taps_in(self, part: Part, student: HasSteps, teacher: HasSteps) -> Taps:
        """The taps in the part."""
        taps = self._all_taps(student, teacher)
        if self.taps is None:
            depth = align_boundary(student, teacher, part.last_step)
            taps = tuple({part.last_step: depth, **dict(taps)}.items())
        return _taps_in(taps, part)

    def check_partition(self, partition: Partition) -> None:
        """Checks that explicit taps reach every part."""
        for index, part in enumerate(partition.parts):
            if self.taps is not None and not _taps_in(self.taps, part):
                raise ValueError(
                    f"`taps` must have one in every part, got none in steps {part.first_step} to "
                    f"{part.last_step} of part {index}."
                )

    def _all_taps(self, student, teacher):
        return align_flows(student, teacher) if self.taps is None else self.taps


def _taps_in(taps: Taps, part: Part) -> Taps:
    return tuple((i, j) for i, j in taps if part.first_step <= i <= part.last_step)
