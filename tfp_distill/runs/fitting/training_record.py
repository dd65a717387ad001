"""What is known about a training, in its directory."""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from tfp_distill.files import DamagedFileError, sha256_of
from tfp_distill.training import Backup

__all__ = [
    "FLOW_FILE",
    "TrainingRecord",
    "check_finished",
    "check_teacher",
    "read_record",
    "record_of",
]

FLOW_FILE = "flow.keras"


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
      teacher: SHA-256 of the file of the teacher that it learns from; "" without one.
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
    teacher: str = ""

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


def check_finished(flow_path: str | os.PathLike[str], argument: str) -> None:
    """Raises `ValueError` if a flow is the best one so far of a training that has not ended.

    Args:
      flow_path: its file; one that was copied elsewhere is taken as it is.
      argument: what names the flow.
    """
    path = pathlib.Path(flow_path).expanduser()
    record = read_record(path.parent) if path.name == FLOW_FILE else TrainingRecord()
    if record.steps and not record.finished:
        raise ValueError(
            f"`{argument}` must have a teacher whose training has ended, got {str(path)!r} after "
            f"{record.steps:,} steps; its own command goes on with it, and a copy elsewhere is "
            "taken as it is."
        )


def check_teacher(directories: Mapping[str, pathlib.Path], teacher_path: pathlib.Path) -> None:
    """Raises `ValueError` if students learned from another teacher than the one that is there.

    Args:
      directories: of the students, by name.
      teacher_path: the file of the teacher.
    """
    fingerprint = sha256_of(teacher_path)
    for name, directory in directories.items():
        if read_record(directory).teacher not in ("", fingerprint):
            raise ValueError(
                f"`run_dir` must have the teacher that its students learned from, got another one "
                f"than that of {name!r}, {str(teacher_path)!r}; another teacher needs another "
                "`run_dir`."
            )


def record_of(values: Mapping[str, Any]) -> TrainingRecord:
    """Returns the record whose fields `values` are, as JSON has them."""
    return TrainingRecord(**{**values, "history": tuple(values["history"])})
