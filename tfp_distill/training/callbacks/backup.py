"""The whole state of a training on disk, so that it goes on exactly."""

from __future__ import annotations

import hashlib
import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tfp_distill.files import (
    DamagedFileError,
    read_json,
    reserve,
    sha256_of,
    write_json,
    written_whole,
)
from tfp_distill.training.partwise_model import PartwiseModel

__all__ = ["Backup"]

_RECORD = "progress.json"
_BYTES_OF_A_NAME = 4096  # And of what HDF5 keeps beside a tensor.


class Backup(keras.callbacks.Callback):
    """Keeps the whole state of a training after every epoch, so that it can go on exactly.

    As `keras.callbacks.BackupAndRestore`, but nothing is left out: weights, the slots of the
    optimiser of every part, averages of weights, the steps that schedules, fading weights, turns of
    parts and the noise of training are functions of, and the logs of all epochs. The files take
    each other's place as wholes and have checksums: whenever the process is killed, the last whole
    state is there, and a damaged one is refused.

    A training that was interrupted ends with the weights, bit by bit, of one that was not, if its
    data and its other callbacks depend on the step alone: `TrainingRows.batches` begin at any step;
    an array that Keras shuffles does not.

    Example:
        flow.compile("adam")
        backup = Backup("runs/mine")
        step = backup.restore(flow)  # 0 if there is nothing yet.
        flow.fit(
            rows.batches(start_step=step),
            steps_per_epoch=500,
            initial_epoch=step // 500,
            epochs=100,
            callbacks=[backup],
        )
        backup.history  # Of all epochs.

    Under a `tf.distribute` strategy the chief alone writes, and every worker restores from the
    same directory.

    Args:
      directory: holds the state and nothing else's; made if it does not exist.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        super().__init__()
        self._directory = pathlib.Path(directory)
        self._history: list[dict[str, Any]] = list(self.record().get("history", ()))

    @property
    def history(self) -> list[dict[str, Any]]:
        """For every epoch so far its `epoch`, the `step` at its end, and its logs."""
        return [dict(row) for row in self._history]

    def record(self) -> dict[str, Any]:
        """Returns what was saved beside the state, or nothing.

        Raises:
          DamagedFileError: if its file is damaged.
        """
        path = self._directory / _RECORD
        return read_json(path) if path.is_file() else {}

    def restore(self, model: PartwiseModel) -> int:
        """Gives a compiled model the state that was saved last, if there is one.

        Returns:
          The number of training steps that led to it; 0 if there is none.

        Raises:
          DamagedFileError: if the state is damaged, or that of a model of other weights.
        """
        record = self.record()
        if not record:
            return 0
        try:
            steps, path = int(record["steps"]), self._directory / record["checkpoint"]
            checksum, layout = record["checkpoint_sha256"], record["layout"]
        except (KeyError, TypeError, ValueError) as error:
            message = f"{str(self._directory / _RECORD)!r} holds no state of a training: {error}."
            raise DamagedFileError(message) from error
        if not path.is_file() or sha256_of(path) != checksum:
            raise DamagedFileError(
                f"{str(path)!r} is missing or damaged: it does not have the checksum in {_RECORD}; "
                f"without {str(self._directory)!r} this model is trained from its start."
            )
        if layout != _layout(model):
            raise DamagedFileError(
                f"{str(path)!r} is the state of another model or another optimizer than those of "
                f"{model.name!r}."
            )
        model.load_weights(path)
        return steps

    def save(self, model: PartwiseModel, record: Mapping[str, Any]) -> dict[str, Any]:
        """Saves the state of a model in place of the former one.

        Args:
          model: what is trained.
          record: is kept beside it; values that JSON knows, NaN and infinity among them.

        Returns:
          The record with what `restore` needs.
        """
        former = self.record().get("checkpoint")
        optimizers = (
            variable for optimizer in model.optimizers for variable in optimizer.variables
        )
        num_bytes = sum(
            _BYTES_OF_A_NAME + math.prod(variable.shape) * tf.as_dtype(variable.dtype).size
            for variable in (*model.variables, *optimizers)
        )
        path = self._directory / f"checkpoint_{model.step}.weights.h5"
        with written_whole(path) as unfinished:
            reserve(unfinished, num_bytes)
            model.save_weights(unfinished)
            checksum = sha256_of(unfinished)
        written = {
            **record,
            "steps": model.step,
            "checkpoint": path.name,
            "checkpoint_sha256": checksum,
            "layout": _layout(model),
        }
        write_json(self._directory / _RECORD, written)
        if former not in (None, path.name):
            (self._directory / former).unlink(missing_ok=True)
        return written

    def set_model(self, model: keras.Model) -> None:
        """Takes the model that is fitted.

        Raises:
          ValueError: if it does not count its steps.
        """
        if not isinstance(model, PartwiseModel):
            raise ValueError(
                f"`Backup` must be used with a Flow or a FlowDistiller, got {type(model).__name__}."
            )
        super().set_model(model)

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Makes sure that nobody begins again over a training that could go on.

        Raises:
          ValueError: if the model does not have the state that was saved last.
        """
        steps = self.record().get("steps", 0)
        if steps != self.model.step:
            raise ValueError(
                f"`fit` must go on from the state in {str(self._directory)!r}, of step {steps:,}, "
                f"got a model at step {self.model.step:,}: call `Backup.restore` before it, or "
                "use another directory."
            )

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Saves the state."""
        figures = {name: float(value) for name, value in (logs or {}).items()}
        self._history.append({"epoch": epoch, "step": self.model.step, **figures})
        if self.model.distribute_strategy.extended.should_checkpoint:
            self.save(self.model, {"history": self._history})


def _variables(model: PartwiseModel) -> list[keras.Variable]:
    optimizers = (variable for optimizer in model.optimizers for variable in optimizer.variables)
    return [*model.variables, *optimizers]


def _layout(model: PartwiseModel) -> str:
    """Tells states apart that do not fit each other; Keras loads what it can of them."""
    shapes = [(str(variable.dtype), *variable.shape) for variable in _variables(model)]
    return hashlib.sha256(json.dumps(shapes).encode()).hexdigest()
