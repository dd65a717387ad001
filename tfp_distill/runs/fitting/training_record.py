"""What is known about a training, in its directory."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Mapping
from typing import Any

from tfp_distill.files import DamagedFileError
from tfp_distill.training import Backup

__all__ = ["TrainingRecord", "read_record", "record_of"]


@dataclasses.dataclass(frozen=True)
class TrainingRecord:
    """What is known about a training, finished or not.

    Attributes:
      steps: number of steps so far, the skipped ones included.
      seconds: wall-clock time of these steps, compilation included; what happens at the end of an
        epoch, as validation, drawing and saving, is not.
      skipped_steps: number of skipped steps.
      best_val_nll: lowest validation nll, that of the saved flow, in nats per example.
      history: one mapping of figures for every measurement; of a training in parts with `parts`,
        those that were trained, or None for end to end.
      finished: whether all steps were taken.
      checkpoint: name of the file with the state after `steps`.
      checkpoint_sha256: its checksum.
      layout: what it is a state of, see `Backup`.
      guarded_at: step from which the student was let go of by its teacher, see `Guard`; or None.
      replaced: whether the flow is the plain student's, because its own was worse.
    """

    steps: int = 0
    seconds: float = 0.0
    skipped_steps: int = 0
    best_val_nll: float = math.inf
    history: tuple[Mapping[str, Any], ...] = ()
    finished: bool = False
    checkpoint: str = ""
    checkpoint_sha256: str = ""
    layout: str = ""
    guarded_at: int | None = None
    replaced: bool = False

    @property
    def best_step(self) -> int:
        """The step of the lowest validation nll of this training."""
        finite = [row for row in self.history if math.isfinite(row["val_nll"])]
        return min(finite or self.history, key=lambda row: row["val_nll"])["step"]


def read_record(directory: pathlib.Path) -> TrainingRecord:
    """Returns the record in `directory`, or an empty one.

    Raises:
      DamagedFileError: if the file of the record is damaged.
    """
    values = Backup(directory).record()
    try:
        return record_of(values) if values else TrainingRecord()
    except (KeyError, TypeError) as error:
        message = f"'progress.json' in {str(directory)!r} holds no record of a training: {error}."
        raise DamagedFileError(message) from error


def record_of(values: Mapping[str, Any]) -> TrainingRecord:
    """Returns the record whose fields `values` are, as JSON has them."""
    return TrainingRecord(**{**values, "history": tuple(values["history"])})
