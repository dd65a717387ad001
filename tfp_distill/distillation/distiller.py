"""A student flow that learns from a teacher and from data, in the library's one train step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_distill.arrays import Array
from tfp_distill.distillation.checks import (
    check_losses,
    check_pair,
    check_weights,
    check_without_data,
)
from tfp_distill.distillation.distiller_in_parts import DistillerInParts
from tfp_distill.distillation.drawing import DrawnPairs
from tfp_distill.distillation.loss_values import LEFT_OUT, NLL, loss_values
from tfp_distill.distillation.losses import DistillationLoss
from tfp_distill.distillation.shared_pass import SharedPass, sample_teacher
from tfp_distill.distillation.teachers import TeacherLike, as_teacher
from tfp_distill.flows import Flow
from tfp_distill.flows.adapting import ColumnStatistics
from tfp_distill.flows.config import check_at_least
from tfp_distill.training import StepRandom, losses_by_name

__all__ = ["FlowDistiller"]


@keras.saving.register_keras_serializable("tfp_distill")
class FlowDistiller(DistillerInParts):
    """Trains a student on data and on what a teacher makes of it.

        loss = student_loss_weight * nll + sum_i distillation_loss_weights[i] * distillation_loss_i

    per example, with nll in nats per example (Walton et al., 2023, eq. 15, as a minimised loss).
    The argument names are those of `keras.distillation.Distiller`, which takes the teacher first:
    here all are given by name. Its `student_loss_weight` w, 0.5 by default, gives the distillation
    losses together the weight 1 - w; here it is a weight of its own, 1 by default. Keras's loss is
    this one with `student_loss_weight=w, distillation_loss_weights=[(1 - w) * w_i...]`. Example:

        distiller = FlowDistiller(
            student=student, teacher=teacher,
            distillation_losses=[IntermediateLatentLoss(), SynthesizedLoss()],
            distillation_loss_weights=[0.075, 0.075], student_loss_weight=0.85)
        distiller.compile(optimizer="adam")
        distiller.fit(dataset_of_x)
        distiller.student.save("student.keras")

    Compiled with a partition of the student, each part minimises its own loss of this form: its nll
    and its latents against the teacher's at the matched depth, with no gradient between parts.

    Only the student is trained. The logs hold `loss`, `nll` and every active distillation loss by
    name; a loss of weight 0 is not computed (validation always reports the nll). Where a loss looks
    at samples, `left_out_samples` is the share of them that the teacher was not sure of, and that
    no loss has seen (`SharedPass`).

    Args:
      student: the flow to train.
      teacher: a `Flow`; a `tfd.Distribution`, with latents if its base is a standard normal; a
        function of a number and a seed that returns samples, or an array (`SampleTeacher`); or a
        `conditional_teacher`. It has the student's event shape, and what losses need of it.
      distillation_losses: one or more losses with different names.
      distillation_loss_weights: one non-negative weight a loss; 1 each by default.
      student_loss_weight: non-negative weight of the nll, which leaves the others' as they are.
      rows_per_sample: training draws one sample of the teacher for so many rows of the data. Losses
        over the teacher's samples keep their size, and cost that much less.
      seed: seed of the shared latents.
      name: name of the model.

    Raises:
      TypeError: if an argument has no name.
      ValueError: if shapes, names, weights or taps do not fit each other.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> FlowDistiller:
        """Refuses arguments without names before Python does, to say why."""
        if args:
            raise TypeError(
                "`student`, `teacher` and all other arguments must be given by name, because "
                f"Keras's own Distiller takes the teacher first, got {len(args)} without one."
            )
        return super().__new__(cls, **kwargs)

    def __init__(
        self,
        *,
        student: Flow,
        teacher: TeacherLike,
        distillation_losses: DistillationLoss | Sequence[DistillationLoss],
        distillation_loss_weights: float | Sequence[float] | None = None,
        student_loss_weight: float = 1.0,
        rows_per_sample: int = 1,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        teacher = as_teacher(teacher)
        check_pair(student, teacher)
        check_at_least(1, rows_per_sample=rows_per_sample)
        losses = _as_tuple(distillation_losses)
        if distillation_loss_weights is None:
            distillation_loss_weights = [1.0] * len(losses)
        weights = _as_tuple(distillation_loss_weights)
        check_losses(losses, weights, student, teacher)
        names = (*student.loss_names, *(loss.name for loss in losses), LEFT_OUT)
        super().__init__(loss_names=names, seed=seed, name=name)
        self.student = student
        self.teacher = teacher
        self._losses = {loss.name: loss for loss in losses}
        self._names = (NLL, *self._losses)
        self._weights_of_losses = self.add_weight(
            shape=(len(self._names),),
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
            name="loss_weights",
        )
        self._rows_per_sample = rows_per_sample
        self._active: tuple[str, ...] = ()
        self._pairs: DrawnPairs | None = None
        values = (student_loss_weight, *weights)
        self.initial_loss_weights = dict(zip(self._names, values, strict=True))
        self.set_loss_weights(self.initial_loss_weights)
        self.built = True

    @property
    def distillation_losses(self) -> tuple[DistillationLoss, ...]:
        """The losses, in the order of construction."""
        return tuple(self._losses.values())

    @property
    def loss_weights(self) -> dict[str, float]:
        """The current weight of `nll` and of every distillation loss."""
        values = self._weights_of_losses.numpy().tolist()
        return dict(zip(self._names, values, strict=True))

    def set_loss_weights(self, weights: Mapping[str, float]) -> None:
        """Changes weights, during `fit` too; nothing is traced again but a new set of losses.

        Args:
          weights: non-negative weights by name of a loss, or "nll"; others keep theirs.

        Raises:
          ValueError: if a name is unknown or a weight is negative or not finite.
        """
        check_weights(weights, self._names)
        merged = {**self.loss_weights, **weights}
        self._weights_of_losses.assign([merged[name] for name in self._names])
        self._select_active()

    def draw_pairs(self, pairs: DrawnPairs | None) -> None:
        """Lets training draw samples of the teacher, instead of making some for each step.

        Args:
          pairs: where they come from, see `TeacherPairs`; None to make them again.
        """
        self._pairs = pairs
        if self.train_function is not None:
            self.make_train_function(force=True)

    @property
    def active_losses(self) -> tuple[str, ...]:
        """The losses whose weight is not 0."""
        return self._active

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """The student's: the teacher is a constant."""
        return self.student.trainable_variables

    @property
    def trainable_weights(self) -> list[keras.Variable]:
        """As `trainable_variables`; Keras uses both names."""
        return self.student.trainable_variables

    @property
    def suits_xla(self) -> bool:
        """As the student does."""
        return self.student.suits_xla

    @property
    def adapted(self) -> bool:
        """Whether the student is adapted to data."""
        return self.student.adapted

    @property
    def checks_first_rows(self) -> bool:
        """As the student does, where a loss looks at data."""
        return bool(self._losses_of_data) and self.student.checks_first_rows

    def check_first_rows(self, x: Array, condition: Array | None = None) -> None:
        """As the student does, where a loss looks at data."""
        if self._losses_of_data:
            self.student.check_first_rows(x, condition)

    def adapt(
        self, x: Array, condition: Array | None = None, **statistics: ColumnStatistics | None
    ) -> None:
        """Adapts the student to data, see `Flow.adapt`."""
        self.student.adapt(x, condition, **statistics)

    def make_train_function(self, force: bool = False) -> None:
        """Selects the compiled step of the losses whose weight is not 0 now."""
        self._refresh_active()
        super().make_train_function(force)

    def fit(
        self, x: Any = None, y: Any = None, *, batch_size: int | None = None, **kwargs: Any
    ) -> keras.callbacks.History:
        """Trains the student; arguments as `PartwiseModel.fit`, or without any data.

        Where no active loss looks at data, `x` may be left out: `fit(batch_size=512,
        steps_per_epoch=1000)` learns from the teacher alone; the student is adapted to its samples.

        Raises:
          ValueError: if `x` is missing and a loss needs it, or `batch_size` and `steps_per_epoch`
            are missing where `x` is.
        """
        if x is not None:
            return super().fit(x, y, batch_size=batch_size, **kwargs)
        steps = kwargs.get("steps_per_epoch")
        size = check_without_data(self.student, self._losses_of_data, batch_size, steps)
        if not self.adapted:
            self.adapt(sample_teacher(self.student, self.teacher, max(size, 4096), seed=self.seed))
        placeholder = tf.zeros([size, *self.student.event_shape], self.compute_dtype)
        return super().fit(tf.data.Dataset.from_tensors(placeholder).repeat(), **kwargs)

    def objective(
        self, x: tf.Tensor, condition: tf.Tensor | None, random: StepRandom
    ) -> dict[str, tf.Tensor]:
        """Returns the weighted sum as `loss`, and every active loss by name, each `[batch]`."""
        return self._weighted(self._training_pass(x, condition, random))

    def evaluation_losses(
        self, x: tf.Tensor, condition: tf.Tensor | None, random: StepRandom
    ) -> dict[str, tf.Tensor]:
        """As `objective`, the nll whatever its weight, and every part where there are several."""
        shared = self.shared_pass(x, condition, random)
        metrics = self.student.likelihood_metrics(shared.student_trace.log_prob())
        losses = {**metrics, **self._weighted(shared)}
        if self.all_parts is None:
            return losses
        of_parts = {part: self._of_part(part, shared) for part in self.all_parts}
        return {**losses, **losses_by_name(of_parts)}

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Restores the weights of the losses, in the middle of `fit` too (`BackupAndRestore`)."""
        super().load_own_variables(store)
        self._select_active()

    def call(self, x: tf.Tensor, condition: tf.Tensor | None = None) -> tf.Tensor:
        """Returns the student's log p(x)."""
        return self.student(x, condition)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, for Keras serialisation.

        Raises:
          ValueError: if the teacher is not a `Flow`, which cannot be saved with the distiller.
        """
        if not isinstance(self.teacher, Flow):
            raise ValueError(
                "`teacher` must be a Flow for the distiller to be saved, got "
                f"{type(self.teacher).__name__}; save `distiller.student`."
            )
        weights = self.initial_loss_weights
        serialize = keras.saving.serialize_keras_object
        return {
            "student": serialize(self.student),
            "teacher": serialize(self.teacher),
            "distillation_losses": [serialize(loss) for loss in self.distillation_losses],
            "distillation_loss_weights": [weights[loss.name] for loss in self.distillation_losses],
            "student_loss_weight": weights[NLL],
            "rows_per_sample": self._rows_per_sample,
            "seed": self._seed,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FlowDistiller:
        """Makes the distiller from `get_config`'s result."""
        return cls(**keras.saving.deserialize_keras_object(config))

    def shared_pass(
        self, x: tf.Tensor, condition: tf.Tensor | None, random: StepRandom
    ) -> SharedPass:
        """Returns the view of a batch that all losses share."""
        return SharedPass(self.student, self.teacher, x, condition, random)

    def _training_pass(self, x, condition, random, **options) -> SharedPass:
        options.update(pairs=self._pairs, rows_per_sample=self._rows_per_sample)
        return SharedPass(self.student, self.teacher, x, condition, random, **options)

    def _weighted(self, shared: SharedPass) -> dict[str, tf.Tensor]:
        losses = [self._losses[name] for name in self._active if name != NLL]
        values = loss_values(shared, losses, with_nll=NLL in self._active)
        return self.weigh(values, self.objective_weights)

    def _of_part(self, part: int, shared: SharedPass) -> dict[str, tf.Tensor]:
        """Returns the losses of a part, of traces of the whole flows."""
        log_prob = shared.student_trace.log_prob_until(self.parts[part].last_step)
        traces = shared.student_trace, shared.teacher_trace
        latents = (dict(enumerate(trace.latents)) for trace in traces)
        losses = self._losses_of_part(part, log_prob, *latents)
        return self.weigh(losses, self.objective_weights)

    def _select_active(self) -> None:
        """Notes which losses count; a running `fit` goes on with the step that computes them."""
        was_active = self._active
        self._refresh_active()
        if self.train_function is not None and self._active != was_active:
            self.make_train_function()

    @property
    def _losses_of_data(self) -> list[str]:
        return [n for n in self._active if n == NLL or self._losses[n].needs_data]

    def _refresh_active(self) -> None:
        weights = self.loss_weights
        active = tuple(name for name in self._names if weights[name])
        if not active:
            raise ValueError("At least one loss must have a weight above 0, got 0 for all.")
        self._active = active


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, Sequence) else (value,)
