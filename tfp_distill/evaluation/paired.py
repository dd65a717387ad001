"""Differences of two models on the same rows, which are surer than those of their means."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfp_distill.arrays import Array

__all__ = ["PairedDifference", "error_of_gap_closed", "paired_difference"]


@dataclasses.dataclass(frozen=True)
class PairedDifference:
    """The mean difference of two models' log-likelihoods on the same rows, in nats per example.

    Attributes:
      mean: mean over *all* rows; positive where the first model is better. A difference that is not
        finite makes it what it is, inf, -inf or nan; no row is left out.
      standard_error: of the mean over draws of the rows, for the two models as they are:
        `standard_deviation / sqrt(num_examples)`. nan where the mean is not finite. What another
        training of the same models would give is not in it.
      num_examples: number of rows.
      num_non_finite: number of rows on which the difference is not finite.
    """

    mean: float
    standard_error: float
    num_examples: int
    num_non_finite: int = 0

    def __str__(self) -> str:
        """The mean plus or minus two standard errors."""
        text = f"{self.mean:.3f} ± {2 * self.standard_error:.3f} nats"
        if self.num_non_finite:
            text += f" ({self.num_non_finite:,} of {self.num_examples:,} rows not finite)"
        return text


def paired_difference(log_probs_a: Array, log_probs_b: Array) -> PairedDifference:
    """Returns by how much model a is ahead of model b on the same rows.

        d_i = log p_a(x_i) - log p_b(x_i),   mean(d) ± sd(d) / sqrt(n)

    Args:
      log_probs_a: the log-likelihood of each row `[n]` under a, as `Likelihood.values`; n at least
        2.
      log_probs_b: that of the same rows, in the same order, under b.

    Returns:
      The `PairedDifference`, computed in float64.

    Raises:
      ValueError: if one is not `[n]` with at least 2 rows, or the numbers of rows differ.
    """
    a, b = _of_the_same_rows(log_probs_a=log_probs_a, log_probs_b=log_probs_b)
    with np.errstate(invalid="ignore"):  # -inf under both is nan, which is counted.
        differences = a - b
        mean = float(np.mean(differences))
    num_non_finite = int(np.count_nonzero(~np.isfinite(differences)))
    deviation = float("nan") if num_non_finite else float(np.std(differences, ddof=1))
    return PairedDifference(mean, deviation / len(a) ** 0.5, len(a), num_non_finite)


def error_of_gap_closed(distilled: Array, student: Array, teacher: Array) -> float:
    """Returns the standard error of the part of the gap that is closed, on the same rows.

        g = mean(distilled - student) / mean(teacher - student)
        error = sd(distilled_i - student_i - g (teacher_i - student_i)) / sqrt(n) / |mean gap|

    the delta method, which holds where the gap is several of its own errors wide.

    Args:
      distilled: the log-likelihood of each row `[n]` under the distilled student.
      student: that under the plain student.
      teacher: that under the teacher.

    Returns:
      The error; nan where a figure is not finite or there is no gap.

    Raises:
      ValueError: as `paired_difference`.
    """
    distilled, student, teacher = _of_the_same_rows(
        distilled=distilled, student=student, teacher=teacher
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        gains, gaps = distilled - student, teacher - student
        gap = np.mean(gaps)
        residuals = gains - np.mean(gains) / gap * gaps
        return float(np.std(residuals, ddof=1) / len(gaps) ** 0.5 / abs(gap))


def _of_the_same_rows(**log_probs: Array) -> list[np.ndarray]:
    """Returns the arrays as float64 `[n]`, in order."""
    arrays = {name: np.asarray(values, np.float64) for name, values in log_probs.items()}
    first, *_ = arrays
    for name, values in arrays.items():
        if values.ndim != 1 or len(values) < 2:
            raise ValueError(
                f"`{name}` must have shape ('n',) with at least 2 rows, got {values.shape}."
            )
        if len(values) != len(arrays[first]):
            raise ValueError(
                f"`{name}` must have {len(arrays[first]):,} rows as `{first}`, the same ones, "
                f"got {len(values):,}."
            )
    return list(arrays.values())
