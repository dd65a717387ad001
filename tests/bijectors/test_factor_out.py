"""Tests of the factored-out half against the conditional Gaussian that it stands for."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_distill.bijectors import FactorOut, standard_normal_log_prob
from tfp_distill.networks import ZeroConv

tfd = tfp.distributions

X = np.random.RandomState(0).normal(size=(5, 2, 3, 4))


def test_whitened_latents_have_the_likelihood_of_the_gaussian(randomize, float64):
    prior = ZeroConv(2, 4)
    factor_out = FactorOut(prior, 4, log_scale_bound=2.0)
    randomize([prior])
    z, ildj = factor_out.inverse_and_ildj(tf.constant(X))
    np.testing.assert_array_equal(z[..., :2], X[..., :2])
    mean, raw = tf.split(prior(tf.constant(X[..., :2])), 2, axis=-1)
    gaussian = tfd.Independent(tfd.Normal(mean, tf.exp(2.0 * tf.tanh(raw / 2.0))), 3)
    whitened = tf.reshape(z[..., 2:], [5, -1])
    assert np.max(np.abs(mean)) > 0.1
    np.testing.assert_allclose(
        standard_normal_log_prob(whitened) + ildj, gaussian.log_prob(X[..., 2:])
    )


def test_a_new_prior_is_the_standard_normal():
    z, ildj = FactorOut(ZeroConv(2, 4), 4).inverse_and_ildj(tf.constant(X, tf.float32))
    np.testing.assert_array_equal(z, X.astype(np.float32))
    np.testing.assert_array_equal(ildj, np.zeros(5))


def test_extreme_weights_leave_values_finite(randomize):
    prior = ZeroConv(2, 4)
    factor_out = FactorOut(prior, 4)
    randomize([prior], size=1000.0)
    x = tf.constant(X, tf.float32)
    for value in (*factor_out.inverse_and_ildj(x), *factor_out.forward_and_fldj(x)):
        assert np.all(np.isfinite(value))


def test_halves_must_be_equal():
    with pytest.raises(ValueError, match="`channels` must be even, got 3"):
        FactorOut(ZeroConv(1, 4), 3)
