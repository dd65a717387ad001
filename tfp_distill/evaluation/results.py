"""The files that keep results: the figures, and beside them the likelihood of every test row."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfp_distill.evaluation.comparisons import ahead_of_student, gap_closed, gap_closed_error
from tfp_distill.evaluation.flow_result import Result
from tfp_distill.evaluation.images.frechet import FrechetDistance
from tfp_distill.evaluation.likelihood import Likelihood
from tfp_distill.evaluation.samples.sample_quality import SampleQuality
from tfp_distill.evaluation.samples.two_sample import TwoSampleTest
from tfp_distill.evaluation.speed import Speed
from tfp_distill.files import write_text, written_whole

__all__ = ["read_results_json", "write_results_json"]


def write_results_json(
    path: str | os.PathLike[str],
    results: Sequence[Result],
    *,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Writes results and the settings that they come from; `read_results_json` reads them.

    Numbers that JSON does not know become the strings "nan", "inf" and "-inf". Every result has
    besides its own figures what it is compared with "student" and "teacher": `ahead_of_student` and
    `gap_closed`. The log-likelihoods of the test rows, where results have them, go into
    `path` with the suffix .npz, an array `[n]` a model under its name: those of two runs with the
    same test data can be compared by `paired_difference`.

    Args:
      path: the file; it is replaced when the new one is complete.
      results: the results, in the order of the table.
      settings: command, data set, seed and so on: anything that JSON can hold.
    """
    contents = {
        "settings": dict(settings or {}),
        "results": [{**_fields(result), **_compared(results, result)} for result in results],
    }
    text = json.dumps(_for_json(contents), indent=2, ensure_ascii=False, allow_nan=False)
    values: dict[str, Any] = {
        r.name: r.likelihood.values for r in results if r.likelihood.values is not None
    }
    if values:
        with written_whole(_rows_path(path)) as unfinished, unfinished.open("wb") as file:
            np.savez_compressed(file, **values)
    else:
        _rows_path(path).unlink(missing_ok=True)  # It would be that of other results.
    write_text(path, text + "\n")


def read_results_json(path: str | os.PathLike[str]) -> tuple[list[Result], dict[str, Any]]:
    """Reads the results and settings that `write_results_json` wrote.

    The likelihoods have their `values` where the file of the rows lies beside this one and belongs
    to the same results.

    Args:
      path: the file.

    Raises:
      ValueError: if the file does not hold results.
    """
    try:
        contents = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        values = {}
        if _rows_path(path).is_file():
            with np.load(_rows_path(path), allow_pickle=False) as arrays:
                values = dict(arrays)
        results = [_result(fields, values) for fields in contents["results"]]
        return results, dict(contents["settings"])
    except (EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"`path` must hold results that `write_results_json` wrote, got {str(path)!r} "
            f"({type(error).__name__}: {error})."
        ) from error


def _rows_path(path: str | os.PathLike[str]) -> pathlib.Path:
    return pathlib.Path(path).with_suffix(".npz")


def _fields(result: Result) -> dict[str, Any]:
    fields = dataclasses.asdict(result)
    del fields["likelihood"]["values"]
    return fields


def _compared(results: Sequence[Result], result: Result) -> dict[str, Any]:
    """Returns what follows from several results, which is written but not read."""
    ahead = ahead_of_student(results, result.name)
    compared: dict[str, Any] = {"ahead_of_student": None}
    if ahead is not None:
        compared["ahead_of_student"] = dataclasses.asdict(ahead)
        if (per_nat := result.bits_per_nat) is not None:
            compared["ahead_of_student"] |= {
                "bits_per_dim": per_nat * ahead.mean,
                "bits_per_dim_error": per_nat * ahead.standard_error,
            }
    compared["gap_closed"] = gap_closed(results, result.name)
    compared["gap_closed_error"] = gap_closed_error(results, result.name)
    return compared


def _result(fields: dict[str, Any], values: Mapping[str, np.ndarray]) -> Result:
    for name in ("ahead_of_student", "gap_closed", "gap_closed_error"):
        fields.pop(name, None)
    likelihood = Likelihood(**_floats(fields.pop("likelihood"), "mean", "standard_error"))
    of_rows = values.get(fields["name"])
    if of_rows is not None and _are_those_of(of_rows, likelihood):
        likelihood = dataclasses.replace(likelihood, values=of_rows)
    speed = _floats(fields.pop("speed"), "to_latent_seconds", "to_data_seconds")
    optional = ("bits_per_dim", "bits_per_dim_error", "bits_per_nat", "latent_round_trip_error")
    known = [name for name in optional if fields.get(name) is not None]
    fields = _floats(fields, "round_trip_error", "training_seconds", *known)
    frechet = {
        name: FrechetDistance(**_floats(distance, "value"))
        for name, distance in fields.pop("frechet", {}).items()
    }
    samples = fields.pop("samples", None)
    if samples is not None:
        samples = SampleQuality(**_floats(samples, "largest_z"))
    two_sample = fields.pop("two_sample", None)
    return Result(
        likelihood=likelihood,
        speed=Speed(**speed),
        frechet=frechet,
        samples=samples,
        two_sample=None if two_sample is None else TwoSampleTest(**two_sample),
        **fields,
    )


def _are_those_of(values: np.ndarray, likelihood: Likelihood) -> bool:
    """Returns whether rows are those that a likelihood is the mean of."""
    if len(values) != likelihood.num_examples:
        return False
    mean = Likelihood.of_values(values).mean
    # The last digit depends on the machine that adds them up.
    return bool(np.isclose(mean, likelihood.mean, rtol=1e-12, atol=0, equal_nan=True))


def _floats(fields: dict[str, Any], *names: str) -> dict[str, Any]:
    return {**fields, **{name: float(fields[name]) for name in names}}


def _for_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _for_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_for_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
