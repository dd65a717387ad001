"""The smallest model with everything that the train step has to handle."""

from __future__ import annotations

import contextlib

import keras
import numpy as np
import tensorflow as tf

from tfp_distill.training import PartwiseModel

DIMS = 3


class ToyModel(PartwiseModel):
    """Losses that can be calculated by hand.

    pull  = |w * x + b + noise_size * noise|^2 (+ |condition|^2)
    norm  = |w * x|, whose gradient at x = 0 is not a number while its value is 0
    """

    def __init__(self, noise_size=0.0, active=("pull",)):
        super().__init__(loss_names=("pull", "norm"), seed=5, name="toy")
        self.noise_size = noise_size
        self.active = active
        self.traces = []
        self.adapted_to = []
        self.w = self.add_weight(shape=(DIMS,), initializer="ones", name="w")
        self.b = self.add_weight(shape=(DIMS,), initializer="zeros", name="b")
        self.was_adapted = False
        self.built = True

    @property
    def active_losses(self):
        return self.active

    @property
    def adapted(self):
        return self.was_adapted

    def adapt(self, x, condition=None):
        self.adapted_to.append((np.asarray(x), condition))
        self.was_adapted = True

    def objective(self, x, condition, random):
        self.traces.append(self.active)
        losses = {}
        if "pull" in self.active:
            y = self.w.value * x + self.b.value
            y += self.noise_size * random.normal(tf.shape(x)[0], DIMS)
            losses["pull"] = tf.reduce_sum(y**2, axis=-1)
            if condition is not None:
                losses["pull"] += tf.reduce_sum(condition**2, axis=-1)
        if "norm" in self.active:
            # The second term gives b a gradient.
            y = tf.norm(self.w.value * x, axis=-1) + 0 * tf.reduce_sum(self.b.value)
            losses["norm"] = y
        return {"loss": tf.add_n(list(losses.values())), **losses}


def make_toy(optimizer, strategy=None, *, noise_size=0.0, active=("pull",), **compile_options):
    """Makes a compiled model; under a strategy `optimizer` must be a function or a name."""
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = ToyModel(noise_size, active)
        model.compile(optimizer() if callable(optimizer) else optimizer, **compile_options)
    return model


def data(rows, seed=0):
    return np.random.RandomState(seed).normal(1, 1, size=(rows, DIMS)).astype(np.float32)


def batches(x, batch_size=8):
    return tf.data.Dataset.from_tensor_slices(x).batch(batch_size)


def state(model):
    """All that training changes, but for the counters of the steps."""
    return [v.numpy().copy() for v in (*model.trainable_variables, *model.optimizer.variables)]


class Snapshots(keras.callbacks.Callback):
    """Keeps the state after every batch, and the logs."""

    def __init__(self):
        super().__init__()
        self.states, self.logs = [], []

    def on_train_begin(self, logs=None):
        self.states.append(state(self.model))

    def on_train_batch_end(self, batch, logs=None):
        self.states.append(state(self.model))
        self.logs.append({name: float(value) for name, value in logs.items()})


class Interrupt(keras.callbacks.Callback):
    """Raises after a number of batches."""

    def __init__(self, batches):
        super().__init__()
        self.left = batches

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise InterruptedError
