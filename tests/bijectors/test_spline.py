"""Tests of the rational-quadratic spline against TFP's, of its tails, bounds and accuracy."""

import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_distill import Flow, MAFConfig, TabularGlowConfig
from tfp_distill.bijectors import SplineTransform

BINS, BOUND = 6, 2.5


def _parameters(shape=(40, 3), size=1.5, bins=BINS, dtype=np.float64, seed=0):
    rows, channels = shape
    parameters = np.random.RandomState(seed).normal(size=(rows, 3 * bins - 1, channels), scale=size)
    return tf.constant(parameters, dtype)


def _values(shape=(40, 3), size=1.5, dtype=np.float64, seed=1):
    return tf.constant(np.random.RandomState(seed).normal(size=shape, scale=size), dtype)


def _tfp_spline(parameters, bins=BINS, bound=BOUND, min_slope=0.01):
    """TFP's spline of the same parameters."""
    widths, heights, raw = (
        tf.linalg.matrix_transpose(p) for p in tf.split(parameters, [bins, bins, bins - 1], axis=-2)
    )
    smallest = min(min_slope, 0.1 / bins)
    sizes = (smallest + (1 - smallest * bins) * tf.nn.softmax(p) for p in (widths, heights))
    widths, heights = (2 * bound * s for s in sizes)
    slopes = min_slope + tf.nn.softplus(raw + math.log(math.expm1(1 - min_slope)))
    return tfp.bijectors.RationalQuadraticSpline(widths, heights, slopes, range_min=-bound)


@pytest.mark.parametrize(("bins", "min_slope"), [(BINS, 0.001), (BINS, 0.01), (40, 0.01)])
def test_agrees_with_tfps_spline(bins, min_slope):
    transform = SplineTransform(bins, BOUND, min_slope)
    parameters, x = _parameters(bins=bins), _values()
    expected = _tfp_spline(parameters, bins, min_slope=min_slope)
    assert np.any(np.abs(x) > BOUND) and np.any(np.abs(x) < BOUND)
    z, ildj = transform.inverse_and_ildj(x, parameters)
    np.testing.assert_allclose(z, expected.forward(x), atol=1e-12)
    np.testing.assert_allclose(ildj, expected.forward_log_det_jacobian(x, 0), atol=1e-10)
    again, fldj = transform.forward_and_fldj(x, parameters)
    np.testing.assert_allclose(again, expected.inverse(x), atol=1e-9)
    np.testing.assert_allclose(
        fldj, expected.inverse_log_det_jacobian(tf.identity(x), 0), atol=1e-8
    )


@pytest.mark.parametrize("direction", ["inverse_and_ildj", "forward_and_fldj"])
def test_the_gradient_that_is_written_out_is_that_of_tfps_spline(direction):
    """The generative direction's through the normalizing one, by the inverse function theorem."""
    transform, parameters, x = SplineTransform(BINS, BOUND), _parameters(), _values()
    weights = _values(seed=2), _values(seed=3)

    def loss(of_map):
        with tf.GradientTape() as tape:
            tape.watch([parameters, x])
            pairs = zip(of_map(), weights, strict=True)
            total = tf.add_n([tf.reduce_sum(value * weight) for value, weight in pairs])
        return tape.gradient(total, [parameters, x])

    def expected():
        spline = _tfp_spline(parameters)
        if direction == "inverse_and_ildj":
            return spline.forward(x), spline.forward_log_det_jacobian(x, 0)
        return spline.inverse(x), spline.inverse_log_det_jacobian(tf.identity(x), 0)

    own = loss(lambda: getattr(transform, direction)(x, parameters))
    for gradient, other in zip(own, loss(expected), strict=True):
        np.testing.assert_allclose(gradient, other, rtol=1e-6, atol=1e-8)


def test_zero_parameters_are_the_identity():
    x = _values(dtype=np.float32)
    parameters = tf.zeros([*x.shape[:1], 3 * BINS - 1, *x.shape[1:]])
    transform = SplineTransform(BINS, BOUND)
    for direction in (transform.inverse_and_ildj, transform.forward_and_fldj):
        value, log_derivative = direction(x, parameters)
        np.testing.assert_allclose(value, x, atol=1e-6)
        np.testing.assert_allclose(log_derivative, np.zeros(x.shape), atol=1e-6)


