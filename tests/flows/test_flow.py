"""Tests of Flow: likelihoods, samples, the three views of the weights, units, errors."""

import io
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from tfp_distill import Flow, GlowConfig, MAFConfig, TabularGlowConfig, load_flow
from tfp_distill.data import Statistics

SMALL = dict(dims=2, num_steps=2, hidden_units=8, num_hidden_layers=1, activation="tanh")
CONFIGS = {
    "glow": TabularGlowConfig(**SMALL),
    "additive_glow": TabularGlowConfig(coupling="additive", **SMALL),
    "conditional_glow": TabularGlowConfig(condition_dims=1, **SMALL),
    "maf": MAFConfig(**SMALL),
    "iaf": MAFConfig(inverse_autoregressive=True, **SMALL),
    "spline_glow": TabularGlowConfig(coupling="spline", **SMALL),
    "conditional_maf": MAFConfig(condition_dims=1, **SMALL),
}
STEPS = 16


def _data(rows=128):
    """A bent cloud of points, whose position the condition determines."""
    random = np.random.RandomState(0)
    condition = random.normal(size=(rows, 1)).astype(np.float32)
    x = random.normal(size=(rows, 2))
    x[:, 1] = 5 + 0.5 * x[:, 1] + 0.7 * x[:, 0] ** 2 + condition[:, 0]
    return x.astype(np.float32), condition


def _batches(config, rows=128, batch_size=16):
    x, condition = _data(rows)
    values = (x, condition) if config.condition_dims else x
    return tf.data.Dataset.from_tensor_slices(values).batch(batch_size)


def _condition(config, rows, seed=3):
    if not config.condition_dims:
        return None
    return np.random.RandomState(seed).normal(size=(rows, 1)).astype(np.float32)


def _weights(flow):
    return [w.numpy().copy() for w in flow.trainable_variables]


class Trained:
    """A flow after a few steps, with what it was before them."""

    def __init__(self, name):
        self.config = CONFIGS[name]
        self.flow = Flow(self.config, name=name)
        x, condition = _data(16)
        statistics = Statistics(np.array([0.1, 5.0]), np.array([1.0, 2.0]))
        condition = condition if self.config.condition_dims else None
        self.flow.adapt(x, condition, statistics=statistics)
        self.before = _weights(self.flow)
        self.flow.compile(keras.optimizers.Adam(0.02, global_clipnorm=10.0))
        self.logs = self.flow.fit(_batches(self.config), epochs=2, verbose=0).history
        self.x, condition = _data(20)
        self.condition = condition if self.config.condition_dims else None


@pytest.fixture(scope="module", params=CONFIGS)
def trained(request):
    return Trained(request.param)


@pytest.fixture
def glow():
    return Flow(CONFIGS["glow"], name="glow")


@pytest.mark.slow
def test_training_moves_every_weight_and_lowers_the_loss(trained):
    for weight, before in zip(trained.flow.trainable_variables, trained.before, strict=True):
        assert np.any(weight.numpy() != before), weight.path
        assert np.all(np.isfinite(weight.numpy())), weight.path
    assert trained.logs["loss"][1] < trained.logs["loss"][0]
    assert trained.logs["nll"] == trained.logs["loss"]
    assert (trained.flow.step, trained.flow.skipped_steps) == (STEPS, 0)


def test_log_prob_agrees_with_the_tfp_distribution(trained):
    log_prob = trained.flow.log_prob(trained.x, trained.condition)
    assert log_prob.shape == (20,)
    kwargs = {} if trained.condition is None else {"condition": tf.constant(trained.condition)}
    expected = trained.flow.distribution.log_prob(trained.x, bijector_kwargs=kwargs)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(trained.flow(trained.x, trained.condition), log_prob)
    assert tuple(trained.flow.distribution.event_shape) == trained.flow.event_shape == (2,)


def test_evaluate_and_predict_agree_with_log_prob(trained):
    x, condition = _data()
    log_prob = trained.flow.log_prob(x, condition if trained.config.condition_dims else None)
    dataset = _batches(trained.config)
    predicted = trained.flow.predict(dataset, verbose=0)
    np.testing.assert_allclose(predicted, log_prob, rtol=1e-4, atol=1e-4)
    logs = trained.flow.evaluate(dataset, verbose=0, return_dict=True)
    np.testing.assert_allclose(logs["loss"], -np.mean(log_prob), rtol=1e-5)


