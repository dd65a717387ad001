"""Jobs for processes that are ended; what they need is imported with this module."""

from __future__ import annotations

import os
import resource
import sys

import jobs

import tfp_distill
from tfp_distill.runs import reporting, stages
from trainers import compress

__all__ = ["run_job", "run_script"]

# Found before a process is forked, without a tensor being made.
_LOADED = (tfp_distill.Flow, reporting.evaluate, stages.train_teacher)


def run_job(run_dir: str, arguments: tuple[str, ...]) -> None:
    """Trains a teacher and a student in parts, evaluates and exports; or goes on with that."""
    jobs.run(compress, run_dir, *arguments)


def run_script(arguments: tuple[str, ...], errors: str, largest_file: int | None = None) -> None:
    """Runs the script as the command line does.

    Args:
      arguments: its flags.
      errors: the file that takes the place of the standard error.
      largest_file: bytes that a file may have; by default there is no limit.
    """
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
    sys.argv = ["tfp-distill", *arguments]
    compress.console()
