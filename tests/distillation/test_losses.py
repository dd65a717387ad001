"""Tests of each distillation loss against a calculation of its own."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from flow_pairs import DIMS, data, make_flow, noise, shared_pass, twin

from tfp_distill.distillation import (
    FlowDistiller,
    ForwardKLLoss,
    GuidedLoss,
    IntermediateLatentLoss,
    LatentLoss,
    LogDensityLoss,
    ReverseKLLoss,
    SynthesizedLoss,
)

ROWS = 7
DISTANCES = {
    "l1": np.abs,
    "l2": np.square,
    "huber": lambda d: np.where(np.abs(d) < 0.5, d**2, np.abs(d) - 0.25),
}


@pytest.fixture(scope="module")
def pair():
    """An MAF student and a deeper Glow teacher, each with statistics of its own."""
    return make_flow("maf", num_steps=2, seed=1), make_flow("glow", num_steps=3, seed=2)


@pytest.fixture(scope="module")
def shared(pair):
    return shared_pass(*pair, data(ROWS), seed=3, step=5)


@pytest.fixture(scope="module")
def latents(pair):
    """The latents after each step, of student and teacher, from TFP's public methods."""
    found = []
    for flow in pair:
        x, chain = tf.constant(data(ROWS)), flow.bijector.bijectors
        rows = []
        for bijector in chain:
            x = bijector.inverse(x)
            rows.append(x.numpy())
        found.append(rows)
    return found


def _mean_distance(name, a, b):
    return np.mean(DISTANCES[name](a - b), axis=-1)


def _latents_shared(temperature):
    return temperature * noise(ROWS, seed=3, step=5)


def _check(loss, shared, expected, tolerance=1e-5):
    got = loss(shared)
    assert got.shape == (ROWS,)
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)
    assert np.min(np.abs(expected)) > 1e-3  # Not by coincidence.


@pytest.mark.parametrize("distance", DISTANCES)
def test_latent_loss(distance, shared, latents):
    expected = _mean_distance(distance, latents[0][2], latents[1][3])
    _check(LatentLoss(distance=distance, huber_delta=0.5), shared, expected)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("taps", [None, ((1, 1), (1, 3), (2, 2))])
def test_intermediate_latent_loss(distance, taps, shared, latents):
    expected = sum(
        _mean_distance(distance, latents[0][i], latents[1][j])
        for i, j in (taps or ((1, 2), (2, 3)))
    )
    loss = IntermediateLatentLoss(distance=distance, huber_delta=0.5, taps=taps)
    _check(loss, shared, expected)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_synthesized_loss_in_units_of_the_students_scale(distance, temperature, shared, pair):
    student, teacher = pair
    z = _latents_shared(temperature)
    a, b = (flow.distribution.bijector.forward(z).numpy() for flow in pair)
    scale = student.standardize.scale
    assert np.max(np.abs(scale / teacher.standardize.scale - 1)) > 0.1
    loss = SynthesizedLoss(distance=distance, huber_delta=0.5, temperature=temperature)
    _check(loss, shared, _mean_distance(distance, a / scale, b / scale))


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_synthesized_loss_among_latents(distance, temperature, shared, pair):
    student, teacher = pair
    z = _latents_shared(temperature)
    x = tf.identity(teacher.bijector.forward(z))
    expected = _mean_distance(distance, student.bijector.inverse(x).numpy(), z)
    loss = SynthesizedLoss(
        distance=distance, huber_delta=0.5, temperature=temperature, space="latent"
    )
    _check(loss, shared, expected, tolerance=1e-4)


@pytest.mark.parametrize("distance", DISTANCES)
def test_log_density_loss(distance, shared, pair):
    densities = [flow.distribution.log_prob(data(ROWS)).numpy() / DIMS for flow in pair]
    expected = DISTANCES[distance](densities[0] - densities[1])
    loss = LogDensityLoss(distance=distance, huber_delta=0.5)
    got = loss(shared)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    assert np.max(expected) > 0.1


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_kl_losses(temperature, shared, pair):
    student, teacher = pair
    z = _latents_shared(temperature)
    x = tf.identity(teacher.bijector.forward(z))
    expected = teacher.distribution.log_prob(x) - student.distribution.log_prob(x)
    _check(ForwardKLLoss(temperature=temperature), shared, expected.numpy(), tolerance=1e-4)
    x = tf.identity(student.bijector.forward(z))
    expected = student.distribution.log_prob(x) - teacher.distribution.log_prob(x)
    _check(ReverseKLLoss(temperature=temperature), shared, expected.numpy(), tolerance=1e-4)


def test_huber_is_continuous_and_its_slope_too():
    student, teacher = make_flow("glow", seed=1), make_flow("glow", seed=2)
    loss = LatentLoss(distance="huber", huber_delta=0.5)
    edge = tf.Variable([[0.5]])
    values, slopes = [], []
    for at in (0.5 - 1e-4, 0.5 + 1e-4):
        edge.assign([[at]])
        with tf.GradientTape() as tape:
            value = loss._distance(edge, tf.zeros([1, 1]))
        values.append(value.numpy())
        slopes.append(tape.gradient(value, edge).numpy())
    np.testing.assert_allclose(values[0], values[1], atol=3e-4)
    np.testing.assert_allclose(slopes, 1, atol=3e-4)
    assert loss(shared_pass(student, teacher, data(2))).shape == (2,)


