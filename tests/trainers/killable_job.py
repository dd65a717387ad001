"""A whole job for a process that is killed; what it needs is imported with this module."""

from __future__ import annotations

import jobs

import tfp_distill
from tfp_distill.runs import reporting, stages
from trainers import compress

__all__ = ["run_job"]

# Found before a process is forked, without a tensor being made.
_LOADED = (tfp_distill.Flow, reporting.evaluate, stages.train_teacher)


def run_job(run_dir: str, arguments: tuple[str, ...]) -> None:
    """Trains a teacher and a student in parts, evaluates and exports; or goes on with that."""
    jobs.run(compress, run_dir, *arguments)
