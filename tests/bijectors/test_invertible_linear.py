"""Tests of the invertible linear map against numpy and TFP."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_distill.bijectors import InvertibleLinear


@pytest.fixture(params=[1, 2, 5, 21])
def linear(request, randomize, float64):
    bijector = InvertibleLinear(request.param, seed=3)
    randomize(bijector.keras_layers)
    return bijector


def _matrix(bijector):
    """The matrix from the map itself: its rows are the images of the unit vectors."""
    (layer,) = bijector.keras_layers
    unit_vectors = tf.eye(layer.log_scale.shape[0], dtype=layer.log_scale.dtype)
    return np.transpose(bijector.inverse_and_ildj(unit_vectors)[0])


def test_it_has_one_parameter_per_entry_of_the_matrix(linear):
    (layer,) = linear.keras_layers
    dims = layer.log_scale.shape[0]
    assert sum(np.prod(v.shape) for v in linear.trainable_variables) == dims**2


def test_matrix_is_the_product_of_its_factors(linear):
    (layer,) = linear.keras_layers
    dims = layer.log_scale.shape[0]
    lower, upper = np.eye(dims), np.diag(layer.sign.numpy() * np.exp(layer.log_scale.numpy()))
    lower[np.tril_indices(dims, -1)] = layer.lower.numpy()
    upper[np.triu_indices(dims, 1)] = layer.upper.numpy()
    matrix = (lower @ upper)[layer.permutation.numpy()]
    np.testing.assert_allclose(_matrix(linear), matrix, atol=1e-12)
    plu = tfp.bijectors.ScaleMatvecLU(
        tf.constant(lower - np.eye(dims) + upper), np.argsort(layer.permutation.numpy())
    )
    x = tf.constant(np.random.RandomState(0).normal(size=(6, dims)))
    z, ildj = linear.inverse_and_ildj(x)
    np.testing.assert_allclose(z, plu.forward(x), atol=1e-10)
    np.testing.assert_allclose(ildj, np.full(6, plu.forward_log_det_jacobian(x, 1)), atol=1e-10)
    np.testing.assert_allclose(linear.forward_and_fldj(x)[0], plu.inverse(x), rtol=1e-7, atol=1e-7)


def test_log_det_is_that_of_the_matrix(linear):
    x = tf.zeros([2, _matrix(linear).shape[0]], tf.float64)
    expected = np.linalg.slogdet(_matrix(linear))[1]
    np.testing.assert_allclose(linear.inverse_and_ildj(x)[1], [expected] * 2, atol=1e-10)


def test_every_position_of_an_image_counts(float64):
    linear = InvertibleLinear(3, event_ndims=3)
    (layer,) = linear.keras_layers
    layer.log_scale.assign([0.5, 0.25, -0.125])
    np.testing.assert_allclose(
        linear.inverse_and_ildj(tf.zeros([2, 4, 5, 3], tf.float64))[1], [20 * 0.625] * 2
    )


@pytest.mark.parametrize("dims", [2, 6, 63])
def test_it_starts_as_a_rotation_that_the_seed_chooses(dims):
    matrix = _matrix(InvertibleLinear(dims, seed=1))
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(dims), atol=1e-5)
    np.testing.assert_array_equal(matrix, _matrix(InvertibleLinear(dims, seed=1)))
    assert np.max(np.abs(matrix - _matrix(InvertibleLinear(dims, seed=2)))) > 0.1


@pytest.mark.parametrize("dims", [1, 2, 5, 6, 63])
def test_it_may_start_as_a_permutation_that_exchanges_the_halves(dims):
    first = _matrix(InvertibleLinear(dims, start="permutation", seed=1)).argmax(axis=1)
    np.testing.assert_array_equal(
        _matrix(InvertibleLinear(dims, start="permutation", seed=1)), np.eye(dims)[first]
    )
    half = dims // 2
    assert sorted(first) == list(range(dims)) and set(first[dims - half :]) == set(range(half))
    if dims > 5:
        other = InvertibleLinear(dims, start="permutation", seed=2)
        assert (_matrix(other).argmax(axis=1) != first).any()


def test_it_may_start_as_the_identity():
    np.testing.assert_array_equal(_matrix(InvertibleLinear(5, start="identity")), np.eye(5))


def test_other_starts_are_refused():
    with pytest.raises(ValueError, match="`start` must be one of rotation, .*, got 'no'"):
        InvertibleLinear(3, start="no")


def test_signs_and_permutation_are_not_trained():
    (layer,) = InvertibleLinear(4).keras_layers
    assert {w.name for w in layer.non_trainable_weights} == {"sign", "permutation"}
    assert layer.permutation.dtype == "int32"
