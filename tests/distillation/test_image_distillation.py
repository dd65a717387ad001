"""Tests of distillation between flows of images, of different numbers of levels too."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from flow_pairs import assert_equal, shared_pass, twin, values

from tfp_distill import (
    Flow,
    FlowDistiller,
    GlowConfig,
    IntermediateLatentLoss,
    LatentLoss,
    SynthesizedLoss,
    align_with_teacher,
)
from tfp_distill.distillation.teachers import DistributionTeacher

pytestmark = pytest.mark.slow

SHAPE = (8, 8, 1)


def images(rows, seed=0):
    random = np.random.RandomState(seed)
    return random.uniform(0.2, 0.8, size=(rows, *SHAPE)).astype(np.float32)


def make_flow(seed, *, num_levels=2, steps_per_level=2):
    config = GlowConfig(
        SHAPE,
        num_levels=num_levels,
        steps_per_level=steps_per_level,
        hidden_channels=4,
        seed=seed,
    )
    flow = Flow(config, seed=seed)
    flow.adapt(images(64))
    random = np.random.RandomState(seed)
    for weight in flow.trainable_variables:
        weight.assign(weight.numpy() + 0.03 * random.normal(size=weight.shape))
    return flow


@pytest.mark.parametrize(
    "loss",
    [
        LatentLoss(),
        IntermediateLatentLoss(),
        IntermediateLatentLoss(taps=((1, 1), (3, 3))),
        SynthesizedLoss(temperature=0.7),
        SynthesizedLoss(space="latent"),
    ],
    ids=lambda loss: f"{loss.name}_{getattr(loss, 'space', '')}{getattr(loss, 'taps', '')}",
)
def test_identical_flows_have_a_loss_of_exactly_0(loss):
    flow = make_flow(1)
    value = loss(shared_pass(twin(flow), flow, images(3)))
    assert value.shape == (3,)
    np.testing.assert_array_equal(value, np.zeros(3))
    assert np.all(loss(shared_pass(make_flow(2), flow, images(3))) > 0)


def test_intermediate_latents_are_matched_at_the_ends_of_levels():
    student, teacher, x = make_flow(1), make_flow(2, num_levels=3, steps_per_level=1), images(3)
    assert (student.level_ends, teacher.level_ends) == ((2, 4), (1, 2, 3))
    s, t = student.trace(x).latents, teacher.trace(x).latents
    expected = np.mean(np.abs(s[2] - t[1]), -1) + np.mean(np.abs(s[4] - t[3]), -1)
    loss = IntermediateLatentLoss()
    np.testing.assert_allclose(loss(shared_pass(student, teacher, x)), expected, rtol=1e-5)


def test_samples_share_every_latent():
    student, teacher, x = make_flow(1), make_flow(2, num_levels=3), images(3)
    shared = shared_pass(student, teacher, x)
    z = shared.latents(0.7)
    assert z.shape == (3, 64)
    difference = student.to_data(z) - teacher.to_data(z)
    expected = np.mean(np.abs(difference), (1, 2, 3))
    np.testing.assert_allclose(SynthesizedLoss(temperature=0.7)(shared), expected, rtol=1e-4)


def test_a_distribution_of_images_teaches():
    flow, x = make_flow(1), images(3)
    teacher = DistributionTeacher(flow.distribution)
    shared = shared_pass(twin(flow), teacher, x)
    for loss in (LatentLoss(), IntermediateLatentLoss(), SynthesizedLoss()):
        np.testing.assert_allclose(loss(shared), np.zeros(3), atol=1e-5)


@pytest.mark.parametrize("teacher_levels", [1, 3])
def test_a_student_learns_from_data_and_teacher(teacher_levels):
    teacher = make_flow(2, num_levels=teacher_levels)
    student = make_flow(1)
    distiller = FlowDistiller(
        student=student,
        teacher=teacher,
        distillation_losses=[
            LatentLoss(),
            IntermediateLatentLoss(),
            SynthesizedLoss(temperature=0.7),
        ],
        distillation_loss_weights=[0.1, 0.1, 1.0],
        student_loss_weight=0.1,
    )
    distiller.compile(keras.optimizers.Adam(2e-3, global_clipnorm=10.0))
    before = [weight.numpy() for weight in student.trainable_variables]
    of_teacher = values(teacher)
    batches = tf.data.Dataset.from_tensor_slices(images(32)).batch(16)
    logs = distiller.fit(batches, epochs=8, verbose=0).history
    assert logs["skipped_steps"] == [0] * 8
    for name in ("loss", "latent_loss", "synthesized_loss"):
        assert logs[name][-1] < logs[name][0], name
    assert_equal(of_teacher, values(teacher))
    for weight, old in zip(student.trainable_variables, before, strict=True):
        assert np.any(weight.numpy() != old), weight.path


def test_teacher_and_student_need_the_same_image_shape():
    other = Flow(GlowConfig((4, 4, 4), 1, 1, hidden_channels=2))
    with pytest.raises(ValueError, match=r"same event shape, got \(8, 8, 1\) and \(4, 4, 4\)"):
        FlowDistiller(student=other, teacher=make_flow(1), distillation_losses=LatentLoss())


def test_a_student_of_images_starts_in_the_frame_of_a_teacher_of_images():
    base = tfp.distributions.Sample(tfp.distributions.Normal(0.0, 1.0), SHAPE)
    teacher = tfp.distributions.TransformedDistribution(base, tfp.bijectors.Scale(2.0))
    with pytest.raises(ValueError, match="`teacher` must be a Glow of images, as the student, got"):
        align_with_teacher(make_flow(1), teacher, images(200))
