"""What a LiteRT model of a trained flow weighs, costs and loses.

    python benchmarks/litert_models.py --flow=runs/embedded/student/flow.keras --data=embedded

For the flow itself, its SavedModel and LiteRT models of each type of weights: bytes of the file,
the mean log-likelihood of test rows in nats, how far it is from the flow's on the same rows (± two
standard errors), and medians of the times of `log_prob` and `to_data` of one row and of --batch,
which take turns in one process. TensorFlow uses all threads, LiteRT --threads. Quiet machine
required; only the ratios mean anything elsewhere.
"""

from __future__ import annotations

import os
import pathlib
import tempfile
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from absl import app, flags
from ai_edge_litert.interpreter import Interpreter
from turns import medians, seconds

import tfp_distill
from tfp_distill.data import load
from tfp_distill.evaluation import paired_difference
from tfp_distill.export import WEIGHTS

TURNS = 30
_FLOW = flags.DEFINE_string("flow", None, "A saved .keras flow without conditions.", required=True)
_DATA = flags.DEFINE_string("data", "embedded", "Its data.")
_ROWS = flags.DEFINE_integer("rows", 1000, "Test rows whose likelihood counts.")
_BATCH = flags.DEFINE_integer("batch", 256, "Rows of the larger calls.")
_THREADS = flags.DEFINE_integer("threads", 1, "Threads of LiteRT.")

Call = Callable[[np.ndarray], tf.Tensor]


def _saved_model(path: pathlib.Path) -> dict[str, Call]:
    signatures = tf.saved_model.load(str(path)).signatures
    return {
        "log_prob": lambda x: signatures["log_prob"](x=tf.constant(x))["log_prob"],
        "to_data": lambda z: signatures["to_data"](z=tf.constant(z))["x"],
    }


def _litert(path: pathlib.Path) -> dict[str, Call]:
    # Runners share the interpreter: each has one of its own, and keeps its sizes.
    models = [Interpreter(os.fspath(path), num_threads=_THREADS.value) for _ in range(2)]
    log_prob = models[0].get_signature_runner("log_prob")
    to_data = models[1].get_signature_runner("to_data")
    return {
        "log_prob": lambda x: tf.constant(log_prob(x=x)["log_prob"]),
        "to_data": lambda z: tf.constant(to_data(z=z)["x"]),
    }


def _size(path: pathlib.Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def main(argv: list[str]) -> None:
    """Prints a line for each of them."""
    del argv
    flow = tfp_distill.load_flow(_FLOW.value)
    x = np.asarray(load(_DATA.value).examples("test")[: _ROWS.value], np.float32)
    z = np.random.RandomState(0).normal(size=(_BATCH.value, flow.latent_dims)).astype(np.float32)
    with tempfile.TemporaryDirectory() as directory:
        paths = {"flow": pathlib.Path(_FLOW.value), "SavedModel": pathlib.Path(directory, "saved")}
        tfp_distill.export_flow(flow, paths["SavedModel"])
        calls: dict[str, dict[str, Call]] = {
            "flow": {"log_prob": flow.log_prob, "to_data": flow.to_data},
            "SavedModel": _saved_model(paths["SavedModel"]),
        }
        for weights in WEIGHTS:
            name = f"LiteRT {weights}"
            paths[name] = pathlib.Path(directory, weights)
            tfp_distill.export_litert(flow, paths[name], weights=weights)
            calls[name] = _litert(paths[name])
        sizes = {name: _size(path) for name, path in paths.items()}
        likelihoods = {
            name: np.concatenate([own["log_prob"](part).numpy() for part in np.array_split(x, 10)])
            for name, own in calls.items()
        }
        times: dict[str, list[float]] = {name: [] for name in calls}
        for way, inputs in (("log_prob", x), ("to_data", z)):
            for rows in (1, _BATCH.value):
                batch = inputs[:rows]
                functions = [lambda f=own[way], b=batch: f(b) for own in calls.values()]
                for function in functions:
                    seconds(function)  # Traces, compiles, allocates.
                for name, median in zip(calls, medians(*functions, turns=TURNS), strict=True):
                    times[name].append(median)
    print(f"{flow.num_parameters:,} parameters, {len(x):,} test rows; log_prob and to_data, ms")
    for name, own_times in times.items():
        away = paired_difference(likelihoods[name], likelihoods["flow"])
        numbers = " / ".join(f"{1e3 * value:.2f}" for value in own_times)
        print(
            f"{name:<14} {sizes[name]:>10,} bytes  {likelihoods[name].mean():10.3f} nats  "
            f"{away.mean:+.4f} ± {2 * away.standard_error:.4f}  {numbers}",
            flush=True,
        )


if __name__ == "__main__":
    app.run(main)