def test_it_joins_its_tails_and_rises():
    transform, parameters = SplineTransform(BINS, BOUND), _parameters((1, 1), size=0.5)
    x = tf.constant(np.linspace(-1.2 * BOUND, 1.2 * BOUND, 4001)[:, None])
    parameters = tf.repeat(parameters, len(x), axis=0)
    z, ildj = (np.ravel(v) for v in transform.inverse_and_ildj(x, parameters))
    assert np.all(np.diff(z) > 0)
    outside = np.abs(np.ravel(x)) >= BOUND
    np.testing.assert_array_equal(z[outside], np.ravel(x)[outside])
    assert np.all(ildj[outside] == 0)
    assert np.max(np.abs(np.diff(z))) < 0.1  # No jump at the ends,
    assert np.max(np.abs(np.diff(ildj))) < 0.2  # of the derivative neither.


@pytest.mark.parametrize("size", [1.0, 30.0, 1000.0])
def test_extreme_parameters_leave_values_and_gradients_finite(size):
    transform = SplineTransform(8, 4.0)
    parameters = _parameters((200, 3), size, bins=8, dtype=np.float32)
    x = _values((200, 3), 3.0, np.float32)
    for direction in (transform.inverse_and_ildj, transform.forward_and_fldj):
        with tf.GradientTape() as tape:
            tape.watch([x, parameters])
            value, log_derivative = direction(x, parameters)
            loss = tf.reduce_mean(value) + tf.reduce_mean(log_derivative)
        assert np.all(np.isfinite(value))
        assert np.all(np.abs(value) <= np.maximum(np.abs(x), 4.0))
        # log of s^2 (...) / q^2 with slopes and derivatives in [1e-2, 1e2], and a little beyond.
        assert np.all(np.isfinite(log_derivative))
        for gradient in tape.gradient(loss, [x, parameters]):
            assert np.all(np.isfinite(gradient))


@pytest.mark.slow
@pytest.mark.parametrize("num_steps", [3, 16])
@pytest.mark.parametrize("kind", ["coupling", "autoregressive"])
def test_deep_flows_invert_in_float32(kind, num_steps, randomize):
    sizes = dict(dims=6, num_steps=num_steps, hidden_units=16, num_hidden_layers=2)
    if kind == "coupling":
        flow = Flow(TabularGlowConfig(**sizes, coupling="spline"))
    else:
        flow = Flow(MAFConfig(**sizes, transform="spline", mixing=True))
    x = tf.constant(np.random.RandomState(0).normal(size=(500, 6)), tf.float32)
    flow.adapt(x)
    randomize(flow.bijector.keras_layers, size=0.05)
    z, ildj = flow.bijector.inverse_and_ildj(x)
    again, fldj = flow.bijector.forward_and_fldj(tf.identity(z))
    assert np.max(np.abs(z - x)) > 0.5
    np.testing.assert_allclose(again, x, atol=1e-4)
    np.testing.assert_allclose(fldj, -ildj, atol=1e-3)


@pytest.mark.parametrize("slope", [0, 1e-5, 0.11, math.nan])
def test_the_smallest_slope_is_checked(slope):
    with pytest.raises(ValueError, match="`min_slope` must be from 1e-4 to 0.1, got"):
        SplineTransform(8, 4.0, slope)


@pytest.mark.parametrize("slope", [0.001, 0.05])
def test_no_slope_at_an_end_of_a_bin_is_below_the_smallest(slope):
    transform = SplineTransform(4, 1.0, slope)
    raw = np.zeros([1, 11, 1])
    raw[:, 8:] = -50.0  # The derivatives at the ends of the four bins, all of a half.
    x = tf.constant([[[-0.5]], [[0.0]], [[0.5]]], tf.float64)
    for value in x:
        _, ildj = transform.inverse_and_ildj(value, tf.constant(raw))
        np.testing.assert_allclose(np.exp(ildj), slope, rtol=1e-6)


@pytest.mark.parametrize("bins", [1, 101, 2.0, True])
def test_the_number_of_bins_is_checked(bins):
    with pytest.raises(ValueError, match="`num_bins` must be an integer from 2 to 100, got"):
        SplineTransform(bins, 4.0)


@pytest.mark.parametrize("bound", [0.0, -1.0, math.inf, math.nan])
def test_the_tail_bound_is_checked(bound):
    with pytest.raises(ValueError, match="`tail_bound` must be positive and finite, got"):
        SplineTransform(8, bound)
