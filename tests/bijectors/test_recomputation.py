"""Gradients of recomputed passes are those of passes that keep their activations."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from tfp_distill import Flow, GlowConfig, MAFConfig, TabularGlowConfig
from tfp_distill.bijectors import ActNorm, State, TracedChain, recompute_passes
from tfp_distill.compiling import inlined, shared_traces
from tfp_distill.recomputation import recomputed_activations

_ROWS = dict(dims=3, num_steps=2, hidden_units=6)
CONFIGS = {
    "glow": GlowConfig((8, 8, 2), num_levels=2, steps_per_level=2, hidden_channels=4),
    "spline glow": GlowConfig(
        (4, 4, 1), num_levels=1, steps_per_level=2, hidden_channels=4, coupling="spline"
    ),
    "rows": TabularGlowConfig(coupling="spline", condition_dims=2, **_ROWS),
    "maf": MAFConfig(condition_dims=2, **_ROWS),
    "mixed maf": MAFConfig(transform="spline", mixing=True, **_ROWS),
    "iaf": MAFConfig(inverse_autoregressive=True, **_ROWS),
}


def _flow(name, randomize):
    flow = Flow(CONFIGS[name])
    randomize([flow], 0.1)
    return flow


def _inputs(flow, dtype):
    random = np.random.default_rng(0)
    shapes = [flow.event_shape, (flow.latent_dims,), (flow.config.condition_dims,)]
    return [tf.constant(random.uniform(size=(5, *shape)), dtype) for shape in shapes]


def _losses(flow, x, z, condition):
    """Of both directions, and of every latent and log-determinant on the way."""
    condition = condition if flow.config.condition_dims else None
    trace = flow.trace(x, condition)
    data, of_latents = flow.generative_trace(z, condition)
    values = [trace.log_prob(), data]
    for found in (trace, of_latents):
        values += [*found.latents, *found.ildjs]
    return tf.add_n([(k + 1) * tf.reduce_mean(value**2) for k, value in enumerate(values)])


def _gradients(flow, inputs, *, recompute, xla=False, losses=_losses):
    weights = [weight.value for weight in flow.trainable_variables]
    with recomputed_activations(recompute, use_xla=xla) as recomputation:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = losses(flow, *inputs)
        gradients = tape.gradient(loss, [*inputs, *weights], unconnected_gradients="zero")
    return loss, gradients, 0.0 if recomputation is None else recomputation.drift


def _assert_close(found, expected, tolerance):
    for own, other in zip(found, expected, strict=True):
        scale = 1 + np.abs(other).max(initial=0)
        np.testing.assert_allclose(own / scale, other / scale, atol=tolerance)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in ("glow", "rows") else pytest.mark.slow)
        for name in CONFIGS
    ],
)
def test_gradients_are_exact(name, float64, randomize):
    flow = _flow(name, randomize)
    inputs = _inputs(flow, tf.float64)
    run = functools.partial(_gradients, flow, inputs)
    loss, expected, _ = tf.function(run, autograph=False)(recompute=False)
    again, found, drift = tf.function(run, autograph=False)(recompute=True)

    assert float(again) == pytest.approx(float(loss), rel=1e-12)
    assert float(drift) < 1e-9
    _assert_close(found, expected, 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["xla", "eager", "shared"])
@pytest.mark.parametrize("name", ["glow", "rows", "iaf"])
def test_gradients_are_the_same_however_it_runs(name, way, randomize):
    flow = _flow(name, randomize)
    inputs = _inputs(flow, tf.float32)
    _, expected, _ = tf.function(functools.partial(_gradients, flow, inputs, recompute=False))()

    run = functools.partial(_gradients, flow, inputs, recompute=True, xla=way == "xla")
    with inlined() if way == "eager" else shared_traces(way == "shared"):
        if way != "eager":
            run = tf.function(run, autograph=False, jit_compile=way == "xla")
        _, found, drift = run()

    assert float(drift) < 1e-4
    _assert_close(found, expected, 1e-4)


def test_where_gradients_stop_what_was_there_is_taken(randomize):
    """A stop hands on a copy, which no backward pass rebuilds."""

    def losses(flow, x, *_):
        state, losses = State(x), []
        for first, last in ((0, 2), (3, 3), (4, flow.num_steps)):
            state = tf.nest.map_structure(tf.stop_gradient, (state.value, state.factored_out))
            state = State(*state)
            own = flow.bijector.segment(first, last, state, shown=range(first, last + 1))
            losses += [tf.reduce_mean(latent**2) for latent in own.latents.values()]
            state = own.state
        return tf.add_n(losses)

    flow = _flow("glow", randomize)
    inputs = _inputs(flow, tf.float32)
    run = tf.function(functools.partial(_gradients, flow, inputs, losses=losses), autograph=False)
    _, expected, _ = run(recompute=False)
    _, found, _ = run(recompute=True)
    _assert_close(found, expected, 1e-4)


def test_conditioners_run_twice(randomize, monkeypatch):
    """For the output, and once more both to rebuild what arrived and for the gradients."""
    flow, calls = _flow("rows", randomize), []
    coupling = flow.bijector.bijectors[2].bijectors[2]
    own = coupling._parameters_of
    monkeypatch.setattr(coupling, "_parameters_of", lambda *args: calls.append(1) or own(*args))

    def losses(flow, x, _, condition):
        return tf.reduce_mean(flow.log_prob(x, condition))

    inputs = _inputs(flow, tf.float32)
    tf.function(functools.partial(_gradients, flow, inputs, recompute=True, losses=losses))()
    assert len(calls) == 2


def test_drift_shows_what_rounding_lost():
    """Of 0.5 and a shift of 1e8 nothing is left in float32."""
    lossy = [ActNorm(2, name="shift"), ActNorm(2, name="scale")]
    lossy[0].keras_layers[0].shift.assign([1e8, 0.0])
    chain = TracedChain(lossy)
    recompute_passes(chain.bijectors)
    with recomputed_activations() as recomputation, tf.GradientTape() as tape:
        x = tf.constant([[0.5, 0.5]])
        tape.watch(x)
        z, _ = chain.inverse_and_ildj(x)
    tape.gradient(z, x)
    assert float(recomputation.drift) > 0.3


def test_without_rows_nothing_drifts(randomize):
    flow = _flow("rows", randomize)
    inputs = [value[:0] for value in _inputs(flow, tf.float32)]
    _, _, drift = tf.function(functools.partial(_gradients, flow, inputs, recompute=True))()
    assert float(drift) == 0.0
