"""How much memory a training step of each part of a Glow takes, against a step end to end.

    python benchmarks/part_memory.py --balances=steps,cost

For 1, 2, ... parts across the levels. Each part takes a step in a new process, after a first one
that compiles and allocates. Counted is the growth of memory during the step, above what is there
before it: activations, gradients, updates, and the passing results of the parts before, which run
without being kept. Weights and the optimisers' slots are the same in each case. One operation runs
at a time, so that the figures do not depend on the machine's load.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import pathlib
import sys

import numpy as np
import tensorflow as tf
from absl import app, flags
from step_memory import StepMemory, bytes_of, in_new_process

import tfp_distill
from tfp_distill.evaluation import Table
from tfp_distill.evaluation.text_table import format_bytes

STEPS_BEFORE, STEPS = 2, 3

_PARTS = flags.DEFINE_list("parts", ["1", "2", "3", "6"], "Numbers of parts.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 32, "Height and width of the images.")
_LEVELS = flags.DEFINE_integer("num_levels", 3, "Levels of the Glow.")
_STEPS_PER_LEVEL = flags.DEFINE_integer("steps_per_level", 6, "Steps of a level.")
_HIDDEN_CHANNELS = flags.DEFINE_integer("hidden_channels", 96, "Hidden channels.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Images of a batch.")
_BALANCES = flags.DEFINE_list(
    "balances", ["steps", "cost"], "What parts have equal shares of: steps, parameters, cost."
)
_JIT_COMPILE = flags.DEFINE_boolean("jit_compile", False, "Whether XLA compiles the step.")
_OUTPUT = flags.DEFINE_string("output", "", "A JSON file for the figures.")


class _PartMemory(StepMemory):
    """Trains one part, and measures its steps."""

    def __init__(self, part: int | None) -> None:
        super().__init__(STEPS_BEFORE)
        self._part = part

    def on_epoch_begin(self, epoch, logs=None):
        if self._part is not None:
            self.model.train_parts([self._part])


def measure(
    config: tfp_distill.GlowConfig,
    boundaries: tuple[int, ...],
    part: int,
    batch_size: int,
    jit_compile: bool,
) -> dict[str, int | str | None]:
    """Returns the growth of memory during a step of a part, and the bytes of weights and slots."""
    tf.config.threading.set_inter_op_parallelism_threads(1)
    flow = tfp_distill.Flow(config)
    partition = tfp_distill.Partition.at_steps(flow, boundaries)
    x = np.random.RandomState(0).uniform(size=(batch_size, *config.image_shape))
    flow.adapt(x.astype(np.float32))
    flow.compile("adam", partition=partition, jit_compile=jit_compile)
    measurement = _PartMemory(part if boundaries else None)
    flow.fit(
        tf.data.Dataset.from_tensors(tf.constant(x, tf.float32)).repeat(),
        steps_per_epoch=STEPS_BEFORE + STEPS,
        callbacks=[measurement],
        verbose=0,
    )
    optimizers = [variable for each in flow.optimizers for variable in each.variables]
    return {
        "growth": max(measurement.growths, default=None),
        "source": measurement.memory.source,
        "weights": bytes_of(flow.trainable_variables),
        "slots": bytes_of(optimizers),
    }


def main(argv: list[str]) -> None:
    """Prints the growth of each part, the largest, and its ratio to the growth end to end."""
    del argv
    config = tfp_distill.GlowConfig(
        image_shape=(_IMAGE_SIZE.value, _IMAGE_SIZE.value, 3),
        num_levels=_LEVELS.value,
        steps_per_level=_STEPS_PER_LEVEL.value,
        hidden_channels=_HIDDEN_CHANNELS.value,
    )
    # Without it, the allocator of the CPU does not count small tensors.
    os.environ["TF_CPU_ALLOCATOR_USE_BFC"] = "1"
    flow = tfp_distill.Flow(config)
    end_to_end = _measure_parts(config, ())
    if end_to_end[0]["source"] is None:
        sys.exit("The memory of this machine cannot be measured.")
    cases = []
    for balance, num_parts in itertools.product(_BALANCES.value, map(int, _PARTS.value)):
        partition = tfp_distill.Partition.across_blocks(flow, num_parts, balance)
        found = _measure_parts(config, partition.ends[:-1]) if num_parts > 1 else end_to_end
        growths = [each["growth"] for each in found]
        ratio = round(max(growths) / end_to_end[0]["growth"], 3)
        cases.append({"balance": balance, "ends": partition.ends, "growths": growths})
        cases[-1] |= {"largest": max(growths), "ratio": ratio}
        print(cases[-1], flush=True)
    print(_table(cases))
    print(
        f"In each case besides: weights {format_bytes(end_to_end[0]['weights'])}, optimisers' "
        f"slots {format_bytes(end_to_end[0]['slots'])}. Measured: {end_to_end[0]['source']}."
    )
    if _OUTPUT.value:
        contents = {
            "command": " ".join(["python benchmarks/part_memory.py", *sys.argv[1:]]),
            "architecture": dataclasses.asdict(config),
            "batch_size": _BATCH_SIZE.value,
            "xla": _JIT_COMPILE.value,
            "unit": "bytes",
            **{name: end_to_end[0][name] for name in ("source", "weights", "slots")},
            "partitions": cases,
        }
        text = json.dumps(contents, indent=1) + "\n"
        pathlib.Path(_OUTPUT.value).write_text(text, encoding="utf-8")


def _measure_parts(config: tfp_distill.GlowConfig, boundaries: tuple[int, ...]) -> list[dict]:
    """Measures each part in a process of its own, as the allocator remembers former parts."""
    options = (_BATCH_SIZE.value, _JIT_COMPILE.value)
    parts = range(len(boundaries) + 1)
    return [in_new_process(measure, config, boundaries, part, *options) for part in parts]


def _table(cases: list[dict]) -> Table:
    rows = [
        [
            case["balance"],
            f"{len(case['ends'])}",
            ", ".join(map(str, case["ends"])),
            ", ".join(map(format_bytes, case["growths"])),
            format_bytes(case["largest"]),
            f"{case['ratio']:.2f}",
        ]
        for case in cases
    ]
    header = ["balance", "parts", "last steps", "growth of each part", "largest", "of end to end"]
    return Table(header, rows, text_columns=4)


if __name__ == "__main__":
    app.run(main)
