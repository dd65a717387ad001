"""Tests of the whole job, and of its stages alone."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from absl import app, flags
from jobs import TINY, copy_of, run

from tfp_distill import Flow, TabularGlowConfig, load_flow
from tfp_distill.distillation import TeacherTraces
from tfp_distill.evaluation.results import read_results_json
from tfp_distill.runs import stages
from tfp_distill.runs.fitting.training_record import read_record
from tfp_distill.runs.recipe import Recipe
from tfp_distill.runs.run_directory import RunDirectory
from tfp_distill.runs.stages import best_student
from tfp_distill.training import PartwiseModel
from trainers import compress, distill, evaluate, export, sample, train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_xla")]


@pytest.fixture
def uncompiled(monkeypatch):
    """Training without XLA, whose compilation takes longer than these jobs."""
    compile_model = PartwiseModel.compile

    def without_xla(self, *args, **kwargs):
        compile_model(self, *args, **{**kwargs, "jit_compile": False})

    monkeypatch.setattr(PartwiseModel, "compile", without_xla)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """The run directory of the whole job, and what it printed."""
    run_dir = tmp_path_factory.mktemp("runs") / "first"
    arguments = (*TINY, "--students=student,skd", "--synthesized_start=0.5", "--fade_out=0")
    return run_dir, run(compress, run_dir, *arguments)


def _times(run_dir):
    names = ("flow.keras", "progress.json")
    paths = [path for path in sorted(run_dir.glob("*/*")) if path.name in names]
    return {path: path.stat().st_mtime_ns for path in paths}


def test_the_whole_job_trains_evaluates_and_exports(job):
    run_dir, output = job
    assert {path.name for path in run_dir.iterdir()} == {
        *("data.json", "recipe.json", "results.json", "results.npz", "report.html", "saved_model"),
        *("teacher", "student", "skd"),
    }
    for name in ("teacher", "student", "skd"):
        record = read_record(run_dir / name)
        assert (record.steps, record.finished, record.skipped_steps) == (4, True, 0)
        assert f"{name}: step 2 of 4, nll " in output
        assert f"{name}: step 4 of 4, nll " in output
    first, last = read_record(run_dir / "skd").history
    assert "synthesized_loss" not in first
    assert "synthesized_loss" in last
    assert {"val_latent_distance", "val_nll_gap"} < set(last)
    assert output.endswith(f"report: {run_dir / 'report.html'}\n")


def test_activations_are_rebuilt_where_that_is_asked_for(job, tmp_path):
    run(train, tmp_path, *TINY, "--model=teacher", "--memory=reversible")
    plain, rebuilt = (
        read_record(job[0] / "teacher").history,
        read_record(tmp_path / "teacher").history,
    )
    assert all(0 <= epoch["drift"] < 1e-4 for epoch in rebuilt)
    assert not any("drift" in epoch for epoch in plain)
    for epoch, other in zip(rebuilt, plain, strict=True):
        assert epoch["nll"] == pytest.approx(other["nll"], rel=1e-4)


def test_the_table_and_the_results(job):
    run_dir, output = job
    results, settings = read_results_json(run_dir / "results.json")
    assert [result.name for result in results] == ["teacher", "student", "skd"]
    for result in results:
        flow = load_flow(run_dir / result.name / "flow.keras")
        assert result.parameters == flow.num_parameters
        assert result.training_steps == 4
        assert result.likelihood.num_examples == 10_000
        assert f"{result.likelihood.mean:.3f}" in output
        assert result.likelihood.values.shape == (10_000,)
        assert result.samples.num_samples == 20_000
        assert result.two_sample.auc > 0.6  # After four steps.
    assert "ahead of student" in output and "outside" in output
    assert settings["data"].startswith("embedded, 80,000 training, 10,000 validation")
    report = (run_dir / "report.html").read_text()
    assert all(word in report for word in ("teacher", "student", "skd", "data:image/png;base64"))


def test_the_exported_model_is_the_best_student(job):
    run_dir, output = job
    recipe = RunDirectory(run_dir, None)
    name = best_student(recipe)
    assert name == min(("student", "skd"), key=lambda n: read_record(run_dir / n).best_val_nll)
    assert f"{name} is exported as a SavedModel: {run_dir / 'saved_model'}" in output
    signatures = tf.saved_model.load(str(run_dir / "saved_model")).signatures
    flow = load_flow(run_dir / name / "flow.keras")
    x = np.random.RandomState(0).normal(size=(3, 6)).astype(np.float32)
    exported = signatures["log_prob"](x=tf.constant(x))["log_prob"]
    np.testing.assert_allclose(exported, flow.log_prob(x), rtol=1e-5)


def test_a_rerun_does_only_what_is_missing(job, tmp_path, uncompiled):
    run_dir = copy_of(job[0], tmp_path)
    before = _times(run_dir)
    report = (run_dir / "report.html").stat().st_mtime_ns
    output = run(compress, run_dir, "--students=student,lkd,skd")  # Another student; no recipe.
    for name in ("teacher", "student", "skd"):
        assert f"{name}: already trained, 4 steps\n" in output
    assert "lkd: step 4 of 4" in output
    assert {path: _times(run_dir)[path] for path in before} == before
    assert len(_times(run_dir)) == len(before) + 2
    assert (run_dir / "report.html").stat().st_mtime_ns > report
    assert [r.name for r in read_results_json(run_dir / "results.json")[0]] == [
        *("teacher", "student", "lkd", "skd")
    ]


def test_samples_and_exports_of_any_model(job, tmp_path):
    run_dir = copy_of(job[0], tmp_path)
    for suffix, read in (("npy", np.load), ("parquet", pd.read_parquet), ("csv", pd.read_csv)):
        path = tmp_path / "made" / f"samples.{suffix}"
        arguments = (f"--output={path}", "--num_samples=7", "--model=teacher", "--sample_seed=3")
        output = run(sample, run_dir, *arguments)
        assert output == f"7 samples of teacher: {path}\n"
        expected = load_flow(run_dir / "teacher" / "flow.keras").sample(7, seed=3)
        np.testing.assert_allclose(np.asarray(read(path)), expected, rtol=1e-5)
    output = run(export, run_dir, "--model=teacher")
    assert "teacher is exported as a SavedModel" in output


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        (compress, ["--student_depth=2"], "`student_depth` must be 1 as in .*, got 2; another rec"),
        (compress, ["--seed=1"], "`seed` must be 0 as in .*recipe.json', got 1"),
        (train, ["--batch_size=32"], "`batch_size` must be 64 as in"),
        (export, ["--model=ilkd"], "`model` must be one of the trained teacher, .*, got 'ilkd'"),
        (sample, ["--model=x"], "`model` must be one of the trained teacher, .*, got 'x'"),
        (sample, ["--sample_seed=-1"], "`sample_seed` must be at least 0, got -1"),
        (sample, ["--num_samples=0"], "`num_samples` must be at least 1, got 0"),
        (
            sample,
            ["--sample_temperature=0"],
            "`sample_temperature` must be positive and finite, got 0.0",
        ),
        (sample, ["--output=a.txt"], "`output` must end in one of .csv, .npy, .parquet, got a.txt"),
        (distill, ["--method=ilkd", "--fade_out=1"], "`fade_out` must be 0.0 as in"),
    ],
)
def test_what_contradicts_a_run_directory_is_named(job, script, arguments, message):
    run_dir, _ = job
    before = _times(run_dir)
    with pytest.raises(app.UsageError, match=message) as raised:
        run(script, run_dir, *arguments)
    assert "\n" not in str(raised.value)
    assert _times(run_dir) == before


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (distill, "`model` must be one of the trained .none. in .*, got 'teacher'"),
        (export, "`run_dir` must hold a trained student, got none in"),
        (sample, "`run_dir` must hold a trained student, got none in"),
        (evaluate, "`run_dir` must hold a trained model, got"),
    ],
)
def test_stages_that_come_too_early_are_refused(script, message, tmp_path):
    Recipe().write(tmp_path / "recipe.json")
    with pytest.raises(app.UsageError, match=message):
        run(script, tmp_path)


@pytest.mark.parametrize("script", [export, sample, evaluate])
def test_stages_that_read_a_run_make_none(script, tmp_path):
    message = "`run_dir` must hold a run, got no recipe.json in .*new'"
    with pytest.raises(app.UsageError, match=message):
        run(script, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(flags.UnrecognizedFlagError, match="student_depth"):
        run(script, tmp_path / "new", "--student_depth=3")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A file of the user's: two columns that follow a third one, in large units."""
    random = np.random.RandomState(0)
    c = random.normal(1, 1, size=500)
    columns = {
        "load": 300 + 40 * random.normal(size=500) + 80 * c,
        "c": c,
        "noise": -2 + 0.01 * random.normal(size=500),
    }
    path = tmp_path_factory.mktemp("data") / "mine.csv"
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


