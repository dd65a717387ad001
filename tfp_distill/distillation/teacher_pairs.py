"""Latents and what the teacher makes of them, made for many steps at once and drawn from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfp_distill.arrays import Array
from tfp_distill.bijectors import Trace
from tfp_distill.distillation.callbacks import DistillerCallback
from tfp_distill.distillation.drawing import DrawnPairs, Generated
from tfp_distill.distillation.teachers import SampleTeacher
from tfp_distill.flows.config import check_at_least
from tfp_distill.training import StepRandom

__all__ = ["TeacherPairs"]

_BATCH = 4096
_VALUES_OF_BATCH = 2**22


class TeacherPairs(DistillerCallback):
    """Lets losses over the teacher's samples draw from a table, and fills the table now and then.

    A row of the table is a latent z ~ N(0, T^2 I), x = f_t^-1(z) and how the teacher maps x back.
    Rows that the teacher is not sure of are left out of it, see `SharedPass`. A step draws its rows
    uniformly, so that a loss over the teacher's samples costs the student's passes and no pass of
    the teacher's. What a step sees follows from the seed and the number of the step alone: a
    resumed run sees the rows of an uninterrupted one. Example:

        distiller.fit(dataset_of_x, callbacks=[TeacherPairs(65_536, refresh_steps=1000)])

    Args:
      size: number of latents, the rows of the table and those left out of it.
      refresh_steps: after so many steps the table is filled anew.
      temperature: T, that of the losses that shall draw from the table.

    Raises:
      ValueError: if a number is not positive.
    """

    def __init__(
        self, size: int = 65_536, *, refresh_steps: int = 1000, temperature: float = 1.0
    ) -> None:
        super().__init__()
        check_at_least(1, size=size, refresh_steps=refresh_steps)
        if not temperature > 0:
            raise ValueError(f"`temperature` must be positive, got {temperature}.")
        self._size = size
        self._refresh_steps = refresh_steps
        self._temperature = float(temperature)
        self._period: int | None = None

    def set_model(self, model: keras.Model) -> None:
        """Takes the distiller.

        Raises:
          ValueError: if its flows are conditional: pairs would have to know the conditions. Or if
            the teacher is a `SampleTeacher`, which keeps its samples itself.
        """
        super().set_model(model)
        if isinstance(model.teacher, SampleTeacher):
            raise ValueError(
                f"`{type(self).__name__}` must be used with teachers that make samples, got "
                f"{model.teacher.description}, which are kept as they are."
            )
        if model.student.config.condition_dims:
            raise ValueError(
                f"`{type(self).__name__}` must be used with flows without a condition, got one of "
                f"{model.student.config.condition_dims} numbers."
            )

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Makes the table."""
        model, dtype = self.model, self.model.compute_dtype
        self._make = tf.function(self._pairs, jit_compile=model.uses_xla, autograph=False)
        # One pair, to know how wide the columns are.
        _, made = self._make.get_concrete_function(
            tf.TensorSpec([], tf.int32), 1
        ).structured_outputs
        with model.distribute_strategy.scope():
            self._columns = _Columns(
                *(
                    tf.Variable(tf.zeros([self._size, *column.shape[1:]], dtype), trainable=False)
                    for column in made
                )
            )
            self._kept = tf.Variable(0, trainable=False)
        self._period = None
        self._fill()
        model.draw_pairs(DrawnPairs(self._temperature, self._draw, self._left_out))

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Fills the table anew where its time has come."""
        self._fill()

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
        """Lets the table go."""
        self.model.draw_pairs(None)
        del self._columns, self._make

    def _fill(self) -> None:
        period = self.model.step // self._refresh_steps
        if period == self._period:
            return
        self._period = period
        rows = max(1, min(_BATCH, self._size, _VALUES_OF_BATCH // self.model.student.latent_dims))
        number, parts = math.ceil(self._size / rows), []
        for batch in range(number):
            kept, columns = self._make(tf.constant(period * number + batch), rows)
            kept = kept.numpy()[: self._size - batch * rows]
            parts.append([column.numpy()[: len(kept)][kept] for column in columns])
        columns = [np.concatenate(part) for part in zip(*parts, strict=True)]
        if not len(columns[0]):
            raise ValueError(
                "`teacher` must make samples that it maps back to their latents, got none among "
                f"{self._size:,}."
            )
        for variable, column in zip(self._columns, columns, strict=True):
            missing = self._size - len(column)
            variable.assign(np.pad(column, [(0, missing)] + [(0, 0)] * (column.ndim - 1)))
        self._kept.assign(len(columns[0]))

    def _pairs(self, place: tf.Tensor, rows: int) -> tuple[tf.Tensor, _Columns]:
        """Returns so many new rows and which of them count; `place` tells them from others."""
        shared = self.model.shared_pass(
            tf.zeros([rows, *self.model.student.event_shape], self.model.compute_dtype),
            None,
            StepRandom(self.model.seed, place, stream="pairs"),
        )
        sample = shared.teacher_sample(self._temperature)
        trace = shared.teacher_trace_of_teacher_sample(self._temperature)
        ildjs = tf.stack(trace.ildjs, axis=-1)
        columns = _Columns(sample.z, sample.x, sample.fldj, trace.latents[-1], ildjs)
        return shared.kept(self._temperature), columns

    def _draw(self, random: StepRandom, rows: tf.Tensor) -> tuple[Generated, Trace]:
        drawn = random._replace(stream="pairs").integers(rows, self._kept)
        z, x, fldj, latent, ildjs = (tf.gather(column, drawn) for column in self._columns)
        return Generated(z, x, fldj), Trace((latent,), tuple(tf.unstack(ildjs, axis=-1)))

    def _left_out(self) -> tf.Tensor:
        """Returns the share of the latents that is left out of the table."""
        return 1.0 - tf.cast(self._kept, self.model.compute_dtype) / self._size


class _Columns(NamedTuple):
    """Columns of the table.

    Attributes:
      z: latents `[rows, D]`.
      x: samples `[rows, ...]`.
      fldj: log|det dx/dz| `[rows]`.
      latent: what the teacher maps x back to `[rows, D]`.
      ildjs: the terms of the log-determinant of that `[rows, steps + 1]`.
    """

    z: Array
    x: Array
    fldj: Any
    latent: Any
    ildjs: Any
