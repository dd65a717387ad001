"""Tests of the guard that compares distilled students with the plain one."""

import contextlib
import dataclasses
import json
import math

import keras
import numpy as np
import pytest
from interruption import Interrupt
from jobs import TINY, run

from tfp_distill import Flow, TabularGlowConfig, load_flow
from tfp_distill.data import FlowData, Statistics
from tfp_distill.distillation import FlowDistiller, ForwardKLLoss
from tfp_distill.runs.fitting.fit_flow import fit_flow
from tfp_distill.runs.fitting.guard import Guard, standard_errors_behind, write_rows
from tfp_distill.runs.fitting.rows import training_rows
from tfp_distill.runs.fitting.training_record import TrainingRecord, read_record
from tfp_distill.runs.recipe import Recipe
from tfp_distill.training import PartwiseModel
from trainers import compress, distill, train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_xla")]

DIMS, STEPS = 3, 12


def test_standard_errors_are_those_of_paired_rows():
    random = np.random.RandomState(0)
    plain = 100 * random.normal(size=400)  # Rows differ much more than flows do.
    difference = 0.1 + random.normal(size=400)
    expected = difference.mean() / (difference.std(ddof=1) / 20)
    assert standard_errors_behind(plain - difference, plain) == pytest.approx(expected)
    assert standard_errors_behind(plain + difference, plain) == pytest.approx(-expected)
    assert standard_errors_behind(plain, plain) == 0
    assert standard_errors_behind(np.zeros(3), np.ones(3)) == math.inf
    bad = np.where(np.arange(400) == 3, np.nan, plain)
    assert standard_errors_behind(bad, plain) == math.inf
    assert standard_errors_behind(plain, bad) == -math.inf
    assert standard_errors_behind(bad, bad) == 0


def _flow(seed):
    return Flow(
        TabularGlowConfig(DIMS, num_steps=1, hidden_units=4, num_hidden_layers=1, seed=seed)
    )


def _distiller():
    """A student that learns from the samples of a teacher that is of no use."""
    student, teacher = _flow(0), _flow(1)
    x = np.random.RandomState(1).normal(3.0, 0.5, size=(64, DIMS))
    teacher.adapt(x, statistics=Statistics.identity(DIMS))
    distiller = FlowDistiller(
        student=student,
        teacher=teacher,
        distillation_losses=[ForwardKLLoss()],
        distillation_loss_weights=[0.8],
        student_loss_weight=0.2,
    )
    distiller.compile(keras.optimizers.Adam(0.05), jit_compile=False)
    return distiller


