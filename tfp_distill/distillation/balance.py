"""How much a student of few rows learns from them, and how much from samples of the teacher."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from tfp_distill.arrays import Array
from tfp_distill.distillation.callbacks import DistillerCallback
from tfp_distill.distillation.teachers import check_knowledge
from tfp_distill.training import averaged_weights

__all__ = ["DataBalance"]

_LARGEST_CHANGE = 2.0
_SMALLEST_ODDS = 1 / 64


class DataBalance(DistillerCallback):
    """Divides the weight between the likelihood of rows and samples of the teacher.

    Few rows are soon learned by heart, samples of the teacher never; but rows are the truth, and
    samples are what the teacher makes of it. After each epoch, with the averaged weights if the
    optimiser has some,

        o = nll(held-out rows) - nll(training rows)                 what is learned by heart
        g = nll(held-out rows) - teacher's nll(held-out rows)       what the teacher knows better
        w_nll / w_samples  *=  min(max(tolerance * g / o, 1/2), 2)

    so that no more is learned by heart than a part of what there is to gain from the teacher.
    Where nothing is learned by heart, or the teacher has nothing more to teach, the factor is 2.
    The sum of the two weights stays as it was given; that of the rows is at most as large as it was
    given, and at least 1/65 of the sum. The weights are saved with the distiller and follow from
    its state alone, so that a resumed run has those of an uninterrupted one. Adds `nll_weight` to
    the logs.

    Args:
      x: training rows `[n, ...]`, or some of them.
      held_out: rows that are not trained on `[m, ...]`.
      condition: `[n, C]` for conditional flows.
      held_out_condition: `[m, C]` for conditional flows.
      tolerance: the part of g that o may be.
      loss_name: name of the loss over the teacher's samples.
      batch_size: rows per pass.

    Raises:
      ValueError: if there are no rows, or `tolerance` is not positive.
    """

    def __init__(
        self,
        x: Array,
        held_out: Array,
        *,
        condition: Array | None = None,
        held_out_condition: Array | None = None,
        tolerance: float = 1.0,
        loss_name: str = "forward_kl_loss",
        batch_size: int = 4096,
    ) -> None:
        super().__init__()
        for name, rows in (("x", x), ("held_out", held_out)):
            if len(rows) < 1:
                raise ValueError(f"`{name}` must have at least one row, got none.")
        if not tolerance > 0:
            raise ValueError(f"`tolerance` must be positive, got {tolerance}.")
        self._training = _batches(x, condition, batch_size)
        self._held_out = _batches(held_out, held_out_condition, batch_size)
        self._tolerance = tolerance
        self._loss_name = loss_name
        self._teacher_nll: float | None = None

    def set_model(self, model: keras.Model) -> None:
        """Takes the distiller.

        Raises:
          ValueError: if it has no loss of the name, or gives it and the nll no weight, or a teacher
            without a density, or if rows are none of the student.
        """
        super().set_model(model)
        weights = model.initial_loss_weights
        if self._loss_name not in weights:
            raise ValueError(
                f"`loss_name` must be among {', '.join(weights)}, got {self._loss_name!r}."
            )
        self._odds = weights["nll"] / (weights[self._loss_name] or 1.0)
        self._total = weights["nll"] + weights[self._loss_name]
        if not min(weights["nll"], weights[self._loss_name]) > 0:
            raise ValueError(
                f"`{type(self).__name__}` must have weights of nll and {self._loss_name} above 0 "
                f"to divide, got {weights['nll']} and {weights[self._loss_name]}."
            )
        self._nll = tf.function(
            lambda *batch: -model.student.log_prob(*batch), autograph=False, reduce_retracing=True
        )
        teacher = model.teacher
        check_knowledge(teacher, "density", f"`{type(self).__name__}`")
        for batches in (self._training, self._held_out):
            model.student.check_first_rows(*next(batches.as_numpy_iterator()))
        self._nll_of_teacher = tf.function(
            lambda *batch: -teacher.trace(*batch).log_prob(), autograph=False, reduce_retracing=True
        )

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Measures, and divides the weight anew, unless something else has set one to 0."""
        weights = self.model.loss_weights
        if not min(weights["nll"], weights[self._loss_name]) > 0:
            return
        if self._teacher_nll is None:
            self._teacher_nll = _mean(self._nll_of_teacher, self._held_out)
        with averaged_weights(self.model):
            held_out = _mean(self._nll, self._held_out)
            learned_by_heart = held_out - _mean(self._nll, self._training)
        to_gain = held_out - self._teacher_nll
        odds = weights["nll"] / weights[self._loss_name]
        odds *= _factor(self._tolerance * to_gain, learned_by_heart)
        odds = min(max(odds, _SMALLEST_ODDS), self._odds)
        samples = self._total / (1 + odds)
        self.model.set_loss_weights({"nll": self._total - samples, self._loss_name: samples})
        if logs is not None:
            logs["nll_weight"] = self._total - samples


def _factor(tolerated: float, learned_by_heart: float) -> float:
    # Where a nll is not finite, the teacher's samples keep the student in bounds.
    if not (math.isfinite(tolerated) and math.isfinite(learned_by_heart)):
        return 1 / _LARGEST_CHANGE
    if tolerated <= 0 or learned_by_heart * _LARGEST_CHANGE <= tolerated:
        return _LARGEST_CHANGE
    return max(tolerated / learned_by_heart, 1 / _LARGEST_CHANGE)


def _batches(x: Array, condition: Array | None, batch_size: int) -> tf.data.Dataset:
    data = (x,) if condition is None else (x, condition)
    return tf.data.Dataset.from_tensor_slices(data).batch(batch_size)


def _mean(function: Any, batches: tf.data.Dataset) -> float:
    total, number = 0.0, 0
    for batch in batches:
        values = function(*batch).numpy()
        total, number = total + float(values.sum(dtype="float64")), number + len(values)
    return total / number
