"""Tests of the comparison of samplers with the teacher that they were made of."""

import types

import numpy as np
import pytest

from tfp_distill import Flow, MAFConfig, TabularGlowConfig
from tfp_distill.columns import Columns
from tfp_distill.domains import RowDomain
from tfp_distill.runs.sampler_report import compare_samplers

ROWS = np.random.RandomState(0).poisson(4, size=(2000, 2)).astype(np.float32)


@pytest.fixture
def run():
    """What the comparison reads of a run, of integer columns."""
    recipe = types.SimpleNamespace(seed=0)
    data = types.SimpleNamespace(domain=RowDomain(), condition_dims=0)
    return types.SimpleNamespace(recipe=recipe, data=data)


def _flow(*, inverse):
    columns = Columns(kinds=("integer", "integer"))
    config = MAFConfig(2, num_steps=1, columns=columns, inverse_autoregressive=inverse)
    flow = Flow(config)
    flow.adapt(ROWS)
    return flow


def test_integers_are_not_told_from_others_by_their_noise(run):
    flows = {"teacher": _flow(inverse=False), "guided": _flow(inverse=True)}
    found = compare_samplers(run, flows)["guided"]  # Both are new: normal distributions.
    assert found.two_sample.auc == pytest.approx(0.5, abs=0.05)
    assert found.kl.mean == pytest.approx(0, abs=0.05)


def test_only_students_that_are_fast_where_the_teacher_is_slow_are_compared(run):
    slow, fast = _flow(inverse=False), _flow(inverse=True)
    coupling = Flow(TabularGlowConfig(2, num_steps=1, columns=slow.config.columns))
    coupling.adapt(ROWS)
    students = {"slow": slow, "fast": fast, "coupling": coupling}
    assert set(compare_samplers(run, {"teacher": slow, **students})) == {"fast", "coupling"}
    assert compare_samplers(run, {"teacher": coupling, **students}) == {}


def test_a_teacher_that_knows_no_sample_of_its_own_is_told(run, capsys):
    teacher, student = _flow(inverse=False), _flow(inverse=True)
    for weight in teacher.trainable_variables:
        weight.assign(np.full(weight.shape, np.nan))
    assert compare_samplers(run, {"teacher": teacher, "guided": student}) == {}
    output = capsys.readouterr().out
    assert output.startswith("warning: guided is not compared with its teacher as a sampler: ")
    assert output.endswith("got 10,000 of 10,000 that it does not.\n")
