"""Tests of fewer samples of the teacher than rows of the data."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from flow_pairs import (
    DIMS,
    batches,
    conditions,
    data,
    make_flow,
    noise,
    values,
)

from tfp_distill.distillation import (
    FlowDistiller,
    ForwardKLLoss,
    SynthesizedLoss,
    TeacherPairs,
)
from tfp_distill.distillation.drawing import Drawing
from tfp_distill.distillation.shared_pass import SharedPass
from tfp_distill.training import StepRandom

LOSSES = (ForwardKLLoss(), SynthesizedLoss())


def _shared(rows, rows_per_sample, *, condition=None):
    dims = 0 if condition is None else 2
    return SharedPass(
        make_flow("glow", seed=1, condition_dims=dims),
        make_flow("glow", seed=2, condition_dims=dims),
        tf.constant(data(rows)),
        condition,
        StepRandom(0, tf.constant(3)),
        rows_per_sample=rows_per_sample,
    )


@pytest.mark.parametrize(("rows", "number"), [(8, 2), (9, 3), (3, 1), (1, 1)])
def test_losses_are_means_over_one_sample_for_every_fourth_row(rows, number):
    shared = _shared(rows, 4)
    sample = shared.teacher_sample(1.0)
    assert sample.x.shape == (number, DIMS)
    x, _ = shared.teacher.to_data_and_fldj(sample.z)
    np.testing.assert_allclose(sample.x, x, atol=1e-6)
    difference = shared.teacher.log_prob(x) - shared.student.log_prob(x)
    loss = ForwardKLLoss()(shared)
    assert loss.shape == (rows,)
    np.testing.assert_allclose(loss, np.full(rows, np.mean(difference)), rtol=1e-4)
    # What looks at latents of its own, one a row, still does.
    np.testing.assert_array_equal(shared.latents(1.0), noise(rows, step=3))


def test_samples_have_the_conditions_of_their_rows():
    c = tf.constant(conditions(10))
    shared = _shared(10, 4, condition=c)
    x, _ = shared.teacher.to_data_and_fldj(shared.teacher_sample(1.0).z, c[::4])
    np.testing.assert_allclose(shared.teacher_sample(1.0).x, x, atol=1e-6)


@pytest.mark.parametrize("parts", [(8, 8), (5, 4), (3, 4, 2), (1, 1, 1)])
def test_replicas_draw_together_what_one_device_draws(parts):
    total = sum(parts)

    def draw(random, rows):
        drawing = Drawing(random, tf.constant(rows), None, 4)
        numbers = drawing.random.normal(drawing.number, 1)[:, 0]
        return numbers.numpy()[drawing.is_own], drawing.of_rows(numbers).numpy()

    random = StepRandom(0, tf.constant(3), global_rows=tf.zeros([total]))
    together, _ = draw(random._replace(global_rows=None), total)
    starts = np.cumsum([0, *parts[:-1]])
    own, of_rows = zip(
        *(
            draw(random._replace(first_row=tf.constant(start, tf.int32)), rows)
            for start, rows in zip(starts, parts, strict=True)
        ),
        strict=True,
    )
    np.testing.assert_array_equal(np.concatenate(own), together)
    np.testing.assert_allclose(np.concatenate(of_rows).mean(), together.mean(), rtol=1e-6)


def _fit(strategy, *, jit_compile=False, rows=30, callbacks=()):
    with strategy.scope():
        distiller = FlowDistiller(
            student=make_flow("glow", seed=1),
            teacher=make_flow("glow", seed=2),
            distillation_losses=LOSSES,
            rows_per_sample=3,
        )
        distiller.compile(keras.optimizers.Adam(0.01), jit_compile=jit_compile)
    logs = distiller.fit(batches(data(rows)), epochs=2, callbacks=[*callbacks], verbose=0).history
    assert np.isfinite(logs["loss"]).all()
    return values(distiller.student)


@pytest.mark.slow
def test_replicas_train_as_one_device(two_replicas):
    one, replicas = _fit(tf.distribute.get_strategy()), _fit(two_replicas)
    for a, b in zip(one, replicas, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_pairs_are_drawn_as_sparsely():
    pairs, start = TeacherPairs(64, refresh_steps=4), values(make_flow("glow", seed=1))
    trained = _fit(tf.distribute.get_strategy(), jit_compile=True, callbacks=[pairs])
    assert any(np.any(a != b) for a, b in zip(trained, start, strict=True))


@pytest.mark.parametrize("value", [0, 1.5, True])
def test_a_number_of_rows_is_a_positive_integer(value):
    with pytest.raises(ValueError, match="`rows_per_sample` must be an integer of at least 1, got"):
        FlowDistiller(
            student=make_flow("glow"),
            teacher=make_flow("glow", seed=2),
            distillation_losses=LOSSES,
            rows_per_sample=value,
        )


def test_it_is_saved_with_the_distiller():
    distiller = FlowDistiller(
        student=make_flow("glow"),
        teacher=make_flow("glow", seed=2),
        distillation_losses=LOSSES,
        rows_per_sample=4,
    )
    config = keras.saving.serialize_keras_object(distiller)
    again = keras.saving.deserialize_keras_object(config)
    assert again.get_config()["rows_per_sample"] == 4