def _data():
    rows = np.random.RandomState(0).normal(size=(300, DIMS)).astype(np.float32)
    return FlowData(
        "toy", rows[:200], rows[200:250], rows[250:], Statistics.of_rows(rows), tuple("abc")
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The directory of a plain student, which is good from the beginning."""
    directory = tmp_path_factory.mktemp("runs") / "student"
    flow = _flow(0)
    flow.compile(keras.optimizers.Adam(0.01), jit_compile=False)
    fit_flow(
        flow,
        flow,
        _data(),
        training_rows(_data(), 32, seed=1),
        directory=directory,
        steps=STEPS,
        report_steps=1,
        keep_rows=True,
    )
    return directory


class _Weights(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.rows = {}

    def on_train_batch_end(self, batch, logs=None):
        self.rows[self.model.step] = self.model.loss_weights


def _fit(plain, directory, *callbacks):
    distiller = _distiller()
    guard = Guard(plain, read_record(plain), label="forward_kl", steps=STEPS)
    interrupted = any(isinstance(callback, Interrupt) for callback in callbacks)
    with pytest.raises(InterruptedError) if interrupted else contextlib.nullcontext():
        return fit_flow(
            distiller,
            distiller.student,
            _data(),
            training_rows(_data(), 32, seed=1),
            directory=directory,
            steps=STEPS,
            report_steps=1,
            callbacks=callbacks,
            keep_rows=True,
            guard=guard,
        )


@pytest.fixture(scope="module")
def guarded(plain, tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "forward_kl"
    weights = _Weights()
    return _fit(plain, directory, weights), directory, weights.rows


def test_what_falls_behind_is_let_go_of(guarded):
    record, _, weights = guarded
    behind = [row["val_errors_behind"] for row in record.history]
    begin = record.guarded_at
    assert min(behind[begin - 3 : begin]) > 2
    assert not any(min(behind[i - 3 : i]) > 2 for i in range(3, begin))
    end = begin + round(0.25 * (STEPS - begin))
    assert end > begin + 1
    for step, got in weights.items():  # The weights of the step that ended as this number.
        left = min(1.0, max(0.0, 1 - (step - 1 - begin) / (end - begin)))
        expected = {"nll": 1 - 0.8 * left, "forward_kl_loss": 0.8 * left}
        assert got == pytest.approx(expected, abs=1e-6), step


def test_what_ends_behind_gets_the_plain_students_flow(guarded, plain):
    record, directory, _ = guarded
    rows = [
        np.load(d / f"validation_rows/{read_record(d).best_step}.npy") for d in (directory, plain)
    ]
    assert standard_errors_behind(*rows) > 1
    assert record.replaced
    assert record == read_record(directory)
    assert record.best_val_nll == read_record(plain).best_val_nll
    flows = [load_flow(d / "flow.keras").get_weights() for d in (directory, plain)]
    for a, b in zip(*flows, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("step", [3, 5, 12])
def test_an_interrupted_training_is_guarded_as_if_it_had_not_been(step, guarded, plain, tmp_path):
    directory = tmp_path / "forward_kl"
    _fit(plain, directory, Interrupt(step))
    weights = _Weights()
    record = _fit(plain, directory, weights)
    expected, other, all_weights = guarded
    assert weights.rows == {n: w for n, w in all_weights.items() if n in weights.rows}
    rows = [
        [{**row, "seconds": 0, "peak_bytes": 0} for row in r.history] for r in (record, expected)
    ]
    assert json.dumps(rows[0]) == json.dumps(rows[1])
    assert (record.guarded_at, record.replaced) == (expected.guarded_at, expected.replaced)
    paths = [sorted(str(p.relative_to(d)) for p in d.rglob("*")) for d in (directory, other)]
    assert paths[0] == paths[1]


def test_what_is_not_behind_is_left_alone(tmp_path):
    random = np.random.RandomState(0)
    rows = random.normal(size=100)
    directory, own = tmp_path / "student", tmp_path / "lkd"
    directory.mkdir(), own.mkdir()
    for step in (1, 2, 3, 4):
        write_rows(directory, step, rows)
    record = TrainingRecord(history=({"step": 4, "val_nll": 1.0},), finished=True)
    guard = Guard(directory, record, label="lkd", steps=4)
    guard.set_model(_distiller())
    behind, within, ahead = (rows - shift + 0.1 * random.normal(size=100) for shift in (1, 0, -1))
    for step, log_prob in ((1, behind), (2, behind), (3, within), (4, behind)):
        guard.measured(step, log_prob)
    assert guard.guarded_at is None
    for log_prob in (ahead, rows):
        write_rows(own, 4, log_prob)
        assert guard.finish(own, record) == record
    with pytest.raises(ValueError, match="`Guard` must be used with a FlowDistiller, got Flow"):
        guard.set_model(_flow(0))


@pytest.mark.parametrize(("lets_go", "guarded_at"), [(True, 3), (False, None)])
def test_what_fades_out_by_itself_is_not_let_go_of(lets_go, guarded_at, tmp_path):
    rows = np.random.RandomState(0).normal(size=100)
    for step in range(1, 5):
        write_rows(tmp_path, step, rows)
    record = TrainingRecord(history=({"step": 4, "val_nll": 1.0},), finished=True)
    guard = Guard(tmp_path, record, label="ilkd", steps=8, lets_go=lets_go)
    guard.set_model(_distiller())
    figures = [guard.measured(step, rows - 1 - 0.1 * rows) for step in range(1, 5)]
    assert all(own["val_errors_behind"] > 2 for own in figures)
    assert guard.guarded_at == guarded_at


@pytest.fixture
def uncompiled(monkeypatch):
    compile_model = PartwiseModel.compile

    def without_xla(self, *args, **kwargs):
        compile_model(self, *args, **{**kwargs, "jit_compile": False})

    monkeypatch.setattr(PartwiseModel, "compile", without_xla)


def test_scripts_train_the_plain_student_first_and_tell_what_was_guarded(tmp_path, uncompiled):
    arguments = (*TINY, "--student_training_steps=12", "--report_steps=1", "--train_rows=64")
    # Latents at any price: worse likelihoods, for good.
    bad = ("--lkd_weights=0.01,100", "--student_learning_rate=0.05", "--students=lkd,student")
    output = run(compress, tmp_path / "run", *arguments, *bad, "--fade_out=0")
    fading = run(compress, tmp_path / "fading", *arguments, *bad)
    assert "guarded at" not in fading
    assert output.index("student: step 12 of 12") < output.index("lkd: step 1 of 12")
    record = read_record(tmp_path / "run" / "lkd")
    assert record.guarded_at
    line = f"lkd: guarded at step {record.guarded_at}, "
    assert output.count(line) == 1
    assert "| guard" not in output
    report = (tmp_path / "run" / "report.html").read_text()
    assert "Guarded students" in output or "Guarded students" in report
    assert f"{record.guarded_at}" in report


def test_distilling_alone_needs_a_plain_student_only_for_the_guard(tmp_path, uncompiled):
    run(train, tmp_path / "run", *TINY, "--students=student", "--noguard")
    run(train, tmp_path / "run", "--model=student")
    assert not (tmp_path / "run" / "student" / "validation_rows").exists()
    output = run(distill, tmp_path / "run", "--method=lkd", "--students=lkd")
    assert "lkd: step 4 of 4" in output
    assert read_record(tmp_path / "run" / "lkd").guarded_at is None


def test_which_methods_are_guarded():
    recipe = Recipe(students=("student", "skd"))
    assert recipe.guards("skd")
    assert not recipe.guards("student")
    assert not dataclasses.replace(recipe, students=("skd",)).guards("skd")
    assert not dataclasses.replace(recipe, guard=False).guards("skd")
