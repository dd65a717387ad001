"""Small flows with random weights, data for them, and callbacks that look at a fit."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from tfp_distill import Flow, MAFConfig, TabularGlowConfig
from tfp_distill.data import Statistics
from tfp_distill.distillation.shared_pass import SharedPass
from tfp_distill.training import StepRandom

DIMS = 3


def make_flow(kind, *, num_steps=2, seed=0, size=0.3, condition_dims=0, statistics=True, dims=DIMS):
    """Returns an initialised flow all of whose weights are perturbed."""
    common = dict(
        dims=dims,
        num_steps=num_steps,
        hidden_units=4,
        num_hidden_layers=1,
        condition_dims=condition_dims,
        seed=seed,
    )
    if kind == "glow":
        config = TabularGlowConfig(**common)
    else:
        config = MAFConfig(**common, inverse_autoregressive=kind == "iaf")
    flow = Flow(config, seed=seed)
    random = np.random.RandomState(seed)
    known = Statistics.identity(dims)
    if statistics:
        known = Statistics(random.normal(size=dims), np.exp(0.3 * random.normal(size=dims)))
    flow.adapt(data(64, dims=dims), conditions(64) if condition_dims else None, statistics=known)
    for weight in flow.trainable_variables:
        weight.assign(weight.numpy() + size * random.normal(size=weight.shape))
    return flow


def twin(flow):
    """Returns another flow with the same weights."""
    copy = Flow(flow.config, seed=flow.seed)
    copy.set_weights(flow.get_weights())
    return copy


def data(rows, seed=0, dims=DIMS):
    return np.random.RandomState(seed).normal(0.5, 1, size=(rows, dims)).astype(np.float32)


def conditions(rows, seed=1):
    return np.random.RandomState(seed).normal(size=(rows, 2)).astype(np.float32)


def batches(x, batch_size=8):
    return tf.data.Dataset.from_tensor_slices(x).batch(batch_size)


def noise(rows, *, seed=0, step=0, dims=DIMS, **stream):
    """The latents that a pass of this seed, step and stream shares."""
    return StepRandom(seed, tf.constant(step), **stream).normal(rows, dims).numpy()


def shared_pass(student, teacher, x, *, seed=0, step=0, condition=None):
    random = StepRandom(seed, tf.constant(step))
    return SharedPass(student, teacher, tf.constant(x), condition, random)


def values(model):
    return [weight.numpy().copy() for weight in model.weights]


def assert_equal(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


class LossWeights(keras.callbacks.Callback):
    """Records step, loss weights and active losses as each batch ends."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def on_train_batch_end(self, batch, logs=None):
        model = self.model
        self.rows.append((model.step, model.loss_weights, model.active_losses))
