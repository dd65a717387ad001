"""Tests of the scripts as several processes that train together."""

import json
import sys
import time

import clusters
import numpy as np
import pytest
from absl import app
from jobs import TINY, run

from tfp_distill import load_flow
from trainers import train

# Replicas take their steps one by one, so that what follows from the step does so at each.
_JOB = (*TINY, "--student_training_steps=6", "--report_steps=1", "--batch_size=51", "--noguard")
_STUDENTS = "--students=ilkd,skd"
_WORKERS = "--strategy=multi_worker"
_LOST = "another worker has ended or cannot be reached; what was saved is kept"


def _command(script, run_dir, *arguments):
    return [sys.executable, "-m", f"trainers.{script}", f"--run_dir={run_dir}", *arguments]


def _weights(run_dir, name):
    return load_flow(run_dir / name / "flow.keras").get_weights()


@pytest.mark.slow
def test_two_workers_do_the_job_of_one_process(tmp_path):
    job = (*_JOB, _STUDENTS)
    alone = clusters.start_alone(_command("compress", tmp_path / "one", *job))
    chief, other = clusters.outputs(
        clusters.start(2, _command("compress", tmp_path / "two", *job, _WORKERS))
    )
    clusters.outputs([alone])
    for name in ("teacher", "ilkd", "skd"):
        for a, b in zip(*(_weights(tmp_path / job, name) for job in ("one", "two")), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-3, err_msg=name)  # Of steps of up to 1e-2.
    # One of them has written and reported, where both have trained.
    assert "report.html" in chief
    assert "report" not in other
    assert "skd: step 6 of 6" in other
    files = [
        sorted(str(path.relative_to(tmp_path / job)) for path in (tmp_path / job).rglob("*"))
        for job in ("one", "two")
    ]
    assert files[0] == files[1]
    # Whoever does not train is alone, and needs no cluster.
    clusters.outputs([clusters.start_alone(_command("evaluate", tmp_path / "two"))])
    recipe = json.loads((tmp_path / "two" / "recipe.json").read_text())
    assert recipe["strategy"] == "multi_worker"


@pytest.mark.slow
def test_a_dead_worker_ends_the_job_within_a_minute_and_it_goes_on(tmp_path):
    arguments = (*_JOB, "--teacher_training_steps=60", _WORKERS)
    command = _command("train", tmp_path / "run", *arguments)
    chief, other = clusters.start(2, command)
    for line in chief.stdout:
        if "step 3 of" in line:
            break
    chief.kill()
    began = time.monotonic()
    _, errors = other.communicate(timeout=60)
    assert time.monotonic() - began < 60
    assert other.returncode == 1
    assert _LOST in errors.splitlines()[-1]
    assert "Traceback" not in errors
    chief.communicate()
    printed, _ = clusters.outputs(clusters.start(2, command))
    assert "teacher: goes on after" in printed
    assert "teacher: step 60 of 60" in printed


@pytest.mark.parametrize(
    "config",
    ["", "{", "[]", '{"cluster": {"worker": ["localhost:1"]}}']
    + [json.dumps({"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}})],
)
def test_a_process_that_does_not_know_the_others_is_refused(tmp_path, monkeypatch, config):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(app.UsageError, match="`TF_CONFIG` must name the workers and which of them"):
        run(train, tmp_path / "run", *TINY, _WORKERS)
    assert not (tmp_path / "run").exists()