def test_density_integrates_to_one(trained):
    edges = [np.linspace(-12, 12, 401), np.linspace(-12, 28, 401)]
    axes = [(edge[1:] + edge[:-1]) / 2 for edge in edges]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.float32)
    condition = None if trained.condition is None else np.full([len(grid), 1], 0.5, np.float32)
    cell = (edges[0][1] - edges[0][0]) * (edges[1][1] - edges[1][0])
    density = np.exp(np.asarray(trained.flow.log_prob(grid, condition), np.float64))
    assert np.sum(density) * cell == pytest.approx(1, abs=2e-3)


def test_latents_and_data_map_to_each_other(trained):
    flow, condition = trained.flow, trained.condition
    z = flow.to_latent(trained.x, condition)
    x, fldj = flow.to_data_and_fldj(tf.identity(z), condition)
    np.testing.assert_allclose(x, trained.x, rtol=1e-4, atol=1e-4)
    trace = flow.trace(trained.x, condition)
    np.testing.assert_allclose(fldj, -trace.ildj, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(trace.latents[-1], z)
    np.testing.assert_allclose(trace.latents[0], (trained.x - [0.1, 5.0]) / [1, 2], atol=1e-5)
    assert len(trace.latents) == 1 + trained.config.num_steps == 1 + flow.num_steps
    assert np.max(np.abs(z - trace.latents[0])) > 0.05
    x, generative = flow.generative_trace(tf.identity(z), condition)
    np.testing.assert_allclose(x, trained.x, rtol=1e-4, atol=1e-4)
    tf.nest.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), generative, trace
    )


def test_samples(trained):
    flow, condition = trained.flow, _condition(trained.config, 50)
    samples = flow.sample(50, condition, seed=1)
    assert samples.shape == (50, 2)
    np.testing.assert_array_equal(samples, flow.sample(50, condition, seed=1))
    assert np.min(np.abs(samples - flow.sample(50, condition, seed=2))) > 0
    # The temperature scales the latents.
    z = flow.to_latent(samples, condition)
    cool = flow.sample(50, condition, temperature=0.5, seed=1)
    np.testing.assert_allclose(flow.to_latent(cool, condition), 0.5 * z, rtol=1e-3, atol=1e-3)
    frozen = flow.sample(50, condition, temperature=0.0)
    np.testing.assert_allclose(frozen, flow.to_data(tf.zeros([50, 2]), condition))
    if condition is not None:
        other = flow.sample(50, condition + 1, seed=1)
        assert np.max(np.abs(other - samples)) > 1e-3


def test_weights_are_the_same_seen_through_keras_tfp_and_the_file(trained, tmp_path):
    flow, path = trained.flow, tmp_path / "f.keras"
    of_keras = {id(w.value) for w in flow.trainable_variables}
    assert {id(v) for v in flow.bijector.trainable_variables} == of_keras
    assert {id(v) for v in flow.distribution.trainable_variables} == of_keras
    flow.save(path)
    stored = []
    with zipfile.ZipFile(path) as archive:
        weights = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(weights) as file:
        file.visititems(
            lambda name, value: stored.append(value[()]) if hasattr(value, "shape") else None
        )
    for weight in flow.trainable_variables:
        assert any(np.array_equal(weight.numpy(), value) for value in stored), weight.path
    loaded = load_flow(path)
    for a, b in zip(flow.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)
    np.testing.assert_array_equal(
        loaded.log_prob(trained.x, trained.condition), flow.log_prob(trained.x, trained.condition)
    )
    assert loaded.config == flow.config
    assert (loaded.name, loaded.step, loaded.adapted) == (flow.name, STEPS, True)


