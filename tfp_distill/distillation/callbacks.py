"""Callbacks of a distillation: when each loss counts, and how far the student still is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from tfp_distill.arrays import Array
from tfp_distill.distillation.distiller import FlowDistiller
from tfp_distill.distillation.teachers import TeacherWithoutLatents, check_knowledge
from tfp_distill.training import StepRandom

__all__ = [
    "DistillationMonitor",
    "DistillerCallback",
    "LossWeightSchedule",
    "SynthesizedLossGate",
]


class DistillerCallback(keras.callbacks.Callback):
    """A callback that only a `FlowDistiller` can have."""

    def set_model(self, model: keras.Model) -> None:
        """Takes the model that is fitted.

        Raises:
          ValueError: if it is not a `FlowDistiller`.
        """
        if not isinstance(model, FlowDistiller):
            raise ValueError(
                f"`{type(self).__name__}` must be used with a FlowDistiller, "
                f"got {type(model).__name__}."
            )
        super().set_model(model)


class LossWeightSchedule(DistillerCallback):
    """Makes the weights of losses functions of the training step.

    Weights are a pure function of `model.steps_begun`, so that a resumed run has those of an
    uninterrupted one. With `steps_per_execution` n they change every n steps. Example, a
    distillation that fades out over the first 6,000 steps:

        LossWeightSchedule({"latent_loss": keras.optimizers.schedules.PolynomialDecay(
            initial_learning_rate=1.0, decay_steps=6000, end_learning_rate=0.0)})

    Args:
      schedules: by name of a loss (or "nll"), a function of the step or a
        `keras.optimizers.schedules.LearningRateSchedule`.
    """

    def __init__(self, schedules: Mapping[str, Callable[[int], Any]]) -> None:
        super().__init__()
        if not schedules:
            raise ValueError("`schedules` must hold at least one schedule, got none.")
        self._schedules = dict(schedules)

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Sets the weights of this step."""
        step = self.model.steps_begun
        self.model.set_loss_weights({n: float(f(step)) for n, f in self._schedules.items()})


class SynthesizedLossGate(DistillerCallback):
    """Keeps the loss on samples out until the latents are aligned.

    While teacher and student disagree about latents, samples of the same latent have nothing to do
    with each other. The gate opens at a step, or after an epoch whose mean latent loss was low
    enough (measured on the training data), and stays open. While it is closed the loss has weight 0
    and costs nothing. Whether it is open is part of the saved weights, so that a resumed run goes
    on as it was.

    Args:
      open_at_step: the step from which the loss counts.
      open_below: the value of `watch` below which the loss counts.
      watch: name of the loss that is compared with `open_below`.
      loss_name: name of the loss that is gated.

    Raises:
      ValueError: unless exactly one of `open_at_step` and `open_below` is given.
    """

    def __init__(
        self,
        *,
        open_at_step: int | None = None,
        open_below: float | None = None,
        watch: str = "latent_loss",
        loss_name: str = "synthesized_loss",
    ) -> None:
        super().__init__()
        if (open_at_step is None) == (open_below is None):
            raise ValueError(
                "Exactly one of `open_at_step` and `open_below` must be given, got "
                f"{open_at_step} and {open_below}."
            )
        self._open_at_step = open_at_step
        self._open_below = open_below
        self._watch = watch
        self._loss_name = loss_name
        self._weight: float | None = None

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Checks the names, remembers the weight, and closes the gate of a new run."""
        weights = self.model.loss_weights
        names = [self._loss_name] if self._open_below is None else [self._loss_name, self._watch]
        for name in names:
            if name not in weights:
                raise ValueError(
                    f"`loss_name` and `watch` must be among {', '.join(weights)}, got {name!r}."
                )
        if self._weight is None:
            self._weight = self.model.initial_loss_weights[self._loss_name]
        if self.model.step == 0:
            self._set(open_now=self._open_at_step == 0)

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Opens the gate at its step."""
        if self._open_at_step is not None and self.model.step >= self._open_at_step:
            self._set(open_now=True)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Opens the gate if the epoch's latent loss was low enough."""
        value = (logs or {}).get(self._watch)
        if self._open_below is not None and value is not None and value < self._open_below:
            self._set(open_now=True)

    def _set(self, *, open_now: bool) -> None:
        weight = self._weight if open_now else 0.0
        if bool(self.model.loss_weights[self._loss_name]) != bool(weight):
            self.model.set_loss_weights({self._loss_name: weight})


