"""Writes samples of a trained model, in the units of its data.

tfp-distill-sample --run_dir=runs/first --model=skd --num_samples=1000 --output=samples.csv
"""

from __future__ import annotations

import pathlib

import numpy as np
import pandas as pd
from absl import flags

from tfp_distill.data import FlowData
from tfp_distill.flows import Flow

from .command_line import run, usage_errors
from .run_directory import RunDirectory, define_run_flags, open_run
from .stages import best_student

__all__ = ["main"]

_SUFFIXES = (".csv", ".npy", ".parquet")


def main(flag_values: flags.FlagValues) -> None:
    """Runs the stage."""
    with usage_errors():
        run_directory = open_run(flag_values)
        run_directory.check_inputs()
        number, temperature = (flag_values[n].value for n in ("num_samples", "sample_temperature"))
        if number < 1:
            raise ValueError(f"`num_samples` must be at least 1, got {number}.")
        if not temperature > 0:
            raise ValueError(f"`sample_temperature` must be positive, got {temperature}.")
        output = pathlib.Path(flag_values["output"].value or "")
        if output.suffix not in _SUFFIXES:
            raise ValueError(f"`output` must end in one of {', '.join(_SUFFIXES)}, got {output}.")
        name = flag_values["model"].value or best_student(run_directory)
        flow = run_directory.load_flow(name)
    samples = _sample(
        flow, run_directory.data, number, temperature, flag_values["sample_seed"].value
    )
    _write(output, samples, run_directory)
    print(f"{number:,} samples of {name}: {output}")


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the flags of this script."""
    define_run_flags(flag_values)
    define = dict(flag_values=flag_values)
    flags.DEFINE_string("model", "", "Which model; the best student if empty.", **define)
    flags.DEFINE_integer("num_samples", 1000, "Number of samples.", **define)
    flags.DEFINE_float("sample_temperature", 1.0, "Standard deviation of the latents.", **define)
    flags.DEFINE_integer("sample_seed", 0, "Seed of the samples.", **define)
    flags.DEFINE_string("output", "samples.csv", "A .csv, .npy or .parquet file.", **define)


def _sample(flow: Flow, data: FlowData, number: int, temperature: float, seed: int) -> np.ndarray:
    """Samples; conditional flows get the conditions of the test data in turn."""
    condition = data.test_condition
    if condition is not None:
        condition = np.resize(condition, (number, condition.shape[1]))
    return flow.sample(number, condition, temperature=temperature, seed=seed).numpy()


def _write(output: pathlib.Path, samples: np.ndarray, run_directory: RunDirectory) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix == ".npy":
        np.save(output, samples)
        return
    table = pd.DataFrame(samples, columns=list(run_directory.data.feature_names))
    if output.suffix == ".csv":
        table.to_csv(output, index=False)
    else:
        table.to_parquet(output)


def console() -> None:
    """Entry point of the console script."""
    run(main, define_flags)


if __name__ == "__main__":
    console()
