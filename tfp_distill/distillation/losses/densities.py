"""Densities: of the data, and of samples of either flow."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import keras
import tensorflow as tf

from tfp_distill.bijectors import Trace, standard_normal_log_prob
from tfp_distill.distillation.losses.base import DistanceLoss, FromLatents, OverTeacherSamples
from tfp_distill.distillation.shared_pass import SharedPass
from tfp_distill.distillation.teachers import Knowledge

__all__ = ["ForwardKLLoss", "LogDensityLoss", "ReverseKLLoss"]


@keras.saving.register_keras_serializable("tfp_distill")
@dataclasses.dataclass(frozen=True, kw_only=True)
class LogDensityLoss(DistanceLoss):
    """Regression on the teacher's log-density of the data, in nats per dimension.

    distance(log p_s(x) / D, log p_t(x) / D)
    """

    needed_of_teacher: ClassVar[Knowledge] = "density"
    name: str = "log_density_loss"

    def __call__(self, shared: SharedPass) -> tf.Tensor:
        dims = shared.student.latent_dims
        difference = _log_prob_difference(shared.student_trace, shared.teacher_trace)
        return self._distance(difference[:, None] / dims, tf.zeros_like(difference)[:, None])


@keras.saving.register_keras_serializable("tfp_distill")
@dataclasses.dataclass(frozen=True, kw_only=True)
class ForwardKLLoss(OverTeacherSamples):
    """KL(teacher || student) on samples of the teacher: maximum likelihood without data.

    log p_t(x) - log p_s(x),  x = f_t^-1(z),  z ~ N(0, temperature^2 I)

    Unbiased at temperature 1. Of a teacher that has samples and no density it is -log p_s(x), the
    cross-entropy. Attributes: see `SynthesizedLoss`.
    """

    needed_of_teacher: ClassVar[Knowledge] = "samples"
    name: str = "forward_kl_loss"

    def __call__(self, shared: SharedPass) -> tf.Tensor:
        teacher = shared.teacher_trace_of_teacher_sample(self.temperature)
        student = shared.student_trace_of_teacher_sample(self.temperature)
        difference = _log_prob_difference(teacher, student)
        return shared.average_over_kept(self.temperature, difference)


@keras.saving.register_keras_serializable("tfp_distill")
@dataclasses.dataclass(frozen=True, kw_only=True)
class ReverseKLLoss(FromLatents):
    """Probability density distillation (van den Oord et al., 2018; Walton et al., 2023, eq. 11).

    log p_s(x) - log p_t(x),  x = f_s^-1(z),  z ~ N(0, temperature^2 I)

    The estimator of KL(student || teacher) by reparameterisation: the gradient runs through the
    teacher's density into the student's samples. log p_s(x) is known from the generative pass,
    log N(z) - fldj, so that a student whose likelihood is slow (IAF) never evaluates it; two
    identical flows therefore agree up to rounding only.
    """

    needed_of_teacher: ClassVar[Knowledge] = "density"
    name: str = "reverse_kl_loss"

    def __call__(self, shared: SharedPass) -> tf.Tensor:
        _, student = shared.student_generation(self.temperature)
        teacher = shared.teacher_trace_of_student_sample(self.temperature)
        return student.log_prob() - teacher.log_prob()


def _log_prob_difference(a: Trace, b: Trace) -> tf.Tensor:
    """Returns log p_a(x) - log p_b(x), term by term.

    Sums that the graph may round each in its own order would not cancel for identical flows.
    """
    terms = [standard_normal_log_prob(a.latents[-1]) - standard_normal_log_prob(b.latents[-1])]
    common = min(len(a.ildjs), len(b.ildjs))
    terms += [one - other for one, other in zip(a.ildjs, b.ildjs, strict=False)]
    terms += [*a.ildjs[common:], *(-ildj for ildj in b.ildjs[common:])]
    return tf.add_n(terms)
