"""Training in parts beside training end to end, as tables."""

from __future__ import annotations

from collections.abc import Mapping

from tfp_distill.evaluation.parts.part_history import PartHistory, phase_summaries
from tfp_distill.evaluation.text_table import UNDEFINED, Table, format_bytes, format_duration

__all__ = ["phase_table", "training_table"]

_FIGURES = "Train and validation are negative log-likelihoods in {}; lower is better. "
_PHASES = (
    "Each is that of the last epoch of its phase: train of the last part that trains, validation "
    "of the whole flow. Time per epoch is the median without the first epoch of a phase, which "
    "compiles, and without validation and drawing; of end to end is its ratio to an end-to-end "
    "epoch. Forward and backward are what a training step hands across the boundaries of parts: "
    "hidden values, and gradients, which stop there but for end-to-end epochs. "
    "Peak memory is the highest of an epoch, where it is known."
)
_TRAININGS = (
    "Both are those of the flow that is kept: that of the epoch with the best validation figure. "
    "Time is that of all epochs, compilation included, validation and drawing not; of end to end "
    "is its ratio to the training end_to_end."
)


def phase_table(histories: Mapping[str, PartHistory], *, unit: str = "bits per dimension") -> Table:
    """Returns a row for each training, phase and part: time, figures, memory, bytes between parts.

    Args:
      histories: the trainings of one run by name, as `phase_summaries` takes them.
      unit: unit of the figures.
    """
    rows = [
        [
            summary.training,
            summary.phase,
            f"{summary.epochs:,}",
            f"{summary.steps:,}",
            format_duration(summary.seconds_per_epoch),
            _ratio(summary.ratio),
            f"{summary.train:.3f}",
            f"{summary.validation:.3f}",
            _bytes(summary.peak_bytes),
            _bytes(summary.forward_bytes),
            _bytes(summary.backward_bytes),
        ]
        for summary in phase_summaries(histories)
    ]
    header = [
        *("training", "phase", "epochs", "steps", "time per epoch", "of end to end"),
        *("train", "validation", "peak memory", "forward per step", "backward per step"),
    ]
    return Table(header, rows, note=_FIGURES.format(unit) + _PHASES, text_columns=2)


def training_table(
    histories: Mapping[str, PartHistory],
    test: Mapping[str, float] | None = None,
    *,
    unit: str = "bits per dimension",
) -> Table:
    """Returns a row for each training: its parts, epochs and time, and what it reached.

    Args:
      histories: the trainings of one run by name, as `phase_summaries` takes them.
      test: the figure of the best flow on test data by name, where it is known.
      unit: unit of the figures.
    """
    reference = histories["end_to_end"].seconds if "end_to_end" in histories else None
    rows = [
        [
            name,
            f"{history.num_parts}",
            f"{len(history.epochs):,}",
            format_duration(history.seconds),
            _ratio(history.seconds / reference if reference else None),
            UNDEFINED if history.best is None else f"{history.best.validation:.3f}",
            f"{test[name]:.3f}" if test and name in test else UNDEFINED,
        ]
        for name, history in histories.items()
    ]
    header = ["training", "parts", "epochs", "time", "of end to end", "validation", "test"]
    note = _FIGURES.replace("Train and validation", "Validation and test").format(unit)
    return Table(header, rows, note=note + _TRAININGS)


def _ratio(ratio: float | None) -> str:
    return UNDEFINED if ratio is None else f"{ratio:.2f}"


def _bytes(number: int | None) -> str:
    return UNDEFINED if number is None else format_bytes(number)
