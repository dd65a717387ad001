"""Tests of the conditions that samples are drawn for."""

import numpy as np
import pandas as pd
import pytest
from absl import app
from jobs import run

from tfp_distill import Flow, MAFConfig
from tfp_distill.runs.recipe import Recipe
from trainers import sample


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run directory with a conditional student that was not trained."""
    path = tmp_path_factory.mktemp("runs")
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(300, 4)), columns=list("abcd"))
    table.to_csv(path / "rows.csv", index=False)
    flow = Flow(MAFConfig(2, num_steps=1, hidden_units=4, condition_dims=2))
    flow.adapt(table[["b", "d"]], table[["c", "a"]])
    (path / "student").mkdir()
    flow.save(path / "student" / "flow.keras")
    recipe = Recipe(data=str(path / "rows.csv"), condition_columns=("c", "a"), batch_size=64)
    recipe.write(path / "recipe.json")
    return path


def samples_of(run_dir, tmp_path, *arguments, suffix=".csv"):
    path = tmp_path / f"samples{suffix}"
    run(sample, run_dir, "--num_samples=50", f"--output={path}", *arguments)
    return np.load(path) if suffix == ".npy" else pd.read_csv(path)


def test_the_columns_of_conditions_are_written_too(run_dir, tmp_path):
    table = samples_of(run_dir, tmp_path)
    assert list(table) == ["b", "d", "c", "a"]
    rows = pd.read_csv(run_dir / "rows.csv")
    assert np.isin(table["c"].astype("float32"), rows["c"].astype("float32")).all()
    assert table["c"].nunique() == 30  # Those of the test data in turn.
    np.testing.assert_allclose(samples_of(run_dir, tmp_path, suffix=".npy"), table, rtol=1e-6)


def test_one_condition_is_that_of_all_samples(run_dir, tmp_path):
    table = samples_of(run_dir, tmp_path, "--condition=a=-0.5,c=2")
    assert (table["c"] == 2).all() and (table["a"] == -0.5).all()
    assert table["b"].nunique() == 50


def test_a_table_gives_conditions_in_turn(run_dir, tmp_path):
    path = tmp_path / "conditions.csv"
    pd.DataFrame({"a": [1.0, 2.0, 3.0], "other": [0, 1, 3], "c": [5.0, 6.5, 7.0]}).to_csv(
        path, index=False
    )
    table = samples_of(run_dir, tmp_path, f"--condition={path}")
    np.testing.assert_array_equal(table["a"][:4], [1, 2, 3, 1])
    np.testing.assert_array_equal(table["c"][:4], [5, 6.5, 7, 5])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a=1", "must be NAME=VALUE, a finite number, of each of c, a, got 'a=1'"),
        ("a=1,c=2,b=3", "must be NAME=VALUE, a finite number, of each of c, a"),
        ("a=1,c=x", "must be NAME=VALUE, a finite number, of each of c, a"),
        ("a=1,c=2,c=3", "must be NAME=VALUE, a finite number, of each of c, a"),
        ("gone.csv", "must be NAME=VALUE of c, a, or an existing table, got 'gone.csv'"),
        ("{}/recipe.json", "must end in one of"),
        ("{}/missing.csv", "must have finite numbers, got .*'c' is not finite"),
        ("{}/fewer.csv", r"must have the columns \['c', 'a'\]"),
    ],
)
def test_wrong_conditions_are_a_users_mistake(run_dir, text, message):
    (run_dir / "missing.csv").write_text("a,c\n1,2\n3,\n")
    (run_dir / "fewer.csv").write_text("a,b\n1,2\n3,4\n")
    with pytest.raises(app.UsageError, match=f"`condition` {message}"):
        run(sample, run_dir, f"--condition={text.format(run_dir)}")
