"""Latents of the same data: LKD and ILKD."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import keras
import tensorflow as tf

from tfp_distill.distillation.alignment import align_boundary, align_flows, check_taps
from tfp_distill.distillation.losses.base import DistanceLoss
from tfp_distill.distillation.shared_pass import SharedPass
from tfp_distill.training import Part, Partition

__all__ = ["IntermediateLatentLoss", "LatentLoss"]


@keras.saving.register_keras_serializable("tfp_distill")
@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentLoss(DistanceLoss):
    """LKD: the final latents of the same data (Walton et al., 2023, section 3.1).

    mean_d distance(f_s(x)_d, f_t(x)_d)
    """

    name: str = "latent_loss"

    def __call__(self, shared: SharedPass) -> tf.Tensor:
        return self._distance(shared.student_trace.latents[-1], shared.teacher_trace.latents[-1])

    def in_part(self, shared: SharedPass, part: Part) -> tf.Tensor:
        """The latents after the part and at the teacher's matched depth (`align_boundary`)."""
        depth = align_boundary(shared.student, shared.teacher, part.last_step)
        student, teacher = shared.student_trace, shared.teacher_trace
        return self._distance(student.latents[part.last_step], teacher.latents[depth])

    def check_partition(self, partition: Partition) -> None:
        """Every part has latents at its end."""


@keras.saving.register_keras_serializable("tfp_distill")
@dataclasses.dataclass(frozen=True, kw_only=True)
class IntermediateLatentLoss(DistanceLoss):
    """ILKD: latents at matched depths, summed (Walton et al., 2023, section 3.2).

    sum_taps mean_d distance(h_s^(i)_d, h_t^(j)_d)

    Attributes:
      taps: pairs (student step i, teacher step j), counted from 1; by default the ends of levels
        where both flows have several, and matched fractions of depth elsewhere (`align_flows`). A
        part has those at its own steps, and by default one at its end (`align_boundary`).
    """

    name: str = "intermediate_latent_loss"
    taps: tuple[tuple[int, int], ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.taps is not None:  # Lists, where they come from a saved file.
            object.__setattr__(self, "taps", tuple(tuple(pair) for pair in self.taps))

    def check(self, *, student_steps: int, teacher_steps: int) -> None:
        """Checks explicit taps."""
        if self.taps is not None:
            check_taps(self.taps, student_steps=student_steps, teacher_steps=teacher_steps)

    def __call__(self, shared: SharedPass) -> tf.Tensor:
        student, teacher = shared.student_trace.latents, shared.teacher_trace.latents
        taps = align_flows(shared.student, shared.teacher) if self.taps is None else self.taps
        return tf.add_n([self._distance(student[i], teacher[j]) for i, j in taps])

    def in_part(self, shared: SharedPass, part: Part) -> tf.Tensor:
        """The sum over the taps in the part."""
        student, teacher = shared.student_trace.latents, shared.teacher_trace.latents
        taps: Iterable[tuple[int, int]] | None = self.taps
        if taps is None:
            aligned = dict(align_flows(shared.student, shared.teacher))
            depth = align_boundary(shared.student, shared.teacher, part.last_step)
            taps = {part.last_step: depth, **aligned}.items()
        taps = _taps_in(taps, part)
        return tf.add_n([self._distance(student[i], teacher[j]) for i, j in taps])

    def check_partition(self, partition: Partition) -> None:
        """Checks that explicit taps reach every part."""
        for index, part in enumerate(partition.parts):
            if self.taps is not None and not _taps_in(self.taps, part):
                raise ValueError(
                    f"`taps` must have one in every part, got none in steps {part.first_step} to "
                    f"{part.last_step} of part {index}."
                )


def _taps_in(taps: Iterable[tuple[int, int]], part: Part) -> list[tuple[int, int]]:
    return [(i, j) for i, j in taps if part.first_step <= i <= part.last_step]
