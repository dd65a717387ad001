"""How long the first training step takes, with what is traced and compiled for it.

    python benchmarks/first_step.py

Each flow in turn, in one process; beside it the median of later steps. Quiet machine required: on a
busy one it takes twice as long.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags
from turns import medians, seconds

from tfp_distill import Flow, GlowConfig, MAFConfig, TabularGlowConfig
from tfp_distill.flows import preset_config

ROWS, IMAGES, TURNS = 1024, 8, 10
FLOWS = {
    "MAF of 6 steps": MAFConfig(dims=6, num_steps=6, hidden_units=32),
    "Glow of 5 steps": TabularGlowConfig(dims=6, num_steps=5, hidden_units=64),
    "splines of 5 steps": TabularGlowConfig(
        dims=6, num_steps=5, hidden_units=64, num_hidden_layers=2, coupling="spline"
    ),
    "Glow of 12 steps, images": GlowConfig(
        (32, 32, 3), num_levels=3, steps_per_level=4, hidden_channels=64
    ),
    "Glow of 96 steps, images": preset_config("cifar10_glow_teacher"),
}
_NAMES = flags.DEFINE_list("flows", list(FLOWS), "Which of them.")


def main(argv: list[str]) -> None:
    """Prints for each flow its number of weights and both times."""
    del argv
    for name in _NAMES.value:
        flow = Flow(FLOWS[name])
        batch = IMAGES if len(flow.event_shape) == 3 else ROWS
        x = np.random.default_rng(0).uniform(size=(batch, *flow.event_shape)).astype("float32")
        flow.adapt(x)
        flow.compile(keras.optimizers.Adam(1e-3, global_clipnorm=1.0))
        flow.make_train_function()
        batches = iter(tf.data.Dataset.from_tensors(x).repeat())

        def step(flow=flow, batches=batches):
            return flow.train_function(batches)["loss"]

        first = seconds(step)
        (later,) = medians(step, turns=TURNS)
        number = len(flow.trainable_variables)
        print(f"{name:<24} {number:>5,} weights  first {first:6.1f} s  later {1e3 * later:8.1f} ms")


if __name__ == "__main__":
    app.run(main)
