"""Tests of the noise of training steps."""

import numpy as np
import tensorflow as tf

from tfp_distill.training import StepRandom


def _noise(seed=0, step=0, rows=6):
    return StepRandom(seed, tf.constant(step)).normal(tf.constant(rows), 3).numpy()


def test_noise_is_a_pure_function_of_seed_and_step():
    np.testing.assert_array_equal(_noise(1, 2), _noise(1, 2))
    for other in (_noise(2, 2), _noise(1, 3), _noise(2, 1)):
        assert np.min(np.abs(_noise(1, 2) - other)) > 0


def test_every_call_within_a_step_is_the_same():
    random = StepRandom(0, tf.constant(5))
    np.testing.assert_array_equal(random.normal(4, 2), random.normal(4, 2))


def test_replicas_share_out_the_noise_of_the_global_batch():
    everyone = tf.zeros([6])
    parts = [
        StepRandom(3, tf.constant(7), everyone, tf.constant(first)).normal(rows, 3)
        for first, rows in ((0, 3), (3, 2), (5, 1), (6, 0))
    ]
    np.testing.assert_array_equal(np.concatenate(parts), _noise(3, 7, rows=6))


def test_noise_is_standard_normal():
    noise = _noise(rows=20_000)
    np.testing.assert_allclose(noise.mean(0), 0, atol=0.03)
    np.testing.assert_allclose(noise.std(0), 1, atol=0.03)


def test_dtype_and_graph_mode():
    @tf.function
    def noise(step):
        return StepRandom(0, step).normal(2, 3, tf.float64)

    assert noise(tf.constant(1)).dtype == tf.float64
    eager = StepRandom(0, tf.constant(1)).normal(2, 3, tf.float64)
    np.testing.assert_allclose(noise(tf.constant(1)), eager)
