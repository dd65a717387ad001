"""What comes of a trained model: exports, and samples in a file, of rows or of pictures."""

from __future__ import annotations

import math
import os
import pathlib
import sys

import numpy as np
import pandas as pd
import tensorflow as tf

from tfp_distill.data import FlowData
from tfp_distill.evaluation import DataRange, mosaic, sample_quality, sampled_images
from tfp_distill.export import check_replaceable, export_flow, export_litert
from tfp_distill.files import check_writable, written_whole
from tfp_distill.flows import Flow
from tfp_distill.runs.run_directory import RunDirectory

__all__ = [
    "check_export",
    "export",
    "sample_output",
    "write_image_samples",
    "write_row_samples",
]

_ROW_SUFFIXES = (".csv", ".npy", ".parquet")
_IMAGE_SUFFIXES = (".npz", ".png")
_TOLERATED_OUTSIDE = 0.01
_SAVED_MODEL = "saved_model"
_LITERT = "flow.tflite"


def check_export(run: RunDirectory) -> None:
    """Raises `ValueError` if `export` would find something else in its place, before any work."""
    check_replaceable(run.path / _SAVED_MODEL)


def export(
    run: RunDirectory, name: str, *, pixels: str | None = None, litert: str | None = None
) -> None:
    """Writes the SavedModel of a trained model into the run directory, and a LiteRT model.

    Args:
      run: the run.
      name: the model.
      pixels: as for `export_flow`; by default bytes for images, because that is what a server has.
      litert: type of the weights of the LiteRT model; None for no such model.

    Raises:
      ValueError: if `pixels` does not fit the model; before anything is written.
    """
    flow, path = run.load_flow(name), run.path / _SAVED_MODEL
    if pixels is None:
        pixels = "uint8" if flow.config.domain.is_images else "float"
    export_flow(flow, path, pixels=pixels)
    print(f"{name} is exported as a SavedModel: {path}", flush=True)
    if litert is not None:
        path = run.path / _LITERT
        export_litert(flow, path, weights=litert)
        print(f"{name} is exported as a LiteRT model: {path}", flush=True)


def sample_output(path: str | os.PathLike[str] | None, flow: Flow) -> pathlib.Path:
    """Returns where samples of a flow go: `path`, or samples.csv or .npz by default.

    Raises:
      ValueError: if the suffix is none of those for the flow's data, or `path` is a directory.
      OSError: if it cannot be written there.
    """
    images = flow.config.domain.is_images
    output = pathlib.Path(("samples.npz" if images else "samples.csv") if path is None else path)
    suffixes = _IMAGE_SUFFIXES if images else _ROW_SUFFIXES
    if output.suffix not in suffixes:
        kind = " for images" if images else ""
        raise ValueError(f"`output` must end in one of {', '.join(suffixes)}{kind}, got {output}.")
    if output.is_dir():
        raise ValueError(f"`output` must be a file, got the directory {output}.")
    check_writable(output.parent)
    return output


def write_row_samples(
    output: pathlib.Path,
    flow: Flow,
    data: FlowData,
    number: int,
    condition: np.ndarray | None = None,
    *,
    name: str,
    temperature: float,
    seed: int,
) -> None:
    """Writes samples of rows, and warns of those that are unlike the data.

    Columns of integers are written as such; behind the columns of the samples are those of the
    conditions, where the flow has some.

    Args:
      output: the file, see `sample_output`.
      flow: the flow.
      data: what it was trained on, with the names of the columns.
      number: number of samples.
      condition: that of each sample, for a conditional flow, see `conditions_of_samples`.
      name: what the warning calls the flow.
      temperature: standard deviation of the latents.
      seed: seed of the samples.
    """
    samples = flow.sample(number, condition, temperature=temperature, seed=seed).numpy()
    table = _table(samples, condition, flow, data)
    with written_whole(output) as unfinished:
        if output.suffix == ".npy":
            np.save(unfinished, table.to_numpy(samples.dtype))
        elif output.suffix == ".csv":
            table.to_csv(unfinished, index=False)
        else:
            table.to_parquet(unfinished)
    _warn(name, samples, data)


def _table(
    samples: np.ndarray, condition: np.ndarray | None, flow: Flow, data: FlowData
) -> pd.DataFrame:
    table = pd.DataFrame(samples, columns=list(data.feature_names))
    kinds = flow.config.columns
    for name, is_integer in zip(table, () if kinds is None else kinds.is_integer, strict=False):
        if is_integer and np.isfinite(table[name]).all():
            table[name] = table[name].astype(np.int64)
    if condition is not None:
        table = table.assign(**dict(zip(data.condition_names, condition.T, strict=True)))
    return table


def write_image_samples(
    output: pathlib.Path, flow: Flow, number: int, *, name: str, temperature: float, seed: int
) -> None:
    """Writes samples of images, and warns of those with pixels that are not finite.

    The arguments are those of `write_row_samples`.
    """
    batches = sampled_images(flow, number, temperature=temperature, seed=seed)
    images = np.concatenate(list(batches))
    with written_whole(output) as unfinished:
        if output.suffix == ".npz":
            np.savez_compressed(unfinished, images=images)
        else:
            columns = math.ceil(math.sqrt(number))
            grid = mosaic(images, math.ceil(number / columns), columns)
            unfinished.write_bytes(tf.io.encode_png(grid).numpy())
    if batches.num_non_finite:
        _print_warning(
            f"of {number:,} samples of {name} {batches.num_non_finite:,} are not finite and have "
            "black pixels"
        )


def _warn(name: str, samples: np.ndarray, data: FlowData) -> None:
    """Prints a line if samples are not finite, or more of them out of range than of data."""
    quality = sample_quality(samples, DataRange.of_rows(data.train), data.test)
    texts = []
    if quality.num_non_finite:
        texts.append(f"{quality.num_non_finite:,} are not finite")
    if quality.outside > quality.held_out_outside + _TOLERATED_OUTSIDE:
        texts.append(
            f"{quality.outside:.1%} are outside the range of the training data in some column (of "
            f"the test data {quality.held_out_outside:.1%}); the farthest value is "
            f"{quality.largest_z:.3g} standard deviations from its column's mean"
        )
    if texts:
        _print_warning(f"of {len(samples):,} samples of {name} {' and '.join(texts)}")


def _print_warning(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)
