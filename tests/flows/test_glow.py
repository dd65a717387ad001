"""Tests of image Glow as a Flow: accuracy, training, files, export, errors."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfp_distill import Flow, GlowConfig, Partition, TabularGlowConfig, export_flow, load_flow
from tfp_distill.bijectors import ActNorm, MultiScaleChain
from tfp_distill.evaluation import bits_per_dim, evaluate_likelihood, round_trip_error
from tfp_distill.flows import interpolate

SMALL = dict(image_shape=(8, 4, 2), num_levels=2, steps_per_level=2, hidden_channels=4)
CONFIGS = {
    "affine": GlowConfig(**SMALL),
    "additive": GlowConfig(coupling="additive", **SMALL),
}
DIMS = 8 * 4 * 2


def _images(rows, shape=(8, 4, 2), seed=0):
    """Smooth images in [0, 1)."""
    random = np.random.RandomState(seed)
    coarse = random.uniform(size=(rows, shape[0] // 4, shape[1] // 4, shape[2]))
    smooth = coarse.repeat(4, axis=1).repeat(4, axis=2)
    return (0.1 + 0.7 * smooth + 0.1 * random.uniform(size=smooth.shape)).astype(np.float32)


def _random_flow(config, randomize, size=0.05):
    flow = Flow(config)
    flow.adapt(_images(64, config.image_shape))
    randomize(flow.layers, size=size)
    return flow


class Trained:
    """A flow after a few steps, with what it was before them."""

    def __init__(self, name):
        self.flow = Flow(CONFIGS[name], name=name)
        self.flow.adapt(_images(64))
        self.before = [w.numpy() for w in self.flow.trainable_variables]
        self.flow.compile(keras.optimizers.Adam(0.005, global_clipnorm=10.0))
        batches = tf.data.Dataset.from_tensor_slices(_images(64)).batch(16)
        self.logs = self.flow.fit(batches, epochs=3, verbose=0).history


@pytest.fixture(scope="module", params=CONFIGS)
def trained(request):
    return Trained(request.param)


@pytest.mark.slow
def test_training_moves_every_weight_and_lowers_the_loss(trained):
    for weight, before in zip(trained.flow.trainable_variables, trained.before, strict=True):
        assert np.any(weight.numpy() != before), weight.path
    assert trained.logs["loss"][-1] < trained.logs["loss"][0]
    assert (trained.flow.step, trained.flow.skipped_steps) == (12, 0)


def test_a_flow_of_images_is_a_flow(trained, tmp_path):
    flow, x = trained.flow, _images(5, seed=1)
    assert (flow.event_shape, flow.latent_dims, flow.num_steps) == ((8, 4, 2), DIMS, 4)
    assert flow.level_ends == flow.config.level_ends == flow.bijector.level_ends == (2, 4)
    trace = flow.trace(x)
    assert [latent.shape for latent in trace.latents] == [(5, DIMS)] * 5
    np.testing.assert_allclose(trace.latents[0], x.reshape(5, -1) - 0.5, atol=1e-6)
    np.testing.assert_array_equal(flow.to_latent(x), trace.latents[-1])
    np.testing.assert_allclose(flow.log_prob(x), trace.log_prob(), rtol=1e-6)
    np.testing.assert_allclose(flow.distribution.log_prob(x), flow.log_prob(x), rtol=1e-5)
    assert tuple(flow.distribution.event_shape) == (8, 4, 2)
    assert flow.distribution.sample([2, 3]).shape == (2, 3, 8, 4, 2)
    assert round_trip_error(flow, x) < 1e-3

    path = tmp_path / "f.keras"
    flow.save(path)
    loaded = load_flow(path)
    assert loaded.config == flow.config
    np.testing.assert_array_equal(loaded.log_prob(x), flow.log_prob(x))
    assert (loaded.step, loaded.adapted) == (12, True)


def test_samples_and_interpolation(trained):
    flow, x = trained.flow, _images(4, seed=1)
    samples = flow.sample(3, seed=2)
    assert samples.shape == (3, 8, 4, 2)
    cool = flow.sample(3, seed=2, temperature=0.5)
    expected = 0.5 * flow.to_latent(samples)
    np.testing.assert_allclose(flow.to_latent(cool), expected, rtol=1e-2, atol=1e-3)
    between = interpolate(flow, x[:2], x[2:], [0.0, 0.5, 1.0])
    assert between.shape == (2, 3, 8, 4, 2)
    np.testing.assert_allclose(between[:, 0], x[:2], atol=1e-3)
    np.testing.assert_allclose(between[:, 2], x[2:], atol=1e-3)


@pytest.mark.slow
def test_a_saved_model_does_the_same(trained, tmp_path):
    flow, x = trained.flow, tf.constant(_images(3, seed=1))
    export_flow(flow, tmp_path / "model")
    signatures = tf.saved_model.load(tmp_path / "model").signatures
    np.testing.assert_allclose(signatures["log_prob"](x=x)["log_prob"], flow.log_prob(x), rtol=1e-4)
    z = signatures["to_latent"](x=x)["z"]
    assert z.shape == (3, DIMS)
    np.testing.assert_allclose(signatures["to_data"](z=z)["x"], x, atol=1e-3)
    arguments = dict(n=tf.constant(2), temperature=tf.constant(0.7), seed=tf.constant(5))
    np.testing.assert_allclose(
        signatures["sample"](**arguments)["x"], flow.sample(2, temperature=0.7, seed=5), atol=1e-3
    )
    alphas = tf.constant([0.0, 1.0])
    assert signatures["interpolate"](x_a=x, x_b=x, alphas=alphas)["x"].shape == (3, 2, 8, 4, 2)


@pytest.mark.parametrize("coupling", ["affine", "additive"])
def test_likelihood_is_that_of_the_jacobian(coupling, randomize, float64):
    config = GlowConfig((4, 4, 1), 2, steps_per_level=2, hidden_channels=3, coupling=coupling)
    flow = _random_flow(config, randomize)
    x = tf.constant(_images(2, (4, 4, 1), seed=1), tf.float64)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        z = flow.to_latent(x)
    jacobian = tf.reshape(tape.batch_jacobian(z, x, experimental_use_pfor=False), [-1, 16, 16])
    expected = -0.5 * np.sum(z**2 + np.log(2 * np.pi), axis=-1) + np.linalg.slogdet(jacobian)[1]
    np.testing.assert_allclose(flow.log_prob(x), expected, atol=1e-9)
    again, fldj = flow.to_data_and_fldj(tf.identity(z))
    np.testing.assert_allclose(again, x, atol=1e-10)
    np.testing.assert_allclose(fldj, -np.linalg.slogdet(jacobian)[1], atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar10_glow_student", "fashion_mnist_glow_teacher"])
def test_presets_invert_themselves_in_float32(name):
    flow = Flow.from_preset(name)
    x = _images(2, flow.event_shape)
    flow.adapt(x)
    assert round_trip_error(flow, x) < 1e-3
    assert np.all(np.isfinite(flow.log_prob(x)))


def test_gradients_reach_every_weight_through_likelihood_and_samples(randomize):
    flow = _random_flow(CONFIGS["affine"], randomize)
    weights = [weight.value for weight in flow.trainable_variables]
    for loss in (lambda: flow.log_prob(_images(4)), lambda: tf.sin(flow.sample(4, seed=0))):
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(loss())
        for weight, gradient in zip(weights, tape.gradient(value, weights), strict=True):
            assert gradient is not None, weight.name
            assert np.all(np.isfinite(gradient)), weight.name
            assert np.any(np.asarray(gradient) != 0), weight.name


def test_weights_are_seen_by_keras_and_tfp_alike():
    flow = Flow(CONFIGS["affine"])
    of_keras = {id(weight.value) for weight in flow.trainable_variables}
    assert {id(v) for v in flow.bijector.trainable_variables} == of_keras
    assert flow.num_parameters == sum(v.shape.num_elements() for v in flow.trainable_variables)


def test_initialisation_normalises_latents_and_happens_once(tmp_path):
    flow = Flow(CONFIGS["affine"])
    start = flow.get_weights()
    flow.sample(3)
    flow.log_prob(_images(4))
    for a, b in zip(start, flow.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    x = _images(64)
    flow.adapt(x)
    # New couplings are 0 and linear maps rotate: the latents of the first level are normalised.
    for latent in flow.trace(x).latents[1:3]:
        assert np.mean(np.square(latent)) == pytest.approx(1, abs=1e-3)
    pairs = zip(flow.weights, start, flow.get_weights(), strict=True)
    changed = [weight for weight, before, after in pairs if np.any(before != after)]
    assert sum("hidden_0_scale" in weight.path for weight in changed) == flow.num_steps
    assert sum("hidden_1_bias" in weight.path for weight in changed) == flow.num_steps
    assert sum("actnorm/" in weight.path for weight in changed) == 2 * flow.num_steps
    assert len(changed) == 1 + 6 * flow.num_steps  # and the note that it happened
    flow.save(tmp_path / "f.keras")
    loaded = load_flow(tmp_path / "f.keras")
    loaded.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    loaded.fit(0.1 * x[:16], batch_size=16, verbose=0)
    for a, b in zip(flow.trainable_variables, loaded.trainable_variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_statistics_are_per_channel():
    flow = Flow(CONFIGS["affine"])
    np.testing.assert_array_equal(flow.standardize.mean, [0.5, 0.5])
    np.testing.assert_array_equal(flow.standardize.scale, [1, 1])
    x = _images(3)
    before, samples = flow.log_prob(x), flow.sample(2, seed=0)
    mean, scale = np.array([100.0, 128.0]), np.array([64.0, 256.0])
    flow.standardize.set_statistics(mean, scale)
    in_units = mean + scale * (x - 0.5)
    np.testing.assert_allclose(
        flow.log_prob(in_units), before - 32 * np.sum(np.log(scale)), rtol=1e-5
    )
    np.testing.assert_allclose(flow.sample(2, seed=0), mean + scale * (samples - 0.5), rtol=1e-5)
    with pytest.raises(ValueError, match=r"`mean` must have shape \(2,\), got \(64,\)"):
        flow.standardize.set_statistics(np.zeros(64), np.ones(64))


def test_bits_per_dim_of_a_new_flow_are_those_of_a_standard_normal():
    # A new flow rotates: N(0.5, I) at x = 0.5 in every dimension.
    flow = Flow(CONFIGS["affine"])
    result = evaluate_likelihood(flow, np.full((2, 8, 4, 2), 0.5))
    expected = 0.5 * np.log2(2 * np.pi) + 8
    assert bits_per_dim(result.mean, flow.latent_dims) == pytest.approx(expected, abs=1e-5)


def test_unknown_batch_size_and_one_row(randomize):
    flow = _random_flow(CONFIGS["affine"], randomize)
    x = _images(5, seed=1)
    log_prob = tf.function(flow.log_prob, input_signature=[tf.TensorSpec([None, 8, 4, 2])])
    np.testing.assert_allclose(log_prob(x), flow.log_prob(x), rtol=1e-4)
    np.testing.assert_allclose(log_prob(x[:1]), flow.log_prob(x)[:1], rtol=1e-4)


def test_steps_differ_and_the_seed_decides():
    kernels = [
        weight.numpy()
        for seed in (0, 1)
        for weight in Flow(GlowConfig(seed=seed, **SMALL)).trainable_variables
        if "hidden_0_kernel" in weight.path
    ]
    assert len(kernels) == 8
    for i, a in enumerate(kernels):
        for b in kernels[:i]:
            assert np.max(np.abs(a[:, :, :2] - b[:, :, :2])) > 0.01
    again = Flow(GlowConfig(**SMALL)).get_weights()
    for a, b in zip(Flow(GlowConfig(**SMALL)).get_weights(), again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_structure():
    chain = CONFIGS["affine"].build_bijector()
    assert isinstance(chain, MultiScaleChain)
    assert [step.name for step in chain.bijectors[1:]] == ["step_0", "step_1", "step_2", "step_3"]
    kinds = [[type(member).__name__ for member in step.bijectors] for step in chain.bijectors[1:]]
    step = ["ActNorm", "InvertibleLinear", "Coupling"]
    assert kinds == [step, [*step, "FactorOut"], step, step]
    channels = [
        member.keras_layers[0].weights[0].shape[0]
        for step in chain.bijectors[1:]
        for member in step.bijectors
        if isinstance(member, ActNorm)
    ]
    assert channels == [8, 8, 16, 16]
    assert GlowConfig((4, 4, 1), 1, 3).level_ends == (3,)
    assert TabularGlowConfig(dims=3).level_ends == ()


def test_configurations_are_values():
    config = GlowConfig([8, 8, 3], 2, coupling="additive", log_scale_bound=2.0)
    assert config.image_shape == (8, 8, 3)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(config))
    assert again == config
    assert hash(again) == hash(config)
    assert dataclasses.replace(config, seed=1) != config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            dict(image_shape=(8, 8)),
            r"`image_shape` must be \(height, width, channels\), got \(8, 8",
        ),
        (dict(image_shape=(0, 8, 1)), "`height` must be an integer of at least 1, got 0"),
        (dict(image_shape=(8, 8, 5)), "`image_shape` must have 1 to 4 channels, got 5"),
        (dict(image_shape=(28, 28, 1)), r"divisible by 8 for 3 levels, got \(28, 28, 1\)"),
        (dict(num_levels=0), "`num_levels` must be an integer of at least 1, got 0"),
        (dict(steps_per_level=0), "`steps_per_level` must be an integer of at least 1, got 0"),
        (dict(hidden_channels=0.5), "`hidden_channels` must be an integer of at least 1, got 0.5"),
        (dict(seed=0.5), "`seed` must be an integer, got 0.5"),
        (dict(log_scale_bound=0), r"`log_scale_bound` must be in \(0, 20\], got 0"),
        (dict(coupling="cubic"), '`coupling` must be "affine", "additive" or "spline", got .cubic'),
    ],
)
def test_errors_name_argument_rule_and_value(options, message):
    with pytest.raises(ValueError, match=message):
        GlowConfig(**{"image_shape": (8, 8, 1), **options})


def test_conditions_and_other_shapes_are_refused():
    flow = Flow(CONFIGS["affine"], name="glow")
    with pytest.raises(ValueError, match="`condition` of 'glow' must be None"):
        flow.log_prob(_images(2), np.zeros([2, 1]))
    with pytest.raises(ValueError, match=r"`x` of 'glow' must have shape \(\.\.\., 8, 4, 2\), got"):
        flow.log_prob(np.zeros([2, 64]))
    with pytest.raises(ValueError, match=r"`z` of 'glow' must have shape \(\.\.\., 64\), got"):
        flow.to_data(np.zeros([2, 8, 4, 2]))


def test_two_replicas_take_the_steps_of_one_device(two_replicas):
    x = _images(8, (4, 4, 1))

    def make():
        flow = Flow(GlowConfig((4, 4, 1), 2, 1, hidden_channels=2))
        flow.compile(keras.optimizers.SGD(1e-3, global_clipnorm=1.0), jit_compile=False)
        return flow

    expected = make()
    with two_replicas.scope():
        flow = make()
    for model in (expected, flow):
        model.fit(x, batch_size=8, shuffle=False, verbose=0)  # the first batch initialises
    for a, b in zip(flow.trainable_variables, expected.trainable_variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-4, rtol=1e-4, err_msg=a.path)
        copies = two_replicas.experimental_local_results(a.value)
        np.testing.assert_array_equal(copies[0].numpy(), copies[1].numpy(), err_msg=a.path)


@pytest.mark.parametrize("rows", [None, 0], ids=["unknown", "known"])
@pytest.mark.usefixtures("optimized_graphs")
def test_no_images_have_an_answer_and_gradients(rows):
    # With oneDNN, in a graph, a convolution of no rows has the shape of its input.
    flow = Flow(GlowConfig((8, 8, 3), num_levels=2, steps_per_level=2, hidden_channels=64))
    assert flow.log_prob(tf.zeros([0, 8, 8, 3])).shape == (0,)
    assert flow.sample(0).shape == (0, 8, 8, 3)
    weights = [weight.value for weight in flow.trainable_weights]

    @tf.function(input_signature=[tf.TensorSpec([rows, 8, 8, 3])])
    def run(x):
        with tf.GradientTape() as tape:
            z = flow.to_latent(x)
            again, trace = flow.generative_trace(z)
            total = tf.reduce_sum(flow.log_prob(x)) + tf.reduce_sum(again) + tf.reduce_sum(z)
        return again, z, trace.latents[0], tape.gradient(total, weights)

    *shapes, gradients = run(tf.zeros([0, 8, 8, 3]))
    assert [tuple(y.shape) for y in shapes] == [(0, 8, 8, 3), (0, 192), (0, 192)]
    assert all(not np.any(gradient) for gradient in gradients)


@pytest.mark.slow
@pytest.mark.parametrize(("memory", "in_parts"), [("plain", False), ("reversible", True)])
@pytest.mark.usefixtures("optimized_graphs")
def test_a_replica_without_images_takes_the_step_of_the_other(memory, in_parts, two_replicas):
    x = _images(9, (8, 8, 3))

    def make():
        flow = Flow(GlowConfig((8, 8, 3), num_levels=2, steps_per_level=1, hidden_channels=64))
        flow.adapt(x)
        partition = Partition.by_block(flow, 2) if in_parts else None
        flow.compile(keras.optimizers.Adam(1e-3), memory=memory, partition=partition)
        return flow

    expected = make()
    with two_replicas.scope():
        flow = make()
    for model in (expected, flow):
        model.fit(tf.data.Dataset.from_tensor_slices(x).batch(8), epochs=2, verbose=0)
    assert flow.skipped_steps == 0
    for a, b in zip(flow.trainable_variables, expected.trainable_variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-5, rtol=1e-4, err_msg=a.path)
