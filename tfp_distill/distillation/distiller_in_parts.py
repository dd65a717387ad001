"""What a distiller can do because its student is a chain: let each part of it learn by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tfp_distill.arrays import Array
from tfp_distill.bijectors import State
from tfp_distill.distillation.alignment import Taps
from tfp_distill.distillation.loss_values import NLL
from tfp_distill.distillation.losses import DistillationLoss
from tfp_distill.distillation.teacher_traces import TracedRows
from tfp_distill.distillation.teachers import AnyTeacher
from tfp_distill.flows import Flow
from tfp_distill.training import Handed, Partition, PartwiseModel

__all__ = ["DistillerInParts"]


class DistillerInParts(PartwiseModel):
    """The part of `FlowDistiller` that a `Partition` of its student divides.

    The first part maps the data by the teacher too, and hands on those of the teacher's latents
    that losses of parts behind it look at, and what the student has factored out, which belongs to
    its latents. So no part needs the data or the teacher but the first one.

    Attributes:
      student: the flow that is trained.
      teacher: what it learns from.
    """

    student: Flow
    teacher: AnyTeacher
    _losses: dict[str, DistillationLoss]
    _weights_of_losses: keras.Variable

    def trained_flow(self) -> Flow:
        """Returns the student."""
        return self.student

    @property
    def num_steps(self) -> int:
        """Number of steps of the student, which a partition divides."""
        return self.student.num_steps

    def step_weights(self, first_step: int, last_step: int) -> list[keras.Variable]:
        """Returns the trainable weights of steps of the student."""
        return self.student.step_weights(first_step, last_step)

    def check_partition(self, partition: Partition) -> None:
        """Raises `ValueError` if the student cannot learn in these parts by these losses."""
        partition.check(self.student)
        if len(partition.parts) > 1:
            for loss in self._losses.values():
                loss.check_partition(partition)

    def part_variables(self, part: int) -> list[keras.Variable]:
        """Returns all variables that a part reads: the first one also those of the teacher."""
        variables = self.student.step_variables(*self.parts[part].steps)
        if part == 0 and self._depths(0) and isinstance(self.teacher, Flow):
            variables += self.teacher.weights
        return variables

    @property
    def part_loss_names(self) -> tuple[str, ...]:
        """Names of the figures of the likelihood, if it counts, and of the losses that do."""
        hints = (name for name in self.active_losses if name != NLL)
        return (*(self.student.loss_names if NLL in self.active_losses else ()), *hints)

    @property
    def objective_weights(self) -> tf.Tensor:
        """The weight of the nll and of every loss, in this order."""
        return self._weights_of_losses.value

    def weigh(self, losses: Mapping[str, tf.Tensor], weights: Any) -> dict[str, tf.Tensor]:
        """Returns the weighted sum of the active losses as `loss`, and all by name."""
        names = (NLL, *self._losses)
        by_name = dict(zip(names, tf.unstack(weights, len(names)), strict=True))
        active = [by_name[name] * losses[name] for name in self.active_losses]
        return {"loss": tf.add_n(active), **losses}

    def first_input(self, x: Array, condition: Array | None = None) -> Handed:
        """Returns the data, and the latents of the teacher that losses look at.

        Args:
          x: data `[batch, ...]`, or `TracedRows`, which the teacher has seen before.
          condition: `[batch, C]` for a conditional flow.
        """
        rows, trace = (x.x, x.trace) if isinstance(x, TracedRows) else (x, None)
        handed, depths = self.student.first_input(rows, condition), self._depths(0)
        if not depths:
            return handed
        if trace is None:
            trace = self.teacher.trace(rows, condition)
        hints = (tf.stop_gradient(trace.latents[depth]) for depth in depths)
        return handed._replace(besides=tuple(hints))

    def run_part(
        self, part: int, handed: Handed, condition: Array | None = None
    ) -> tuple[Handed, dict[str, tf.Tensor]]:
        """Returns what a part of the student hands on, and the active losses at its own steps.

        The nll is that of `FlowInParts.run_part`, the others are `DistillationLoss.over_taps`.
        """
        steps, depths, behind = self.parts[part].steps, self._depths(part), self._depths(part + 1)
        number = len(handed.besides) - len(depths)
        left, hints = handed.besides[:number], handed.besides[number:]
        by_depth = dict(zip(depths, hints, strict=True))
        shown = {i for taps in self._taps(part).values() for i, _ in taps}
        arriving = State(handed.value, left)
        own = self.student.run_steps(*steps, arriving, condition, shown=shown)
        log_prob = handed.log_prob + own.ended()
        losses = self._losses_of_part(part, log_prob, own.latents, by_depth)
        left = own.state.factored_out if behind else ()
        besides = (*left, *(by_depth[depth] for depth in behind))
        return Handed(own.state.value, handed.log_prob + own.log_prob, besides), losses

    def handed_size(self, part: int) -> int:
        """Returns how many numbers of a row a part receives: whole latents of both flows."""
        depths, dims = self._depths(part), self.student.latent_dims
        return (1 + len(depths)) * dims + 1 if depths else self.parts[part].dims_in + 1

    def _losses_of_part(
        self,
        part: int,
        log_prob: tf.Tensor,
        student: Mapping[int, tf.Tensor],
        teacher: Mapping[int, tf.Tensor],
    ) -> dict[str, tf.Tensor]:
        """Returns the active losses of a part, of its likelihood and of latents by their steps."""
        nll = self.student.likelihood_metrics(log_prob) if NLL in self.active_losses else {}
        hints = {
            name: self._losses[name].over_taps(taps, student, teacher)
            for name, taps in self._taps(part).items()
            if name in self.active_losses
        }
        return {**nll, **hints}

    def _taps(self, part: int) -> dict[str, Taps]:
        """Returns at which steps of student and teacher each loss of a part looks."""
        own, pair = self.parts[part], (self.student, self.teacher)
        return {name: loss.taps_in(own, *pair) for name, loss in self._losses.items()}

    def _depths(self, part: int) -> tuple[int, ...]:
        """Returns at which steps of the teacher losses of a part, or of one behind it, look.

        Those whose weight is 0 too: what is handed on is the same while weights change.
        """
        later = (self._taps(each) for each in range(part, len(self.parts)))
        return tuple(sorted({j for own in later for taps in own.values() for _, j in taps}))
