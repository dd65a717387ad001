"""Tests of the scripts as processes."""

import os
import pathlib
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def _run(*command, cwd):
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {n: v for n, v in os.environ.items() if n != "TF_CPP_MIN_LOG_LEVEL"}
    process = subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env={**environment, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return process.returncode, process.stdout, process.stderr.splitlines()


def _script(name, *arguments, cwd):
    return _run("-m", f"trainers.{name}", *arguments, cwd=cwd)


@pytest.mark.slow
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
        (
            "train",
            ["--run_dir=run", "--teacher_learning_rate=inf"],
            "train.py: `teacher_learning_rate` must be finite, got inf.",
        ),
    ],
)
def test_a_wrong_command_line_is_one_line(script, arguments, message, tmp_path):
    status, output, lines = _script(script, *arguments, cwd=tmp_path)
    assert (status, output) == (2, "")
    assert len(lines) == 1
    assert lines[0].startswith(message)
    assert not list(tmp_path.iterdir())


def test_an_unknown_flag_is_answered_with_those_that_have_its_words(tmp_path):
    for flag, expected in [
        ("--teacher_steps=9", "'teacher_steps'. Did you mean: teacher_training_steps ?"),
        ("--stepz=9", "'stepz'"),
    ]:
        status, _, lines = _script("compress", flag, cwd=tmp_path)
        assert (status, lines) == (2, [f"compress.py: Unknown command line flag {expected}"])


def test_whoever_reads_the_output_may_leave(tmp_path):
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run(
        [sys.executable, "-m", "trainers.compress", "--help"],
        cwd=ROOT,
        stdout=write,
        stderr=subprocess.PIPE,
        timeout=120,
    )
    os.close(write)
    assert (process.returncode, process.stderr) == (141, b"")


@pytest.mark.parametrize(("argument", "status"), [("--help", 1), ("--nonsense", 2)])
def test_help_and_a_wrong_flag_do_not_wait_for_tensorflow(argument, status, tmp_path):
    began = time.perf_counter()
    assert _script("compress", argument, cwd=tmp_path)[0] == status
    # It takes half a second; TensorFlow alone takes several.
    assert time.perf_counter() - began < 3


def test_of_what_is_written_while_tensorflow_starts_only_its_own_lines_are_kept_back(tmp_path):
    code = """
import os
from tfp_distill.runs import start_up
with start_up._without_own_lines():
    os.write(2, b"I0000 00:00:1795650709.259889   13561 cudart_stub.cc:31] Could not find\\n")
    os.write(2, b"E0000 00:00:1795650709.259889   13561 other.cc:31] out of everything\\n")
    print("in Python", file=sys.stderr)
start_up.start_tensorflow()
import tensorflow as tf
print(tf.constant(1).numpy(), os.environ["TF_CPP_MIN_LOG_LEVEL"])
print(tf.config.experimental.tensor_float_32_execution_enabled())
import numpy as np
from tfp_distill.flows.adapting import _warn_of_integers
_warn_of_integers(np.arange(6.0).reshape(3, 2))  # Scripts tell of them in a table.
"""
    status, output, lines = _run("-c", "import sys" + code, cwd=tmp_path)
    assert (status, output) == (0, "1 2\nFalse\n")
    assert lines == [
        "E0000 00:00:1795650709.259889   13561 other.cc:31] out of everything",
        "in Python",
    ]
