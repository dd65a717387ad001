"""Writes samples of a trained model, in the units of its data; those of images as pictures.

tfp-distill-sample --run_dir=runs/first --model=skd --num_samples=1000 --output=samples.csv
tfp-distill-sample --run_dir=runs/mine --condition=hour=12,day=3
tfp-distill-sample --run_dir=runs/digits --num_samples=100 --output=samples.png
"""

from __future__ import annotations

import math
import pathlib
import sys

import numpy as np
import pandas as pd
import tensorflow as tf
from absl import flags

from tfp_distill.data import FlowData
from tfp_distill.evaluation import DataRange, mosaic, sample_quality, sampled_images
from tfp_distill.flows import Flow
from tfp_distill.runs.conditions import conditions_of_samples
from tfp_distill.runs.run_directory import define_run_flags, open_run
from tfp_distill.runs.stages import best_student

from .command_line import run, usage_errors

__all__ = ["main"]

_ROW_SUFFIXES = (".csv", ".npy", ".parquet")
_IMAGE_SUFFIXES = (".npz", ".png")
_TOLERATED_OUTSIDE = 0.01


def main(flag_values: flags.FlagValues) -> None:
    """Runs the stage."""
    names = ("num_samples", "sample_temperature", "sample_seed")
    number, temperature, seed = (flag_values[name].value for name in names)
    with usage_errors():
        run_directory = open_run(flag_values)
        if number < 1:
            raise ValueError(f"`num_samples` must be at least 1, got {number}.")
        if not temperature > 0:
            raise ValueError(f"`sample_temperature` must be positive, got {temperature}.")
        name = flag_values["model"].value or best_student(run_directory)
        flow = run_directory.load_flow(name)
        output = _output(flag_values["output"].value, flow)
        if flow.config.pixel_format:
            batches = sampled_images(flow, number, temperature=temperature, seed=seed)
        else:
            data = run_directory.data  # Has the conditions and the names of the columns.
            condition = conditions_of_samples(flag_values["condition"].value, data, number)
    output.parent.mkdir(parents=True, exist_ok=True)
    if flow.config.pixel_format:
        _write_images(output, np.concatenate(list(batches)))
        if batches.num_non_finite:
            _print_warning(
                f"of {number:,} samples of {name} {batches.num_non_finite:,} are not finite and "
                "have black pixels"
            )
    else:
        samples = flow.sample(number, condition, temperature=temperature, seed=seed).numpy()
        _write_rows(output, samples, condition, data)
        _warn(name, samples, data)
    print(f"{number:,} samples of {name}: {output}")


def define_flags(flag_values: flags.FlagValues) -> None:
    """Defines the flags of this script."""
    define_run_flags(flag_values)
    define = dict(flag_values=flag_values)
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


def _output(path: str | None, flow: Flow) -> pathlib.Path:
    """Returns where the samples go.

    Raises:
      ValueError: if the suffix is none of those for the flow's data.
    """
    images = flow.config.pixel_format is not None
    output = pathlib.Path(("samples.npz" if images else "samples.csv") if path is None else path)
    suffixes = _IMAGE_SUFFIXES if images else _ROW_SUFFIXES
    if output.suffix not in suffixes:
        kind = " for images" if images else ""
        raise ValueError(f"`output` must end in one of {', '.join(suffixes)}{kind}, got {output}.")
    return output


def _write_rows(
    output: pathlib.Path, samples: np.ndarray, condition: np.ndarray | None, data: FlowData
) -> None:
    """Writes samples and, behind them, the columns of their conditions."""
    if condition is not None:
        samples = np.concatenate([samples, condition], axis=1)
    if output.suffix == ".npy":
        np.save(output, samples)
        return
    table = pd.DataFrame(samples, columns=[*data.feature_names, *data.condition_names])
    if output.suffix == ".csv":
        table.to_csv(output, index=False)
    else:
        table.to_parquet(output)


def _warn(name: str, samples: np.ndarray, data: FlowData) -> None:
    """Prints a line if samples are not finite, or more of them far out of range than of data."""
    quality = sample_quality(samples, DataRange.of_rows(data.train), data.test)
    texts = []
    if quality.num_non_finite:
        texts.append(f"{quality.num_non_finite:,} are not finite")
    if quality.outside > quality.held_out_outside + _TOLERATED_OUTSIDE:
        texts.append(
            f"{quality.outside:.1%} are far outside the range of the training data in some column "
            f"(of the test data {quality.held_out_outside:.1%}), up to {quality.largest_z:.3g} "
            "standard deviations from its mean"
        )
    if texts:
        _print_warning(f"of {len(samples):,} samples of {name} {' and '.join(texts)}")


def _print_warning(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)


def _write_images(output: pathlib.Path, images: np.ndarray) -> None:
    if output.suffix == ".npz":
        np.savez_compressed(output, images=images)
        return
    columns = math.ceil(math.sqrt(len(images)))
    grid = mosaic(images, math.ceil(len(images) / columns), columns)
    output.write_bytes(tf.io.encode_png(grid).numpy())


def console() -> None:
    """Entry point of the console script."""
    run(main, define_flags)


if __name__ == "__main__":
    console()
