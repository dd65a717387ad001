"""Tests of how the script ends before its time, and goes on."""

from __future__ import annotations

import multiprocessing
import os
import pathlib
import re
import signal
import sys
import time

import numpy as np
import pytest
from jobs import TINY
from killable_job import run_script

from tfp_distill import load_flow

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="starts processes as on Linux and macOS"),
]

_GOES_ON = "what was saved is kept, and the same command goes on from there."


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Starts the script on a run directory, in a process that has imported all, and no more."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    np.save(tmp_path / "rows.npy", np.random.RandomState(0).normal(size=(300, 2)))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killable_job"])

    def process(run_dir: pathlib.Path, *arguments, **options):
        flags = (
            f"--run_dir={run_dir}",
            *TINY,
            f"--data={tmp_path / 'rows.npy'}",
            "--teacher_training_steps=4",
            "--students=student",
            *arguments,
        )
        options = {"arguments": flags, "errors": str(run_dir) + ".err", **options}
        started = context.Process(target=run_script, kwargs=options)
        started.start()
        return started

    return process


def _wait_until(condition):
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < 60
        time.sleep(0.05)


def _ending(process, run_dir):
    """Returns the status of a process, and its lines without those of C++ libraries."""
    process.join(120)
    lines = pathlib.Path(str(run_dir) + ".err").read_text().splitlines()
    return process.exitcode, [
        line for line in lines if not re.match(r"[IWE]\d{4} |WARNING: ", line)
    ]


def _assert_same_models(run_dir, undisturbed):
    for model in ("teacher", "student"):
        flows = [load_flow(path / model / "flow.keras") for path in (run_dir, undisturbed)]
        for weight, expected in zip(*(flow.get_weights() for flow in flows), strict=True):
            np.testing.assert_allclose(weight, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("number", "status", "message"),
    [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")],
)
def test_a_signal_ends_a_run_in_one_line_and_it_goes_on(number, status, message, start, tmp_path):
    run_dir = tmp_path / "run"
    long = ("--teacher_training_steps=100000",)
    process = start(run_dir, *long)
    progress = run_dir / "teacher" / "progress.json"
    _wait_until(progress.is_file)
    os.kill(process.pid, number)
    assert _ending(process, run_dir) == (status, [f"tfp-distill: {message}; {_GOES_ON}"])
    load_flow(run_dir / "teacher" / "flow.keras")
    before = progress.read_text()
    process = start(run_dir, *long)
    _wait_until(lambda: progress.read_text() != before)
    process.kill()
    process.join()


def test_two_processes_do_not_work_in_one_directory(start, tmp_path):
    run_dir, long = tmp_path / "run", "--teacher_training_steps=100000"
    first = start(run_dir, long)
    progress = run_dir / "teacher" / "progress.json"
    _wait_until(progress.is_file)
    second = start(run_dir, long, errors=str(tmp_path / "second.err"))
    status, lines = _ending(second, tmp_path / "second")
    first.kill()
    first.join()
    assert status == 1
    assert len(lines) == 1 and "must be used by one process at a time" in lines[0]


def test_a_full_disk_ends_a_run_in_one_line_and_it_goes_on(start, tmp_path):
    run_dir, undisturbed = tmp_path / "run", tmp_path / "undisturbed"
    assert _ending(start(undisturbed), undisturbed) == (0, [])
    for largest_file in (300, 1000, 3000, 10_000, 30_000, 60_000):
        status, lines = _ending(start(run_dir, largest_file=largest_file), run_dir)
        assert status in (1, 2)  # Before any work, if the recipe has no room.
        assert len(lines) == 1 and "File too large" in lines[0]
    assert _ending(start(run_dir), run_dir) == (0, [])
    _assert_same_models(run_dir, undisturbed)
    assert not list(run_dir.rglob(".unfinished*"))
