"""Exports a trained model as a SavedModel that runs with TensorFlow alone.

tfp-distill-export --run_dir=runs/first --model=skd

A model of images is exported with pictures as input and output, bytes, because that is what a
server has; with --pixels=float with the numbers that the flow itself takes. With
--litert=float32 (or float16, int8, the type of the weights) a LiteRT model for devices,
flow.tflite, is written too.
"""

from __future__ import annotations

from typing import Any

from absl import flags

from tfp_distill.runs.recipe import define_run_flags

from .command_line import run, usage_errors

__all__ = ["main"]


def main(flag_values: flags.FlagValues) -> None:
    """Runs the stage."""
    from tfp_distill.runs.outputs import export
    from tfp_distill.runs.run_directory import open_run
    from tfp_distill.runs.stages import best_student

    with usage_errors():
        run_directory = open_run(flag_values)
    with usage_errors(), run_directory.work():
        name = flag_values["model"].value or best_student(run_directory)
        litert = flag_values["litert"].value
        export(run_directory, name, pixels=flag_values["pixels"].value, litert=litert)


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the flags of this script."""
    define_run_flags(flag_values, ())
    define: dict[str, Any] = dict(flag_values=flag_values)
    flags.DEFINE_string("model", "", "Which model; the best student if empty.", **define)
    flags.DEFINE_enum(
        "pixels",
        None,
        ["uint8", "float"],
        "What the SavedModel of images takes and returns: uint8 pictures, by default, or the "
        "numbers of the flow.",
        **define,
    )
    flags.DEFINE_enum(
        "litert",
        None,
        ["float32", "float16", "int8"],
        "Type of the weights of a LiteRT model, which is written too; none by default.",
        **define,
    )


def console() -> None:
    """Entry point of the console script."""
    run(main, define_flags)


if __name__ == "__main__":
    console()
