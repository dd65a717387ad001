"""Tests of the race for the smallest flow that is good enough."""

import json

import numpy as np
import pytest
from absl import app
from jobs import parse, run

from tfp_distill import load_flow
from tfp_distill.runs.fitting.training_record import read_record
from tfp_distill.runs.racing import race, workers
from tfp_distill.runs.racing.candidates import Candidate
from tfp_distill.runs.racing.race import Entry
from tfp_distill.runs.recipe import Recipe, define_run_flags
from tfp_distill.runs.run_directory import RunDirectory, open_run
from trainers import compress, export, sample

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_xla")]

RACE = (
    "--teacher_depth=2",
    "--teacher_width=8",
    "--teacher_training_steps=8",
    "--student_training_steps=8",
    "--report_steps=2",
    "--batch_size=64",
    "--workers=1",
    "--jit_compile=off",
)
CANDIDATES = "--candidates=spline_1x4,spline_1x8,affine_1x4"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The directory of a race with a tolerance that all meet, and what it printed."""
    run_dir = tmp_path_factory.mktemp("runs") / "race"
    return run_dir, run(compress, run_dir, *RACE, CANDIDATES, "--within=1000", "--few_rows=200")


def _steps(run_dir):
    return {
        path.parent.relative_to(run_dir).as_posix(): read_record(path.parent).steps
        for path in run_dir.glob("**/progress.json")
    }


def test_a_race_halves_finishes_distils_and_shows_few_rows(finished):
    run_dir, output = finished
    steps = _steps(run_dir)
    plain = {n: steps[n] for n in steps if n.split("/")[0] in CANDIDATES.split("=")[1].split(",")}
    assert sorted(n for name, n in plain.items() if name.endswith("/student")) == [2, 8, 8]
    assert all(n == 8 for name, n in plain.items() if name.endswith("/ilkd"))
    few_rows = {name.split("/")[1]: n for name, n in steps.items() if "_rows_200/" in name}
    assert few_rows == {"student": 8, "mixture": 8} and steps["teacher"] == 8
    (given_up,) = (name for name, n in steps.items() if n == 2)
    assert f"{given_up}: is given up after 2 steps" in output


def test_the_smallest_within_the_tolerance_is_chosen_and_is_what_other_scripts_take(finished):
    run_dir, output = finished
    race_run = open_run(parse(define_run_flags, f"--run_dir={run_dir}"))
    chosen = race_run.winner()
    finalists = {n: load_flow(run_dir / n / "flow.keras") for n in race_run.trained()[1:]}
    done = [n for n in finalists if "rows" not in n and _steps(run_dir)[n] == 8]
    assert finalists[chosen].num_parameters == min(finalists[n].num_parameters for n in done)
    assert f"chosen: {chosen}, the smallest within 1000 nats of the teacher" in output
    assert f"{chosen} is exported as a SavedModel" in output
    assert "with the teacher, which saw 80,000" in output
    assert chosen in run(sample, run_dir, f"--output={run_dir / 'samples.csv'}")
    assert chosen in run(export, run_dir)


def test_the_differences_are_those_of_the_same_rows(finished):
    run_dir, _ = finished
    with np.load(run_dir / "results.npz") as values:
        rows = {name: values[name] for name in values.files}
    results = json.loads((run_dir / "results.json").read_text(encoding="utf-8"))["results"]
    for result in results:
        assert np.mean(rows[result["name"]]) == pytest.approx(float(result["likelihood"]["mean"]))


def test_a_race_that_is_repeated_trains_nothing_again(finished):
    run_dir, _ = finished
    before = {path: path.stat().st_mtime_ns for path in run_dir.glob("**/flow.keras")}
    output = run(compress, run_dir, "--within=1000")
    assert "teacher: already trained, 8 steps" in output
    after = {path: path.stat().st_mtime_ns for path in run_dir.glob("**/flow.keras")}
    assert after == before


def test_workers_train_what_one_process_trains(finished, tmp_path, monkeypatch, capfd):
    run_dir, _ = finished
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")  # As the scripts' start leaves it.
    alone = [flag for flag in RACE if "workers" not in flag]
    options = ("--candidates=spline_1x4,spline_1x8", "--race_methods=", "--workers=2")
    run(compress, tmp_path / "race", *alone, *options)
    for name in ("teacher", "spline_1x4/student", "spline_1x8/student"):
        flows = [load_flow(path / name / "flow.keras") for path in (run_dir, tmp_path / "race")]
        if read_record(run_dir / name).finished:
            for weight, other in zip(*(flow.get_weights() for flow in flows), strict=True):
                np.testing.assert_allclose(weight, other, rtol=1e-4, atol=1e-5)
    assert "InitializeLog" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--candidates=spline_3", "`candidates` must be names such as spline_3x32"),
        ("--max_parameters=10", "`candidates` must hold one within `max_parameters`"),
        ("--max_ms=1e-9", "it takes"),
        ("--within=-1", "`within` must be at least 0, got -1.0"),
        ("--race_methods=student", "`race_methods` must be different names out of lkd"),
        ("--strategy=mirrored", "`strategy` must be default in a race"),
        ("--few_rows=100000", "`few_rows` must be at most the 80,000 training rows, got 100000"),
        ("--few_rows=1", "`few_rows` must be 0, or so many that no column has the same value"),
    ],
)
def test_what_cannot_be_raced_is_refused_before_any_work(flag, message, tmp_path):
    with pytest.raises(app.UsageError, match=message):
        run(compress, tmp_path / "race", *RACE, *([] if "cand" in flag else [CANDIDATES]), flag)
    assert not (tmp_path / "race").exists()  # Nor is its recipe, which would bind the next try.


@pytest.mark.parametrize("failing", ["b", "abc"])
def test_a_candidate_whose_training_comes_to_nothing_is_left_out(
    failing, tmp_path, monkeypatch, capsys
):
    run_directory = RunDirectory(tmp_path, Recipe(student_training_steps=8, report_steps=2))
    entries = [Entry(Candidate.parse(f"spline_1x{n}"), n) for n in (1, 2, 3)]
    broken = [entry.name for entry, name in zip(entries, "abc", strict=True) if name in failing]

    def train(_, task):
        if f"{task.folder}/{task.method}" in broken:
            raise FloatingPointError("Training stopped at step 3: nothing is finite.")

    monkeypatch.setattr(workers, "_train", train)
    crew, stopped = workers.Workers(run_directory, None), {}
    if failing == "abc":
        with pytest.raises(FloatingPointError, match="No candidate is left in the race: spline"):
            race._train(run_directory, entries, 8, crew, stopped)
        return
    left = race._train(run_directory, entries, 8, crew, stopped)
    assert left == [entries[0], entries[2]] and stopped == {"spline_1x2/student": 0}
    assert "spline_1x2/student: Training stopped at step 3" in capsys.readouterr().out


def test_names_of_candidates():
    assert Candidate.parse("maf_spline_3x32") == Candidate("maf_spline", 3, 32)
    assert Candidate.parse("spline_3x32").name == "spline_3x32"
    for name in ("spline_0x3", "spline", "cubic_3x3", "spline_3x32_lkd", ""):
        assert Candidate.parse(name) is None
