"""What a training in parts took and reached: by epoch, by phase and part, and as a whole."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence

__all__ = ["EpochRecord", "PartHistory", "PhaseSummary", "phase_summaries"]

_REFERENCE = "end_to_end"


@dataclasses.dataclass(frozen=True)
class EpochRecord:
    """An epoch of training.

    Its figures are negative log-likelihoods, in bits per dimension or nats per example.

    Attributes:
      parts: the parts that trained, counted from 0; None for end to end.
      steps: number of training steps.
      seconds: training time, compilation included, validation and drawing not.
      train: figure of the last of `parts`, or of the flow end to end, on training data.
      validation: figure of the whole flow on validation data, whatever was trained.
      peak_bytes: peak memory of the epoch; None where it is not known.
    """

    parts: tuple[int, ...] | None
    steps: int
    seconds: float
    train: float
    validation: float
    peak_bytes: int | None = None

    def __post_init__(self) -> None:
        """Checks the parts; a list, where they come from a saved file, becomes a tuple."""
        if self.parts is None:
            return
        object.__setattr__(self, "parts", tuple(self.parts))
        if not self.parts or list(self.parts) != sorted(set(self.parts)) or self.parts[0] < 0:
            raise ValueError(f"`parts` must be None or rising, from 0, got {self.parts}.")

    @property
    def phase(self) -> str:
        """Who trained: "part 0", "parts 0+1" or "end to end"."""
        if self.parts is None:
            return "end to end"
        return f"part{'s' * (len(self.parts) > 1)} {'+'.join(map(str, self.parts))}"


@dataclasses.dataclass(frozen=True)
class PartHistory:
    """A training of a flow, end to end or in parts.

    Attributes:
      epochs: its epochs, in order.
      boundary_bytes: for each boundary between two parts the bytes that a training step hands
        forward across it; () for a flow that is not divided.
    """

    epochs: Sequence[EpochRecord]
    boundary_bytes: Sequence[int] = ()

    def __post_init__(self) -> None:
        """Checks that there are as many parts as train."""
        last = max((part for epoch in self.epochs for part in epoch.parts or ()), default=0)
        if last > len(self.boundary_bytes):
            raise ValueError(
                f"`boundary_bytes` must have a number for each boundary before part {last}, which "
                f"trains in `epochs`, got {tuple(self.boundary_bytes)}."
            )

    @property
    def num_parts(self) -> int:
        """Number of parts; 1 for a flow that is not divided."""
        return len(self.boundary_bytes) + 1

    @property
    def seconds(self) -> float:
        """Time of all epochs."""
        return sum(epoch.seconds for epoch in self.epochs)

    @property
    def best(self) -> EpochRecord | None:
        """The epoch with the lowest validation figure, the first of several; None without epochs.

        One whose figure is nan is the best only where all are.
        """
        return min(
            self.epochs,
            key=lambda epoch: (math.isnan(epoch.validation), epoch.validation),
            default=None,
        )


@dataclasses.dataclass(frozen=True)
class PhaseSummary:
    """All epochs of a training in which the same parts trained.

    Attributes:
      training: name of the training.
      phase: who trained, as in `EpochRecord`.
      epochs: number of these epochs, which need not follow each other.
      steps: number of their steps.
      seconds_per_epoch: their median time, without the first of several, which holds compilation.
      ratio: `seconds_per_epoch` relative to that of an end-to-end epoch: of the training
        "end_to_end" if there is one, else of this training's own; None without either.
      train: figure on training data in the last of these epochs.
      validation: figure of the whole flow on validation data after it.
      peak_bytes: the highest peak of memory that is known; None where none is.
      forward_bytes: bytes that a step hands forward across boundaries, up to the last part that
        trains; None for a flow that is not divided.
      backward_bytes: bytes of gradients that a step hands back across them: none in parts, as many
        as forward end to end.
    """

    training: str
    phase: str
    epochs: int
    steps: int
    seconds_per_epoch: float
    ratio: float | None
    train: float
    validation: float
    peak_bytes: int | None
    forward_bytes: int | None
    backward_bytes: int | None


def phase_summaries(histories: Mapping[str, PartHistory]) -> list[PhaseSummary]:
    """Groups the epochs of trainings by who trained.

    Args:
      histories: the trainings of one run by name; one named "end_to_end" is what the times of the
        others are compared with.

    Returns:
      The summaries, by training and, within it, in the order in which the phases began.
    """
    reference = _seconds_end_to_end(histories[_REFERENCE]) if _REFERENCE in histories else None
    return [
        _summarize(name, phase, epochs, history, reference or _seconds_end_to_end(history))
        for name, history in histories.items()
        for phase, epochs in _by_phase(history).items()
    ]


def _summarize(
    name: str,
    phase: str,
    epochs: Sequence[EpochRecord],
    history: PartHistory,
    reference: float | None,
) -> PhaseSummary:
    seconds, parts = _seconds_per_epoch(epochs), epochs[0].parts
    peaks = [epoch.peak_bytes for epoch in epochs if epoch.peak_bytes is not None]
    forward = sum(history.boundary_bytes[: None if parts is None else max(parts)])
    divided = history.num_parts > 1
    return PhaseSummary(
        training=name,
        phase=phase,
        epochs=len(epochs),
        steps=sum(epoch.steps for epoch in epochs),
        seconds_per_epoch=seconds,
        ratio=seconds / reference if reference else None,
        train=epochs[-1].train,
        validation=epochs[-1].validation,
        peak_bytes=max(peaks, default=None),
        forward_bytes=forward if divided else None,
        backward_bytes=(forward if parts is None else 0) if divided else None,
    )


def _by_phase(history: PartHistory) -> dict[str, list[EpochRecord]]:
    phases: dict[str, list[EpochRecord]] = {}
    for epoch in history.epochs:
        phases.setdefault(epoch.phase, []).append(epoch)
    return phases


def _seconds_per_epoch(epochs: Sequence[EpochRecord]) -> float:
    return statistics.median(epoch.seconds for epoch in epochs[1:] or epochs)


def _seconds_end_to_end(history: PartHistory) -> float | None:
    epochs = [epoch for epoch in history.epochs if epoch.parts is None]
    return _seconds_per_epoch(epochs) if epochs else None
