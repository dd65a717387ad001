"""Small flows of images with random weights, and images for them."""

from __future__ import annotations

import numpy as np

from tfp_distill import Flow, GlowConfig


def images(rows):
    return np.random.RandomState(0).uniform(size=(rows, 4, 4, 2)).astype(np.float32)


def image_flow(steps_per_level, seed):
    """Returns an initialised flow of two levels all of whose weights are perturbed."""
    config = GlowConfig(
        image_shape=(4, 4, 2), num_levels=2, steps_per_level=steps_per_level, hidden_channels=4
    )
    flow = Flow(config, seed=seed)
    flow.adapt(images(64))
    random = np.random.RandomState(seed)
    for weight in flow.trainable_variables:
        weight.assign(weight.numpy() + 0.1 * random.normal(size=weight.shape))
    return flow
