"""Tests of the KL estimators on flows that are Gaussians."""

import numpy as np
import pytest
import tensorflow as tf
from flow_pairs import shared_pass

from tfp_distill import Flow, TabularGlowConfig
from tfp_distill.distillation import ForwardKLLoss, ReverseKLLoss

DIMS = 2
ROWS, BATCHES = 5_000, 20


def _gaussian(seed):
    """A flow whose conditioner is still 0, and which is affine therefore."""
    flow = Flow(TabularGlowConfig(dims=DIMS, num_steps=1, hidden_units=4, num_hidden_layers=1))
    random = np.random.RandomState(seed)
    flow.standardize.set_statistics(
        0.5 * random.normal(size=DIMS), np.exp(0.3 * random.normal(size=DIMS))
    )
    for weight in _affine_weights(flow):
        weight.assign(weight.numpy() + 0.3 * random.normal(size=weight.shape))
    return flow


def _affine_weights(flow):
    actnorm, linear, _ = flow.bijector.bijectors[1].bijectors
    return [
        w for b in (actnorm, linear) for layer in b.keras_layers for w in layer.trainable_weights
    ]


def _moments(flow):
    mean = flow.to_data(tf.zeros([1, DIMS]))[0]
    columns = flow.to_data(tf.eye(DIMS)) - mean
    return mean, tf.matmul(columns, columns, transpose_a=True)


def _kl(p, q):
    (mean_p, cov_p), (mean_q, cov_q) = _moments(p), _moments(q)
    difference = (mean_q - mean_p)[:, None]
    inverse = tf.linalg.inv(cov_q)
    quadratic = tf.squeeze(tf.matmul(difference, inverse @ difference, transpose_a=True))
    determinants = tf.linalg.slogdet(cov_q)[1] - tf.linalg.slogdet(cov_p)[1]
    return 0.5 * (tf.linalg.trace(inverse @ cov_p) + quadratic - DIMS + determinants)


@pytest.fixture(scope="module")
def pair():
    return _gaussian(1), _gaussian(2)


def _estimates(loss, pair, weights=()):
    """Means of batches that are independent of each other, and their gradients."""
    means, gradients = [], []
    for step in range(BATCHES):
        with tf.GradientTape() as tape:
            x = np.zeros([ROWS, DIMS], np.float32)
            mean = tf.reduce_mean(loss(shared_pass(*pair, x, seed=1, step=step)))
        means.append(mean.numpy())
        gradient = tape.gradient(mean, list(weights))
        gradients.append(np.concatenate([np.ravel(g) for g in gradient] or [np.zeros(0)]))
    return np.array(means), np.array(gradients)


def _assert_is_mean_of(estimates, expected, largest_error):
    error = estimates.std(axis=0, ddof=1) / np.sqrt(len(estimates))
    assert np.max(error) < largest_error
    np.testing.assert_array_less(np.abs(estimates.mean(axis=0) - expected), 4 * error)


@pytest.mark.parametrize("loss", [ForwardKLLoss(), ReverseKLLoss()], ids=["forward", "reverse"])
def test_the_mean_and_its_gradient_are_the_closed_form(loss, pair):
    student, teacher = pair
    arguments = (teacher, student) if isinstance(loss, ForwardKLLoss) else (student, teacher)
    weights = [weight.value for weight in _affine_weights(student)]
    with tf.GradientTape() as tape:
        closed = _kl(*arguments)
    closed_gradient = np.concatenate([np.ravel(g) for g in tape.gradient(closed, weights)])
    assert abs(_kl(*arguments) - _kl(*arguments[::-1])) > 0.05  # It matters which way.
    means, gradients = _estimates(loss, pair, weights)
    _assert_is_mean_of(means, closed.numpy(), 0.02)
    _assert_is_mean_of(gradients, closed_gradient, 0.05)
    assert np.max(np.abs(closed_gradient)) > 0.1
