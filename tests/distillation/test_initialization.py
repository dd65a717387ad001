"""Tests of the start of a Glow student in the teacher's frame."""

import numpy as np
import pytest
import tensorflow as tf

from tfp_distill import (
    Flow,
    GlowConfig,
    MAFConfig,
    TabularGlowConfig,
    align_with_teacher,
    load_flow,
)
from tfp_distill.bijectors import ActNorm, InvertibleLinear
from tfp_distill.distillation import copy_matching_steps

DIMS = 4


def data():
    random = np.random.RandomState(0)
    return random.normal(size=(500, DIMS)) @ random.normal(size=(DIMS, DIMS)) + 1.0


def images(size=4):
    random = np.random.RandomState(0)
    smooth = np.cumsum(np.cumsum(random.normal(size=(300, size, size, 1)), axis=1), axis=2)
    return 0.5 + 0.1 * smooth / smooth.std()


def members(flow, kind):
    return [
        b for step in flow.bijector.bijectors[1:] for b in step.bijectors if isinstance(b, kind)
    ]


def test_linear_teacher_is_matched_exactly():
    # Both flows are ActNorm and rotation a step while the couplings are new: the student's
    # rotation can make up for another seed entirely.
    x = data()
    teacher = Flow(TabularGlowConfig(dims=DIMS, num_steps=1, seed=1))
    teacher.adapt(x)
    student = Flow(TabularGlowConfig(dims=DIMS, num_steps=1, seed=2))
    assert np.abs(student.to_latent(x) - teacher.to_latent(x)).max() > 0.1
    align_with_teacher(student, teacher, x)
    np.testing.assert_allclose(student.to_latent(x), teacher.to_latent(x), atol=1e-4)


def test_linear_teacher_of_images_is_matched_exactly_level_by_level():
    config = dict(image_shape=(4, 4, 1), num_levels=2, steps_per_level=1, hidden_channels=4)
    x = images()
    teacher = Flow(GlowConfig(**config, seed=1))
    teacher.adapt(x)
    student = Flow(GlowConfig(**config, seed=2))
    student.adapt(x)
    assert np.abs(student.to_latent(x) - teacher.to_latent(x)).max() > 0.1
    align_with_teacher(student, teacher, x)
    np.testing.assert_allclose(student.to_latent(x), teacher.to_latent(x), atol=1e-4)


def test_deeper_teacher_of_images_is_come_nearer_to_at_every_level():
    config = dict(image_shape=(8, 8, 1), num_levels=3, hidden_channels=4)
    x = images(8)
    teacher = Flow(GlowConfig(**config, steps_per_level=3, seed=1))
    teacher.adapt(x)
    student, unaligned = (Flow(GlowConfig(**config, steps_per_level=1, seed=2)) for _ in "ab")
    align_with_teacher(student, teacher, x)
    unaligned.adapt(x)
    targets = teacher.trace(x).latents
    for step, tap in ((1, 3), (2, 6), (3, 9)):
        distances = [
            np.square(f.trace(x).latents[step] - targets[tap]).mean() for f in (student, unaligned)
        ]
        assert distances[0] < 0.8 * distances[1]


def test_every_step_is_a_rotation_nearer_to_the_teacher():
    x = data()
    teacher = Flow(TabularGlowConfig(dims=DIMS, num_steps=4, hidden_units=8, seed=1))
    teacher.adapt(x)
    random = np.random.RandomState(1)
    for weight in teacher.trainable_variables:
        weight.assign(weight + 0.1 * random.normal(size=weight.shape))
    student, unaligned = (Flow(TabularGlowConfig(dims=DIMS, num_steps=2, seed=2)) for _ in "ab")
    align_with_teacher(student, teacher, x)
    unaligned.adapt(x)
    targets = teacher.trace(x).latents
    for step, tap in ((1, 2), (2, 4)):
        g = targets[tap]
        distances = [np.square(f.trace(x).latents[step] - g).mean() for f in (student, unaligned)]
        assert distances[0] < 0.5 * distances[1]
    for linear in members(student, InvertibleLinear):
        matrix = linear.inverse_and_ildj(tf.eye(DIMS))[0].numpy().T
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(DIMS), atol=1e-5)
    for actnorm in members(student, ActNorm):
        assert np.all(np.isfinite(actnorm.keras_layers[0].shift))
    assert student.adapted


