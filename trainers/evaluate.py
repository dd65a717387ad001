"""Evaluates every model of a run directory: the table, results.json and report.html.

tfp-distill-evaluate --run_dir=runs/first
"""

from __future__ import annotations

import shlex
import sys

from absl import app, flags

from tfp_distill.runs.recipe import JUDGEMENT, PLACES, define_run_flags

from .command_line import run, usage_errors

__all__ = ["main"]


def main(flag_values: flags.FlagValues) -> None:
    """Runs the stage."""
    from tfp_distill.runs.reporting import evaluate
    from tfp_distill.runs.run_directory import open_run

    with usage_errors():
        run_directory = open_run(flag_values)
        run_directory.check_inputs()
    if not run_directory.trained():
        raise app.UsageError(f"`run_dir` must hold a trained model, got {run_directory.path}.")
    with run_directory.work():
        evaluate(run_directory, command=shlex.join(sys.argv))


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the flags of this script."""
    define_run_flags(flag_values, (*PLACES, *JUDGEMENT))


def console() -> None:
    """Entry point of the console script."""
    run(main, define_flags)


if __name__ == "__main__":
    console()
