"""Tests of the chain's trace, its stopped gradients and its errors."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_distill.bijectors import (
    ActNorm,
    InvertibleLinear,
    KerasBijector,
    State,
    TracedChain,
    standard_normal_log_prob,
)

tfb = tfp.bijectors
tfd = tfp.distributions


@pytest.fixture
def chain(randomize):
    bijectors = [ActNorm(3, name="near_data"), InvertibleLinear(3), ActNorm(3, name="near_latent")]
    chain = TracedChain(bijectors)
    randomize(chain.keras_layers)
    return chain


X = tf.constant(np.random.RandomState(0).normal(size=(5, 3)), tf.float32)


def test_order_is_that_of_tfps_chain(chain):
    expected = tfb.Chain(chain.bijectors)
    np.testing.assert_allclose(chain.inverse_and_ildj(X)[0], expected.inverse(X), atol=1e-5)
    np.testing.assert_allclose(chain.forward_and_fldj(X)[0], expected.forward(X), atol=1e-5)
    np.testing.assert_allclose(
        chain.inverse_and_ildj(X)[1], expected.inverse_log_det_jacobian(X, 1), atol=1e-5
    )


def test_trace_holds_what_each_bijector_yields(chain):
    trace = chain.trace(X)
    x = X
    for bijector, latent, ildj in zip(chain.bijectors, trace.latents, trace.ildjs, strict=True):
        x, expected = bijector.inverse_and_ildj(x)
        np.testing.assert_array_equal(latent, x)
        np.testing.assert_array_equal(ildj, expected)
    np.testing.assert_allclose(trace.ildj, np.sum(trace.ildjs, axis=0), atol=1e-6)
    normal = tfd.MultivariateNormalDiag(tf.zeros(3))
    np.testing.assert_allclose(
        trace.log_prob(), normal.log_prob(trace.latents[-1]) + trace.ildj, atol=1e-5
    )
    np.testing.assert_allclose(standard_normal_log_prob(X), normal.log_prob(X), atol=1e-5)


def test_a_trace_knows_the_likelihood_if_the_flow_ended_before(chain):
    trace = chain.trace(X)
    for last in range(3):
        expected = standard_normal_log_prob(trace.latents[last]) + sum(trace.ildjs[: last + 1])
        np.testing.assert_allclose(trace.log_prob_until(last), expected, rtol=1e-6)


def test_segments_make_up_the_likelihood_and_show_latents(chain):
    first = chain.segment(0, 0, State(X))
    second = chain.segment(1, 2, first.state, shown=[1])
    trace = chain.trace(X)
    np.testing.assert_array_equal(first.state.value, trace.latents[0])
    np.testing.assert_allclose(first.log_prob + second.ended(), trace.log_prob(), rtol=1e-6)
    assert not first.latents and set(second.latents) == {1}
    np.testing.assert_array_equal(second.latents[1], trace.latents[1])


def test_a_segment_moves_its_own_weights_only(chain):
    weights = [bijector.trainable_variables for bijector in chain.bijectors]
    for first, last in ((0, 0), (1, 1), (1, 2), (0, 2)):
        with tf.GradientTape(persistent=True) as tape:
            arriving = chain.segment(0, first - 1, State(X)).state.value if first else X
            loss = chain.segment(first, last, State(tf.stop_gradient(arriving))).ended()
        for index, of_bijector in enumerate(weights):
            moves = [g is not None for g in tape.gradient(loss, of_bijector)]
            assert any(moves) == (first <= index <= last)


def test_bijectors_show_their_layers_and_the_shape_of_what_arrives(chain):
    outer = TracedChain([tfb.Permute([1, 2, 0]), chain, tfb.Invert(ActNorm(3, name="inverted"))])
    assert outer.layers_of(0, 0) == ()
    assert outer.layers_of(0, 1) == chain.keras_layers
    assert [layer.name for layer in outer.layers_of(2, 2)] == ["inverted"]
    assert outer.arriving_shapes((3,)) == ((3,),) * 3


def test_layers_of_nested_chains_are_seen_once_and_in_order(chain):
    outer = TracedChain([tfb.Permute([1, 2, 0]), chain, tfb.Invert(ActNorm(3, name="inverted"))])
    names = [layer.name for layer in outer.keras_layers]
    assert names == ["near_data", "invertible_linear", "near_latent", "inverted"]
    assert not outer.conditional


def test_a_bijector_with_weights_that_keras_would_not_see_is_refused():
    with pytest.raises(ValueError, match="`bijectors` must keep their weights in Keras layers"):
        TracedChain([tfb.Shift(tf.Variable([1.0, 2.0, 3.0]))])
    with pytest.raises(ValueError, match="`bijectors` must keep their weights in Keras layers"):
        TracedChain([tfb.Chain([ActNorm(3)])])


def test_a_chain_must_not_be_empty():
    with pytest.raises(ValueError, match="`bijectors`"):
        TracedChain([])


def test_an_unbuilt_layer_is_refused():
    with pytest.raises(ValueError, match="`layers` of bijector 'b' must be built, got the unbuilt"):
        KerasBijector([keras.layers.Dense(2, name="late")], event_ndims=1, name="b")
