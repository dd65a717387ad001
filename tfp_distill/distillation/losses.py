"""What a student can be made to match: latents, intermediate latents, samples, densities."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from tfp_distill.bijectors import Trace, standard_normal_log_prob
from tfp_distill.distillation.alignment import align_boundary, align_flows, check_taps
from tfp_distill.distillation.shared_pass import SharedPass
from tfp_distill.training import Part, Partition

__all__ = [
    "DistillationLoss",
    "ForwardKLLoss",
    "IntermediateLatentLoss",
    "LatentLoss",
    "LogDensityLoss",
    "ReverseKLLoss",
    "SynthesizedLoss",
]

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
    """

    name: str

    @property
    def needs_data(self) -> bool:
        """Whether the loss looks at the data, or at latents only."""
        return True

    def check(self, *, student_steps: int, teacher_steps: int) -> None:  # noqa: B027
        """Raises `ValueError` if the loss does not fit flows of so many steps."""

    @abc.abstractmethod
    def __call__(self, shared: SharedPass) -> tf.Tensor:
        """Returns the loss `[batch]`; 0 where student and teacher are the same function."""

    def in_part(self, shared: SharedPass, part: Part) -> tf.Tensor:
        """Returns the loss `[batch]` of one part of the student, with gradients to it only.

        For latents of the data, which a part has at its own steps; by default there is none.
        """
        raise NotImplementedError

    def left_out(self, shared: SharedPass) -> tf.Tensor | None:
        """Returns which samples of the teacher the loss leaves out, 0 or 1; None if it has none."""
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
class _DistanceLoss(DistillationLoss):
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


@keras.saving.register_keras_serializable("tfp_distill")
@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentLoss(_DistanceLoss):
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
class IntermediateLatentLoss(_DistanceLoss):
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class _FromLatents(DistillationLoss):
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
class _OverTeacherSamples(_FromLatents):
    """A loss over samples of the teacher, those that it can be sure of, see `SharedPass`."""

    def left_out(self, shared: SharedPass) -> tf.Tensor:
        """Those that the `SharedPass` does not keep."""
        return shared.left_out(self.temperature)


@keras.saving.register_keras_serializable("tfp_distill")
@dataclasses.dataclass(frozen=True, kw_only=True)
class SynthesizedLoss(_DistanceLoss, _OverTeacherSamples):
    """SKD: what teacher and student make of the same latents (Walton et al., 2023, section 3.3).

        space "data":    mean_d distance(f_s^-1(z)_d, f_t^-1(z)_d) in units of the student's scale
        space "latent":  mean_d distance(f_s(x)_d, f_t(x)_d),  x = f_t^-1(z)

    Both are 0 exactly where the two generate the same. In "data" the gradient runs through the
    student's generative direction, which for an autoregressive student is a recursion over its own
    outputs: an error in one dimension is fed to all later ones. "latent" asks the same question of
    the student in its one-pass direction, at points that the teacher made, and has no such
    recursion.

    Attributes:
      space: "data" or "latent".
    """

    name: str = "synthesized_loss"
    space: str = "data"

    def __post_init__(self) -> None:
        _DistanceLoss.__post_init__(self)
        _FromLatents.__post_init__(self)
        if self.space not in ("data", "latent"):
            raise ValueError(f'`space` must be "data" or "latent", got {self.space!r}.')

    def __call__(self, shared: SharedPass) -> tf.Tensor:
        if self.space == "latent":
            student = shared.student_trace_of_teacher_sample(self.temperature).latents[-1]
            teacher = shared.teacher_trace_of_teacher_sample(self.temperature).latents[-1]
        else:
            in_units = shared.student.standardize.in_units_of_scale
            student = in_units(shared.student_sample_of_kept(self.temperature).x)
            teacher = in_units(shared.teacher_sample(self.temperature).x)
        return shared.average_over_kept(self.temperature, self._distance(student, teacher))


@keras.saving.register_keras_serializable("tfp_distill")
@dataclasses.dataclass(frozen=True, kw_only=True)
class LogDensityLoss(_DistanceLoss):
    """Regression on the teacher's log-density of the data, in nats per dimension.

    distance(log p_s(x) / D, log p_t(x) / D)
    """

    name: str = "log_density_loss"

    def __call__(self, shared: SharedPass) -> tf.Tensor:
        dims = shared.student.latent_dims
        difference = _log_prob_difference(shared.student_trace, shared.teacher_trace)
        return self._distance(difference[:, None] / dims, tf.zeros_like(difference)[:, None])


@keras.saving.register_keras_serializable("tfp_distill")
@dataclasses.dataclass(frozen=True, kw_only=True)
class ForwardKLLoss(_OverTeacherSamples):
    """KL(teacher || student) on samples of the teacher: maximum likelihood without data.

    log p_t(x) - log p_s(x),  x = f_t^-1(z),  z ~ N(0, temperature^2 I)

    Unbiased at temperature 1. Attributes: see `SynthesizedLoss`.
    """

    name: str = "forward_kl_loss"

    def __call__(self, shared: SharedPass) -> tf.Tensor:
        teacher = shared.teacher_trace_of_teacher_sample(self.temperature)
        student = shared.student_trace_of_teacher_sample(self.temperature)
        difference = _log_prob_difference(teacher, student)
        return shared.average_over_kept(self.temperature, difference)


@keras.saving.register_keras_serializable("tfp_distill")
@dataclasses.dataclass(frozen=True, kw_only=True)
class ReverseKLLoss(_FromLatents):
    """Probability density distillation (van den Oord et al., 2018; Walton et al., 2023, eq. 11).

    log p_s(x) - log p_t(x),  x = f_s^-1(z),  z ~ N(0, temperature^2 I)

    The estimator of KL(student || teacher) by reparameterisation: the gradient runs through the
    teacher's density into the student's samples. log p_s(x) is known from the generative pass,
    log N(z) - fldj, so that a student whose likelihood is slow (IAF) never evaluates it; two
    identical flows therefore agree up to rounding only.
    """

    name: str = "reverse_kl_loss"

    def __call__(self, shared: SharedPass) -> tf.Tensor:
        sample = shared.student_sample(self.temperature)
        student = standard_normal_log_prob(sample.z) - sample.fldj
        return student - shared.teacher_trace_of(sample.x).log_prob()


def _log_prob_difference(a: Trace, b: Trace) -> tf.Tensor:
    """Returns log p_a(x) - log p_b(x), term by term.

    Sums that the graph may round each in its own order would not cancel for identical flows.
    """
    terms = [standard_normal_log_prob(a.latents[-1]) - standard_normal_log_prob(b.latents[-1])]
    common = min(len(a.ildjs), len(b.ildjs))
    terms += [one - other for one, other in zip(a.ildjs, b.ildjs, strict=False)]
    terms += [*a.ildjs[common:], *(-ildj for ildj in b.ildjs[common:])]
    return tf.add_n(terms)