def test_stages_alone_on_a_table_with_a_condition(table, tmp_path, uncompiled):
    run_dir = tmp_path / "mine"
    arguments = (*TINY, f"--data={table}", "--condition_columns=c", "--teacher_architecture=maf")
    output = run(train, run_dir, *arguments, "--model=teacher")
    assert "teacher: step 4 of 4" in output
    recipe = json.loads((run_dir / "recipe.json").read_text())
    assert (recipe["data"], recipe["condition_columns"]) == (str(table), ["c"])
    # All else follows from what the directory holds.
    assert "student: step 4 of 4" in run(train, run_dir, "--model=student")
    assert "student: already trained" in run(train, run_dir, "--model=student")
    assert "ilkd: step 4 of 4" in run(distill, run_dir, "--method=ilkd")
    output = run(evaluate, run_dir)
    assert all(name in output for name in ("teacher", "student", "ilkd"))
    results, _ = read_results_json(run_dir / "results.json")
    assert [result.name for result in results] == ["teacher", "student", "ilkd"]
    assert all(result.likelihood.num_examples == 50 for result in results)
    path = tmp_path / "samples.csv"
    run(sample, run_dir, "--model=ilkd", "--num_samples=400", f"--output={path}")
    samples = pd.read_csv(path)
    assert list(samples.columns) == ["load", "noise", "c"]
    rows = pd.read_csv(table)
    for name in ("load", "noise"):
        spread = rows[name].std()
        assert abs(samples[name].mean() - rows[name].mean()) < 0.5 * spread
        assert 0.5 < samples[name].std() / spread < 2
    flow = load_flow(run_dir / "ilkd" / "flow.keras")
    assert flow.config.condition_dims == 1
    assert "is exported" in run(export, run_dir, "--model=ilkd")
    signatures = tf.saved_model.load(str(run_dir / "saved_model")).signatures
    x, c = tf.constant(samples[["load", "noise"]].to_numpy("float32")[:3]), tf.ones([3, 1])
    exported = signatures["log_prob"](x=x, condition=c)["log_prob"]
    np.testing.assert_allclose(exported, flow.log_prob(x, c), rtol=1e-4)


