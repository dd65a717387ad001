"""Exports a trained model as a SavedModel that runs with TensorFlow alone.

tfp-distill-export --run_dir=runs/first --model=skd
"""

from __future__ import annotations

from absl import flags

from .command_line import run, usage_errors
from .run_directory import define_run_flags, open_run
from .stages import best_student, export

__all__ = ["main"]


def main(flag_values: flags.FlagValues) -> None:
    """Runs the stage."""
    with usage_errors():
        run_directory = open_run(flag_values)
        name = flag_values["model"].value or best_student(run_directory)
        run_directory.load_flow(name)
    export(run_directory, name)


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the flags of this script."""
    define_run_flags(flag_values)
    flags.DEFINE_string(
        "model", "", "Which model; the best student if empty.", flag_values=flag_values
    )


def console() -> None:
    """Entry point of the console script."""
    run(main, define_flags)


if __name__ == "__main__":
    console()
