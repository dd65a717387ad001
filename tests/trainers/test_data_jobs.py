"""Tests of what scripts say about data, and of data that change or that a teacher has seen."""

import json

import numpy as np
import pandas as pd
import pytest
from absl import app
from jobs import TINY, run

from tfp_distill.data import FlowData, Statistics, load
from tfp_distill.domains import ImageDomain
from tfp_distill.runs.data_record import DataRecord
from tfp_distill.runs.fitting.rows import first_rows, initial_rows
from tfp_distill.runs.recipe import Recipe
from tfp_distill.runs.run_directory import RunDirectory
from trainers import compress, evaluate, train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_xla")]


def _write(path, seed=0):
    random = np.random.default_rng(seed)
    table = pd.DataFrame(random.normal(size=[500, 2]), columns=["load", "noise"])
    table["meter"] = random.integers(0, 9, 500)
    table.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return _write(tmp_path_factory.mktemp("data") / "mine.csv")


@pytest.fixture(scope="module")
def teacher_run(table, tmp_path_factory):
    """A run whose only flow is a teacher."""
    run_dir = tmp_path_factory.mktemp("runs") / "teacher"
    flags = ("--model=teacher", "--teacher_architecture=maf", "--jit_compile=off")
    return run_dir, run(train, run_dir, *TINY, *flags, f"--data={table}", "--split_seed=3")


def _taught(teacher_run, table, tmp_path, *arguments):
    flow = teacher_run[0] / "teacher" / "flow.keras"
    arguments = (f"--data={table}", f"--teacher_path={flow}", *arguments)
    return run(train, tmp_path / "run", *TINY, *arguments, "--model=teacher")


def test_a_table_of_the_columns_is_shown_before_training_and_reported(teacher_run):
    run_dir, output = teacher_run
    assert output.startswith("mine, 400 training, 50 validation and 50 test examples of 3\ncolumn ")
    assert output.index("integers") < output.index("teacher: step 2")
    assert "modelled, integer" in output and "likelihoods have no bound" not in output
    assert "lower bounds" in run(evaluate, run_dir)
    report = (run_dir / "report.html").read_text()
    assert "The columns of the training rows" in report and "modelled, integer" in report
    assert RunDirectory(run_dir, Recipe.read(run_dir / "recipe.json")).data.fingerprint in report


def test_a_warning_tells_of_likelihoods_without_a_bound(table, tmp_path):
    flags = ("--model=teacher", "--column_kinds=continuous", f"--data={table}")
    output = run(train, tmp_path / "run", *TINY, *flags)
    assert "warning: meter: single values are common, so likelihoods have no bound." in output
    run(evaluate, tmp_path / "run")
    assert "likelihoods have no bound" in (tmp_path / "run" / "report.html").read_text()


def test_a_file_that_changed_is_refused(table, tmp_path):
    copy = tmp_path / "mine.csv"
    copy.write_bytes(table.read_bytes())
    run_dir = tmp_path / "run"
    recipe = RunDirectory(run_dir, Recipe(data=str(copy), batch_size=64))
    run_dir.mkdir()
    recipe.recipe.write(run_dir / "recipe.json")
    before = recipe.data
    DataRecord.of(before).write(run_dir)
    assert RunDirectory(run_dir, recipe.recipe).data.fingerprint == before.fingerprint
    _write(copy, seed=1)
    for script in (train, evaluate):
        with pytest.raises(
            app.UsageError, match="`data` must be as it was when .*mine.csv"
        ) as error:
            run(script, run_dir)
        assert "\n" not in str(error.value)


def test_another_seed_holds_the_same_rows_out(table, tmp_path):
    first, second = (
        RunDirectory(tmp_path, Recipe(data=str(table), batch_size=64, seed=seed)).data
        for seed in (0, 1)
    )
    assert first.fingerprint == second.fingerprint
    assert first.held_out_fingerprint == second.held_out_fingerprint


def test_batches_of_few_rows_are_small_unless_they_are_told(tmp_path):
    sizes = {}
    for rows in (6, 60, 6000):
        np.save(tmp_path / f"{rows}.npy", np.random.default_rng(0).normal(size=(rows, 2)))
        recipe = Recipe(data=str(tmp_path / f"{rows}.npy"))
        sizes[rows] = RunDirectory(tmp_path, recipe).batch_size
    assert sizes == {6: 1, 60: 12, 6000: 512}
    assert RunDirectory(tmp_path, Recipe(data="digits")).batch_size == 64
    assert RunDirectory(tmp_path, Recipe(data="digits", batch_size=9)).batch_size == 9


def test_a_teacher_that_saw_test_rows_is_told_of(teacher_run, table, tmp_path):
    warning = "warning: the teacher was trained on another split or other rows (400 of mine), so"
    assert warning in _taught(teacher_run, table, tmp_path)
    # The copy in the new run knows it too, once the old run has gone.
    recorded = json.loads((tmp_path / "run" / "teacher" / "data.json").read_text())
    assert recorded["rows"] == [400, 50, 50]
    assert warning in run(train, tmp_path / "run", "--model=teacher")


@pytest.mark.parametrize("arguments", [(), ("--train_rows=100",), ("--seed=5",)])
def test_a_teacher_of_the_same_split_is_not(teacher_run, table, tmp_path, arguments):
    output = _taught(teacher_run, table, tmp_path, "--split_seed=3", *arguments)
    assert "the teacher was trained" not in output


def test_a_raw_table_through_flags(tmp_path):
    random = np.random.default_rng(0)
    lines = [f"{i}/1/2007;{a:.3f};{b:.3f};" for i, (a, b) in enumerate(random.normal(size=[99, 2]))]
    lines[7] = "7/1/2007;?;?;"
    path = tmp_path / "raw.txt"
    path.write_text("Date;a;b;\n" + "\n".join(lines))
    recipe = Recipe(
        data=str(path),
        drop_columns=("Date",),
        drop_missing=True,
        split="by_order",
        batch_size=64,
        test_data=str(path),
    )
    data = RunDirectory(tmp_path, recipe).data
    assert (data.feature_names, data.dropped_rows) == (("a", "b"), 2)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [88, 10, 98]


def _sorted_images():
    values = np.repeat(np.arange(10, dtype=np.uint8) * 25, 6000)
    images = np.broadcast_to(values[:, None, None, None], [60_000, 8, 8, 1])
    statistics = Statistics.identity(1)
    return FlowData("sorted", images, images, images, statistics, domain=ImageDomain())


@pytest.mark.parametrize("part", ["train", "validation"])
def test_rows_of_sorted_data_are_of_all_classes(part):
    data = _sorted_images()
    rows, _ = first_rows(data, part, 2000)
    assert set((rows[:, 0, 0, 0] * 256 / 25).astype(int)) == set(range(10))
    again, _ = first_rows(data, part, 2000)
    np.testing.assert_array_equal(rows, again)


def test_rows_keep_their_conditions():
    data = load("embedded", condition_columns=["time"])
    places = {row.tobytes(): i for i, row in enumerate(data.train)}
    rows, condition = initial_rows(data)
    assert len(rows) == 50_000
    for row, value in zip(rows[:50], condition[:50], strict=True):
        np.testing.assert_array_equal(data.train_condition[places[row.tobytes()]], value)


def test_a_student_of_fewer_rows_than_its_frame_takes_starts_anew(table, tmp_path):
    options = ("--train_rows=5", "--batch_size=2", "--students=student,ilkd", "--noguard")
    output = run(compress, tmp_path / "run", *TINY, f"--data={table}", *options)
    assert "ilkd: starts anew; the teacher's frame is found from 6 rows at least, not 5" in output
