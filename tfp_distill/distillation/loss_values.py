"""What the losses of a distiller say of a batch, by name."""

from __future__ import annotations

from collections.abc import Iterable

import tensorflow as tf

from tfp_distill.distillation.losses import DistillationLoss
from tfp_distill.distillation.shared_pass import SharedPass

__all__ = ["LEFT_OUT", "NLL", "RESERVED_NAMES", "loss_values"]

NLL = "nll"
LEFT_OUT = "left_out_samples"
# Names in the logs that no distillation loss can have.
RESERVED_NAMES = ("loss", NLL, "bits_per_dim", "grad_norm", "drift", "skipped_steps", LEFT_OUT)


def loss_values(
    shared: SharedPass, losses: Iterable[DistillationLoss], *, with_nll: bool
) -> dict[str, tf.Tensor]:
    """Returns every loss by name, `[batch]` each.

    With the share of left-out samples where a loss looks at samples of the teacher.

    Args:
      shared: what student and teacher make of the batch.
      losses: those that are active.
      with_nll: whether the student's likelihood of the data counts too.
    """
    losses = list(losses)
    values = {loss.name: loss(shared) for loss in losses}
    if with_nll:
        log_prob = shared.student_trace.log_prob()
        values = {**shared.student.likelihood_metrics(log_prob), **values}
    left_out = [rows for own in losses if (rows := own.left_out(shared)) is not None]
    if left_out:
        values[LEFT_OUT] = tf.add_n(left_out) / len(left_out)
    return values