def test_other_statistics_are_other_units(trained):
    flow, condition = trained.flow, trained.condition
    old_mean, old_scale = flow.standardize.mean, flow.standardize.scale
    u = (trained.x - old_mean) / old_scale
    log_prob = flow.log_prob(trained.x, condition)
    samples = flow.sample(20, condition, seed=0)
    mean, scale = np.array([100.0, -7.0]), np.array([30.0, 0.01])
    try:
        flow.standardize.set_statistics(mean, scale)
        np.testing.assert_allclose(
            flow.log_prob(mean + scale * u, condition),
            log_prob - np.sum(np.log(scale)) + np.sum(np.log(old_scale)),
            atol=2e-3,
        )
        np.testing.assert_allclose(
            flow.sample(20, condition, seed=0),
            mean + scale * (samples - old_mean) / old_scale,
            rtol=1e-4,
        )
    finally:
        flow.standardize.set_statistics(old_mean, old_scale)


def test_extreme_weights_leave_likelihoods_samples_and_gradients_finite(randomize):
    for name in ("glow", "maf", "iaf"):
        flow = Flow(CONFIGS[name], name=name)
        networks = [
            layer for layer in flow.layers if "conditioner" in layer.name or "made" in layer.name
        ]
        assert len(networks) == flow.num_steps
        randomize(networks, size=1000.0)
        x, _ = _data(50)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(flow.log_prob(x))
        assert np.isfinite(loss), name
        gradients = tape.gradient(loss, [w.value for w in flow.trainable_variables])
        assert all(np.all(np.isfinite(g)) for g in gradients), name
        assert np.all(np.isfinite(flow.sample(50, seed=0))), name