def _all_losses(distance="l1"):
    return [
        LatentLoss(distance=distance),
        IntermediateLatentLoss(distance=distance),
        SynthesizedLoss(distance=distance),
        SynthesizedLoss(distance=distance, space="latent", name="synthesized_latents"),
        LogDensityLoss(distance=distance),
        ForwardKLLoss(),
    ]


@pytest.mark.parametrize("kind", ["glow", "maf", "iaf"])
def test_losses_of_identical_flows_are_exactly_zero(kind):
    student = make_flow(kind, seed=4)
    shared = shared_pass(student, twin(student), data(ROWS))
    for loss in _all_losses():
        np.testing.assert_array_equal(loss(shared), np.zeros(ROWS), err_msg=loss.name)
    np.testing.assert_allclose(ReverseKLLoss()(shared), 0, atol=1e-4)


@pytest.mark.parametrize("kind", ["glow", "maf"])
@pytest.mark.parametrize("distance", ["l2", "huber"])
def test_gradients_of_identical_flows_are_exactly_zero(kind, distance):
    student, x = make_flow(kind, seed=4), data(ROWS)
    teacher, other = twin(student), make_flow(kind, seed=5)
    for loss in _all_losses(distance)[:-1]:
        sizes = []
        for target in (teacher, other):
            with tf.GradientTape() as tape:
                value = tf.reduce_mean(loss(shared_pass(student, target, x)))
            weights = [weight.value for weight in student.trainable_variables]
            gradients = tape.gradient(value, weights, unconnected_gradients="zero")
            sizes.append(max(np.max(np.abs(gradient)) for gradient in gradients))
        assert sizes[0] == 0, loss.name
        assert sizes[1] > 0.01, loss.name


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["glow", "maf"])
def test_compiled_losses_of_identical_flows_are_zero_up_to_rounding(kind):
    # XLA may round the student, whose likelihood is used too, differently from the teacher.
    student = make_flow(kind, seed=4)
    losses = [LatentLoss(), IntermediateLatentLoss(), SynthesizedLoss()]
    distiller = FlowDistiller(student=student, teacher=twin(student), distillation_losses=losses)
    distiller.compile()
    logs = distiller.evaluate(data(ROWS), batch_size=ROWS, verbose=0, return_dict=True)
    assert 0 <= logs["latent_loss"] <= logs["intermediate_latent_loss"] < 3e-7
    assert logs["synthesized_loss"] == 0
    assert abs(logs["nll"]) > 0.1


@pytest.mark.parametrize("kind", ["glow", "maf"])
@pytest.mark.parametrize("names", [None, {"log_density_loss"}], ids=["together", "alone"])
def test_losses_of_identical_flows_are_exactly_zero_in_a_graph(kind, names):
    student = make_flow(kind, seed=4)
    losses = [loss for loss in _all_losses() if names is None or loss.name in names]
    distiller = FlowDistiller(student=student, teacher=twin(student), distillation_losses=losses)
    distiller.compile(jit_compile=False)
    logs = distiller.evaluate(data(ROWS), batch_size=ROWS, verbose=0, return_dict=True)
    assert {logs[loss.name] for loss in losses} == {0}
    assert logs["loss"] == logs["nll"] != 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LatentLoss(distance="cosine"), "`distance` must be one of l1, l2, huber, got"),
        (lambda: LatentLoss(huber_delta=0.0), "`huber_delta` must be positive, got 0.0"),
        (lambda: SynthesizedLoss(distance="l3"), "`distance` must be one of l1, l2, huber"),
        (lambda: SynthesizedLoss(temperature=0.0), "`temperature` must be positive, got 0.0"),
        (lambda: SynthesizedLoss(space="x"), '`space` must be "data" or "latent", got \'x\''),
        (lambda: ForwardKLLoss(temperature=-1.0), "`temperature` must be positive, got -1.0"),
        (lambda: GuidedLoss(temperature=0.0), "`temperature` must be positive, got 0.0"),
        (lambda: GuidedLoss(distance="l3"), "`distance` must be one of l1, l2, huber"),
        (lambda: ReverseKLLoss(temperature=float("nan")), "`temperature` must be positive"),
    ],
)
def test_illegal_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_losses_are_serialised_with_all_their_fields():
    losses = [
        IntermediateLatentLoss(taps=((1, 2), (2, 3)), distance="huber", huber_delta=0.2, name="a"),
        SynthesizedLoss(space="latent", temperature=0.7),
        ReverseKLLoss(temperature=0.9, name="b"),
        GuidedLoss(taps=((1, 2),), temperature=0.9, distance="l2", name="c"),
    ]
    for loss in losses:
        config = json.loads(json.dumps(keras.saving.serialize_keras_object(loss)))
        again = keras.saving.deserialize_keras_object(config)
        assert again == loss
        assert hash(again) == hash(loss)
