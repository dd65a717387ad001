"""Tests of what happens to samples that the teacher cannot be sure of."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from flow_pairs import DIMS, batches, data, make_flow, noise, shared_pass, twin, values

from tfp_distill import Flow, GlowConfig
from tfp_distill.distillation import (
    DistillationMonitor,
    FlowDistiller,
    ForwardKLLoss,
    SynthesizedLoss,
)
from tfp_distill.distillation.teachers import as_teacher

tfb = tfp.bijectors
ROWS, LIMIT = 64, 0.5
LOSSES = [
    ForwardKLLoss(),
    SynthesizedLoss(),
    SynthesizedLoss(space="latent", name="synthesized_latents"),
]


class _Explodes(tfb.Bijector):
    """The identity, but for latents whose first dimension is beyond a limit."""

    def __init__(self, limit, value):
        super().__init__(forward_min_event_ndims=1, is_constant_jacobian=True)
        self._limit, self._value = limit, value

    def _forward(self, z):
        return tf.where(z[..., :1] > self._limit, tf.fill(tf.shape(z), self._value), z)

    def _inverse(self, x):
        return tf.identity(x)

    def _inverse_log_det_jacobian(self, x):
        return tf.zeros([], x.dtype)


def exploding_teacher(limit, value):
    base = tfp.distributions.MultivariateNormalDiag(tf.zeros(DIMS))
    return tfp.distributions.TransformedDistribution(base, _Explodes(limit, value))


def _means_and_gradients(student, teacher, rows=None):
    """Of each loss, over all rows or those that are named."""
    weights = [weight.value for weight in student.trainable_variables]
    found = []
    for loss in LOSSES:
        with tf.GradientTape() as tape:
            # Within the tape: the shared pass keeps what it has computed.
            shared = shared_pass(student, teacher, data(ROWS))
            losses = loss(shared)
            mean = tf.reduce_mean(losses if rows is None else tf.boolean_mask(losses, rows))
        found.append((losses, mean, tape.gradient(mean, weights, unconnected_gradients="zero")))
    return found


@pytest.fixture(scope="module")
def sure():
    """A student, and what its losses are over the rows of which an exploding teacher is sure."""
    student = make_flow("glow", num_steps=1, seed=1)
    kept = noise(ROWS)[:, 0] <= LIMIT
    assert 5 < kept.sum() < ROWS - 5
    teacher = as_teacher(exploding_teacher(np.inf, 0.0))
    return student, kept, _means_and_gradients(student, teacher, kept)


# The last but one is finite and no data; with the last, only the round trip fails.
@pytest.mark.parametrize("value", [np.nan, -np.inf, -5e9, 1e30, 1000.0, 0.0])
def test_what_the_teacher_is_not_sure_of_has_no_part_in_loss_and_gradient(value, sure):
    student, kept, expected = sure
    found = _means_and_gradients(student, as_teacher(exploding_teacher(LIMIT, value)))
    for (losses, mean, gradients), (_, wanted, wanted_gradients) in zip(
        found, expected, strict=True
    ):
        assert losses.shape == (ROWS,)
        np.testing.assert_array_equal(losses == 0, ~kept)
        np.testing.assert_allclose(mean, wanted, rtol=1e-5)
        for gradient, other in zip(gradients, wanted_gradients, strict=True):
            np.testing.assert_allclose(gradient, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("value", "jit_compile"), [(np.nan, True), (-5e9, False)])
def test_where_nothing_is_left_the_losses_are_zero_and_training_goes_on(value, jit_compile):
    student = make_flow("maf", num_steps=1, seed=1)
    distiller = FlowDistiller(
        student=student,
        teacher=exploding_teacher(-np.inf, value),
        distillation_losses=LOSSES,
        student_loss_weight=0.0,
    )
    distiller.compile("adam", jit_compile=jit_compile)
    before = values(student)
    logs = distiller.fit(batches(data(ROWS)), verbose=0).history
    assert logs["skipped_steps"] == [0]
    assert logs["left_out_samples"] == [1]
    assert [logs[loss.name] for loss in LOSSES] == [[0]] * 3
    for weight, former in zip(values(student), before, strict=True):
        np.testing.assert_array_equal(weight, former)


@pytest.mark.slow
def test_an_autoregressive_teacher_that_explodes():
    student, teacher = make_flow("maf", seed=1), make_flow("maf", num_steps=3, seed=2)
    for weight in teacher.trainable_variables:
        weight.assign(3.0 * weight)
    samples = teacher.sample(1000, seed=0).numpy()
    units = np.abs(samples - student.standardize.mean) / student.standardize.scale
    assert np.isfinite(samples).all() and units.max() > 300  # Finite, but no data.
    shared = shared_pass(student, teacher, np.repeat(data(10), 100, axis=0))
    kept = shared.kept(1.0).numpy()
    assert 0.1 < kept.mean() < 0.99
    inside = np.abs(shared.teacher_sample(1.0).x - student.standardize.mean)
    assert (inside <= 30 * student.standardize.scale * (1 + 1e-6)).all()
    for loss in LOSSES:
        assert 0 < np.mean(loss(shared)) < 1000  # Far below what explosions would give.
        np.testing.assert_array_equal(loss(shared)[~kept], 0)
        np.testing.assert_array_equal(loss.left_out(shared), 1 - kept)


def test_the_logs_count_what_is_left_out():
    student = make_flow("glow", seed=1)
    distiller = FlowDistiller(
        student=student,
        teacher=exploding_teacher(LIMIT, np.nan),
        distillation_losses=[SynthesizedLoss()],
    )
    distiller.compile("sgd", jit_compile=False)
    logs = distiller.fit(batches(data(ROWS), ROWS), verbose=0).history
    np.testing.assert_allclose(logs["left_out_samples"], [np.mean(noise(ROWS)[:, 0] > LIMIT)])
    monitor, figures = DistillationMonitor(data(ROWS)), {}
    monitor.set_model(distiller)
    monitor.on_epoch_end(0, figures)
    assert 0 < figures["val_sample_distance"] < 100


@pytest.mark.parametrize("statistics", [False, True])
def test_units_are_known_by_the_statistics_alone(statistics):
    """Data of the user's in thousands: a student that was told of none leaves none of them out."""
    student, teacher = (make_flow("glow", seed=seed, statistics=False) for seed in (1, 2))
    teacher.standardize.set_statistics(np.full(DIMS, 5000.0), np.full(DIMS, 1000.0))
    if statistics:
        student.standardize.set_statistics(np.full(DIMS, 4000.0), np.full(DIMS, 900.0))
    shared = shared_pass(student, teacher, data(ROWS))
    assert shared.kept(1.0).numpy().all()


