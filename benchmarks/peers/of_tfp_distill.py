"""tfp_distill, as its users call it."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from worker import Case, Operations, serve

import tfp_distill


def _config(case: Case) -> tfp_distill.FlowConfig:
    if case["kind"] == "maf":
        return tfp_distill.MAFConfig(
            dims=case["dims"], num_steps=case["steps"], hidden_units=case["hidden"]
        )
    if case["kind"] == "spline":
        return tfp_distill.TabularGlowConfig(
            dims=case["dims"],
            num_steps=case["steps"],
            hidden_units=case["hidden"],
            num_hidden_layers=2,
            coupling="spline",
        )
    if case["kind"] == "affine":
        return tfp_distill.TabularGlowConfig(
            dims=case["dims"],
            num_steps=case["steps"],
            hidden_units=case["hidden"],
            num_hidden_layers=case["layers"],
        )
    return tfp_distill.GlowConfig(
        tuple(case["shape"]),
        num_levels=case["levels"],
        steps_per_level=case["steps"],
        hidden_channels=case["hidden"],
    )


def build(case: Case) -> tuple[Operations, int]:
    """Makes the flow, adapted to noise and compiled."""
    flow = tfp_distill.Flow(_config(case))

    def data(batch):
        values = np.random.default_rng(0)
        return values.uniform(size=(batch, *flow.event_shape)).astype("float32")

    flow.adapt(data(256))
    flow.compile(keras.optimizers.Adam(1e-3))
    flow.make_train_function()

    def step(batch):
        batches = iter(tf.data.Dataset.from_tensors(data(batch)).repeat())
        return lambda: flow.train_function(batches)["loss"].numpy()

    def log_prob(batch):
        x = tf.constant(data(batch))
        return lambda: flow.log_prob(x).numpy()

    def sample(batch):
        return lambda: flow.sample(batch).numpy()

    return {"step": step, "log_prob": log_prob, "sample": sample}, flow.num_parameters


if __name__ == "__main__":
    serve(build)
