"""Tests that runs which are killed at any time, again and again, end as undisturbed ones do."""

from __future__ import annotations

import json
import multiprocessing
import os
import pathlib
import sys

import numpy as np
import pytest
from jobs import TINY
from killable_job import run_job

from tfp_distill import load_flow

_KILLS = 16  # Of each of two seeds.
_LATEST = 15.0  # Seconds; a whole job takes 21 or more.
_ITS_OWN = ("--teacher_training", "--student_training", "--report", "--jit")
_MODELS = ("teacher", "ilkd_across_blocks_2")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="starts processes as on Linux and macOS"),
]


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Starts the job on a run directory in a process that has imported all, and no more."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    rows = np.random.RandomState(0).normal(size=(300, 2))
    np.save(tmp_path / "rows.npy", rows)
    arguments = (
        *(argument for argument in TINY if not argument.startswith(_ITS_OWN)),
        # Without XLA the last bits of a gradient depend on the threads, killed or not.
        "--jit_compile=on",
        "--teacher_coupling=affine",
        "--student_coupling=affine",
        f"--data={tmp_path / 'rows.npy'}",
        "--students=ilkd",
        "--partitions=across_blocks_2",
        "--student_depth=2",
        "--teacher_training_steps=20",
        "--student_training_steps=20",
        "--report_steps=2",
    )
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killable_job"])

    def process(run_dir: pathlib.Path):
        started = context.Process(target=run_job, args=(str(run_dir), arguments))
        started.start()
        return started

    return process


def _files(run_dir):
    return {path.relative_to(run_dir) for path in run_dir.rglob("*") if path.is_file()}


def _history(run_dir, model):
    """What was measured, but for the time that it took."""
    record = json.loads((run_dir / model / "progress.json").read_text())
    assert record["finished"]
    return [
        {name: value for name, value in row.items() if name not in ("seconds", "peak_bytes")}
        for row in record["history"]
    ]


def _assert_same(run_dir, undisturbed):
    assert _files(run_dir) == _files(undisturbed)
    for model in _MODELS:
        flows = [load_flow(path / model / "flow.keras") for path in (run_dir, undisturbed)]
        for weight, expected in zip(*(flow.get_weights() for flow in flows), strict=True):
            np.testing.assert_array_equal(weight, expected)
        assert _history(run_dir, model) == _history(undisturbed, model)


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_runs_end_as_undisturbed_ones(seed, start, tmp_path):
    undisturbed = tmp_path / "undisturbed"
    process = start(undisturbed)
    process.join()
    assert process.exitcode == 0
    random, kills, runs = np.random.RandomState(seed), 0, 0
    while kills < _KILLS:
        run_dir = tmp_path / f"killed_{runs}"
        runs += 1
        while True:
            process = start(run_dir)
            process.join(random.uniform(0, _LATEST) if kills < _KILLS else None)
            if process.exitcode is not None:
                break
            process.kill()
            process.join()
            kills += 1
        assert process.exitcode == 0
        _assert_same(run_dir, undisturbed)
