"""Tests of the couplings against TFP, of their bound and of their errors."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_distill.bijectors import AdditiveTransform, AffineTransform, Coupling
from tfp_distill.networks import dense_conditioner


def _conditioner(inputs, outputs):
    return dense_conditioner(inputs, outputs, hidden_units=6, num_hidden_layers=1)


@pytest.mark.parametrize("dims", [2, 5])
def test_affine_coupling_agrees_with_tfps_real_nvp(dims, randomize, float64):
    kept, changed = dims // 2, dims - dims // 2
    conditioner = _conditioner(kept, 2 * changed)
    coupling = Coupling(conditioner, dims, transform=AffineTransform(1.5))
    randomize([conditioner], size=1.0)

    def shift_and_log_scale(x, output_units):
        shift, raw = tf.split(conditioner(x), 2, axis=-1)
        assert output_units == changed
        return shift, 1.5 * tf.tanh(raw / 1.5)

    expected = tfp.bijectors.RealNVP(kept, shift_and_log_scale_fn=shift_and_log_scale)
    z = tf.constant(np.random.RandomState(0).normal(size=(7, dims)))
    x, fldj = coupling.forward_and_fldj(z)
    np.testing.assert_allclose(x, expected.forward(z))
    np.testing.assert_allclose(fldj, expected.forward_log_det_jacobian(z, 1))
    z_again, ildj = coupling.inverse_and_ildj(z)
    np.testing.assert_allclose(z_again, expected.inverse(z))
    np.testing.assert_allclose(ildj, expected.inverse_log_det_jacobian(z, 1))


def test_additive_coupling_shifts_by_the_conditioner(randomize):
    conditioner = _conditioner(2, 3)
    coupling = Coupling(conditioner, 5, transform=AdditiveTransform())
    randomize([conditioner])
    x = tf.constant(np.random.RandomState(0).normal(size=(4, 5)), tf.float32)
    z, ildj = coupling.inverse_and_ildj(x)
    np.testing.assert_array_equal(z[:, :2], x[:, :2])
    np.testing.assert_allclose(z[:, 2:], x[:, 2:] - conditioner(x[:, :2]), atol=1e-6)
    np.testing.assert_array_equal(ildj, np.zeros(4))


def test_new_couplings_are_the_identity():
    x = tf.constant(np.random.RandomState(0).normal(size=(4, 5)), tf.float32)
    for coupling in (
        Coupling(_conditioner(2, 6), 5, transform=AffineTransform(3.0)),
        Coupling(_conditioner(2, 3), 5, transform=AdditiveTransform()),
    ):
        z, ildj = coupling.inverse_and_ildj(x)
        np.testing.assert_array_equal(z, x)
        np.testing.assert_array_equal(ildj, np.zeros(4))


def test_extreme_weights_leave_values_and_gradients_finite(randomize):
    conditioner = _conditioner(2, 6)
    coupling = Coupling(conditioner, 5, transform=AffineTransform(3.0))
    randomize([conditioner], size=1000.0)
    x = tf.constant(np.random.RandomState(0).normal(size=(50, 5)), tf.float32)
    for direction in (coupling.inverse_and_ildj, coupling.forward_and_fldj):
        with tf.GradientTape() as tape:
            value, log_det = direction(x)
            loss = tf.reduce_mean(value) + tf.reduce_mean(log_det)
        assert np.all(np.isfinite(value))
        assert np.max(np.abs(log_det)) <= 3 * 3.0 + 1e-5
        for gradient in tape.gradient(loss, coupling.trainable_variables):
            assert np.all(np.isfinite(gradient))


def test_an_unbuilt_conditioner_is_built():
    coupling = Coupling(
        keras.Sequential([keras.layers.Dense(4)]), 4, transform=AffineTransform(3.0)
    )
    assert len(coupling.trainable_variables) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: _affine(1, 2, 0), "`channels` must be at least 1, got 0"),
        (lambda: AffineTransform(0.0), r"`log_scale_bound` must be in \(0, 20\], got 0.0"),
        (lambda: AffineTransform(21), r"`log_scale_bound` must be in \(0, 20\], got 21"),
        (
            lambda: _affine(1, 3, 2).inverse(tf.zeros([1, 2])),
            "`conditioner` of 'coupling' must return 2 channels, got 3",
        ),
        (
            lambda: _affine(2, 2, 2, condition_dims=1).forward(tf.zeros([1, 2])),
            "`condition` must be given to the conditional 'coupling'",
        ),
    ],
)
def test_errors_name_argument_rule_and_value(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def _affine(inputs, outputs, channels, **options):
    conditioner = _conditioner(inputs, outputs)
    return Coupling(conditioner, channels, transform=AffineTransform(3.0), **options)
