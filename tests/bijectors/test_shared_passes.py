"""Equal steps of a flow run one traced function, each with its own weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_distill
from tfp_distill.bijectors import ActNorm, InvertibleLinear, share_passes
from tfp_distill.compiling import shared_traces

_STEPS = 4


@pytest.fixture(name="bijector", params=["affine", "spline"])
def _bijector(request):
    config = tfp_distill.GlowConfig(
        (8, 8, 3),
        num_levels=2,
        steps_per_level=_STEPS,
        hidden_channels=6,
        coupling=request.param,
    )
    bijector = config.build_bijector()
    values = np.random.default_rng(0)
    for layer in bijector.keras_layers:
        for weight in layer.trainable_weights:
            weight.assign(weight.numpy() + values.normal(scale=0.03, size=weight.shape))
    return bijector


def _images():
    return tf.constant(np.random.default_rng(1).uniform(size=(5, 8, 8, 3)), tf.float32)


def _latents():
    return tf.constant(np.random.default_rng(2).normal(size=(5, 192)), tf.float32)


def _passes_and_gradients(bijector, *, shared):
    weights = [w.value for layer in bijector.keras_layers for w in layer.trainable_weights]

    def run(x, z):
        with tf.GradientTape() as tape:
            tape.watch([x, z])
            latent, ildj = bijector.inverse_and_ildj(x)
            data, fldj = bijector.forward_and_fldj(z)
            values = (latent, ildj, data, fldj)
            loss = tf.add_n([tf.reduce_sum(value**2) for value in values])
        return values, tape.gradient(loss, [x, z, *weights])

    function = tf.function(run, autograph=False)
    with shared_traces(shared):
        return function(_images(), _latents()), function


def _calls_of_template(bijector, run, monkeypatch):
    """Counts how often the code of the first step of each level runs."""
    calls = []
    for step in bijector.bijectors[1:]:
        own = step._inverse_and_ildj
        monkeypatch.setattr(
            step, "_inverse_and_ildj", lambda *args, own=own: calls.append(1) or own(*args)
        )
    run()
    return len(calls)


def test_passes_and_gradients_are_those_of_separate_steps(bijector):
    expected, _ = _passes_and_gradients(bijector, shared=False)
    found, function = _passes_and_gradients(bijector, shared=True)

    (graph,) = (concrete.graph for concrete in function._list_all_concrete_functions())
    types = [operation.type for operation in graph.get_operations()]
    assert types.count("Conv2D") < 2 * 3 * 2 * _STEPS
    for value, other in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-4, atol=1e-4)


def test_equal_steps_are_traced_once(bijector, monkeypatch):
    def run():
        with shared_traces():
            tf.function(bijector.inverse_and_ildj, autograph=False)(_images())

    # One for the equal steps of each level, and the step of the first level that factors out.
    assert _calls_of_template(bijector, run, monkeypatch) == 3


@pytest.mark.parametrize("eager", [False, True])
def test_each_step_runs_its_own_code_elsewhere(bijector, monkeypatch, eager):
    def run():
        function = bijector.inverse_and_ildj
        with shared_traces(eager):
            (function if eager else tf.function(function, autograph=False))(_images())

    assert _calls_of_template(bijector, run, monkeypatch) == 2 * _STEPS


def test_changed_weights_are_seen(bijector):
    function = tf.function(bijector.inverse_and_ildj, autograph=False)
    with shared_traces():
        before, _ = function(_images())
        weight = bijector.bijectors[3].keras_layers[0].trainable_weights[0]
        weight.assign(weight.numpy() + 0.5)
        after, _ = function(_images())

    assert np.abs(after - before).max() > 0.1
    np.testing.assert_allclose(after, bijector.inverse_and_ildj(_images())[0], atol=1e-4)


def test_a_flow_trains_and_is_called_with_shared_steps(monkeypatch):
    config = tfp_distill.GlowConfig((8, 8, 1), num_levels=1, steps_per_level=5, hidden_channels=4)
    flow = tfp_distill.Flow(config)
    x = np.random.default_rng(0).uniform(size=(32, 8, 8, 1)).astype("float32")
    flow.adapt(x)
    flow.compile(keras.optimizers.Adam(1e-2))
    before = [weight.numpy() for weight in flow.trainable_variables]

    fitted = _calls_of_template(
        flow.bijector, lambda: flow.fit(x, epochs=3, verbose=0), monkeypatch
    )
    called = _calls_of_template(flow.bijector, lambda: flow.log_prob(x), monkeypatch)

    assert (fitted, called) == (1, 1)  # Once for batches of one size, once for those of any.
    for weight, value in zip(flow.trainable_variables, before, strict=True):
        assert np.any(weight.numpy() != value), weight.path


def test_unequal_weights_are_refused():
    with pytest.raises(ValueError, match=r"equal shapes, got \[\(3,\), \(3,\)\]"):
        share_passes([ActNorm(2, event_ndims=3), ActNorm(3, event_ndims=3)])
    with pytest.raises(ValueError, match="equal shapes"):
        share_passes([ActNorm(2, event_ndims=3), InvertibleLinear(2, event_ndims=3)])
