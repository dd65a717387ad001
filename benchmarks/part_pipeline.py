"""How long a batch takes when two parts work at the same time, beside simultaneous training.

    python benchmarks/part_pipeline.py

A small Glow for images in two parts, random data; one device with both parts in every step, and the
pipeline over two logical devices, which share the machine's cores, take turns in one process. Quiet
machine required. Bytes are those that cross the boundary in a step.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import tensorflow as tf
from absl import app, flags

import tfp_distill

_ROWS = flags.DEFINE_integer("rows", 64, "Images in a batch.")
_STEPS = flags.DEFINE_integer("steps", 100, "Steps of an epoch, after which the pipeline drains.")
_TURNS = flags.DEFINE_integer("turns", 7, "Epochs of each.")
_CHANNELS = flags.DEFINE_integer("hidden_channels", 64, "Width of the conditioners.")
DEVICES = ("CPU:0", "CPU:1")


def main(argv: list[str]) -> None:
    """Prints the devices, the bytes handed on and back, the median times and their ratio."""
    del argv
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    config = tfp_distill.GlowConfig(
        image_shape=(16, 16, 3),
        num_levels=2,
        steps_per_level=4,
        hidden_channels=_CHANNELS.value,
    )
    x = np.random.RandomState(0).uniform(size=(_ROWS.value, *config.event_shape))
    batches = tf.data.Dataset.from_tensors(tf.constant(x, tf.float32)).repeat()
    models = {}
    for name, devices in (("simultaneous", None), ("pipeline", DEVICES)):
        flow = tfp_distill.Flow(config)
        partition = tfp_distill.Partition.across_blocks(flow, 2, balance="cost")
        flow.compile("adam", partition=partition)
        models[name] = flow, devices
    times: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(_TURNS.value + 1):
        for name, (flow, devices) in models.items():
            schedule = tfp_distill.PartSchedule("simultaneous", 1, devices=devices)
            began = time.perf_counter()
            flow.fit(batches, steps_per_epoch=_STEPS.value, callbacks=[schedule], verbose=0)
            if turn:  # The first one traces and compiles.
                times[name].append((time.perf_counter() - began) / _STEPS.value)
    print(f"devices {', '.join(DEVICES)}")
    print(partition)
    numbers = sum(flow.handed_size(part) for part in range(1, len(flow.parts)))
    print(f"bytes a step: forward {4 * numbers * _ROWS.value:,}, backward 0")
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, value in medians.items():
        print(f"{name:<12} {1e3 * value:8.2f} ms a batch")
    print(f"ratio {medians['pipeline'] / medians['simultaneous']:.2f}")


if __name__ == "__main__":
    app.run(main)
