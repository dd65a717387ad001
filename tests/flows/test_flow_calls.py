"""Tests of what a person calls: compiled once, any batch shape, seeds, gradients."""

import copy
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_distill import Flow, GlowConfig, MAFConfig, TabularGlowConfig

SMALL = dict(dims=3, num_steps=2, hidden_units=4, num_hidden_layers=1)
CONFIGS = {
    "glow": TabularGlowConfig(**SMALL),
    "conditional_maf": MAFConfig(condition_dims=2, **SMALL),
    "iaf": MAFConfig(inverse_autoregressive=True, **SMALL),
    "images": GlowConfig((4, 4, 2), num_levels=2, steps_per_level=1, hidden_channels=4),
}
LARGE_SEEDS = (0, -1, 20240101, 2**31, 2**40, -(2**70))


def _move(flow, seed=0):
    random = np.random.RandomState(seed)
    for weight in flow.trainable_variables:
        weight.assign(weight.numpy() + 0.1 * random.normal(size=weight.shape))


@pytest.fixture(scope="module", params=CONFIGS)
def flow(request):
    flow = Flow(CONFIGS[request.param], name=request.param)
    _move(flow)
    return flow


@pytest.fixture
def maf():
    return Flow(MAFConfig(**SMALL), name="maf")


def _condition(flow, *shape):
    dims = flow.config.condition_dims
    return np.random.RandomState(1).normal(size=(*shape, dims)).astype(np.float32) if dims else None