def _save_flow(path, dims):
    flow = Flow(TabularGlowConfig(dims, num_steps=1, hidden_units=4, num_hidden_layers=1))
    flow.adapt(np.random.RandomState(0).normal(size=(64, dims)))
    flow.save(path)
    return flow


def test_a_teacher_of_the_users_own(table, tmp_path, uncompiled):
    teacher = _save_flow(tmp_path / "mine.keras", 3)
    run_dir = tmp_path / "run"
    arguments = (*TINY, f"--data={table}", f"--teacher_path={tmp_path / 'mine.keras'}")
    run(train, run_dir, *arguments)
    (tmp_path / "mine.keras").unlink()  # The run directory has its own copy now.
    assert "teacher: already taken over" in run(train, run_dir)
    kept = load_flow(run_dir / "teacher" / "flow.keras")
    for x, y in zip(kept.get_weights(), teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)
    assert "lkd: step 4 of 4" in run(distill, run_dir, "--method=lkd")


def test_the_teacher_sees_rows_that_stay_the_same_once(table, tmp_path, uncompiled, monkeypatch):
    records, traced = [], []
    trace_all = TeacherTraces.batches

    def batches(self, **options):
        traced.append(self.num_bytes)
        return trace_all(self, **options)

    monkeypatch.setattr(TeacherTraces, "batches", batches)
    steps = ("--student_training_steps=14", "--report_steps=7", "--fade_out=0")
    for name, limit in (("kept", stages._LARGEST_TRACES), ("anew", 1)):
        monkeypatch.setattr(stages, "_LARGEST_TRACES", limit)
        run(train, tmp_path / name, *TINY, f"--data={table}", *steps, "--model=teacher")
        run(distill, tmp_path / name, "--method=ilkd")
        records.append(read_record(tmp_path / name / "ilkd").history)
    assert len(traced) == 1
    for kept, anew in zip(*records, strict=True):
        for figure in ("nll", "intermediate_latent_loss", "val_nll"):
            np.testing.assert_allclose(kept[figure], anew[figure], rtol=1e-3)


