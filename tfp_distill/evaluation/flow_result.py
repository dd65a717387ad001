"""What is known about a trained flow."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from tfp_distill.arrays import Array
from tfp_distill.evaluation.images.frechet import FrechetDistance
from tfp_distill.evaluation.likelihood import (
    Likelihood,
    evaluate_likelihood,
    evaluation_batch_size,
    latent_round_trip_error,
    round_trip_error,
)
from tfp_distill.evaluation.samples.sample_quality import SampleQuality
from tfp_distill.evaluation.samples.two_sample import TwoSampleTest
from tfp_distill.evaluation.speed import Speed, measure_speed
from tfp_distill.flows import Flow

__all__ = ["Result", "evaluate_flow"]


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
      bits_per_nat: by how many bits per dimension a model is better that is better by a nat per
        image, `1 / (D log 2)`; None for others.
      frechet: Frechet distances of what the flow makes from test images, by name of what it is.
      latent_round_trip_error: largest error of `to_latent(to_data(z))` for z that are drawn as the
        base; None where it was not measured.
      samples: the samples of a flow of rows beside its data; None where they were not compared.
      two_sample: how well a classifier tells samples from test rows; None where none was trained.
      num_integers: number of columns whose integers got uniform noise: the likelihood is then a
        lower bound of that of the integers.
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
    bits_per_nat: float | None = None
    frechet: Mapping[str, FrechetDistance] = dataclasses.field(default_factory=dict)
    latent_round_trip_error: float | None = None
    samples: SampleQuality | None = None
    two_sample: TwoSampleTest | None = None
    num_integers: int = 0

    @property
    def worst_round_trip_error(self) -> float:
        """The larger of the errors from both ends; nan where one is."""
        errors = [self.round_trip_error, self.latent_round_trip_error or 0.0]
        return math.nan if any(map(math.isnan, errors)) else max(errors)


def evaluate_flow(
    flow: Flow,
    name: str,
    test: Array,
    condition: Array | None = None,
    *,
    training_steps: int,
    training_seconds: float,
    skipped_steps: int = 0,
    frechet: Mapping[str, FrechetDistance] | None = None,
    samples: SampleQuality | None = None,
    two_sample: TwoSampleTest | None = None,
    speed: Speed | None = None,
    draws: int = 1,
    batch_size: int | None = None,
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
      samples: how the flow's samples look beside its data, see `sample_quality`.
      two_sample: how well a classifier tells them from the data, see `two_sample_auc`.
      speed: time of a batch; `measure_speed(flow)` by default.
      draws: number of draws of the noise of uint8 images, or of integers.
      batch_size: number of rows computed at once; `evaluation_batch_size(flow)` by default.

    Returns:
      The `Result`.
    """
    likelihood = evaluate_likelihood(flow, test, condition, batch_size=batch_size, draws=draws)
    domain = flow.config.domain
    bits, error, per_nat = domain.bits_per_dim(likelihood.mean, flow.event_shape), None, None
    if bits is not None:
        per_nat = domain.units_per_nat(flow.event_shape)
        error = per_nat * likelihood.standard_error
    latents = 2 * evaluation_batch_size(flow)
    conditions = None if condition is None else _in_turn(condition, latents)
    return Result(
        name=name,
        likelihood=likelihood,
        parameters=flow.num_parameters,
        speed=speed or measure_speed(flow),
        round_trip_error=round_trip_error(flow, test, condition, batch_size=batch_size),
        training_steps=training_steps,
        training_seconds=training_seconds,
        skipped_steps=skipped_steps,
        bits_per_dim=bits,
        bits_per_dim_error=error,
        bits_per_nat=per_nat,
        frechet=dict(frechet or {}),
        latent_round_trip_error=latent_round_trip_error(
            flow, latents, conditions, batch_size=batch_size
        ),
        samples=samples,
        two_sample=two_sample,
        num_integers=flow.config.columns.num_integers if flow.config.columns else 0,
    )


def _in_turn(condition: Array | None, rows: int) -> np.ndarray:
    condition = np.asarray(condition)
    return np.resize(condition, (rows, condition.shape[1]))