def test_aligned_flow_is_still_invertible_and_saved(tmp_path):
    x = data()
    teacher = Flow(TabularGlowConfig(dims=DIMS, num_steps=3, seed=1, condition_dims=1))
    condition = np.ones([len(x), 1])
    teacher.adapt(x, condition)
    student = Flow(TabularGlowConfig(dims=DIMS, num_steps=2, seed=2, condition_dims=1))
    align_with_teacher(student, teacher, x, condition)
    np.testing.assert_allclose(
        student.to_data(student.to_latent(x, condition) + 0.0, condition), x, atol=1e-4
    )
    student.save(tmp_path / "student.keras")
    loaded = load_flow(tmp_path / "student.keras")
    np.testing.assert_array_equal(loaded.log_prob(x, condition), student.log_prob(x, condition))


def test_errors():
    teacher = Flow(TabularGlowConfig(dims=DIMS, num_steps=1))
    with pytest.raises(ValueError, match="InvertibleLinear in every step, got none in step 1"):
        align_with_teacher(Flow(MAFConfig(dims=DIMS)), teacher, data())
    with pytest.raises(ValueError, match="at least 8 rows, twice the dimensions, got 5"):
        align_with_teacher(Flow(TabularGlowConfig(dims=DIMS)), teacher, data()[:5])


def test_set_matrix_rejects_what_is_not_invertible():
    linear = InvertibleLinear(3)
    with pytest.raises(ValueError, match=r"`matrix` must have shape \(3, 3\), got \(2, 2\)"):
        linear.set_matrix(np.eye(2))
    with pytest.raises(ValueError, match="`matrix` must be invertible"):
        linear.set_matrix(np.zeros([3, 3]))


def trained_teacher(config, x, condition=None):
    teacher = Flow(config)
    teacher.adapt(x, condition)
    random = np.random.RandomState(1)
    for weight in teacher.trainable_variables:
        weight.assign(weight + 0.1 * random.normal(size=weight.shape))
    return teacher


@pytest.mark.parametrize("kind", [TabularGlowConfig, MAFConfig])
def test_a_student_of_the_teachers_architecture_begins_as_the_teacher(kind):
    x, condition = data(), np.random.RandomState(2).normal(5, 2, size=(500, 1))
    config = dict(dims=DIMS, num_steps=2, hidden_units=8, condition_dims=1)
    teacher = trained_teacher(kind(**config, seed=1), x, condition)
    student = Flow(kind(**config, seed=2))
    assert copy_matching_steps(student, teacher, x, condition) == ((1, 1), (2, 2))
    assert student.adapted
    np.testing.assert_array_equal(student.log_prob(x, condition), teacher.log_prob(x, condition))


def test_what_fits_is_copied_and_the_rest_is_initialised():
    x = data()
    config = dict(dims=DIMS, hidden_units=8)
    teacher = trained_teacher(TabularGlowConfig(**config, num_steps=4, seed=1), x)
    student = Flow(TabularGlowConfig(**config, num_steps=2, seed=2))
    assert copy_matching_steps(student, teacher, x) == ((1, 2), (2, 4))
    for step, teacher_step in ((1, 2), (2, 4)):
        pairs = zip(
            student.step_weights(step, step),
            teacher.step_weights(teacher_step, teacher_step),
            strict=True,
        )
        assert all(np.array_equal(a, b) for a, b in pairs)
    np.testing.assert_allclose(student.standardize.mean, x.mean(axis=0), rtol=1e-4, atol=1e-6)


def test_a_step_of_an_autoregressive_flow_fits_in_its_own_order_of_dimensions_only():
    x = data()
    teacher = trained_teacher(MAFConfig(dims=DIMS, num_steps=6, hidden_units=8, seed=1), x)
    student = Flow(MAFConfig(dims=DIMS, num_steps=3, hidden_units=8, seed=2))
    assert copy_matching_steps(student, teacher, x) == ((2, 4),)  # Of (1, 2), (2, 4), (3, 6).
    latents = student.trace(x).latents
    step = teacher.bijector.bijectors[4]
    np.testing.assert_allclose(step.inverse(latents[1]), latents[2], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        MAFConfig(DIMS, num_steps=2),
        TabularGlowConfig(DIMS, num_steps=2, hidden_units=4),
        TabularGlowConfig(DIMS, num_steps=2, log_scale_bound=1.0),
        TabularGlowConfig(DIMS, num_steps=2, activation="tanh"),
    ],
)
def test_a_student_that_no_step_fits_is_refused(config):
    teacher = trained_teacher(TabularGlowConfig(DIMS, num_steps=2), data())
    with pytest.raises(ValueError, match="got none of the steps 1 and 1, 2 and 2"):
        copy_matching_steps(Flow(config), teacher, data())
