"""Training that shows its progress, keeps the best weights and can be interrupted at any time."""

from __future__ import annotations

import dataclasses
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_distill.data import FlowData, TrainingRows, evaluation_batches
from tfp_distill.distillation import DistillationMonitor, TeacherTraces
from tfp_distill.evaluation import Health, evaluation_batch_size
from tfp_distill.files import written_whole
from tfp_distill.flows import Flow
from tfp_distill.runs.data_record import DataRecord
from tfp_distill.runs.fitting.guard import Guard, write_rows
from tfp_distill.runs.fitting.rows import first_rows, initial_rows, statistics_of
from tfp_distill.runs.fitting.training_record import (
    FLOW_FILE,
    TrainingRecord,
    read_record,
    record_of,
)
from tfp_distill.runs.strategies import of_chief
from tfp_distill.training import (
    Backup,
    PartwiseModel,
    PeakMemory,
    StopOnSkippedSteps,
    averaged_weights,
)

__all__ = ["fit_flow"]

_PATIENCE = 100  # Skipped steps in a row; one may be bad luck, a hundred are not.
_VALIDATION_ROWS = 50_000
_HELD_ROWS = 256  # To look at in every epoch.


def fit_flow(
    model: PartwiseModel,
    flow: Flow,
    data: FlowData,
    rows: TrainingRows | TeacherTraces,
    *,
    directory: pathlib.Path,
    steps: int,
    report_steps: int,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    monitor: DistillationMonitor | None = None,
    keep_rows: bool = False,
    guard: Guard | None = None,
    until: int | None = None,
    label: str = "",
    teacher: str = "",
) -> TrainingRecord:
    """Trains a compiled model and leaves its best flow in `directory / "flow.keras"`.

    Every `report_steps` steps the (averaged) weights are validated, a line is printed, the flow is
    saved if it is the best so far, and the whole state is written; a flow that can hardly be
    inverted any more is warned of, see `Health`. A later call with the same
    arguments goes on from there and ends with the weights of an uninterrupted run: to the last bit
    where XLA compiles the steps. Where it does not, the order in which TensorFlow adds up gradients
    depends on its threads, and no two runs need be the same to the last bit.

    Args:
      model: what is trained: the flow itself or a distiller of it.
      flow: the flow that results.
      data: rows to initialise from and to validate on.
      rows: those rows as batches to train on, see `training_rows`, or with the teacher's latents.
      directory: holds everything about this training; made if it does not exist.
      steps: number of training steps, a multiple of `report_steps`.
      report_steps: steps between two measurements.
      callbacks: further callbacks, whose effect depends on the step alone.
      monitor: adds its figures to the measurements.
      keep_rows: whether the likelihood of each validation row is kept at each measurement, for a
        guard to compare with.
      guard: compares with the plain student, and lets go of the teacher; needs `keep_rows`.
      until: the step at which the training pauses, for a later call to go on; by default it ends.
      label: what the lines call the training; by default the name of the directory.
      teacher: SHA-256 of the file of the teacher that it learns from, for the record.

    Returns:
      The record of the training.

    Raises:
      FloatingPointError: if so many steps in a row are skipped that none will be taken any more;
        what was saved is kept.
    """
    record, label = read_record(directory), label or directory.name
    until = steps if until is None else min(until, steps)
    if record.finished:
        print(f"{label}: already trained, {record.steps:,} steps", flush=True)
        return record
    if record.steps >= until:
        return record
    directory.mkdir(parents=True, exist_ok=True)
    DataRecord.of(data).write(directory)
    if record.steps:
        Backup(directory).restore(model)
        print(f"{label}: goes on after {record.steps:,} steps", flush=True)
    else:
        if not model.adapted:
            model.adapt(*initial_rows(data), **statistics_of(data))
    meter = _Meter()
    options = dict(keep_rows=keep_rows, guard=guard, teacher=teacher)
    reporter = _Reporter(flow, data, directory, label, record, steps, monitor, meter, **options)
    guards = [] if guard is None else [guard]
    stop = StopOnSkippedSteps(*initial_rows(data), patience=_PATIENCE)
    health = Health(
        *first_rows(data, "validation", _HELD_ROWS),
        warn=lambda text: print(f"{label}: warning: {text}", flush=True),
    )
    model.fit(
        rows.batches(start_step=record.steps),
        initial_epoch=record.steps // report_steps,
        epochs=until // report_steps,
        steps_per_epoch=report_steps,
        callbacks=[
            meter,
            stop,
            *callbacks,
            *guards,
            health,
            reporter,
        ],  # In this order, see `_Meter`.
        verbose=0,
    )
    return reporter.record


