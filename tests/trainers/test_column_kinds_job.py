"""Tests of jobs on a table with columns of several kinds."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from absl import app
from jobs import TINY, run

from tfp_distill import load_flow
from tfp_distill.runs.recipe import Recipe
from tfp_distill.runs.run_directory import RunDirectory
from trainers import distill, evaluate, export, sample, train

pytestmark = pytest.mark.slow

SMALL = (*TINY, "--teacher_architecture=maf", "--student_architecture=maf", "--jit_compile=off")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    random = np.random.default_rng(0)
    table = pd.DataFrame({"load": random.normal(size=600), "visits": random.poisson(9, 600)})
    table["angle"] = random.uniform(0, 360, 600).round(2)
    table["rain"] = np.where(random.uniform(size=600) < 0.5, 0, random.exponential(size=600))
    path = tmp_path_factory.mktemp("data") / "mine.csv"
    table.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def job(table, tmp_path_factory):
    """A run with a teacher and a student, and what was printed."""
    run_dir = tmp_path_factory.mktemp("runs") / "kinds"
    printed = run(train, run_dir, *SMALL, f"--data={table}", "--model=teacher")
    printed += run(distill, run_dir, "--method=ilkd")
    return run_dir, printed


def test_the_look_says_what_columns_are_modelled_as(job):
    _, printed = job
    rows = {line.split()[0]: line for line in printed.splitlines() if "model" in line[:200]}
    assert "modelled, integer" in rows["visits"]
    assert "modelled, bounded, 0 to 360" in rows["angle"]
    assert "modelled " in rows["load"] and "modelled," not in rows["load"]
    assert "warning: rain: single values are common" in printed and "rain, visits" not in printed


def test_every_model_and_its_samples_have_the_kinds(job, tmp_path):
    run_dir, _ = job
    kinds = ("continuous", "integer", "bounded", "continuous")
    configs = [load_flow(run_dir / name / "flow.keras").config for name in ("teacher", "ilkd")]
    assert configs[0].columns == configs[1].columns and configs[0].columns.kinds == kinds
    run(sample, run_dir, "--model=ilkd", f"--output={tmp_path / 'samples.csv'}")
    samples = pd.read_csv(tmp_path / "samples.csv")
    assert list(samples) == ["load", "visits", "angle", "rain"]
    np.testing.assert_array_equal(samples["visits"], np.floor(samples["visits"]))
    assert samples["angle"].between(0, 360).all()
    run(export, run_dir, "--model=ilkd")
    signatures = tf.saved_model.load(str(run_dir / "saved_model")).signatures
    scalars = dict(n=tf.constant(50), temperature=tf.constant(3.0), seed=tf.constant(0))
    exported = signatures["sample"](**scalars)["x"].numpy()
    np.testing.assert_array_equal(exported[:, 1], np.floor(exported[:, 1]))
    assert exported[:, 2].min() >= 0 and exported[:, 2].max() <= 360


def test_the_report_says_that_likelihoods_are_of_integers_with_noise(job):
    run_dir, _ = job
    printed = run(evaluate, run_dir)
    note = "The likelihoods are of 1 column of integers with uniform noise"
    assert note in printed and note in (run_dir / "report.html").read_text()
    results = json.loads((run_dir / "results.json").read_text())["results"]
    assert {result["num_integers"] for result in results} == {1}
    assert all(np.isfinite(result["likelihood"]["mean"]) for result in results)


def test_a_teacher_brings_its_kinds(job, table, tmp_path):
    teacher = job[0] / "teacher" / "flow.keras"
    arguments = (*SMALL, f"--data={table}", f"--teacher_path={teacher}")
    with pytest.raises(
        app.UsageError, match="`teacher_path` must hold a flow with domain RowDomain.columns=None"
    ):
        run(train, tmp_path / "other", *arguments, "--column_kinds=continuous", "--model=teacher")
    run_dir = tmp_path / "run"
    run(train, run_dir, *arguments, "--model=teacher", "--train_rows=100")
    recipe = Recipe.read(run_dir / "recipe.json")
    taken = RunDirectory(run_dir, recipe)
    assert taken.config("student").columns == load_flow(teacher).config.columns
    fewer = taken.within("rows_70", dataclasses.replace(recipe, train_rows=70))
    assert fewer.config("student").columns == taken.config("student").columns


def test_wrong_kinds_are_a_users_mistake(table, tmp_path):
    with pytest.raises(app.UsageError, match="`column_kinds` must be auto, .*; got 'load:round'"):
        run(train, tmp_path / "run", *SMALL, f"--data={table}", "--column_kinds=load:round")
