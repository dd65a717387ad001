"""What an epoch in parts costs, relative to an end-to-end epoch.

    python benchmarks/part_times.py --image_size=32 --channels=3 --depth=4 --width=128
    python benchmarks/part_times.py --teacher_depth=8  # a student, distilled by ILKD

A Glow of three levels on random images, divided into parts in several ways. End to end, each part
by itself, and each part on the cached output of the frozen ones before it take turns of some steps
in one `fit`; medians count. Printed are the cost of a turn of each part, and what follows for

- alternating: the mean of the parts, each with the forward pass of those before it;
- a plan of 2/3 of the epochs alternating and 1/3 end to end (PARTS, section 4);
- sequential with the cache, without filling it, whose cost per row is printed beside it.

With a forward pass as unit and backward as 2, n equal parts would cost ((n - 1) / 2n + 3 / n) / 3
alternating and 1 / n sequentially, with a cache. Quiet machine required.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence

import keras
import numpy as np
from absl import app, flags

import tfp_distill
from tfp_distill.data import TrainingRows

TURNS = 7
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 32, "Height and width.")
_CHANNELS = flags.DEFINE_integer("channels", 3, "Channels of the images.")
_DEPTH = flags.DEFINE_integer("depth", 4, "Steps of each of the three levels.")
_WIDTH = flags.DEFINE_integer("width", 128, "Hidden channels of the conditioners.")
_TEACHER_DEPTH = flags.DEFINE_integer(
    "teacher_depth", 0, "Steps of each level of a teacher of twice the width; 0: there is none."
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Rows of a batch.")
_STEPS = flags.DEFINE_integer("steps", 10, "Steps of a turn.")
_BALANCE = flags.DEFINE_enum(
    "balance", "cost", ["steps", "parameters", "cost"], "What across_blocks shares out."
)
_JIT_COMPILE = flags.DEFINE_boolean("jit_compile", False, "Whether XLA compiles the steps.")


class _Turns(keras.callbacks.Callback):
    """Gives every epoch to the next of some ways to train, and notes how long each takes."""

    def __init__(self, rows: TrainingRows, ways: Sequence[tuple[int | None, bool]]) -> None:
        super().__init__()
        self._caches = {way: tfp_distill.PrefixCache(rows) for way in ways if way[1]}
        self._ways = ways
        self.seconds: dict[tuple[int | None, bool], list[float]] = {way: [] for way in ways}
        self.filling: dict[int, list[float]] = {}
        self._began = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        way = part, cached = self._ways[epoch % len(self._ways)]
        parts, batches = None if part is None else (part,), None
        if cached:
            self._caches[way].clear()
            began = time.perf_counter()
            batches = self._caches[way].batches(self.model, parts, epoch)
            self.filling.setdefault(part, []).append(time.perf_counter() - began)
        self.model.train_parts(parts, batches=batches)
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds[self._ways[epoch % len(self._ways)]].append(time.perf_counter() - self._began)

    def medians(self) -> dict[tuple[int | None, bool], float]:
        """Returns the time of a turn of each way; the first turn, which compiles, is left out."""
        return {way: statistics.median(seconds[1:]) for way, seconds in self.seconds.items()}


def _measure(divide: Callable[[tfp_distill.Flow], tfp_distill.Partition], name: str) -> None:
    size, channels = _IMAGE_SIZE.value, _CHANNELS.value
    config = tfp_distill.GlowConfig(
        (size, size, channels),
        num_levels=3,
        steps_per_level=_DEPTH.value,
        hidden_channels=_WIDTH.value,
    )
    flow = tfp_distill.Flow(config)
    number = _STEPS.value * _BATCH_SIZE.value
    x = np.random.RandomState(0).uniform(size=(number, *config.image_shape)).astype(np.float32)
    flow.adapt(x[: _BATCH_SIZE.value])
    partition = divide(flow)
    model = _with_teacher(flow, x) if _TEACHER_DEPTH.value else flow
    optimizer = keras.optimizers.Adam(1e-5, global_clipnorm=50.0)
    model.compile(
        optimizer,
        partition=partition,
        jit_compile=_JIT_COMPILE.value,
        steps_per_execution=_STEPS.value,
    )
    rows = TrainingRows(x, _BATCH_SIZE.value)
    parts = range(len(partition.parts))
    turns = _Turns(
        rows, [(None, False), *((k, False) for k in parts), *((k, True) for k in parts[1:])]
    )
    model.fit(
        rows.batches(),
        steps_per_epoch=_STEPS.value,
        epochs=(TURNS + 1) * len(turns.seconds),
        callbacks=[turns],
        verbose=0,
    )
    medians = turns.medians()
    whole = medians[None, False]
    own = [medians[part, False] / whole for part in parts]
    cached = [own[0], *(medians[part, True] / whole for part in parts[1:])]
    alternating = statistics.mean(own)
    filling = [statistics.median(seconds[1:]) / whole for seconds in turns.filling.values()]
    print(
        f"{name} {partition.ends}: end to end {1e3 * whole / _STEPS.value:.0f} ms a step; "
        f"parts {_numbers(own)}, alternating {alternating:.3f}, "
        f"plan {2 / 3 * alternating + 1 / 3:.3f}; "
        f"cached {_numbers(cached)}, sequential {statistics.mean(cached):.3f}, "
        f"filling for a pass over the rows {_numbers(filling)}",
        flush=True,
    )


def _with_teacher(student: tfp_distill.Flow, x: np.ndarray) -> tfp_distill.FlowDistiller:
    config = dataclasses.replace(
        student.config,
        steps_per_level=_TEACHER_DEPTH.value,
        hidden_channels=2 * _WIDTH.value,
    )
    teacher = tfp_distill.Flow(config)
    teacher.adapt(x[: _BATCH_SIZE.value])
    losses = tfp_distill.IntermediateLatentLoss()
    return tfp_distill.FlowDistiller(student=student, teacher=teacher, distillation_losses=losses)


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.3f}" for value in values)


def main(argv: list[str]) -> None:
    """Prints a line for each partition."""
    del argv
    across = tfp_distill.Partition.across_blocks
    for number in (2, 3):
        _measure(lambda flow, n=number: across(flow, n, _BALANCE.value), f"{number} across blocks")
    for number in (2, 3):
        _measure(
            lambda flow, n=number: tfp_distill.Partition.by_block(flow, n), f"{number} by block"
        )


if __name__ == "__main__":
    app.run(main)
