"""Tests that students learn from a teacher whose training has ended, and keep to it."""

import dataclasses
import shutil

import numpy as np
import pytest
from absl import app
from jobs import TINY, copy_of, run

from tfp_distill.files import sha256_of, write_json
from tfp_distill.runs.fitting.training_record import read_record
from trainers import distill, train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_xla")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with a teacher that is trained."""
    path = tmp_path_factory.mktemp("trained")
    np.save(path / "rows.npy", np.random.RandomState(0).normal(size=(300, 2)))
    run(train, path / "run", *TINY, f"--data={path / 'rows.npy'}", "--model=teacher")
    return path / "run"


@pytest.fixture
def half_trained(trained, tmp_path):
    """A run whose teacher has taken two of four steps."""
    run_dir = copy_of(trained, tmp_path)
    values = dataclasses.asdict(read_record(run_dir / "teacher"))
    write_json(run_dir / "teacher/progress.json", {**values, "finished": False, "steps": 2})
    return run_dir


def test_a_half_trained_teacher_is_not_distilled(half_trained):
    message = "`run_dir` must have a teacher whose training has ended, got .* after 2 steps; "
    with pytest.raises(app.UsageError, match=message) as raised:
        run(distill, half_trained, "--method=lkd")
    assert "\n" not in str(raised.value)
    assert not (half_trained / "lkd").exists()


def test_nor_is_it_taken_over_but_for_a_copy_of_it(half_trained, trained, tmp_path):
    flow = half_trained / "teacher/flow.keras"
    arguments = (*TINY, f"--data={trained.parent / 'rows.npy'}", "--model=teacher")
    message = "`teacher_path` must have a teacher whose training has ended, got .* after 2 steps; "
    with pytest.raises(app.UsageError, match=message):
        run(train, tmp_path / "new", *arguments, f"--teacher_path={flow}")
    assert not (tmp_path / "new").exists()
    shutil.copy(flow, tmp_path / "mine.keras")
    run(train, tmp_path / "new", *arguments, f"--teacher_path={tmp_path / 'mine.keras'}")
    assert (tmp_path / "new/teacher/flow.keras").read_bytes() == flow.read_bytes()


def test_students_record_their_teacher_and_keep_to_it(trained, tmp_path):
    run_dir = copy_of(trained, tmp_path)
    run(train, run_dir, "--model=student")
    assert "lkd: step 4 of 4" in run(distill, run_dir, "--method=lkd")
    teacher = run_dir / "teacher/flow.keras"
    assert read_record(run_dir / "lkd").teacher == sha256_of(teacher)
    assert read_record(run_dir / "student").teacher == ""
    shutil.copy(run_dir / "student/flow.keras", teacher)
    message = "must have the teacher that its students learned from, got another one .* 'lkd'"
    for method in ("lkd", "ilkd"):
        with pytest.raises(app.UsageError, match=message):
            run(distill, run_dir, f"--method={method}")
    shutil.rmtree(run_dir / "lkd")
    assert "ilkd: step 4 of 4" in run(distill, run_dir, "--method=ilkd")
