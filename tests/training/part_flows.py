"""Small flows to be trained in parts, and what their training changes."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from tfp_distill import Flow, GlowConfig, MAFConfig, TabularGlowConfig

SMALL = dict(dims=3, num_steps=4, hidden_units=4, num_hidden_layers=1)
CONFIGS = {
    "glow": TabularGlowConfig(**SMALL),
    "conditional_maf": MAFConfig(condition_dims=2, **SMALL),
    "images": GlowConfig(image_shape=(4, 4, 2), num_levels=2, steps_per_level=2, hidden_channels=4),
}


def make_flow(kind, size=0.2):
    """Returns an initialised flow all of whose weights are perturbed."""
    flow = Flow(CONFIGS[kind], name=kind)
    flow.adapt(*data(kind, 64, seed=1))
    random = np.random.RandomState(0)
    for weight in flow.trainable_variables:
        weight.assign(weight.numpy() + size * random.normal(size=weight.shape))
    return flow


def data(kind, rows, seed=0):
    """Returns data and, for a conditional flow, conditions."""
    config = CONFIGS[kind]
    random = np.random.RandomState(seed)
    x = random.uniform(0, 1, size=(rows, *config.event_shape)).astype(np.float32)
    dims = config.condition_dims
    return (x, random.normal(size=(rows, dims)).astype(np.float32)) if dims else (x,)


def batches(kind, rows, batch_size=8, seed=0):
    return tf.data.Dataset.from_tensor_slices(data(kind, rows, seed)).batch(batch_size)


def weights_of(model, part):
    return [weight.numpy() for weight in model.part_weights(part)]


def states(model):
    """All that training changes, but for the counters of the steps, part by part."""
    return [
        [v.numpy() for v in (*model.part_weights(part), *optimizer.variables)]
        for part, optimizer in enumerate(model.optimizers)
    ]


def equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


class Phases(keras.callbacks.Callback):
    """Notes which parts each epoch trains, and which parts' states each epoch changes."""

    def __init__(self):
        super().__init__()
        self.active, self.changed = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.before = states(self.model)

    def on_epoch_end(self, epoch, logs=None):
        self.active.append(self.model.active_parts)
        now = states(self.model)
        pairs = zip(self.before, now, strict=True)
        self.changed.append(tuple(k for k, (a, b) in enumerate(pairs) if not equal(a, b)))
