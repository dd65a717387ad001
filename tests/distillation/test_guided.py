"""Tests of the loss that makes a fast sampler of a slow one, and of the start that goes with it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from flow_pairs import DIMS, batches, conditions, data, make_flow, noise, shared_pass, twin

from tfp_distill import Flow, FlowDistiller, GuidedLoss, MAFConfig, TabularGlowConfig
from tfp_distill.distillation import copy_linear_maps, have_same_linear_maps, sample_teacher

ROWS = 7
DISTANCES = {"l1": np.abs, "l2": np.square}


@pytest.fixture(scope="module")
def pair():
    """An IAF student and an MAF teacher, each with statistics of its own."""
    return make_flow("iaf", num_steps=2, seed=1), make_flow("maf", num_steps=2, seed=2)


def _down(flow, x):
    """The values after the data's units and after each step, by TFP's public methods."""
    found = []
    for bijector in flow.bijector.bijectors:
        x = bijector.inverse(tf.identity(x))
        found.append(x.numpy())
    return found


def _up(flow, z):
    """The same on the way from latents to data, and the data."""
    found = [z]
    for bijector in reversed(flow.bijector.bijectors):
        z = bijector.forward(tf.identity(z)).numpy()
        found.append(z)
    return found[-1], found[-2::-1]


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("taps", [None, ((1, 2),), ((1, 1), (2, 2))])
def test_both_halves_written_out(pair, distance, temperature, taps):
    student, teacher = pair
    x, scale = data(ROWS), student.standardize.scale

    def mean_distance(a, b):
        return np.mean(DISTANCES[distance](a - b), axis=-1)

    down = _down(teacher, x)
    again, up = _up(student, down[-1])
    expected = mean_distance(again / scale, x / scale)
    expected += sum(mean_distance(up[i], down[j]) for i, j in taps or ((1, 1),))
    z = temperature * noise(ROWS, seed=3, step=5)
    sample, up = _up(student, z)
    down = _down(teacher, sample)
    expected += mean_distance(z, down[-1])
    expected += sum(mean_distance(up[i], down[j]) for i, j in taps or ((1, 1),))
    loss = GuidedLoss(distance=distance, temperature=temperature, taps=taps)
    got = loss(shared_pass(student, teacher, x, seed=3, step=5))
    np.testing.assert_allclose(got, 0.5 * expected, rtol=1e-4)
    assert np.min(expected) > 0.1


def test_without_taps_flows_of_other_depths_meet_at_both_ends():
    student, teacher = make_flow("iaf", num_steps=1, seed=1), make_flow("maf", num_steps=3, seed=2)
    x, scale = data(ROWS), student.standardize.scale
    z = noise(ROWS)
    expected = np.abs(_up(student, _down(teacher, x)[-1])[0] - x) / scale
    expected += np.abs(_down(teacher, _up(student, z)[0])[-1] - z)
    got = GuidedLoss()(shared_pass(student, teacher, x))
    np.testing.assert_allclose(got, 0.5 * np.mean(expected, axis=-1), rtol=1e-4)


@pytest.mark.parametrize("kind", ["maf", "iaf", "glow"])
def test_the_teachers_inverse_has_no_loss(kind):
    student = make_flow(kind, seed=4)
    got = GuidedLoss()(shared_pass(student, twin(student), data(ROWS)))
    np.testing.assert_allclose(got, 0, atol=1e-5)


def _explode(teacher, beyond=5.0):
    """Gives the teacher latents of 1e6 times x beyond a line, as an extrapolating network does."""
    trace = teacher.trace

    def exploding(x, condition=None):
        found = trace(x, condition)
        latents = [*found.latents]
        far = tf.cast(x[:, :1] > beyond, x.dtype)
        latents[-1] *= 1 + 1e6 * far
        return found._replace(latents=tuple(latents))

    teacher.trace = exploding
    return teacher


def test_samples_that_the_teacher_knows_nothing_of_are_left_out_of_one_half():
    student, teacher = make_flow("iaf", seed=1, size=0.1), make_flow("maf", seed=2, size=0.1)
    x, z = data(ROWS), noise(ROWS)
    sample = student.to_data(z).numpy()
    beyond = float(np.sort(sample[:, 0])[-3] + 1e-4)
    known = sample[:, 0] <= beyond
    assert known.sum() == ROWS - 2
    x = np.minimum(x, beyond)
    alone = GuidedLoss()(shared_pass(student, teacher, x)).numpy()
    shared = shared_pass(student, _explode(teacher, beyond), x)
    got = GuidedLoss()(shared).numpy()
    again = student.to_data(teacher.to_latent(x)).numpy()
    units = student.standardize.scale
    of_data = np.mean(np.abs(again - x) / units, axis=-1)
    steps, theirs = _up(student, _down(teacher, x)[-1])[1], _down(teacher, x)
    of_data += np.mean(np.abs(steps[1] - theirs[1]), axis=-1)
    expected = 0.5 * of_data + np.where(known, (alone - 0.5 * of_data) * ROWS / known.sum(), 0)
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    np.testing.assert_array_equal(GuidedLoss().left_out(shared), 1 - known)


def test_gradients_reach_every_weight_of_the_student():
    student = make_flow("iaf", seed=1, condition_dims=2)
    teacher = make_flow("maf", seed=2, condition_dims=2)
    weights = [weight.value for weight in student.trainable_variables]
    with tf.GradientTape() as tape:
        shared = shared_pass(student, teacher, data(50), condition=tf.constant(conditions(50)))
        loss = tf.reduce_mean(GuidedLoss()(shared))
    for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
        assert np.all(np.isfinite(gradient)), weight.name
        assert np.max(np.abs(gradient)) > 1e-5, weight.name


def test_an_iaf_becomes_the_inverse_of_its_teacher():
    config = dict(dims=DIMS, num_steps=2, hidden_units=16, transform="spline")
    x = np.tanh(data(4000)) + 0.1 * data(4000, seed=1)
    teacher = Flow(MAFConfig(**config, seed=1))
    teacher.adapt(x)
    random = np.random.RandomState(0)
    for weight in teacher.trainable_variables:
        weight.assign(weight + 0.3 * random.normal(size=weight.shape))
    student = Flow(MAFConfig(**config, inverse_autoregressive=True, seed=2))
    copy_linear_maps(student, teacher, x)
    samples = sample_teacher(student, teacher, 2000, seed=3)

    def kl():
        return float(tf.reduce_mean(teacher.log_prob(samples) - student.log_prob(samples)))

    before = kl()
    distiller = FlowDistiller(
        student=student,
        teacher=teacher,
        distillation_losses=GuidedLoss(),
        student_loss_weight=0.0,
    )
    schedule = keras.optimizers.schedules.CosineDecay(0.02, 300)
    distiller.compile(keras.optimizers.Adam(schedule, global_clipnorm=1.0), jit_compile=False)
    distiller.fit(batches(x, 256).repeat(), steps_per_epoch=300, verbose=0)
    assert before > 0.1
    assert kl() < 0.2 * before


def test_linear_maps_and_units_are_copied_and_networks_are_not():
    x, condition = data(500), conditions(500) + 3
    config = dict(dims=DIMS, num_steps=2, mixing=True, condition_dims=2)
    teacher = Flow(MAFConfig(**config, hidden_units=8, seed=1))
    teacher.adapt(2 * x + 1, condition)
    random = np.random.RandomState(0)
    for weight in teacher.trainable_variables:
        weight.assign(weight + 0.1 * random.normal(size=weight.shape))
    student = Flow(MAFConfig(**config, hidden_units=4, inverse_autoregressive=True, seed=2))
    assert have_same_linear_maps(student, teacher)
    copy_linear_maps(student, teacher, x, condition)
    assert student.adapted
    units, expected = (f.trace(x, condition).latents[0] for f in (student, teacher))
    np.testing.assert_array_equal(units, expected)
    for own, theirs in zip(
        student.bijector.bijectors[1:], teacher.bijector.bijectors[1:], strict=True
    ):
        for index in (0, 1):
            args = tf.constant(x), tf.constant(condition)
            got, wanted = (step.bijectors[index].inverse_and_ildj(*args) for step in (own, theirs))
            np.testing.assert_array_equal(got[0], wanted[0])
        # A new network is the identity.
        np.testing.assert_array_equal(own.bijectors[2].inverse(x, condition=condition), x)


@pytest.mark.parametrize(
    ("student", "message"),
    [
        (MAFConfig(DIMS, num_steps=3, mixing=True), "must have the 2 steps of .*, got 3 steps"),
        (MAFConfig(DIMS, num_steps=2), "got 2 steps and 2 weights of such maps for 16"),
    ],
)
def test_a_student_with_other_linear_maps_is_refused(student, message):
    teacher = Flow(MAFConfig(DIMS, num_steps=2, mixing=True))
    student = Flow(student)
    assert not have_same_linear_maps(student, teacher)
    with pytest.raises(ValueError, match=message):
        copy_linear_maps(student, teacher, data(50))
    assert not student.adapted


def test_a_glow_has_linear_maps_too():
    config = dict(dims=DIMS, num_steps=2)
    assert have_same_linear_maps(*(Flow(TabularGlowConfig(**config, seed=k)) for k in (0, 1)))


def test_a_teacher_that_is_not_finite_is_not_copied():
    teacher, student = (Flow(MAFConfig(DIMS, num_steps=2, mixing=True)) for _ in "ab")
    teacher.trainable_variables[0].assign(np.full(teacher.trainable_variables[0].shape, np.nan))
    with pytest.raises(ValueError, match="`teacher` must have finite weights"):
        copy_linear_maps(student, teacher, data(50))