class DistillationMonitor(DistillerCallback):
    """Reports after each epoch how far student and teacher are apart on validation data.

    Adds to the logs, as plain means over `x`:

    - `val_nll_gap`: nll of the student minus nll of the teacher, in nats per example;

    and, where the teacher has latents,

    - `val_latent_distance`: mean |f_s(x) - f_t(x)| per dimension;
    - `val_sample_distance`: mean |f_s^-1(z) - f_t^-1(z)| per dimension, in units of the student's
      scale, for as many fixed standard-normal z; without those whose samples are left out (see
      `SharedPass`).

    The names can be used by `EarlyStopping`, `ModelCheckpoint` and `TensorBoard` callbacks that
    come after it in the list.

    Args:
      x: validation data `[n, D]`.
      condition: `[n, C]` for conditional flows.
      batch_size: rows per pass.
    """

    def __init__(self, x: Array, condition: Array | None = None, *, batch_size: int = 4096) -> None:
        super().__init__()
        if len(x) < 1:
            raise ValueError("`x` must have at least one row, got none.")
        data = (x,) if condition is None else (x, condition)
        self._batches = tf.data.Dataset.from_tensor_slices(data).batch(batch_size)
        self._num_rows = len(x)
        self._distances: Callable[..., dict[str, tf.Tensor]]  # Of `set_model`.

    def set_model(self, model: keras.Model) -> None:
        """Prepares the comparison of the model's student and teacher.

        Raises:
          ValueError: if the teacher has no density, or the validation data are none of the student.
        """
        super().set_model(model)
        check_knowledge(model.teacher, "density", f"`{type(self).__name__}`")
        model.student.check_first_rows(*next(self._batches.as_numpy_iterator()))
        self._distances = tf.function(
            _sums_of_distances(model), autograph=False, reduce_retracing=True
        )

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Adds the figures to `logs`."""
        totals: dict[str, float] = {}
        for index, batch in enumerate(self._batches):
            for name, value in self._distances(tf.constant(index), *batch).items():
                totals[name] = totals.get(name, 0.0) + float(value)
        if logs is not None:
            logs.update({name: total / self._num_rows for name, total in totals.items()})


def _sums_of_distances(distiller: FlowDistiller) -> Callable[..., dict[str, tf.Tensor]]:
    def sums(index: tf.Tensor, x: tf.Tensor, condition: tf.Tensor | None = None):
        random = StepRandom(distiller.seed, index, stream="evaluation")
        shared = distiller.shared_pass(x, condition, random)
        student, teacher = shared.student_trace, shared.teacher_trace
        gap = {"val_nll_gap": teacher.log_prob() - student.log_prob()}
        if isinstance(distiller.teacher, TeacherWithoutLatents):
            return {name: tf.reduce_sum(rows) for name, rows in gap.items()}
        samples = shared.student_sample_of_kept(1.0).x - shared.teacher_sample(1.0).x
        samples = tf.abs(distiller.student.standardize.in_units_of_scale(samples))
        samples = tf.reshape(samples, [tf.shape(x)[0], -1])
        apart = tf.abs(student.latents[-1] - teacher.latents[-1])
        distances = {
            **gap,
            "val_latent_distance": tf.reduce_mean(apart, axis=-1),
            "val_sample_distance": shared.average_over_kept(1.0, tf.reduce_mean(samples, axis=-1)),
        }
        return {name: tf.reduce_sum(rows) for name, rows in distances.items()}

    return sums