def test_a_student_without_data_is_initialised_from_what_is_kept():
    student = Flow(make_flow("glow", num_steps=1).config)
    student.standardize.set_statistics(np.zeros(DIMS), np.full(DIMS, 2.0))
    distiller = FlowDistiller(
        student=student,
        teacher=exploding_teacher(LIMIT, np.nan),
        distillation_losses=[ForwardKLLoss()],
        student_loss_weight=0.0,
    )
    distiller.compile("adam", jit_compile=False)
    logs = distiller.fit(batch_size=ROWS, steps_per_epoch=2, verbose=0).history
    assert np.isfinite(logs["forward_kl_loss"]).all()
    assert all(np.isfinite(weight).all() for weight in values(student))
    distiller = FlowDistiller(
        student=Flow(student.config),
        teacher=exploding_teacher(-np.inf, np.nan),
        distillation_losses=[ForwardKLLoss()],
        student_loss_weight=0.0,
    )
    distiller.compile("adam", jit_compile=False)
    with pytest.raises(ValueError, match="`teacher` must make samples .*, got 4,096 of 4,096"):
        distiller.fit(batch_size=ROWS, steps_per_epoch=2, verbose=0)


def test_samples_of_images_are_kept():
    config = dict(image_shape=(4, 4, 1), num_levels=2, steps_per_level=1, hidden_channels=4)
    x = np.random.RandomState(0).uniform(size=(32, 4, 4, 1)).astype(np.float32)
    student, teacher = (Flow(GlowConfig(**config, seed=seed)) for seed in (1, 2))
    for flow in (student, teacher):
        flow.standardize.set_statistics(x.mean(axis=(0, 1, 2)), x.std(axis=(0, 1, 2)))
        flow.adapt(x)
    shared = shared_pass(student, teacher, x)
    assert shared.kept(1.0).numpy().all()
    for loss in LOSSES:
        assert np.all(loss(shared).numpy() != 0)
        same = shared_pass(student, twin(student), x)
        np.testing.assert_array_equal(loss(same), np.zeros(32))
