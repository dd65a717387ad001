"""Tests of the masked autoregressive bijector against TFP's, and of its bound."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_distill.bijectors import AffineTransform, MaskedAutoregressive, SplineTransform
from tfp_distill.networks import MADE


@pytest.mark.parametrize("options", [{}, {"reverse": True}, {"condition_dims": 2}], ids=str)
@pytest.mark.parametrize("dims", [2, 6])
def test_agrees_with_tfps_sequential_inverse(dims, options, randomize, float64):
    made = MADE(dims, hidden_units=9, **options)
    randomize([made], size=0.5)
    bijector = MaskedAutoregressive(made, transform=AffineTransform(1.5))
    random = np.random.RandomState(0)
    z = tf.constant(random.normal(size=(5, dims)))
    condition = tf.constant(random.normal(size=(5, 2))) if options.get("condition_dims") else None

    def shift_and_log_scale(x):
        shift, raw = tf.unstack(made(x, condition), axis=-2)
        return shift, 1.5 * tf.tanh(raw / 1.5)

    # TFP runs the whole network once per dimension.
    expected = tfp.bijectors.MaskedAutoregressiveFlow(shift_and_log_scale_fn=shift_and_log_scale)
    x, fldj = bijector.forward_and_fldj(z, condition)
    np.testing.assert_allclose(x, expected.forward(z), atol=1e-12)
    np.testing.assert_allclose(
        fldj, -expected.inverse_log_det_jacobian(tf.identity(x), 1), atol=1e-10
    )
    z_again, ildj = bijector.inverse_and_ildj(z, condition)
    np.testing.assert_allclose(z_again, expected.inverse(z), atol=1e-12)
    np.testing.assert_allclose(ildj, expected.inverse_log_det_jacobian(z, 1), atol=1e-12)


def test_round_trip_at_63_dimensions(randomize):
    made = MADE(63, hidden_units=32)
    randomize([made], size=0.2)
    bijector = MaskedAutoregressive(made, transform=AffineTransform(5.0))
    z = tf.constant(np.random.RandomState(0).normal(size=(20, 63)), tf.float32)
    x, fldj = bijector.forward_and_fldj(z)
    z_again, ildj = bijector.inverse_and_ildj(tf.identity(x))
    assert np.max(np.abs(x - z)) > 1
    np.testing.assert_allclose(z_again, z, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(ildj, -fldj, rtol=1e-4, atol=1e-4)


def test_extreme_weights_leave_values_and_gradients_finite(randomize):
    made = MADE(4, hidden_units=8)
    randomize([made], size=1000.0)
    bijector = MaskedAutoregressive(made, transform=AffineTransform(5.0))
    x = tf.constant(np.random.RandomState(0).normal(size=(50, 4)), tf.float32)
    with tf.GradientTape() as tape:
        z, ildj = bijector.inverse_and_ildj(x)
        loss = tf.reduce_mean(z) + tf.reduce_mean(ildj)
    assert np.all(np.isfinite(z))
    assert np.max(np.abs(ildj)) <= 4 * 5.0 + 1e-5
    for gradient in tape.gradient(loss, bijector.trainable_variables):
        assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("bound", [0, -1, 20.5, float("nan")])
def test_the_bound_is_checked(bound):
    with pytest.raises(ValueError, match=r"`log_scale_bound` must be in \(0, 20\], got"):
        AffineTransform(bound)


def test_conditioner_and_transform_must_agree():
    with pytest.raises(ValueError, match="return the 11 parameters of `transform`, got 2"):
        MaskedAutoregressive(MADE(2), transform=SplineTransform(4, 3.0))


def test_a_condition_must_be_given_to_a_conditional_one():
    bijector = MaskedAutoregressive(MADE(2, condition_dims=1), transform=AffineTransform(5.0))
    for direction in (bijector.inverse, bijector.forward):
        with pytest.raises(ValueError, match="`condition` must be given to the conditional 'made'"):
            direction(tf.zeros([1, 2]))
