"""Writes samples of a trained model, in the units of its data; those of images as pictures.

tfp-distill-sample --run_dir=runs/first --model=skd --num_samples=1000 --output=samples.csv
tfp-distill-sample --run_dir=runs/mine --condition=hour=12,day=3
tfp-distill-sample --run_dir=runs/digits --num_samples=100 --output=samples.png
"""

from __future__ import annotations

import math
from typing import Any

from absl import flags

from tfp_distill.runs.recipe import PLACES, define_run_flags

from .command_line import run, usage_errors

__all__ = ["main"]


def main(flag_values: flags.FlagValues) -> None:
    """Runs the stage."""
    from tfp_distill.runs.conditions import conditions_of_samples
    from tfp_distill.runs.outputs import sample_output, write_image_samples, write_row_samples
    from tfp_distill.runs.run_directory import open_run
    from tfp_distill.runs.stages import best_student

    number = flag_values.num_samples
    options: dict[str, Any] = dict(
        temperature=flag_values.sample_temperature, seed=flag_values.sample_seed
    )
    with usage_errors():
        run_directory = open_run(flag_values)
        if number < 1:
            raise ValueError(f"`num_samples` must be at least 1, got {number}.")
        if not 0 < options["temperature"] < math.inf:
            raise ValueError(
                f"`sample_temperature` must be positive and finite, got {options['temperature']}."
            )
        if options["seed"] < 0:
            raise ValueError(f"`sample_seed` must be at least 0, got {options['seed']}.")
        name = flag_values.model or best_student(run_directory)
        flow = run_directory.load_flow(name)
        output = sample_output(flag_values.output, flow)
        data = None if flow.config.domain.is_images else run_directory.data
        condition = conditions_of_samples(flag_values.condition, data, number)
    options.update(name=name)
    if data is None:
        write_image_samples(output, flow, number, **options)
    else:
        write_row_samples(output, flow, data, number, condition, **options)
    print(f"{number:,} samples of {name}: {output}")


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the flags of this script."""
    define_run_flags(flag_values, PLACES)
    define: dict[str, Any] = dict(flag_values=flag_values)
    flags.DEFINE_string("model", "", "Which model; the best student if empty.", **define)
    flags.DEFINE_integer("num_samples", 1000, "Number of samples.", **define)
    flags.DEFINE_float("sample_temperature", 1.0, "Standard deviation of the latents.", **define)
    flags.DEFINE_integer("sample_seed", 0, "Seed of the samples.", **define)
    flags.DEFINE_list(
        "condition",
        [],
        "What conditional samples are of: NAME=VALUE of every condition, or a table of yours with "
        "these columns, whose rows are used in turn; the test data's if empty.",
        **define,
    )
    flags.DEFINE_string(
        "output",
        None,
        "A .csv, .npy or .parquet file, samples.csv by default; for images a .npz with an array "
        "`images` (uint8) or a .png with all of them, samples.npz by default.",
        **define,
    )


def console() -> None:
    """Entry point of the console script."""
    run(main, define_flags)


if __name__ == "__main__":
    console()
