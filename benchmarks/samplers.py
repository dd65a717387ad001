"""How much faster an inverse autoregressive sampler is than the autoregressive flow it is made of.

    python benchmarks/samplers.py --dims=6,16,43,63

Teacher and student have the same sizes and draw as many samples, in turn, in one process: as Python
calls them, and as SavedModels. Times do not depend on the weights. Quiet machine required; only the
ratios mean anything elsewhere.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from absl import app, flags
from turns import medians

from tfp_distill import Flow, MAFConfig, export_flow

SEED = 0
_DIMS = flags.DEFINE_list("dims", ["6", "16", "43", "63"], "Dimensions, one table line each.")
_TRANSFORMS = flags.DEFINE_list("transforms", ["affine", "spline"], "Transforms of both flows.")
_STEPS = flags.DEFINE_integer("num_steps", 3, "Steps of both flows.")
_UNITS = flags.DEFINE_integer("hidden_units", 32, "Hidden units of both flows' networks.")
_ROWS = flags.DEFINE_integer("rows", 4096, "Samples of a call.")
_MIXING = flags.DEFINE_boolean(
    "mixing", False, "Whether both flows have linear maps between steps."
)
_TURNS = flags.DEFINE_integer("turns", 15, "Calls of each, of which the median counts.")


def _medians(*functions: Callable[[], tf.Tensor]) -> list[float]:
    """Returns the median time of each, after two calls that trace and compile."""
    medians(*functions, turns=2)
    return medians(*functions, turns=_TURNS.value)


def _flow(dims: int, transform: str, *, inverse: bool) -> Flow:
    config = MAFConfig(
        dims,
        num_steps=_STEPS.value,
        hidden_units=_UNITS.value,
        transform=transform,
        mixing=_MIXING.value,
        inverse_autoregressive=inverse,
    )
    flow = Flow(config)
    flow.adapt(np.random.RandomState(SEED).normal(size=(1000, dims)))
    return flow


def _served(flow: Flow, path: str) -> Callable[[], tf.Tensor]:
    export_flow(flow, path)
    sample = tf.saved_model.load(path).signatures["sample"]
    arguments = dict(n=_ROWS.value, temperature=1.0, seed=SEED)
    arguments = {name: tf.constant(value) for name, value in arguments.items()}
    return lambda: sample(**arguments)["x"]


def main(argv: list[str]) -> None:
    """Prints the medians of both, in milliseconds, and their ratios."""
    del argv
    for transform in _TRANSFORMS.value:
        for dims in map(int, _DIMS.value):
            flows = [_flow(dims, transform, inverse=inverse) for inverse in (False, True)]
            calls = [functools.partial(flow.sample, _ROWS.value, seed=SEED) for flow in flows]
            called = _medians(*calls)
            with tempfile.TemporaryDirectory() as folder:
                served = _medians(*(_served(f, f"{folder}/{i}") for i, f in enumerate(flows)))
            line = f"{transform:<7} D={dims:<3}"
            for name, (teacher, student) in (("Python", called), ("SavedModel", served)):
                ratio = teacher / student
                line += f"  {name} {1e3 * teacher:7.2f} / {1e3 * student:6.2f} ms = {ratio:5.1f}"
            print(line, flush=True)


if __name__ == "__main__":
    app.run(main)