def test_adaptation_is_explicit_and_from_data_only(glow, tmp_path):
    start = _weights(glow)
    x, _ = _data()
    glow.sample(10)
    glow.log_prob(x)
    glow.compile("adam", run_eagerly=True)
    glow.evaluate(x, verbose=0)
    assert not glow.adapted
    for a, b in zip(start, _weights(glow), strict=True):
        np.testing.assert_array_equal(a, b)
    glow.adapt(x)
    assert glow.adapted
    latents = glow.trace(x).latents
    np.testing.assert_allclose(np.mean(latents[-1], 0), 0, atol=1e-4)
    # Conditioners are still 0, linear maps rotate: every latent is normalised.
    np.testing.assert_allclose(np.mean(np.square(latents[-1])), 1, atol=1e-4)
    glow.save(tmp_path / "f.keras")
    loaded = load_flow(tmp_path / "f.keras")
    assert loaded.adapted
    loaded.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    loaded.fit(100 + x, batch_size=64, verbose=0)
    for a, b in zip(glow.trainable_variables, loaded.trainable_variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_adapting_brings_data_and_conditions_to_mean_0_and_scale_1():
    flow = Flow(CONFIGS["conditional_glow"])
    x, condition = _data()
    flow.adapt(3 * x, 7 + condition)
    np.testing.assert_allclose(flow.standardize.mean, 3 * x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(flow.standardize.scale, 3 * x.std(0), rtol=1e-5)
    of_conditions = flow.bijector.condition_bijector
    np.testing.assert_allclose(of_conditions.mean, 7 + condition.mean(0), rtol=1e-5)
    np.testing.assert_allclose(of_conditions.scale, condition.std(0), rtol=1e-5)
    known = Statistics(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    flow.adapt(x, condition, statistics=known)
    np.testing.assert_array_equal(flow.standardize.mean, known.mean)
    np.testing.assert_allclose(np.mean(flow.to_latent(x, condition), 0), 0, atol=1e-4)


def test_a_constant_column_has_scale_1(glow):
    x, _ = _data()
    x[:, 1] = 4
    glow.adapt(x)
    assert glow.standardize.scale[1] == 1
    assert np.all(np.isfinite(glow.to_latent(x)))


def test_images_keep_their_statistics():
    flow = Flow(GlowConfig((4, 4, 1), num_levels=1, steps_per_level=1, hidden_channels=2))
    flow.adapt(np.random.RandomState(0).uniform(0, 0.1, size=(20, 4, 4, 1)))
    assert (flow.standardize.mean, flow.standardize.scale) == (0.5, 1.0)
    assert flow.adapted


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros([0, 2]), "`x` must have at least 1 row to adapt to, got none"),
        (np.full([3, 2], np.nan), "`x` must be finite, got 3 of 3 rows not so"),
        (np.array([[1.0, 2.0], [np.inf, 0.0]]), "`x` must be finite, got 1 of 2 rows not so"),
    ],
)
def test_bad_data_leave_the_flow_as_it_was(glow, x, message):
    before = glow.get_weights()
    with pytest.raises(ValueError, match=message):
        glow.adapt(x)
    glow.compile("adam", run_eagerly=True)
    with pytest.raises(ValueError, match="must"):
        glow.fit(x, verbose=0)
    assert not glow.adapted
    for a, b in zip(before, glow.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_fit_adapts_to_its_first_batches(glow):
    x = np.concatenate([_data()[0]] * 50)
    glow.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    glow.fit(x, batch_size=1024, verbose=0)
    assert glow.adapted
    np.testing.assert_allclose(glow.standardize.mean, x[:4096].mean(0), rtol=1e-5)
    np.testing.assert_allclose(np.mean(glow.to_latent(x[:4096]), 0), 0, atol=1e-4)


def test_a_conditional_flow_adapts_to_datasets_of_pairs():
    flow = Flow(CONFIGS["conditional_maf"])
    flow.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    flow.fit(_batches(flow.config), verbose=0)
    x, condition = _data()
    np.testing.assert_allclose(flow.standardize.mean, x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(flow.bijector.condition_bijector.mean, condition.mean(0), rtol=1e-4)


def test_a_frozen_flow_cannot_be_fitted(glow):
    glow.trainable = False
    glow.compile("adam")
    with pytest.raises(ValueError, match="`glow` must have trainable weights to be fitted"):
        glow.fit(_data()[0])


def test_summary_counts_what_there_is(glow):
    lines = []
    glow.summary(print_fn=lines.append)
    linear, actnorm, conditioner = 4, 4, 1 * 8 + 8 + 8 * 2 + 2
    assert glow.num_parameters == 2 * (linear + actnorm + conditioner)
    assert f"Trainable params: {glow.num_parameters}" in "\n".join(lines)
    assert f"Total params: {glow.count_params()}" in "\n".join(lines)
    assert glow.count_params() > glow.num_parameters


def test_the_representation_shows_the_steps():
    config = GlowConfig((4, 4, 2), num_levels=2, steps_per_level=3, hidden_channels=4)
    step = "ActNorm, InvertibleLinear, Coupling"
    flow = Flow(config, name="small")
    assert repr(flow).splitlines() == [
        f"<Flow 'small' of (4, 4, 2), {flow.num_parameters:,} parameters:",
        "  0       Standardize",
        f"  1-2     {step}",
        f"  3       {step}, FactorOut",
        f"  4-6     {step}>",
    ]
    assert "1-2     Invert(MaskedAutoregressive)" in repr(Flow(CONFIGS["iaf"]))


def test_seeds_decide(glow):
    same = Flow(CONFIGS["glow"])
    for a, b in zip(glow.get_weights(), same.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    other = Flow(TabularGlowConfig(seed=1, **SMALL))
    linear = [w for w in other.trainable_variables if "linear/lower" in w.path]
    for a, b in zip(
        linear, (w for w in glow.trainable_variables if "linear/lower" in w.path), strict=True
    ):
        assert np.all(a.numpy() != b.numpy())
    first, second = linear
    assert first.numpy() != second.numpy()


def test_one_row_and_unknown_batch_size(glow):
    x, _ = _data()
    log_prob = tf.function(glow.log_prob, input_signature=[tf.TensorSpec([None, 2])])
    np.testing.assert_allclose(log_prob(x), glow.log_prob(x), rtol=1e-5)
    np.testing.assert_allclose(log_prob(x[:1]), glow.log_prob(x)[:1], rtol=1e-5)


@pytest.mark.parametrize("config", CONFIGS.values())
def test_a_flow_has_the_fewest_weights_that_its_configuration_says(config):
    assert 0 < config.fewest_weights <= Flow(config).num_parameters


@pytest.mark.parametrize("name", ["glow", "spline_glow", "maf"])
def test_float64_flows(name, float64):
    flow = Flow(CONFIGS[name])
    flow.compile("adam", jit_compile=False)
    x, _ = _data()
    logs = flow.fit(x, batch_size=32, verbose=0).history
    assert flow.log_prob(x).dtype == flow.sample(3).dtype == tf.float64
    assert np.isfinite(logs["loss"][0])
    np.testing.assert_allclose(flow.to_data(flow.to_latent(x)), x, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda flow, _: flow.log_prob(np.zeros([3, 4])),
            r"`x` of 'plain' must have shape \(..., 2\), got \(3, 4\)",
        ),
        (
            lambda flow, _: flow.to_latent(np.zeros([])),
            r"`x` of 'plain' must have shape \(..., 2\), got \(\)",
        ),
        (
            lambda flow, _: flow.to_data(np.zeros([3, 1])),
            r"`z` of 'plain' must have shape \(..., 2\), got \(3, 1\)",
        ),
        (
            lambda flow, _: flow.log_prob(np.zeros([3, 2]), np.zeros([3, 1])),
            r"`condition` of 'plain' must be None, got shape \(3, 1\)",
        ),
        (
            lambda flow, _: tf.function(flow.log_prob)(tf.zeros([3, 2]), tf.zeros([3, 1])),
            r"`condition` of 'plain' must be None, got shape \(3, 1\)",
        ),
        (
            lambda _, flow: flow.log_prob(np.zeros([3, 2])),
            r"`condition` of 'conditional' must be given, with shape \(..., 1\), got None",
        ),
        (
            lambda _, flow: flow.sample(3),
            r"`condition` of 'conditional' must be given, with shape \(..., 1\), got None",
        ),
        (
            lambda _, flow: flow.log_prob(np.zeros([3, 2]), np.zeros([3, 2])),
            r"`condition` of 'conditional' must have shape \(..., 1\), got \(3, 2\)",
        ),
        (
            lambda flow, _: flow.standardize.set_statistics([0.0, 0.0], [1.0, -1.0]),
            r"`scale` must be positive, got \[ 1. -1.\]",
        ),
    ],
)
def test_errors_name_argument_rule_and_value(call, message):
    plain, conditional = (
        Flow(CONFIGS["maf"], name="plain"),
        Flow(CONFIGS["conditional_maf"], name="conditional"),
    )
    with pytest.raises(ValueError, match=message):
        call(plain, conditional)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_flows_of_fewer_bits_are_refused(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        with pytest.raises(ValueError, match=f"must be one of float32, float64, .* got '{policy}'"):
            Flow(CONFIGS["maf"])
    finally:
        keras.config.set_dtype_policy(before)


def test_load_flow_refuses_what_is_no_flow(tmp_path):
    with pytest.raises(
        ValueError, match="`path` must be an existing .keras file, got .*none.keras"
    ):
        load_flow(tmp_path / "none.keras")
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.save(tmp_path / "other.keras")
    with pytest.raises(ValueError, match="`path` must hold a Flow, got a Sequential in"):
        load_flow(tmp_path / "other.keras")


def test_condition_statistics_put_conditions_into_units(tmp_path):
    config = MAFConfig(dims=3, num_steps=1, condition_dims=2)
    raw, standardized = Flow(config), Flow(config)
    random = np.random.RandomState(0)
    for a, b in zip(raw.trainable_variables, standardized.trainable_variables, strict=True):
        a.assign(a + 0.3 * random.normal(size=a.shape))
        b.assign(a)
    raw.bijector.condition_bijector.set_statistics([3.0, -1.0], [2.0, 0.5])
    x = random.normal(size=(4, 3))
    condition = random.normal(size=(4, 2))
    in_units = condition * [2.0, 0.5] + [3.0, -1.0]
    expected = standardized.log_prob(x, condition)
    np.testing.assert_allclose(raw.log_prob(x, in_units), expected, rtol=1e-4)
    z = raw.to_latent(x, in_units)
    np.testing.assert_allclose(raw.to_data(tf.identity(z), in_units), x, atol=1e-4)
    raw.save(tmp_path / "flow.keras")
    loaded = load_flow(tmp_path / "flow.keras")
    np.testing.assert_array_equal(loaded.log_prob(x, in_units), raw.log_prob(x, in_units))
