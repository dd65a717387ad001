"""Trains one flow by maximum likelihood: the teacher, or the student as it is without one.

tfp-distill-train --run_dir=runs/first --model=teacher
"""

from __future__ import annotations

from absl import flags

from tfp_distill.runs.recipe import define_run_flags

from .command_line import run, usage_errors

__all__ = ["main"]


def main(flag_values: flags.FlagValues) -> None:
    """Runs the stage."""
    from tfp_distill.runs.reporting import show_data
    from tfp_distill.runs.run_directory import open_run
    from tfp_distill.runs.stages import train_student, train_teacher

    with usage_errors():
        run_directory = open_run(flag_values, trains=True)
        run_directory.check_inputs()
    with run_directory.work():
        show_data(run_directory)
        if flag_values["model"].value == "teacher":
            train_teacher(run_directory)
        else:
            train_student(run_directory, "student")


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the flags of this script."""
    define_run_flags(flag_values)
    flags.DEFINE_enum(
        "model", "teacher", ["teacher", "student"], "What to train.", flag_values=flag_values
    )


def console() -> None:
    """Entry point of the console script."""
    run(main, define_flags)


if __name__ == "__main__":
    console()
