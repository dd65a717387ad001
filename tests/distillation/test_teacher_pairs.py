"""Tests of samples of the teacher that are made for many steps at once."""

import numpy as np
import pytest
import tensorflow as tf
from flow_pairs import DIMS, assert_equal, batches, data, make_flow, twin, values
from test_screening import LIMIT, exploding_teacher

from tfp_distill.distillation import (
    FlowDistiller,
    ForwardKLLoss,
    SynthesizedLoss,
    TeacherPairs,
)
from tfp_distill.training import StepRandom

pytestmark = pytest.mark.slow

ROWS = 16
LOSSES = (
    ForwardKLLoss(),
    SynthesizedLoss(),
    SynthesizedLoss(space="latent", name="synthesized_latents"),
)


def _distiller(teacher, *, student=None, losses=LOSSES, nll=1.0, jit_compile=False):
    distiller = FlowDistiller(
        student=student or make_flow("glow", seed=1),
        teacher=teacher,
        distillation_losses=losses,
        student_loss_weight=nll,
    )
    distiller.compile("adam", jit_compile=jit_compile)
    return distiller


class _Seen(TeacherPairs):
    """Keeps what would be drawn at each step."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.drawn = []

    def on_train_batch_begin(self, batch, logs=None):
        super().on_train_batch_begin(batch, logs)
        random = StepRandom(self.model.seed, self.model.step)
        self.drawn.append([value.numpy() for value in self._draw(random, ROWS)[0]])


@pytest.mark.parametrize("jit_compile", [False, True])
def test_pairs_are_the_teachers(jit_compile):
    teacher, seen = make_flow("glow", seed=2), _Seen(40, refresh_steps=2)
    distiller = _distiller(teacher, jit_compile=jit_compile)
    distiller.fit(batches(data(4 * ROWS), ROWS), callbacks=[seen], verbose=0)
    for z, x, fldj in seen.drawn:
        expected, expected_fldj = teacher.to_data_and_fldj(z)
        np.testing.assert_allclose(x, expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(fldj, expected_fldj, rtol=1e-4, atol=1e-4)
    first, second, third, fourth = ({row.tobytes() for row in z} for z, _, _ in seen.drawn)
    # 16 of 40 rows at each step, and other ones after two steps.
    assert first & second and third & fourth and not (first | second) & (third | fourth)
    z = np.concatenate([z for z, _, _ in seen.drawn])
    assert abs(np.mean(z)) < 0.5 and 0.6 < np.std(z) < 1.4


def test_identical_flows_have_losses_of_zero():
    student = make_flow("glow", seed=1)
    distiller = _distiller(twin(student), student=student, nll=0.0)
    logs = distiller.fit(batches(data(ROWS), ROWS), callbacks=[TeacherPairs(64)], verbose=0).history
    assert [logs[loss.name] for loss in LOSSES] == [[0], [0], [0]]
    assert logs["left_out_samples"] == [0]


def test_a_resumed_training_is_the_uninterrupted_one(tmp_path):
    x, teacher = batches(data(8 * ROWS), ROWS), make_flow("maf", seed=2)
    whole, first, second = (_distiller(teacher) for _ in range(3))
    whole.fit(x, callbacks=[TeacherPairs(50, refresh_steps=3)], verbose=0)
    first.fit(x.take(4), callbacks=[TeacherPairs(50, refresh_steps=3)], verbose=0)
    first.save_weights(tmp_path / "state.weights.h5")
    second.load_weights(tmp_path / "state.weights.h5")
    second.fit(x.skip(4), callbacks=[TeacherPairs(50, refresh_steps=3)], verbose=0)
    assert_equal(values(whole.student), values(second.student))


def test_two_replicas_take_the_steps_of_one_device(two_replicas):
    teacher, x = make_flow("glow", seed=2), batches(data(4 * ROWS), ROWS)
    one = _distiller(teacher, jit_compile=False)
    with two_replicas.scope():
        student = make_flow("glow", seed=1)
        two = _distiller(make_flow("glow", seed=2), student=student)
    for model in (one, two):
        model.fit(x, callbacks=[TeacherPairs(50, refresh_steps=3)], verbose=0)
    for a, b in zip(values(one.student), values(two.student), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_what_the_teacher_is_not_sure_of_is_not_among_them():
    seen = _Seen(200)
    distiller = _distiller(exploding_teacher(LIMIT, np.nan))
    logs = distiller.fit(batches(data(2 * ROWS), ROWS), callbacks=[seen], verbose=0).history
    assert all((z[:, 0] <= LIMIT).all() for z, _, _ in seen.drawn)
    assert all(np.isfinite(logs[loss.name]).all() for loss in LOSSES)
    np.testing.assert_allclose(logs["left_out_samples"], [0.31], atol=0.1)  # P(N(0, 1) > 0.5)


def test_other_temperatures_and_later_trainings_make_their_own():
    losses = (ForwardKLLoss(), SynthesizedLoss(temperature=0.5))
    distiller = _distiller(make_flow("glow", seed=2), losses=losses)
    x = batches(data(ROWS), ROWS)
    before = values(distiller.student)
    distiller.fit(x, callbacks=[TeacherPairs(64)], verbose=0)
    with_pairs = values(distiller.student)
    distiller.fit(x, verbose=0)
    assert any(np.any(a != b) for a, b in zip(before, with_pairs, strict=True))
    assert any(np.any(a != b) for a, b in zip(with_pairs, values(distiller.student), strict=True))


def test_errors_name_argument_rule_and_value():
    with pytest.raises(ValueError, match="`size` must be an integer of at least 1, got 0"):
        TeacherPairs(0)
    with pytest.raises(ValueError, match="`refresh_steps` must be an integer of at least 1, got 2"):
        TeacherPairs(8, refresh_steps=2.5)
    with pytest.raises(ValueError, match="`temperature` must be positive, got 0"):
        TeacherPairs(8, temperature=0)
    conditional = _distiller(
        make_flow("glow", seed=2, condition_dims=2),
        student=make_flow("glow", condition_dims=2),
    )
    with pytest.raises(ValueError, match="`TeacherPairs` must be used with flows without a cond"):
        TeacherPairs().set_model(conditional)
    distiller = _distiller(exploding_teacher(-np.inf, np.nan))
    x = tf.data.Dataset.from_tensors(np.zeros([ROWS, DIMS], np.float32))
    with pytest.raises(ValueError, match="`teacher` must make samples .*, got none among 64"):
        distiller.fit(x, callbacks=[TeacherPairs(64)], verbose=0)