def _kwargs(condition):
    return {} if condition is None else {"bijector_kwargs": {"condition": tf.constant(condition)}}


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (0,)])
def test_passes_take_any_batch_shape(flow, shape):
    condition = _condition(flow, *shape)
    x = flow.distribution.sample(shape, seed=1, **_kwargs(condition))
    assert x.shape == (*shape, *flow.event_shape)
    rows = tf.reshape(x, [-1, *flow.event_shape])
    one_each = None if condition is None else condition.reshape(-1, condition.shape[-1])
    log_prob = flow.log_prob(x, condition)
    assert log_prob.shape == shape
    np.testing.assert_allclose(
        tf.reshape(log_prob, [-1]), flow.log_prob(rows, one_each), rtol=1e-4, atol=1e-4
    )
    by_tfp = flow.distribution.log_prob(x, **_kwargs(condition))
    np.testing.assert_array_equal(by_tfp, log_prob)
    z = flow.to_latent(x, condition)
    assert z.shape == (*shape, flow.latent_dims)
    np.testing.assert_allclose(flow.to_data(z, condition), x, atol=1e-4)
    y, fldj = flow.to_data_and_fldj(z, condition)
    trace = flow.trace(x, condition)
    assert y.shape == x.shape
    assert all(latent.shape == z.shape for latent in trace.latents)
    np.testing.assert_allclose(trace.ildj, -fldj, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(trace.log_prob(), log_prob, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_the_bijector_takes_any_batch_shape_as_those_of_tfp(flow, shape):
    bijector, condition = flow.bijector, _condition(flow, *shape)
    kwargs = {} if condition is None else {"condition": tf.constant(condition)}
    z = tf.random.stateless_normal([*shape, flow.latent_dims], [0, 0])
    x = bijector.forward(z, **kwargs)
    np.testing.assert_allclose(x, flow.to_data(z, condition), rtol=1e-4, atol=1e-4)
    ildj = bijector.inverse_log_det_jacobian(tf.identity(x), **kwargs)
    assert ildj.shape == shape
    np.testing.assert_allclose(bijector.inverse(tf.identity(x), **kwargs), z, atol=1e-4)


def test_tfp_samples_of_any_shape(flow):
    condition = _condition(flow)
    for shape, expected in (((), ()), (4, (4,)), ([2, 3], (2, 3))):
        samples = flow.distribution.sample(shape, **_kwargs(condition))
        assert samples.shape == (*expected, *flow.event_shape)
    x, log_prob = flow.distribution.experimental_sample_and_log_prob(5, **_kwargs(condition))
    np.testing.assert_allclose(log_prob, flow.log_prob(x, condition), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_a_function_samples_as_a_call_does(flow, shape):
    kwargs = dict(seed=tf.constant([0, 1]), **_kwargs(_condition(flow)))
    called = flow.distribution.sample(shape, **kwargs)
    traced = tf.function(lambda: flow.distribution.sample(shape, **kwargs))()
    assert traced.shape == (*shape, *flow.event_shape)
    np.testing.assert_allclose(traced, called, rtol=1e-4, atol=1e-5)


def test_distributions_of_tfp_contain_flows(maf, caplog):
    _move(maf)
    tfd = tfp.distributions
    joint = tfd.JointDistributionSequential(
        [maf.distribution, lambda x: tfd.Normal(tf.reduce_sum(x, -1), 1.0)]
    )
    x, total = joint.sample(4, seed=1)
    noise = tfd.Normal(tf.reduce_sum(x, -1), 1.0).log_prob(total)
    np.testing.assert_allclose(joint.log_prob([x, total]), maf.log_prob(x) + noise, rtol=1e-4)
    copied = maf.distribution.copy()
    assert copied.batch_shape == maf.distribution[...].batch_shape == ()
    np.testing.assert_array_equal(copied.log_prob(x), maf.log_prob(x))
    repeated = tfd.Sample(maf.distribution, 2)
    np.testing.assert_allclose(
        repeated.log_prob(x[None, :2]), [tf.reduce_sum(maf.log_prob(x[:2]))], rtol=1e-4
    )
    assert "FlowDistribution" not in caplog.text


def test_a_condition_is_broadcast_to_the_data():
    flow = Flow(CONFIGS["conditional_maf"], name="conditional")
    _move(flow)
    x = np.random.RandomState(0).normal(size=(2, 3, 3)).astype(np.float32)
    condition = _condition(flow, 3)
    expected = flow.log_prob(x, np.stack([condition] * 2))
    np.testing.assert_allclose(flow.log_prob(x, condition), expected, rtol=1e-5)
    np.testing.assert_allclose(
        flow.log_prob(x, condition[0])[1], flow.log_prob(x[1], condition[:1]), rtol=1e-5
    )
    for given in (condition[0], condition[:1]):
        samples = flow.sample(4, given, seed=1)
        np.testing.assert_array_equal(samples, flow.sample(4, np.stack([condition[0]] * 4), seed=1))
    for wrong in (condition[:2], condition[:, :1], condition[None]):
        with pytest.raises(ValueError, match="`condition` of 'conditional' must have"):
            flow.sample(4, wrong)


def test_a_seed_repeats_and_without_one_samples_are_new(flow):
    condition = _condition(flow)
    samples = [flow.sample(3, condition, seed=seed) for seed in LARGE_SEEDS]
    for seed, first in zip(LARGE_SEEDS, samples, strict=True):
        np.testing.assert_array_equal(first, flow.sample(3, condition, seed=seed))
        x, log_prob = flow.sample_and_log_prob(3, condition, seed=seed)
        np.testing.assert_allclose(x, first, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(log_prob, flow.log_prob(x, condition), rtol=1e-3, atol=1e-3)
    samples += [flow.sample(3, condition), flow.sample(3, condition)]
    for index, one in enumerate(samples):
        assert all(np.max(np.abs(one - other)) > 1e-3 for other in samples[:index])


def test_samples_are_the_same_within_a_function(flow):
    condition = _condition(flow)
    seeded = tf.function(lambda n, seed: flow.sample(n, condition, seed=seed))
    expected = flow.sample(5, condition, seed=-3)
    actual = seeded(tf.constant(5), tf.constant(-3))
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    unseeded = tf.function(lambda: flow.sample(5, condition))
    assert np.max(np.abs(unseeded() - unseeded())) > 1e-3


def test_tensorflow_s_seed_decides_about_unseeded_samples(maf):
    def draw():
        tf.random.set_seed(5)
        return maf.sample(4).numpy(), maf.sample(4).numpy()

    first, second = draw()
    np.testing.assert_array_equal(draw(), (first, second))
    assert np.max(np.abs(first - second)) > 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(n=-1), "`n` must be at least 0, got -1"),
        (dict(n=2.5), "`n` must be an integer, got 2.5"),
        (dict(n=True), "`n` must be an integer, got True"),
        (dict(n=2, seed=0.5), "`seed` must be an integer, got 0.5"),
        (dict(n=2, temperature=-1.0), "`temperature` must be finite and at least 0, got -1.0"),
        (dict(n=2, condition=np.zeros([2, 1])), r"`condition` of 'maf' must be None, got shape"),
    ],
)
def test_sampling_refuses_what_makes_no_samples(maf, arguments, message):
    with pytest.raises(ValueError, match=message):
        maf.sample(**arguments)


@pytest.mark.parametrize("seed", LARGE_SEEDS)
def test_any_integer_seeds_the_weights(seed):
    first, second = (Flow(TabularGlowConfig(seed=s, **SMALL)) for s in (seed, seed + 1))
    a, b = (np.concatenate([w.ravel() for w in f.get_weights()]) for f in (first, second))
    assert np.max(np.abs(a - b)) > 0.01


def test_passes_are_traced_once_for_all_batches(maf, monkeypatch):
    runs = []
    inner = maf.bijector.segment

    def counted(*args):
        runs.append(tf.executing_eagerly())
        return inner(*args)

    monkeypatch.setattr(maf.bijector, "segment", counted)
    for shape in ((3,), (2, 3), (7, 3), (2, 4, 3), (256, 3)):
        assert maf.log_prob(np.zeros(shape)).shape == shape[:-1]
    maf.distribution.log_prob(np.zeros([5, 3]))
    assert runs == [False]


@pytest.mark.slow
@pytest.mark.parametrize("rows", [5, 256])
def test_gradients_reach_weights_and_data_through_calls(flow, rows):
    condition = _condition(flow)
    x = flow.sample(rows, condition, seed=0)

    def gradients(run):
        weights = [weight.value for weight in flow.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_mean(run(x, condition))
        return tape.gradient(loss, [x, *weights])

    called, traced = gradients(flow.log_prob), gradients(tf.function(flow.log_prob))
    for a, b in zip(called, traced, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_changed_weights_and_statistics_are_seen(maf):
    x = np.random.RandomState(0).normal(size=(4, 3))
    results = [maf.log_prob(x).numpy()]
    _move(maf, seed=1)
    results.append(maf.log_prob(x).numpy())
    maf.standardize.set_statistics(np.ones(3), np.full(3, 2.0))
    results.append(maf.log_prob(x).numpy())
    for before, after in zip(results, results[1:], strict=False):
        assert np.min(np.abs(before - after)) > 1e-4


def test_copies_of_a_called_flow_stand_on_their_own(maf, tmp_path):
    _move(maf)
    x = np.random.RandomState(0).normal(size=(4, 3))
    expected = maf.log_prob(x).numpy()
    maf.distribution.sample(2)
    maf.save(tmp_path / "flow.keras")
    copies = [
        pickle.loads(pickle.dumps(maf)),
        copy.deepcopy(maf),
        keras.models.load_model(tmp_path / "flow.keras"),
    ]
    _move(maf, seed=1)
    for other in copies:
        np.testing.assert_array_equal(other.log_prob(x), expected)
    assert keras.models.clone_model(maf).log_prob(x).shape == (4,)


def test_calls_under_a_strategy(two_replicas):
    x = np.random.RandomState(0).normal(size=(4, 3)).astype(np.float32)
    expected = Flow(MAFConfig(**SMALL)).log_prob(x)
    with two_replicas.scope():
        flow = Flow(MAFConfig(**SMALL))
        np.testing.assert_allclose(flow.log_prob(x), expected, rtol=1e-5)
    np.testing.assert_allclose(flow.log_prob(x), expected, rtol=1e-5)
    of_replicas = two_replicas.run(flow.log_prob, [x])
    for value in two_replicas.experimental_local_results(of_replicas):
        np.testing.assert_allclose(value, expected, rtol=1e-5)
    flow.standardize.set_statistics(np.ones(3), np.full(3, 2.0))
    assert np.min(np.abs(flow.log_prob(x) - expected)) > 1e-4
