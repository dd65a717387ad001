"""Held-out likelihood and the accuracy of the inverse."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_distill.arrays import Array
from tfp_distill.flows import Flow
from tfp_distill.flows.config import check_at_least
from tfp_distill.training import StepRandom

__all__ = [
    "Likelihood",
    "evaluate_likelihood",
    "evaluation_batch_size",
    "latent_round_trip_error",
    "round_trip_error",
    "rows_with_noise",
]


@dataclasses.dataclass(frozen=True)
class Likelihood:
    """The mean log-likelihood of a data set, in nats per example.

    Attributes:
      mean: mean over *all* examples. One that is not finite makes it what it is, -inf or nan; no
        example is left out.
      standard_error: of the mean over draws of the data set, for the model as it is:
        `standard_deviation / sqrt(num_examples)`. nan where the mean is not finite.
      num_examples: number of examples.
      num_non_finite: number of examples whose log-likelihood is not finite.
      values: the log-likelihood of each example, float64 `[num_examples]`, in the order of the
        data, for `paired_difference`; None where it is not known. Not part of comparisons.
    """

    mean: float
    standard_error: float
    num_examples: int
    num_non_finite: int = 0
    values: np.ndarray | None = dataclasses.field(default=None, compare=False, repr=False)

    @classmethod
    def of_values(cls, values: np.ndarray) -> Likelihood:
        """Returns the likelihood of at least two examples of these log-likelihoods `[n]`."""
        values = np.asarray(values, np.float64)
        num_non_finite = int(np.count_nonzero(~np.isfinite(values)))
        deviation = float(np.std(values, ddof=1)) if num_non_finite == 0 else float("nan")
        with np.errstate(invalid="ignore"):  # The mean of inf and -inf is nan, and counted.
            mean = float(np.mean(values))
        return cls(mean, deviation / len(values) ** 0.5, len(values), num_non_finite, values)

    def __str__(self) -> str:
        """The mean plus or minus two standard errors."""
        text = f"{self.mean:.3f} ± {2 * self.standard_error:.3f} nats"
        if self.num_non_finite:
            text += f" ({self.num_non_finite:,} of {self.num_examples:,} examples not finite)"
        return text


def evaluate_likelihood(
    flow: Flow,
    x: Array,
    condition: Array | None = None,
    *,
    batch_size: int | None = None,
    draws: int = 1,
) -> Likelihood:
    """Computes the mean log-likelihood of every row of `x`.

    Batches are accumulated in float64.

    Args:
      flow: the flow.
      x: data `[n, ...]`, at least 2 rows, in the user's units; or images, uint8 `[n, h, w, C]`,
        which get the noise of `flow.config.domain`, as integers of columns do, equal in every
        evaluation. A memory-mapped array is read batch by batch.
      condition: `[n, C]` for a conditional flow.
      batch_size: number of rows computed at once; `evaluation_batch_size(flow)` by default.
      draws: how many draws of the noise of uint8 images, or of integers, are averaged, for each
        of them.

    Returns:
      The `Likelihood`, with the `values` of all rows.

    Raises:
      ValueError: if `x` has fewer than two rows, `condition` not as many rows as `x`, or several
        draws are asked for where there is no noise.
    """
    if len(x) < 2:
        raise ValueError(f"`x` must have at least 2 rows, got {len(x)}.")
    check_at_least(1, draws=draws)
    if draws > 1 and rows_with_noise(flow, x) is x:
        raise ValueError(
            f"`draws` must be 1 where `x` is no uint8 images and has no integers, got {draws}."
        )
    sums = np.zeros(len(x))
    for draw in range(draws):
        parts = []
        for batch, rows in _batches(flow, x, condition, batch_size, draw):
            parts.append(np.asarray(flow.log_prob(*batch), np.float64)[:rows])
        sums = sums + np.concatenate(parts)
    return Likelihood.of_values(sums / draws)


def evaluation_batch_size(flow: Flow) -> int:
    """Returns how many rows an evaluation computes at once: 5,000, or fewer images."""
    return flow.config.domain.evaluation_rows(flow.latent_dims)


def round_trip_error(
    flow: Flow, x: Array, condition: Array | None = None, *, batch_size: int | None = None
) -> float:
    """Returns the largest error of `to_data(to_latent(x))`, in units of the data's scale.

        max over rows and dimensions of |to_data(to_latent(x)) - x| / scale

    Args:
      flow: the flow.
      x: data `[n, ...]`, in the user's units, or uint8 images as for `evaluate_likelihood`.
      condition: `[n, C]` for a conditional flow.
      batch_size: number of rows computed at once; `evaluation_batch_size(flow)` by default.

    Returns:
      The error; inf or nan where the flow produces such values.

    Raises:
      ValueError: if `x` has no rows, or `condition` not as many rows as `x`.
    """
    errors = []
    for (batch, *rest), _ in _batches(flow, x, condition, batch_size):
        z = tf.identity(flow.to_latent(batch, *rest))  # no bijector can answer from its cache
        difference = flow.standardize.in_units_of_scale(flow.to_data(z, *rest) - batch)
        errors.append(tf.reduce_max(tf.abs(difference)).numpy())
    return float(np.max(errors))


def latent_round_trip_error(
    flow: Flow,
    n: int,
    condition: Array | None = None,
    *,
    seed: int = 0,
    batch_size: int | None = None,
) -> float:
    """Returns the largest error of `to_latent(to_data(z))`, of z that are normal as the base is.

    An inverse that is exact on data need not be so where the flow puts its samples.

    Args:
      flow: the flow.
      n: number of latents.
      condition: `[n, C]` for a conditional flow.
      seed: equal seeds give equal latents, those of `flow.sample(n, seed=seed)`.
      batch_size: number of rows computed at once; `evaluation_batch_size(flow)` by default.

    Returns:
      The error; inf or nan where the flow produces such values.

    Raises:
      ValueError: if `n` or `batch_size` is less than 1, or `condition` has not n rows.
    """
    check_at_least(1, n=n)
    latents = StepRandom(0, seed).normal(n, flow.latent_dims, flow.compute_dtype).numpy()
    errors = []
    for (z, *rest), _ in _batches(flow, latents, condition, batch_size):
        x = tf.identity(flow.to_data(z, *rest))  # no bijector can answer from its cache
        errors.append(tf.reduce_max(tf.abs(flow.to_latent(x, *rest) - z)).numpy())
    return float(np.max(errors))


def rows_with_noise(flow: Flow, x: Array, draw: int = 0) -> Any:
    """Returns rows as `flow` models them: bytes of images and integers of columns get noise.

    Args:
      flow: the flow.
      x: rows `[n, ...]` as for `evaluate_likelihood`.
      draw: equal draws have equal noise.
    """
    domain = flow.config.domain
    return domain.examples(x, draw=draw) if domain.has_noise else x


def _batches(
    flow: Flow, x: Array, condition: Array | None, batch_size: int | None, draw: int = 0
) -> Iterator[tuple[list[tf.Tensor], int]]:
    """Yields batches of one size, so that a function compiles once, and their number of rows.

    The last batch is filled up with copies of its last row.
    """
    batch_size = evaluation_batch_size(flow) if batch_size is None else batch_size
    check_at_least(1, batch_size=batch_size)
    if len(x) < 1:
        raise ValueError("`x` must have at least 1 row, got 0.")
    if condition is not None and len(condition) != len(x):
        raise ValueError(f"`condition` must have {len(x)} rows as `x`, got {len(condition)}.")
    x = rows_with_noise(flow, x, draw)
    arrays = [x] if condition is None else [x, condition]
    batch_size = min(batch_size, len(x))
    for start in range(0, len(x), batch_size):
        rows = min(batch_size, len(x) - start)
        parts = [np.asarray(a[start : start + rows], flow.compute_dtype) for a in arrays]
        yield [tf.constant(_fill_up(part, batch_size)) for part in parts], rows


def _fill_up(array: np.ndarray, rows: int) -> np.ndarray:
    missing = rows - len(array)
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing else array
