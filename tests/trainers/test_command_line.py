"""Tests of the scripts as processes."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
# TensorFlow's own C++ libraries write to stderr before and after Python can tell them not to.
_TENSORFLOW = re.compile(r"[IWE]\d{4} \d\d:|\d{4}-\d\d-\d\d \d\d:|WARNING: All log messages before")


def _run(script, *arguments, cwd):
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    process = subprocess.run(
        [sys.executable, "-m", f"trainers.{script}", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = [line for line in process.stderr.splitlines() if not _TENSORFLOW.match(line)]
    return process.returncode, process.stdout, lines


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("compress", ["--nonsense"], "compress.py: Unknown command line flag 'nonsense'"),
        ("distill", ["--run_dir=r", "--method=kd"], "distill.py: flag --method=kd: value should"),
        (
            "compress",
            ["--run_dir=run", "--data=none.csv"],
            "compress.py: `source` must be an existing file, got none.csv.",
        ),
    ],
)
def test_a_wrong_command_line_is_one_line(script, arguments, message, tmp_path):
    status, output, lines = _run(script, *arguments, cwd=tmp_path)
    assert (status, output) == (2, "")
    assert len(lines) == 1
    assert lines[0].startswith(message)
    assert not list(tmp_path.iterdir())
