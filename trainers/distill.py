"""Distills the teacher of a run directory into a student by one method.

tfp-distill-distill --run_dir=runs/first --method=ilkd
"""

from __future__ import annotations

from absl import flags

from tfp_distill.runs.recipe import METHODS, define_run_flags

from .command_line import run, usage_errors

__all__ = ["main"]


def main(flag_values: flags.FlagValues) -> None:
    """Runs the stage."""
    from tfp_distill.runs.reporting import show_data
    from tfp_distill.runs.run_directory import open_run
    from tfp_distill.runs.stages import train_student

    with usage_errors():
        run_directory = open_run(flag_values, trains=True)
        run_directory.check_inputs()
        run_directory.load_teacher()
        method = flag_values.method
        run_directory.recipe.check_method(method)
    with run_directory.work():
        show_data(run_directory)
        train_student(run_directory, method)


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the flags of this script."""
    define_run_flags(flag_values)
    flags.DEFINE_enum("method", "skd", METHODS[1:], "How to distill.", flag_values=flag_values)


def console() -> None:
    """Entry point of the console script."""
    run(main, define_flags)


if __name__ == "__main__":
    console()
