"""Tests of ActNorm's initialisation."""

import numpy as np
import pytest
import tensorflow as tf

from tfp_distill.bijectors import ActNorm, InvertibleLinear, TracedChain


def _data(*shape, seed=0):
    random = np.random.RandomState(seed)
    scale = np.linspace(0.1, 20, shape[-1])
    return tf.constant(5 - scale + scale * random.normal(size=shape), tf.float32)


@pytest.mark.parametrize("shape", [(500, 3), (100, 4, 2, 3)], ids=["vectors", "images"])
def test_initialised_outputs_have_mean_0_and_deviation_1_per_channel(shape):
    actnorm = ActNorm(3, event_ndims=len(shape) - 1)
    x = _data(*shape)
    returned = actnorm.initialize(x)
    z = np.asarray(actnorm.inverse_and_ildj(x)[0], np.float64)
    axes = tuple(range(len(shape) - 1))
    np.testing.assert_allclose(z.mean(axes), 0, atol=1e-4)
    np.testing.assert_allclose(z.std(axes), 1, atol=1e-4)
    np.testing.assert_array_equal(returned, z)


def test_a_constant_channel_stays_finite():
    actnorm = ActNorm(2)
    z = actnorm.initialize(tf.constant([[1.0, 0.0], [1.0, 1.0]]))
    assert np.all(np.isfinite(z))
    np.testing.assert_allclose(actnorm.forward_and_fldj(z)[0], [[1, 0], [1, 1]], atol=1e-6)


def test_nothing_but_initialize_initialises():
    actnorm = ActNorm(3)
    z = _data(50, 3)
    for result in (
        actnorm.forward_and_fldj(z),
        actnorm.inverse_and_ildj(z),
        (actnorm.forward(z), actnorm.forward_log_det_jacobian(z, 1)),
        (actnorm.inverse(z), actnorm.inverse_log_det_jacobian(z, 1)),
    ):
        np.testing.assert_array_equal(result[0], z)
        np.testing.assert_array_equal(result[1], np.zeros(50))


def test_a_chain_initialises_every_actnorm_on_what_arrives_there():
    first, second = ActNorm(3, name="first"), ActNorm(3, name="second")
    chain = TracedChain([first, TracedChain([InvertibleLinear(3), second])])
    x = _data(400, 3)
    chain.initialize(x)
    after_first = chain.trace(x).latents[0]
    for z in (after_first, chain.trace(x).latents[-1]):
        np.testing.assert_allclose(np.mean(z, 0), 0, atol=1e-4)
        np.testing.assert_allclose(np.std(z, 0), 1, atol=1e-4)
