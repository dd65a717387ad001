"""Small jobs, run in this process with flags of their own."""

from __future__ import annotations

import contextlib
import io
import pathlib
import shutil

from absl import flags

from tfp_distill.runs.recipe import define_run_flags

TINY = (
    "--teacher_depth=1",
    "--teacher_width=4",
    "--student_depth=1",
    "--student_width=4",
    "--teacher_training_steps=4",
    "--student_training_steps=4",
    "--report_steps=2",
    "--batch_size=64",
    "--jit_compile=off",  # Which takes longer than these jobs.
)


def parse(define, *arguments):
    """Returns the flag values of a command line."""
    flag_values = flags.FlagValues()
    define(flag_values)
    flag_values(["script", *map(str, arguments)])
    return flag_values


def copy_of(run_dir, directory):
    """Returns a copy of a run directory, for a test that changes it: others may still come."""
    return pathlib.Path(shutil.copytree(run_dir, directory / "copy"))


def run(script, run_dir, *arguments):
    """Runs a script's `main` and returns what it printed."""
    define = getattr(script, "define_flags", define_run_flags)
    flag_values = parse(define, f"--run_dir={run_dir}", *arguments)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        script.main(flag_values)
    return output.getvalue()
