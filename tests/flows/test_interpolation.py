"""Tests of the interpolation in the latent space."""

import numpy as np
import pytest
import tensorflow as tf

from tfp_distill import Flow, MAFConfig, TabularGlowConfig
from tfp_distill.flows import interpolate, interpolate_latents


def random_flow(config):
    flow = Flow(config)
    rng = np.random.RandomState(0)
    for weight in flow.trainable_variables:
        weight.assign(weight + 0.1 * rng.normal(size=weight.shape))
    return flow


def test_latents_follow_the_formula():
    rng = np.random.RandomState(0)
    a, b = rng.normal(size=(2, 4, 5))
    alphas = np.array([0.0, 0.2, 0.9])
    z = interpolate_latents(*map(tf.constant, (a, b, alphas))).numpy()
    assert z.shape == (4, 3, 5)
    for i, (u, v) in enumerate(zip(a, b, strict=True)):
        for j, alpha in enumerate(alphas):
            mix = (1 - alpha) * u + alpha * v
            norm = (1 - alpha) * np.linalg.norm(u) + alpha * np.linalg.norm(v)
            np.testing.assert_allclose(z[i, j], mix * norm / np.linalg.norm(mix))


def test_norm_is_interpolated():
    a = tf.constant([[3.0, 0.0], [1.0, 0.0]])
    b = tf.constant([[0.0, 5.0], [0.0, 1.0]])
    z = interpolate_latents(a, b, tf.constant([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(tf.norm(z, axis=-1), [[3, 4, 5], [1, 1, 1]], rtol=1e-6)


def test_opposite_latents_stay_finite():
    a = tf.constant([[1.0, 2.0]])
    z = interpolate_latents(a, -a, tf.constant([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(z[0], [[1, 2], [0, 0], [-1, -2]])


@pytest.mark.parametrize(
    "config",
    [
        TabularGlowConfig(dims=3, num_steps=2, hidden_units=4),
        MAFConfig(dims=3, num_steps=2, hidden_units=4),
    ],
    ids=["glow", "maf"],
)
def test_ends_are_the_data(config):
    flow = random_flow(config)
    x_a, x_b = np.random.RandomState(1).normal(size=(2, 4, 3))
    x = interpolate(flow, x_a, x_b, [0.0, 0.5, 1.0])
    assert x.shape == (4, 3, 3)
    np.testing.assert_allclose(x[:, 0], x_a, atol=1e-5)
    np.testing.assert_allclose(x[:, 2], x_b, atol=1e-5)


def test_each_pair_keeps_its_condition():
    flow = random_flow(MAFConfig(dims=3, num_steps=2, hidden_units=4, condition_dims=2))
    rng = np.random.RandomState(1)
    x_a, x_b = rng.normal(size=(2, 4, 3))
    condition = rng.normal(size=(4, 2))
    together = interpolate(flow, x_a, x_b, [0.0, 0.3, 1.0], condition)
    for i in range(4):
        one = slice(i, i + 1)
        alone = interpolate(flow, x_a[one], x_b[one], [0.0, 0.3, 1.0], condition[one])
        np.testing.assert_allclose(together[i], alone[0], atol=1e-5)
    np.testing.assert_allclose(together[:, 0], x_a, atol=1e-5)


@pytest.mark.parametrize("alphas", [[-0.1, 0.5], [0.5, 1.1], [np.nan], 0.5])
def test_rejects_wrong_alphas(alphas):
    flow = random_flow(MAFConfig(dims=3, num_steps=1, hidden_units=4))
    with pytest.raises(ValueError, match=r"`alphas` must be a vector of numbers in \[0, 1\], got"):
        interpolate(flow, np.zeros((1, 3)), np.zeros((1, 3)), alphas)
