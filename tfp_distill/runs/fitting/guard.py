"""A guard that keeps a distilled student from being worse than one that has no teacher."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tfp_distill.distillation import FlowDistiller
from tfp_distill.files import DamagedFileError, copy_file, written_whole
from tfp_distill.runs.fitting.training_record import FLOW_FILE, TrainingRecord

__all__ = ["Guard", "standard_errors_behind", "write_rows"]

# A measurement is behind if it is so by more standard errors than these.
_NOISE = 2.0
_PATIENCE = 3
# In the end both flows, measured on the same rows, are two draws: more than one is too much to bet
# that new rows will not show more than two.
_NOISE_AT_END = 1.0
_FADING = 0.25
_ROWS = "validation_rows"


def write_rows(directory: pathlib.Path, step: int, log_prob: np.ndarray) -> None:
    """Keeps log-likelihoods `[n]` of the validation rows, for the comparison at that step."""
    with written_whole(_path(directory, step)) as unfinished:
        np.save(unfinished, log_prob)


def standard_errors_behind(log_prob: np.ndarray, plain: np.ndarray) -> float:
    """Returns by how many standard errors a flow is behind another one, paired over rows.

        mean(d) / (std(d) / sqrt(n)),   d = log p_plain(x) - log p(x)

    infinity where only the flow itself has a log-likelihood that is not finite, 0 where both have.

    Args:
      log_prob: log-likelihoods `[n]` of the flow.
      plain: those of the other flow, for the same rows.
    """
    finite, plain_is_finite = (bool(np.isfinite(rows).all()) for rows in (log_prob, plain))
    if not (finite and plain_is_finite):
        return math.inf * (plain_is_finite - finite) if finite != plain_is_finite else 0.0
    difference = np.asarray(plain, np.float64) - np.asarray(log_prob, np.float64)
    mean = float(difference.mean())
    if len(difference) < 2 or not (deviation := float(difference.std(ddof=1))):
        return math.copysign(math.inf, mean) if mean else 0.0
    return mean / (deviation / math.sqrt(len(difference)))


class Guard(keras.callbacks.Callback):
    """Lets go of the teacher where a student is better off without it.

    After each measurement the student is compared with the plain one at the same step, paired over
    the validation rows. If it is behind by more than two standard errors three times in a row, the
    weights of its distillation losses go to 0, and that of the nll to 1, linearly over a quarter of
    the steps that are left. It comes last among the callbacks that set weights: what they set
    counts as far as it is not above what the guard allows. When and from which weights it began is
    saved with the model, so that a resumed run goes on as an uninterrupted one.

    Where the teacher's losses fade out by themselves, it only judges the end. A student that also
    follows hints is behind as long as they last, and for a while after: on POWER one of splines was
    so at step 8,000 of 20,000, and ended 0.034 nats ahead.

    Args:
      directory: that of the plain student, which has been trained for as many steps.
      plain: its record.
      label: what the lines call the student that is guarded.
      steps: steps of the training.
      lets_go: whether it may let go of the teacher before the end.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        plain: TrainingRecord,
        *,
        label: str,
        steps: int,
        lets_go: bool = True,
    ) -> None:
        super().__init__()
        self._directory = directory
        self._plain = plain
        self._label = label
        self._steps = steps
        self._lets_go = lets_go

    @property
    def guarded_at(self) -> int | None:
        """The step at which the guard began; None if it did not."""
        begin = self._state("begin")
        return None if begin is None else int(begin[0])

    def measured(self, step: int, log_prob: np.ndarray) -> dict[str, float]:
        """Compares with the plain student at a step, and begins if the student fell behind.

        Args:
          step: the step.
          log_prob: log-likelihoods of the validation rows.

        Returns:
          What to record: by how many standard errors the student is behind.
        """
        behind = standard_errors_behind(log_prob, _read_rows(self._directory, step))
        waited = int((self._state("waited", [0]))[0])
        waited = waited + 1 if behind > _NOISE else 0
        self._keep("waited", [waited])
        may_begin = self._lets_go and self.guarded_at is None and step < self._steps
        if waited >= _PATIENCE and may_begin:
            end = step + max(1, round(_FADING * (self._steps - step)))
            self._keep("begin", [step, end])
            self._keep("weights", list(self.model.loss_weights.values()))
            print(
                f"{self._label}: guarded at step {step:,}, {behind:.1f} standard errors behind the "
                f"plain student: what it learns from the teacher fades out until step {end:,}",
                flush=True,
            )
        return {"val_errors_behind": behind}

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Sets the weights of this step."""
        if self.guarded_at is None:
            return
        begin, end = self._state("begin")
        left = max(0.0, 1 - (self.model.step - begin) / (end - begin))
        now = self.model.loss_weights
        allowed = dict(zip(now, self._state("weights"), strict=True))
        weights = {name: min(now[name], left * float(allowed[name])) for name in now}
        weights["nll"] = 1 - left + left * float(allowed["nll"])
        self.model.set_loss_weights(weights)

    def finish(self, directory: pathlib.Path, record: TrainingRecord) -> TrainingRecord:
        """Gives a trained student the plain one's flow, if its own is worse; returns its record.

        Args:
          directory: that of the student.
          record: its record.
        """
        own = _read_rows(directory, record.best_step)
        plain = _read_rows(self._directory, self._plain.best_step)
        behind = standard_errors_behind(own, plain)
        if behind <= _NOISE_AT_END:
            return record
        copy_file(self._directory / FLOW_FILE, directory / FLOW_FILE)
        print(
            f"{self._label}: ends {behind:.1f} standard errors behind the plain student, "
            "whose flow it gets",
            flush=True,
        )
        return dataclasses.replace(record, replaced=True, best_val_nll=self._plain.best_val_nll)

    def set_model(self, model: keras.Model) -> None:
        """Takes the model that is fitted.

        Raises:
          ValueError: if it is not a `FlowDistiller`.
        """
        if not isinstance(model, FlowDistiller):
            raise ValueError(
                f"`Guard` must be used with a FlowDistiller, got {type(model).__name__}."
            )
        super().set_model(model)

    def _state(self, name: str, default: Any = None) -> Any:
        return self.model.callback_state.get(f"guard_{name}", default)

    def _keep(self, name: str, value: Any) -> None:
        self.model.callback_state[f"guard_{name}"] = np.asarray(value, np.float64)


def _path(directory: pathlib.Path, step: int) -> pathlib.Path:
    return directory / _ROWS / f"{step}.npy"


def _read_rows(directory: pathlib.Path, step: int) -> np.ndarray:
    path = _path(directory, step)
    try:
        return np.load(path)
    except (OSError, ValueError, EOFError) as error:
        raise DamagedFileError(
            f"{str(path)!r} is missing or damaged; without {str(directory)!r} this model is "
            "trained from its start."
        ) from error