def test_students_that_start_from_a_flow_of_the_users_own(table, tmp_path, uncompiled):
    start = Flow(TabularGlowConfig(3, num_steps=1, hidden_units=4, seed=5))
    x = np.random.RandomState(0).normal([300.0, 1.0, -2.0], [90.0, 1.0, 0.01], size=(64, 3))
    start.compile()
    start.fit(x, verbose=0)  # The steps of another training are not those of this one.
    start.save(tmp_path / "start.keras")
    arguments = (*TINY, f"--data={table}", f"--student_path={tmp_path / 'start.keras'}")
    arguments = (*arguments, "--student_coupling=affine")
    # A step of no size: what is left of a student is its start.
    still = ("--student_learning_rate=1e-30", "--students=student,lkd")
    run(train, tmp_path / "run", *arguments, *still)
    run(train, tmp_path / "run", "--model=student")
    (tmp_path / "start.keras").unlink()
    run(distill, tmp_path / "run", "--method=lkd")
    for name in ("student", "lkd"):
        flow = load_flow(tmp_path / "run" / name / "flow.keras")
        _assert_same_layers(flow, start)


def test_students_that_start_with_steps_of_the_teacher(table, tmp_path, uncompiled):
    arguments = (*TINY, f"--data={table}", "--students=mixture", "--student_start=copied")
    still = ("--student_learning_rate=1e-30",)
    run(train, tmp_path / "run", *arguments, *still)
    output = run(distill, tmp_path / "run", "--method=mixture")
    assert "mixture: starts with copies of steps of the teacher: 1 from 1\n" in output
    flows = [load_flow(tmp_path / "run" / n / "flow.keras") for n in ("mixture", "teacher")]
    _assert_same_layers(*flows)


def test_a_sampler_is_compared_with_its_teacher(table, tmp_path):
    flows = ("--teacher_architecture=maf", "--student_architecture=iaf")
    arguments = (*TINY, *flows, f"--data={table}", "--students=guided")
    output = run(compress, tmp_path / "run", *arguments)
    assert "guided: starts with the linear maps of the teacher\n" in output
    header = " +".join(["sampler", "KL", "of the teacher's gain", "AUC", "times as fast"])
    assert re.search(rf"^{header}$", output, re.MULTILINE)
    assert "Samplers beside the teacher" in (tmp_path / "run" / "report.html").read_text()
    # A teacher with other steps has no linear maps to give.
    taken = f"--teacher_path={tmp_path / 'run/teacher/flow.keras'}"
    output = run(compress, tmp_path / "other", *arguments, taken, "--student_depth=2")
    assert "starts with" not in output


def _assert_same_layers(*flows):
    layers = ([weight for layer in flow.layers for weight in layer.get_weights()] for flow in flows)
    for x, y in zip(*layers, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-20)


def _wrong_inputs(table, tmp_path):
    _save_flow(tmp_path / "two.keras", 2)
    return {
        f"--teacher_path={tmp_path / 'two.keras'}": "must hold a flow with event_shape .3,. as the",
        f"--teacher_path={tmp_path / 'none.keras'}": "`path` must be an existing .keras file, got",
        f"--student_path={tmp_path / 'two.keras'}": "must hold a flow of the student's arch",
        f"--student_path={tmp_path / 'gone.keras'}": "`path` must be an existing .keras file, got",
        "--student_start=copied --student_width=5": "must have a step with weights of the shapes",
        "--batch_size=401": "`batch_size` must be at most the 400 training rows, got 401",
        "--train_rows=401": "`train_rows` must be at most the 400 training rows, got 401",
        "--condition_columns=d": "`condition_columns` must be different names of .*'d'",
    }


def test_inputs_that_do_not_fit_are_named_before_anything_is_written(table, tmp_path):
    for argument, message in _wrong_inputs(table, tmp_path).items():
        with pytest.raises(app.UsageError, match=message):
            run(compress, tmp_path / "new", *TINY, f"--data={table}", *argument.split())
        assert not (tmp_path / "new").exists()


def test_data_that_have_gone_are_named_when_they_are_needed(table, tmp_path, uncompiled):
    copy = tmp_path / "copy.csv"
    copy.write_bytes(table.read_bytes())
    run_dir = tmp_path / "run"
    run(train, run_dir, *TINY, f"--data={copy}", "--model=student")
    copy.unlink()
    for script in (compress, train, evaluate, sample):
        with pytest.raises(app.UsageError, match="`source` must be an existing file, got"):
            run(script, run_dir)
    assert "student is exported" in run(export, run_dir)


def test_train_rows_are_the_first_ones(table, tmp_path):
    recipe = Recipe(data=str(table), condition_columns=("c",), batch_size=64)
    whole = RunDirectory(tmp_path, recipe).data
    few = RunDirectory(
        tmp_path, Recipe(data=str(table), condition_columns=("c",), batch_size=64, train_rows=70)
    ).data
    np.testing.assert_array_equal(few.train, whole.train[:70])
    np.testing.assert_array_equal(few.train_condition, whole.train_condition[:70])
    np.testing.assert_array_equal(few.validation, whole.validation)
