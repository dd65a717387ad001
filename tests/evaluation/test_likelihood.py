"""Tests of the held-out likelihood and the round trip, against closed forms."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_distill import Flow, MAFConfig, TabularGlowConfig
from tfp_distill.evaluation import (
    Likelihood,
    bits_per_dim,
    evaluate_likelihood,
    latent_round_trip_error,
    round_trip_error,
)

tfd = tfp.distributions

MEAN = np.array([3.0, -2.0, 0.5], np.float32)
SCALE = np.array([0.5, 2.0, 4.0], np.float32)


def gaussian_flow(condition_dims=0):
    """A new MAF is the identity, so that the statistics make the flow a Gaussian."""
    flow = Flow(MAFConfig(dims=3, num_steps=1, hidden_units=4, condition_dims=condition_dims))
    flow.standardize.set_statistics(MEAN, SCALE)
    return flow


def gaussian_rows(rows):
    return MEAN + SCALE * np.random.RandomState(0).normal(size=(rows, 3)).astype(np.float32)


@pytest.mark.parametrize("batch_size", [1, 4, 10, 100])
def test_is_that_of_the_closed_form(batch_size):
    x = gaussian_rows(10)
    expected = tfd.MultivariateNormalDiag(MEAN, SCALE).log_prob(x).numpy().astype(np.float64)
    result = evaluate_likelihood(gaussian_flow(), x, batch_size=batch_size)
    assert result.mean == pytest.approx(expected.mean(), abs=1e-5)
    assert result.standard_error == pytest.approx(expected.std(ddof=1) / 10**0.5, abs=1e-5)
    assert (result.num_examples, result.num_non_finite) == (10, 0)


def test_approaches_the_entropy():
    flow = gaussian_flow()
    result = evaluate_likelihood(flow, gaussian_rows(20_000))
    entropy = float(tfd.MultivariateNormalDiag(MEAN, SCALE).entropy())
    assert abs(result.mean + entropy) < 4 * result.standard_error
    # The log-density of a D-dimensional Gaussian has variance D/2.
    assert result.standard_error == pytest.approx((1.5 / 20_000) ** 0.5, rel=0.05)


def test_agrees_with_log_prob_of_a_flow_with_a_condition():
    flow = Flow(TabularGlowConfig(dims=3, num_steps=1, hidden_units=4, condition_dims=2))
    rng = np.random.RandomState(0)
    for weight in flow.trainable_variables:
        weight.assign(weight + 0.1 * rng.normal(size=weight.shape))
    x, condition = rng.normal(size=(7, 3)), rng.normal(size=(7, 2))
    result = evaluate_likelihood(flow, x, condition, batch_size=3)
    assert result.mean == pytest.approx(np.mean(flow.log_prob(x, condition)), abs=1e-5)
    assert round_trip_error(flow, x, condition, batch_size=3) < 1e-5


@pytest.mark.parametrize("batch_size", [3, 100])
def test_keeps_the_value_of_every_row_in_order(batch_size):
    x = gaussian_rows(10)
    flow = gaussian_flow()
    values = evaluate_likelihood(flow, x, batch_size=batch_size).values
    assert (values.dtype, values.shape) == (np.float64, (10,))
    np.testing.assert_allclose(values, flow.log_prob(x), rtol=1e-5)
    result = Likelihood.of_values(values)
    assert result == evaluate_likelihood(flow, x, batch_size=batch_size)
    assert "values" not in repr(result)


def test_latents_come_back_from_the_data():
    flow = gaussian_flow()
    assert latent_round_trip_error(flow, 9, batch_size=4) < 1e-5
    flow.to_latent = lambda x, condition=None: Flow.to_latent(flow, x, condition) + 0.25
    assert latent_round_trip_error(flow, 9, batch_size=4) == pytest.approx(0.25, rel=1e-4)
    flow.to_data = lambda z, condition=None: Flow.to_data(flow, z, condition) * np.nan
    assert np.isnan(latent_round_trip_error(flow, 9))
    with pytest.raises(ValueError, match="`n` must be an integer of at least 1, got 0"):
        latent_round_trip_error(flow, 0)


def test_takes_tensors():
    x = gaussian_rows(5)
    flow = gaussian_flow()
    assert evaluate_likelihood(flow, tf.constant(x)) == evaluate_likelihood(flow, x)


def test_counts_what_is_not_finite_and_does_not_hide_it():
    x = gaussian_rows(6)
    x[2, 1] = np.inf
    result = evaluate_likelihood(gaussian_flow(), x, batch_size=4)
    assert not np.isfinite(result.mean)
    assert np.isnan(result.standard_error)
    assert (result.num_examples, result.num_non_finite) == (6, 1)
    assert "(1 of 6 examples not finite)" in str(result)


def test_prints_two_standard_errors():
    assert str(Likelihood(-1.23456, 0.01, 1000)) == "-1.235 ± 0.020 nats"


def test_accumulates_in_float64():
    flow = gaussian_flow()
    flow.standardize.set_statistics(
        np.zeros(3), np.full(3, 1e-30)
    )  # log-likelihoods of about 200 nats
    x = np.zeros((300_000, 3), np.float32)
    one = float(flow.log_prob(x[:1])[0])
    assert evaluate_likelihood(flow, x).mean == pytest.approx(one, rel=1e-12)


def test_round_trip_error_is_in_units_of_the_scale():
    flow = gaussian_flow()
    scale = np.array([1e-3, 1.0, 1e3])
    flow.standardize.set_statistics(np.zeros(3), scale)
    wrong = 0.25

    def to_data(z, condition=None):
        return Flow.to_data(flow, z, condition) + wrong * scale.astype(np.float32)

    x = np.random.RandomState(0).normal(size=(9, 3)) * scale
    assert round_trip_error(flow, x, batch_size=4) < 1e-6
    flow.to_data = to_data
    assert round_trip_error(flow, x, batch_size=4) == pytest.approx(wrong, rel=1e-5)


def test_round_trip_error_shows_nan():
    x = gaussian_rows(6)
    x[1, 0] = np.nan
    assert np.isnan(round_trip_error(gaussian_flow(), x, batch_size=2))


def test_rejects_wrong_arguments():
    flow = gaussian_flow()
    with pytest.raises(ValueError, match="`x` must have at least 2 rows, got 1"):
        evaluate_likelihood(flow, gaussian_rows(1))
    with pytest.raises(ValueError, match="`batch_size` must be an integer of at least 1, got 0"):
        evaluate_likelihood(flow, gaussian_rows(5), batch_size=0)
    with pytest.raises(ValueError, match=r"`x` .* must have shape \(\.\.\., 3\), got \(5, 2\)"):
        evaluate_likelihood(flow, gaussian_rows(5)[:, :2])
    with pytest.raises(ValueError, match="`condition` must have 5 rows as `x`, got 4"):
        evaluate_likelihood(gaussian_flow(condition_dims=2), gaussian_rows(5), np.zeros((4, 2)))
    with pytest.raises(ValueError, match="`x` must have at least 1 row, got 0"):
        round_trip_error(flow, gaussian_rows(0))


@pytest.mark.parametrize("bins", [2, 17, 256])
def test_bits_of_uniform_data_under_the_uniform_density_are_those_of_the_bins(bins):
    # On [0, 1)^D the log-density is 0: every one of the `bins` values costs the same.
    assert bits_per_dim(0.0, 784, bins=bins) == pytest.approx(np.log2(bins), rel=1e-12)


def test_bits_per_dim_of_a_gaussian_are_its_entropy():
    # A Gaussian of deviation s in units of a bin has 0.5 log2(2 pi e s^2) bits.
    bins, deviation, dims = 256, 5.0, 3
    flow = gaussian_flow()
    flow.standardize.set_statistics(np.full(dims, 0.5), np.full(dims, deviation / bins))
    z = np.random.RandomState(0).normal(size=(50_000, dims))
    z = (z - z.mean(axis=0)) / z.std(axis=0)  # so that the mean is the entropy exactly
    result = evaluate_likelihood(flow, 0.5 + z * deviation / bins)
    expected = 0.5 * np.log2(2 * np.pi * np.e * deviation**2)
    assert bits_per_dim(result.mean, dims) == pytest.approx(expected, abs=1e-5)


def test_bits_per_dim_do_not_depend_on_the_unit_that_is_named():
    x = gaussian_rows(10)
    flow = gaussian_flow()
    in_bins = np.asarray(flow.log_prob(x), np.float64)
    flow.standardize.set_statistics(MEAN / 256, SCALE / 256)
    in_units = np.asarray(flow.log_prob(x / 256), np.float64)
    np.testing.assert_allclose(
        bits_per_dim(in_units, 3), bits_per_dim(in_bins, 3, bins=1), atol=1e-5
    )


def test_bits_per_dim_keep_the_shape_and_refuse_no_dimensions():
    assert bits_per_dim(tf.zeros([4, 2]), 3).shape == (4, 2)
    assert bits_per_dim(np.zeros(5), 3).shape == (5,)
    with pytest.raises(ValueError, match="`dims` must be an integer of at least 1, got 0"):
        bits_per_dim(0.0, 0)
    with pytest.raises(ValueError, match="`bins` must be an integer of at least 1, got 0.5"):
        bits_per_dim(0.0, 3, bins=0.5)
