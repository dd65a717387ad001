"""Finds a small flow for data and a teacher: trains, races or distills, evaluates, exports.

    tfp-distill --run_dir=runs/first --within=0.1
    python -m trainers.compress --flagfile=flags/power_glow.flags --run_dir=runs/power_glow

Candidates are raced, and the smallest flow within the tolerance of the teacher is exported; or,
with --students, students of one architecture are compared. Without --teacher_path a teacher is
trained first. The first run of a directory records the recipe. A rerun continues where the last one
stopped and does again only what is missing.
"""

from __future__ import annotations

import shlex
import sys

from absl import flags

from tfp_distill.runs.recipe import define_run_flags

from .command_line import run, usage_errors

__all__ = ["main"]


def main(flag_values: flags.FlagValues) -> None:
    """Runs all stages."""
    from tfp_distill.runs.outputs import check_export, export
    from tfp_distill.runs.racing.race import check_race, race
    from tfp_distill.runs.reporting import evaluate, show_data
    from tfp_distill.runs.run_directory import open_run
    from tfp_distill.runs.stages import best_student, train_students, train_teacher

    with usage_errors():
        run_directory = open_run(flag_values, trains=True, check=check_race)
        check_export(run_directory)
        run_directory.check_inputs()
        is_race = not run_directory.recipe.students
    with run_directory.work():
        show_data(run_directory)
        outcome = None
        if is_race:
            outcome = race(run_directory)
            run_directory.set_winner(outcome.chosen.name)
        else:
            train_teacher(run_directory)
            train_students(run_directory)
        if run_directory.is_copy:
            return
        evaluate(run_directory, command=shlex.join(sys.argv), outcome=outcome)
        export(run_directory, best_student(run_directory))
    print(f"report: {run_directory.path / 'report.html'}")


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the flags of this script."""
    define_run_flags(flag_values)


def console() -> None:
    """Entry point of the console script."""
    run(main, define_flags)


if __name__ == "__main__":
    console()
