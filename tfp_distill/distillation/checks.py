"""What must hold before a student learns from a teacher."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from tfp_distill.distillation.loss_values import RESERVED_NAMES
from tfp_distill.distillation.losses import DistillationLoss
from tfp_distill.distillation.teachers import AnyTeacher
from tfp_distill.domains import CONTINUOUS_ROWS
from tfp_distill.flows import Flow

__all__ = ["check_losses", "check_pair", "check_weights", "check_without_data"]


def check_pair(student: Any, teacher: AnyTeacher) -> None:
    """Raises `ValueError` if a student cannot learn from a teacher."""
    if not isinstance(student, Flow):
        raise ValueError(f"`student` must be a Flow, got {type(student).__name__}.")
    if teacher is student:
        raise ValueError("`teacher` must be another model than `student`, got the same object.")
    if tuple(teacher.event_shape) != tuple(student.event_shape):
        raise ValueError(
            "`teacher` and `student` must have the same event shape, got "
            f"{tuple(teacher.event_shape)} and {tuple(student.event_shape)}."
        )
    dims = [_condition_dims(model) for model in (teacher, student)]
    if dims[0] != dims[1]:
        raise ValueError(
            "`teacher` and `student` must take conditions of the same size, got "
            f"{dims[0]} and {dims[1]}."
        )
    own = student.config.domain
    # Others know nothing of integers and bounds, and bytes are numbers to them.
    of_others = own if own.is_images else CONTINUOUS_ROWS
    theirs = teacher.config.domain if isinstance(teacher, Flow) else of_others
    if theirs != own:
        raise ValueError(
            "`teacher` and `student` must take their data for the same, columns for the same kinds "
            f"with the same bounds, got {theirs} and {own}."
        )


def _condition_dims(model: Any) -> int:
    if isinstance(model, Flow):
        return model.config.condition_dims
    return getattr(model, "condition_dims", 0)  # A user's own teacher may not know of conditions.


def check_losses(
    losses: Sequence[Any], weights: Sequence[float], student: Flow, teacher: AnyTeacher
) -> None:
    """Raises `ValueError` if losses do not fit each other, the student or the teacher.

    Args:
      losses: the `distillation_losses` of a distiller.
      weights: their weights.
      student: learns.
      teacher: is learned from.
    """
    if not losses:
        raise ValueError("`distillation_losses` must hold at least one loss, got none.")
    names = []
    for loss in losses:
        if not isinstance(loss, DistillationLoss):
            raise ValueError(
                "`distillation_losses` must be DistillationLoss objects, got "
                f"{type(loss).__name__}."
            )
        if loss.name in RESERVED_NAMES or loss.name in names:
            raise ValueError(
                "`distillation_losses` must have different names, none of "
                f"{', '.join(RESERVED_NAMES)}; got {loss.name!r} again."
            )
        names.append(loss.name)
        loss.check_teacher(teacher)
        loss.check(student_steps=student.num_steps, teacher_steps=teacher.num_steps)
    if len(weights) != len(losses):
        raise ValueError(
            "`distillation_loss_weights` must have one weight for each of the "
            f"{len(losses)} `distillation_losses`, got {len(weights)}."
        )


def check_weights(weights: Mapping[str, float], names: Collection[str]) -> None:
    """Raises `ValueError` unless weights are of losses of these names, finite and not negative."""
    for name, weight in weights.items():
        if name not in names:
            raise ValueError(f"`weights` must name some of {', '.join(names)}, got {name!r}.")
        is_number = np.asarray(weight).dtype.kind in "biuf"
        if not (is_number and np.isfinite(weight) and weight >= 0):
            raise ValueError(
                f"`weights` must be finite and not negative, got {weight!r} for {name!r}."
            )


def check_without_data(
    student: Flow,
    needs_data: Collection[str],
    batch_size: int | None,
    steps_per_epoch: int | None,
) -> int:
    """Returns the batch size of a training without data.

    Args:
      student: learns.
      needs_data: names of the active losses that look at data.
      batch_size: as given to `fit`.
      steps_per_epoch: as given to `fit`.

    Raises:
      ValueError: if the student cannot be trained without data.
    """
    if needs_data:
        raise ValueError(f"`x` must be given for the losses {', '.join(needs_data)}, got None.")
    if student.config.condition_dims:
        raise ValueError("`x` must be given, with conditions, to a conditional flow, got None.")
    if batch_size is None or steps_per_epoch is None:
        raise ValueError(
            "`batch_size` and `steps_per_epoch` must be given where `x` is not, got "
            f"{batch_size} and {steps_per_epoch}."
        )
    return batch_size
