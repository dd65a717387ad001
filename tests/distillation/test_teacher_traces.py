"""Tests of the teacher's latents of fixed rows, which are made once."""

import numpy as np
import pytest
import tensorflow_probability as tfp
from flow_pairs import DIMS, assert_equal, conditions, data, make_flow, values

from tfp_distill import Flow
from tfp_distill.data import TrainingRows
from tfp_distill.distillation import (
    FlowDistiller,
    ForwardKLLoss,
    GuidedLoss,
    IntermediateLatentLoss,
    LatentLoss,
    LogDensityLoss,
    SampleTeacher,
    SynthesizedLoss,
    TeacherTraces,
)
from tfp_distill.training import Partition

pytestmark = pytest.mark.slow

ROWS = 8
LOSSES = (LatentLoss(), IntermediateLatentLoss(), LogDensityLoss(), SynthesizedLoss())


def _distiller(teacher, *, student=None, losses=LOSSES, partition=None):
    distiller = FlowDistiller(
        student=student or make_flow("glow", seed=1),
        teacher=teacher,
        distillation_losses=losses,
    )
    distiller.compile("sgd", partition=partition, jit_compile=False)
    return distiller


def _fit(distiller, dataset, steps=8):
    return distiller.fit(dataset, steps_per_epoch=steps, verbose=0).history


@pytest.mark.parametrize("condition_dims", [0, 2])
@pytest.mark.parametrize("kind", ["glow", "maf"])
def test_a_training_is_the_one_without_them(kind, condition_dims):
    condition = conditions(5 * ROWS + 3) if condition_dims else None
    rows = TrainingRows(data(5 * ROWS + 3), ROWS, condition=condition, seed=4)
    flows = dict(condition_dims=condition_dims)
    teacher = make_flow(kind, seed=2, num_steps=3, **flows)
    logs, students = [], []
    for source in (rows, TeacherTraces(teacher, rows)):
        students.append(make_flow("glow", seed=1, **flows))
        logs.append(_fit(_distiller(teacher, student=students[-1]), source.batches(start_step=3)))
    assert logs[0].keys() == logs[1].keys()
    for name, value in logs[0].items():
        np.testing.assert_allclose(logs[1][name], value, rtol=1e-4, err_msg=name)
    for a, b in zip(*map(values, students), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)


def test_no_step_runs_the_teacher(monkeypatch):
    teacher, rows = make_flow("glow", seed=2), TrainingRows(data(4 * ROWS), ROWS)
    traces = TeacherTraces(teacher, rows)
    batches = traces.batches()

    def refuse(*args, **kwargs):
        raise AssertionError("The teacher must not run.")

    distiller = _distiller(teacher, losses=(LatentLoss(), IntermediateLatentLoss()))
    monkeypatch.setattr(teacher, "trace", refuse)
    _fit(distiller, batches)
    with pytest.raises(AssertionError, match="must not run"):
        _fit(distiller, rows.batches())


def test_parts_see_them():
    teacher, rows = make_flow("glow", seed=2), TrainingRows(data(4 * ROWS), ROWS)
    students = []
    for source in (rows, TeacherTraces(teacher, rows)):
        students.append(make_flow("glow", seed=1))
        partition = Partition.at_steps(students[-1], [1])
        losses = IntermediateLatentLoss()
        _fit(
            _distiller(teacher, student=students[-1], losses=losses, partition=partition),
            source.batches(),
        )
    for a, b in zip(*map(values, students), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)


def test_a_new_student_is_adapted_to_the_rows():
    teacher, rows = make_flow("glow", seed=2), TrainingRows(data(4 * ROWS), ROWS)
    students = [Flow(teacher.config, seed=1) for _ in range(2)]
    for student, source in zip(students, (rows, TeacherTraces(teacher, rows)), strict=True):
        _fit(_distiller(teacher, student=student, losses=LatentLoss()), source.batches())
    for a, b in zip(*map(values, students), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)


def test_batches_outlive_the_object_that_made_them():
    teacher, rows = make_flow("glow", seed=2), TrainingRows(data(4 * ROWS), ROWS)
    batches = TeacherTraces(teacher, rows).batches()
    (first,) = next(iter(batches))
    np.testing.assert_array_equal(first.x, next(iter(rows.batches())))
    for own, expected in zip(first.trace.latents, teacher.trace(first.x).latents, strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-5, atol=1e-6)


def test_two_replicas_take_the_steps_of_one_device(two_replicas):
    rows = TrainingRows(data(4 * ROWS), ROWS)
    teacher = make_flow("glow", seed=2)
    one = _distiller(teacher)
    with two_replicas.scope():
        two = _distiller(make_flow("glow", seed=2), student=make_flow("glow", seed=1))
    for distiller in (one, two):
        _fit(distiller, TeacherTraces(teacher, rows).batches())
    for a, b in zip(values(one.student), values(two.student), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_teacher_with_a_density_alone():
    logits = np.zeros(2, np.float32)
    teacher = tfp.distributions.MixtureSameFamily(
        tfp.distributions.Categorical(logits),
        tfp.distributions.MultivariateNormalDiag(np.float32([[0] * DIMS, [1] * DIMS])),
    )
    rows = TrainingRows(data(4 * ROWS), ROWS)
    students = []
    for source in (rows, TeacherTraces(teacher, rows)):
        students.append(make_flow("glow", seed=1))
        losses = LogDensityLoss()
        _fit(_distiller(teacher, student=students[-1], losses=losses), source.batches())
    for a, b in zip(*map(values, students), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)


def test_guided_students_learn_from_them():
    teacher, rows = make_flow("maf", seed=2), TrainingRows(data(4 * ROWS), ROWS)
    distiller = _distiller(
        teacher, student=make_flow("iaf", seed=1), losses=(GuidedLoss(), ForwardKLLoss())
    )
    logs = _fit(distiller, TeacherTraces(teacher, rows).batches())
    assert np.isfinite(logs["guided_loss"]).all()


def test_errors_name_argument_rule_and_value():
    teacher, rows = make_flow("glow", seed=2), TrainingRows(data(4 * ROWS), ROWS)
    with pytest.raises(ValueError, match="`rows` must be .*TrainingRows`, got ndarray"):
        TeacherTraces(teacher, data(ROWS))
    with pytest.raises(ValueError, match="`max_bytes` must be an integer of at least 1, got 0"):
        TeacherTraces(teacher, rows, max_bytes=0)
    with pytest.raises(ValueError, match="must have a density for `TeacherTraces`"):
        TeacherTraces(SampleTeacher(data(ROWS)), rows)
    traces = TeacherTraces(teacher, rows, max_bytes=100)
    # x, three latents and three log-determinants.
    assert traces.num_bytes == len(rows) * 4 * (DIMS + 3 * DIMS + 3)
    with pytest.raises(ValueError, match="`max_bytes` must be at least 1,920 for 32 rows"):
        traces.batches()
    assert_equal(values(teacher), values(make_flow("glow", seed=2)))
