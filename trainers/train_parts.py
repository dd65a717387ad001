r"""Trains students in gradient-isolated parts, beside end to end, and reports both.

    tfp-distill-train-parts --flagfile=flags/digits_parts.flags --run_dir=runs/digits_parts
    python -m trainers.train_parts --flagfile=flags/cifar10_parts_two.flags --run_dir=runs/cifar10

Each of --students is trained in each of --partitions. A teacher is trained, or taken from
--teacher_path, only if a student needs it. Reruns continue as those of the distillation do.
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
    from tfp_distill.runs.reporting import evaluate, show_data
    from tfp_distill.runs.run_directory import open_run
    from tfp_distill.runs.stages import best_student, train_students, train_teacher

    with usage_errors():
        run_directory = open_run(flag_values, trains=True)
        check_export(run_directory)
        run_directory.check_inputs()
    recipe = run_directory.recipe
    with run_directory.work():
        show_data(run_directory)
        if any(recipe.losses(method) for method in recipe.students):
            train_teacher(run_directory)
        train_students(run_directory)
        if run_directory.is_copy:
            return
        evaluate(run_directory, command=shlex.join(sys.argv))
        export(run_directory, best_student(run_directory))
    print(f"report: {run_directory.path / 'report.html'}")


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the flags of this script: those of the recipe, with defaults of its own."""
    define_run_flags(flag_values)
    flag_values.set_default("students", ["student"])
    flag_values.set_default("partitions", ["end_to_end", "across_blocks_2"])


def console() -> None:
    """Entry point of the console script."""
    run(main, define_flags)


if __name__ == "__main__":
    console()
