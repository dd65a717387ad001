"""What a student minimises: its likelihood and what a teacher says, by their weights."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from tfp_distill.distillation.losses import DistillationLoss
from tfp_distill.distillation.shared_pass import SharedPass
from tfp_distill.training import Part

__all__ = ["LEFT_OUT", "NLL", "RESERVED_NAMES", "weighted_sum"]

NLL = "nll"
LEFT_OUT = "left_out_samples"
# Names in the logs that no distillation loss can have.
RESERVED_NAMES = ("loss", NLL, "bits_per_dim", "grad_norm", "drift", "skipped_steps", LEFT_OUT)


def weighted_sum(
    shared: SharedPass,
    weights: Mapping[str, tf.Tensor],
    losses: Mapping[str, DistillationLoss],
    part: Part | None = None,
) -> dict[str, tf.Tensor]:
    """Returns the weighted sum as `loss`, and every loss that has a weight by name, `[batch]` each.

    With the share of left-out samples where a loss looks at samples of the teacher.

    Args:
      shared: what student and teacher make of the batch.
      weights: scalars by the name of a loss, or "nll".
      losses: distillation losses by name; those without a weight are not computed.
      part: of the student, whose own losses these are; None for all of it.
    """
    active = [losses[name] for name in weights if name != NLL]
    if part is None:
        values = {loss.name: loss(shared) for loss in active}
    else:
        values = {loss.name: loss.in_part(shared, part) for loss in active}
    if NLL in weights:
        trace = shared.student_trace
        if part is None:
            log_prob = trace.log_prob()
        else:
            log_prob = trace.log_prob_of_part(part.first_step, part.last_step)
        values = {**shared.student.likelihood_metrics(log_prob), **values}
    loss = tf.add_n([weight * values[name] for name, weight in weights.items()])
    left_out = [rows for own in active if (rows := own.left_out(shared)) is not None]
    if left_out:
        values[LEFT_OUT] = tf.add_n(left_out) / len(left_out)
    return {"loss": loss, **values}