class _Meter(keras.callbacks.Callback):
    """Measures time and memory of an epoch's training steps, and of what prepares them.

    As the first callback it begins before the others prepare an epoch, and ends before any of them
    draws, validates or saves at its end.
    """

    def __init__(self):
        super().__init__()
        self._memory = PeakMemory()
        self._began = 0.0
        self.seconds = 0.0
        self.memory: dict[str, int] = {}  # The peak by name, where it is known.

    def on_epoch_begin(self, epoch, logs=None):
        _wait_for_devices(self.model.distribute_strategy)
        self._memory.reset()
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        # Logs may be there while a device still works on the last update.
        _wait_for_devices(self.model.distribute_strategy)
        self.seconds = time.perf_counter() - self._began
        peak = self._memory.read()
        # A CPU's allocator that leaves out small tensors counts none of a small flow's.
        self.memory = {"peak_bytes": peak} if peak else {}


class _Reporter(keras.callbacks.Callback):
    """Validates, prints, and saves flow, state and record at the end of each epoch."""

    def __init__(
        self,
        flow,
        data,
        directory,
        label,
        record,
        steps,
        monitor,
        meter,
        *,
        keep_rows,
        guard,
        teacher,
    ):
        super().__init__()
        self.record = record
        self._flow = flow
        self._directory = directory
        self._backup = Backup(directory)
        self._label = label
        self._steps = steps
        self._monitor = monitor
        rows, condition = first_rows(data, "validation", _VALIDATION_ROWS)
        batch_size = min(evaluation_batch_size(flow), len(rows))
        self._validation = evaluation_batches(rows, batch_size, condition=condition)
        self._domain, self._event_shape = data.domain, data.event_shape
        self._log_prob = tf.function(flow.log_prob, autograph=False, reduce_retracing=True)
        self._meter = meter
        self._keep_rows, self._guard, self._teacher = keep_rows, guard, teacher

    def set_model(self, model):
        super().set_model(model)
        if self._monitor is not None:
            self._monitor.set_model(model)

    def on_epoch_end(self, epoch, logs=None):
        seconds = self.record.seconds + self._meter.seconds
        logs = {name: float(value) for name, value in logs.items()}
        steps = self.model.step
        with averaged_weights(self.model):
            log_prob = self._validation_log_prob()
            mean = float(np.mean(log_prob, dtype=np.float64))
            likelihoods = self._domain.likelihoods(mean, self._event_shape)
            logs |= {f"val_{name}": value for name, value in likelihoods.items()}
            if self._monitor is not None:
                self._monitor.on_epoch_end(epoch, logs)
            if logs["val_nll"] < self.record.best_val_nll:
                with written_whole(self._directory / FLOW_FILE) as unfinished:
                    self._flow.save(unfinished)
        if self._keep_rows:
            write_rows(self._directory, steps, log_prob)
        if self._guard is not None:
            logs |= self._guard.measured(steps, log_prob)
        row = {"step": steps, "seconds": seconds, **self._meter.memory, **logs}
        if self.model.all_parts:
            row["parts"] = self.model.active_parts
        record = TrainingRecord(
            steps=steps,
            seconds=seconds,
            skipped_steps=self.model.skipped_steps,
            best_val_nll=min(self.record.best_val_nll, logs["val_nll"]),
            history=(*self.record.history, row),
            finished=steps >= self._steps,
            guarded_at=None if self._guard is None else self._guard.guarded_at,
            teacher=self._teacher,
        )
        if self._guard is not None and record.finished:
            record = self._guard.finish(self._directory, record)
        self.record = record_of(self._backup.save(self.model, dataclasses.asdict(record)))
        print(self._line(row), flush=True)

    def _validation_log_prob(self):
        parts = [self._log_prob(*_as_tuple(batch)).numpy() for batch in self._validation]
        return of_chief(self.model.distribute_strategy, np.concatenate(parts))

    def _line(self, row: Mapping[str, Any]) -> str:
        left = row["seconds"] / row["step"] * (self._steps - row["step"])
        named = {
            "nll": "nll",
            "val_nll": "validation nll",
            "val_bits_per_dim": "bits per dimension",
            "val_latent_distance": "latents apart",
            "val_sample_distance": "samples apart",
        }
        figures = [f"{text} {row[name]:.4f}" for name, text in named.items() if name in row]
        if self.record.skipped_steps:
            figures.append(f"{self.record.skipped_steps:,} steps skipped")
        return (
            f"{self._label}: step {row['step']:,} of {self._steps:,}, "
            f"{', '.join(figures)}; {left:.0f} s left"
        )


def _wait_for_devices(strategy: tf.distribute.Strategy) -> None:
    # It cannot where there are several processes.
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        tf.test.experimental.sync_devices()


def _as_tuple(batch: Any) -> tuple[tf.Tensor, ...]:
    return batch if isinstance(batch, tuple) else (batch,)
