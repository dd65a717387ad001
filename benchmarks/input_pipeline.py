"""How much longer a training step takes with the input pipeline of images than without one.

    python benchmarks/input_pipeline.py

Random images of Fashion-MNIST's size and number, batches of 64, dequantised and mirrored, against
the same batch in memory for every step; students of the preset, which leave the pipeline little
time. The two take turns in one process. Quiet machine required; only the ratio means anything
elsewhere.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import tensorflow as tf
from absl import app

import tfp_distill
from tfp_distill.data import training_batches

IMAGES, ROWS, STEPS_PER_TURN, TURNS = 60_000, 64, 50, 7


def main(argv: list[str]) -> None:
    """Prints the median time of a step with either input, and their ratio."""
    del argv
    images = np.random.default_rng(0).integers(0, 256, [IMAGES, 28, 28, 1], np.uint8)
    flow = tfp_distill.Flow.from_preset("fashion_mnist_glow_student")
    pipeline = training_batches(images, ROWS, domain=flow.config.domain, random_flip=True)
    batch = next(iter(pipeline))
    flow.adapt(batch)
    flow.compile("adam", jit_compile=False)
    inputs = {"in memory": tf.data.Dataset.from_tensors(batch).repeat(), "pipeline": pipeline}
    times: dict[str, list[float]] = {name: [] for name in inputs}
    for turn in range(TURNS + 1):
        for name, dataset in inputs.items():
            steps = dataset.take(STEPS_PER_TURN)
            began = time.perf_counter()
            flow.fit(steps, verbose=0)
            if turn:  # The first one compiles.
                times[name].append((time.perf_counter() - began) / STEPS_PER_TURN)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, value in medians.items():
        print(f"{name:<10} {1e3 * value:6.2f} ms  ratio {value / medians['in memory']:.2f}")


if __name__ == "__main__":
    app.run(main)
