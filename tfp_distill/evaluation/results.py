"""What is known about a trained flow, and the file that keeps it."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from tfp_distill.evaluation.frechet import FrechetDistance, check_comparable
from tfp_distill.evaluation.likelihood import Likelihood, evaluate_likelihood, round_trip_error
from tfp_distill.evaluation.speed import Speed, measure_speed
from tfp_distill.flows import Flow

__all__ = ["Result", "evaluate_flow", "gap_closed", "read_results_json", "write_results_json"]


@dataclasses.dataclass(frozen=True)
class Result:
    """One trained flow, evaluated.

    Attributes:
      name: "teacher", "student" (trained without distillation), or the name of a distilled student.
      likelihood: on test data.
      parameters: number of trainable parameters.
      speed: time of a batch in both directions.
      round_trip_error: largest error of `to_data(to_latent(x))` in units of the data's scale.
      training_steps: number of steps, the skipped ones included.
      training_seconds: wall-clock time of the training.
      skipped_steps: number of steps that changed nothing because something was not finite.
      bits_per_dim: the likelihood of images in bits per dimension; None for others.
      bits_per_dim_error: its standard error.
      frechet: Frechet distances of what the flow makes from test images, by name of what it is.
    """

    name: str
    likelihood: Likelihood
    parameters: int
    speed: Speed
    round_trip_error: float
    training_steps: int
    training_seconds: float
    skipped_steps: int = 0
    bits_per_dim: float | None = None
    bits_per_dim_error: float | None = None
    frechet: Mapping[str, FrechetDistance] = dataclasses.field(default_factory=dict)


def evaluate_flow(
    flow: Flow,
    name: str,
    test: Any,
    condition: Any = None,
    *,
    training_steps: int,
    training_seconds: float,
    skipped_steps: int = 0,
    frechet: Mapping[str, FrechetDistance] | None = None,
    draws: int = 1,
    batch_size: int | None = None,
    speed_batch_size: int = 1000,
) -> Result:
    """Computes everything that a `Result` holds.

    Args:
      flow: the trained flow.
      name: name of the result.
      test: test data `[n, ...]`, in the user's units, or uint8 images.
      condition: `[n, C]` for a conditional flow.
      training_steps: number of steps that the flow was trained for, by itself or in a distiller.
      training_seconds: wall-clock time of the training.
      skipped_steps: number of steps that were skipped.
      frechet: distances that were measured, by name.
      draws: number of draws of the noise of uint8 images.
      batch_size: number of rows computed at once; `evaluation_batch_size(flow)` by default.
      speed_batch_size: number of rows of the timed batch.

    Returns:
      The `Result`.
    """
    likelihood = evaluate_likelihood(flow, test, condition, batch_size=batch_size, draws=draws)
    bits, error = None, None
    if pixel_format := flow.config.pixel_format:
        means = (likelihood.mean, likelihood.mean - likelihood.standard_error)
        bits, with_error = (pixel_format.bits_per_dim(m, flow.event_shape) for m in means)
        error = with_error - bits
    return Result(
        name=name,
        likelihood=likelihood,
        parameters=flow.num_parameters,
        speed=measure_speed(flow, batch_size=speed_batch_size),
        round_trip_error=round_trip_error(flow, test, condition, batch_size=batch_size),
        training_steps=training_steps,
        training_seconds=training_seconds,
        skipped_steps=skipped_steps,
        bits_per_dim=bits,
        bits_per_dim_error=error,
        frechet=dict(frechet or {}),
    )


def gap_closed(results: Sequence[Result], name: str, *, frechet: str | None = None) -> float | None:
    """Returns which part of the gap between student and teacher a distilled student closes.

        (distilled - student) / (teacher - student)    of the mean test log-likelihoods

    Args:
      results: results, among them those named "teacher" and "student".
      name: name of the distilled student.
      frechet: the name of a Frechet distance, to compare in place of the likelihoods.

    Returns:
      The part: 0 for the student's figure, 1 for the teacher's, and None where it is undefined:
      for teacher and student themselves, without them, if a figure is not finite, or if the teacher
      is not better than the student.
    """
    if frechet is None:
        figures = {result.name: result.likelihood.mean for result in results}
    else:
        distances = {r.name: r.frechet[frechet] for r in results if frechet in r.frechet}
        check_comparable(*distances.values())
        figures = {key: -distance.value for key, distance in distances.items()}
    if name in ("teacher", "student") or not {"teacher", "student", name} <= figures.keys():
        return None
    distilled, student, teacher = figures[name], figures["student"], figures["teacher"]
    if not all(map(math.isfinite, (distilled, student, teacher))) or teacher <= student:
        return None
    return (distilled - student) / (teacher - student)


def write_results_json(
    path: str | os.PathLike[str],
    results: Sequence[Result],
    *,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Writes results and the settings that they come from; `read_results_json` reads them.

    Numbers that JSON does not know become the strings "nan", "inf" and "-inf".

    Args:
      path: the file; it is replaced when the new one is complete.
      results: the results, in the order of the table.
      settings: command, data set, seed and so on: anything that JSON can hold.
    """
    contents = {
        "settings": dict(settings or {}),
        "results": [dataclasses.asdict(result) for result in results],
    }
    text = json.dumps(_for_json(contents), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def read_results_json(path: str | os.PathLike[str]) -> tuple[list[Result], dict[str, Any]]:
    """Reads the results and settings that `write_results_json` wrote.

    Args:
      path: the file.

    Raises:
      ValueError: if the file does not hold results.
    """
    try:
        contents = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        results = [_result(fields) for fields in contents["results"]]
        return results, dict(contents["settings"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"`path` must hold results that `write_results_json` wrote, got {str(path)!r} "
            f"({type(error).__name__}: {error})."
        ) from error


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a file such that at no time a part of it is there under its name."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _result(fields: dict[str, Any]) -> Result:
    likelihood = _floats(fields.pop("likelihood"), "mean", "standard_error")
    speed = _floats(fields.pop("speed"), "to_latent_seconds", "to_data_seconds")
    bits = [k for k in ("bits_per_dim", "bits_per_dim_error") if fields.get(k) is not None]
    fields = _floats(fields, "round_trip_error", "training_seconds", *bits)
    frechet = {
        name: FrechetDistance(**_floats(distance, "value"))
        for name, distance in fields.pop("frechet", {}).items()
    }
    return Result(
        likelihood=Likelihood(**likelihood), speed=Speed(**speed), frechet=frechet, **fields
    )


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
