"""What `memory="reversible"` saves and costs, as a Glow gets deeper.

    python benchmarks/reversible_memory.py --steps_per_level=8,32

For each depth a training step that keeps its activations and one that rebuilds them, each in a
process of its own, after first steps that compile and allocate. Counted is the growth of memory
during a step, above weights and optimisers' slots: activations, and the gradients of all weights,
which are there either way; beside it all that the process has taken at most. Times are medians of a
step, of processes one after the other: quiet machine required.
"""

from __future__ import annotations

import json
import os
import pathlib
import resource
import statistics
import sys
from typing import Any

import numpy as np
import tensorflow as tf
from absl import app, flags
from step_memory import StepMemory, bytes_of, in_new_process

import tfp_distill
from tfp_distill.evaluation import Table
from tfp_distill.evaluation.text_table import format_bytes
from tfp_distill.flows import preset_config
from tfp_distill.training import PeakMemory

STEPS_BEFORE, STEPS = 2, 7

_DEPTHS = flags.DEFINE_list("steps_per_level", ["8", "32"], "Steps of a level, for each Glow.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 32, "Height and width of the images.")
_LEVELS = flags.DEFINE_integer("num_levels", 3, "Levels of the Glow.")
_HIDDEN_CHANNELS = flags.DEFINE_integer("hidden_channels", 64, "Hidden channels.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Images of a batch.")
_PRESET = flags.DEFINE_string("preset", "", "A preset instead, such as cifar10_glow_teacher.")
_JIT_COMPILE = flags.DEFINE_boolean("jit_compile", False, "Whether XLA compiles the step.")
_OUTPUT = flags.DEFINE_string("output", "", "A JSON file for the figures.")


def measure(
    config: tfp_distill.GlowConfig, memory: str, batch_size: int, jit_compile: bool
) -> dict[str, Any]:
    """Returns the growth of memory during a step, its time, the drift and the bytes of weights."""
    flow = tfp_distill.Flow(config)
    x = np.random.RandomState(0).uniform(size=(batch_size, *config.image_shape))
    flow.adapt(x.astype(np.float32))
    flow.compile("adam", jit_compile=jit_compile, memory=memory)
    measurement = StepMemory(STEPS_BEFORE)
    data = tf.data.Dataset.from_tensors(tf.constant(x, tf.float32)).repeat()
    history = flow.fit(
        data, steps_per_epoch=STEPS_BEFORE + STEPS, callbacks=[measurement], verbose=0
    ).history
    return {
        "growth": max(measurement.growths),
        "resident": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "milliseconds": round(1e3 * statistics.median(measurement.seconds), 1),
        "drift": history.get("drift", [None])[-1],
        "weights": bytes_of(flow.trainable_variables),
        "source": measurement.memory.source,
    }


def main(argv: list[str]) -> None:
    """Prints a line for each depth and way, with the ratios."""
    del argv
    # Without it, the allocator of the CPU does not count small tensors.
    os.environ["TF_CPU_ALLOCATOR_USE_BFC"] = "1"
    if PeakMemory().source is None:
        sys.exit("The memory of this machine cannot be measured.")
    configs = {_PRESET.value: preset_config(_PRESET.value)} if _PRESET.value else _glows()
    cases = []
    for name, config in configs.items():
        for memory in ("plain", "reversible"):
            options = (_BATCH_SIZE.value, _JIT_COMPILE.value)
            found = in_new_process(measure, config, memory, *options)
            cases.append({"flow": name, "memory": memory, **found})
            print(cases[-1], flush=True)
    print(_table(cases))
    if _OUTPUT.value:
        contents = {
            "command": " ".join(["python benchmarks/reversible_memory.py", *sys.argv[1:]]),
            "batch_size": _BATCH_SIZE.value,
            "xla": _JIT_COMPILE.value,
            "cases": cases,
        }
        text = json.dumps(contents, indent=1) + "\n"
        pathlib.Path(_OUTPUT.value).write_text(text, encoding="utf-8")


def _glows() -> dict[str, tfp_distill.GlowConfig]:
    size = _IMAGE_SIZE.value
    return {
        f"{depth} steps a level": tfp_distill.GlowConfig(
            image_shape=(size, size, 3),
            num_levels=_LEVELS.value,
            steps_per_level=int(depth),
            hidden_channels=_HIDDEN_CHANNELS.value,
        )
        for depth in _DEPTHS.value
    }


def _table(cases: list[dict[str, Any]]) -> Table:
    plain = {case["flow"]: case for case in cases if case["memory"] == "plain"}
    rows = [
        [
            case["flow"],
            case["memory"],
            format_bytes(case["growth"]),
            f"{case['growth'] / plain[case['flow']]['growth']:.2f}",
            format_bytes(case["weights"]),
            format_bytes(case["resident"]),
            f"{case['milliseconds'] / plain[case['flow']]['milliseconds']:.2f}",
            "" if case["drift"] is None else f"{case['drift']:.0e}",
        ]
        for case in cases
    ]
    header = ["flow", "memory", "growth in a step", "of plain", "gradients", "process"]
    header += ["time of plain", "drift"]
    return Table(header, rows, text_columns=2)


if __name__ == "__main__":
    app.run(main)
