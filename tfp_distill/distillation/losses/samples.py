"""What teacher and student make of the same latents: SKD, and the guided loss of samplers."""

from __future__ import annotations

import dataclasses

import keras
import tensorflow as tf

from tfp_distill.bijectors import Trace
from tfp_distill.distillation.alignment import check_taps
from tfp_distill.distillation.drawing import average_over
from tfp_distill.distillation.losses.base import DistanceLoss, FromLatents, OverTeacherSamples
from tfp_distill.distillation.shared_pass import SharedPass

__all__ = ["GuidedLoss", "SynthesizedLoss"]


@keras.saving.register_keras_serializable("tfp_distill")
@dataclasses.dataclass(frozen=True, kw_only=True)
class SynthesizedLoss(DistanceLoss, OverTeacherSamples):
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
        DistanceLoss.__post_init__(self)
        FromLatents.__post_init__(self)
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
class GuidedLoss(DistanceLoss, FromLatents):
    """A sampler from a teacher whose samples are slow (Krause and Shih, 2021, arXiv:2110.11377).

        half of the data:      x -> teacher -> z -> student -> x',   distance of x' and x
        half of the latents:   z -> student -> x -> teacher -> z',   distance of z' and z

        1/2 (both, each with the distances after the steps that student and teacher share)

    where a distance is mean_d distance(h_d, g_d), of data in units of the student's scale. Each
    flow runs in one direction only, the teacher from data to latents and the student from latents
    to data: those in which an autoregressive flow and an inverse autoregressive one take a single
    pass of their networks a step. Samples of the student that the teacher knows nothing of, z'
    beyond 10, are left out of the second half (`SharedPass`); the first half brings them back.

    The loss knows nothing of densities, which follow as far as the student becomes the teacher's
    inverse. An IAF with as many steps as its MAF teacher, and with its order of dimensions and its
    linear maps (`copy_linear_maps`), can come near to that, step by step. A flow of another kind
    has its samples in the right places and their densities wrong; for a coupling student, whose
    likelihood is fast, `ForwardKLLoss` is what to take.

    Attributes:
      taps: pairs (student step, teacher step), counted from 1, after which latents are compared; by
        default every step where both flows have equally many, and none where not.
    """

    name: str = "guided_loss"
    taps: tuple[tuple[int, int], ...] | None = None

    def __post_init__(self) -> None:
        DistanceLoss.__post_init__(self)
        FromLatents.__post_init__(self)
        if self.taps is not None:  # Lists, where they come from a saved file.
            object.__setattr__(self, "taps", tuple(tuple(pair) for pair in self.taps))

    @property
    def needs_data(self) -> bool:
        """Yes, for one half."""
        return True

    def check(self, *, student_steps: int, teacher_steps: int) -> None:
        """Checks explicit taps."""
        if self.taps is not None:
            check_taps(self.taps, student_steps=student_steps, teacher_steps=teacher_steps)

    def __call__(self, shared: SharedPass) -> tf.Tensor:
        in_units = shared.student.standardize.in_units_of_scale
        x, student = shared.student_generation_of_data
        between = self._between(student, shared.teacher_trace)
        of_data = tf.add_n([self._distance(in_units(x), in_units(shared.x)), *between])
        _, student = shared.student_generation(self.temperature)
        teacher = shared.teacher_trace_of_student_sample(self.temperature)
        ends = self._distance(student.latents[-1], teacher.latents[-1])
        of_latents = tf.add_n([ends, *self._between(student, teacher)])
        known = shared.student_sample_is_known(self.temperature)
        return 0.5 * (of_data + average_over(known, of_latents))

    def left_out(self, shared: SharedPass) -> tf.Tensor:
        """The student's samples that the teacher knows nothing of, see `SharedPass`."""
        return 1.0 - tf.cast(shared.student_sample_is_known(self.temperature), shared.x.dtype)

    def _between(self, student: Trace, teacher: Trace) -> list[tf.Tensor]:
        """Returns the distances after steps."""
        taps, steps = self.taps, len(student.latents) - 1
        if taps is None:
            as_many = len(student.latents) == len(teacher.latents)
            taps = tuple((step, step) for step in range(1, steps)) if as_many else ()
        return [self._distance(student.latents[i], teacher.latents[j]) for i, j in taps]
