"""Results beside each other: what is ahead of what, and by how much more than noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tfp_distill.evaluation.flow_result import Result
from tfp_distill.evaluation.images.frechet import check_comparable
from tfp_distill.evaluation.paired import PairedDifference, error_of_gap_closed, paired_difference

__all__ = ["ahead_of_student", "gap_closed", "gap_closed_error"]

_REFERENCES = ("teacher", "student")


def ahead_of_student(results: Sequence[Result], name: str) -> PairedDifference | None:
    """Returns by how much a model is ahead of the plain student, in nats on the same test rows.

    Args:
      results: results, among them the one named "student".
      name: name of the model.

    Returns:
      The difference, positive where the model is better; None for the student itself, and where a
      likelihood is missing or has no `values`.

    Raises:
      ValueError: if the two were not evaluated on the same number of rows.
    """
    values = _values(results)
    if name == "student" or not {"student", name} <= values.keys():
        return None
    return paired_difference(values[name], values["student"])


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
      is not better than the student, by two standard errors of their paired difference where the
      likelihoods have `values`.
    """
    if frechet is None:
        figures = {result.name: result.likelihood.mean for result in results}
    else:
        distances = {r.name: r.frechet[frechet] for r in results if frechet in r.frechet}
        check_comparable(*distances.values())
        figures = {key: -distance.value for key, distance in distances.items()}
    if name in _REFERENCES or not {*_REFERENCES, name} <= figures.keys():
        return None
    distilled, student, teacher = figures[name], figures["student"], figures["teacher"]
    if not all(map(math.isfinite, (distilled, student, teacher))) or teacher <= student:
        return None
    gap = ahead_of_student(results, "teacher") if frechet is None else None
    if gap is not None and gap.mean <= 2 * gap.standard_error:
        return None
    return (distilled - student) / (teacher - student)


def gap_closed_error(results: Sequence[Result], name: str) -> float | None:
    """Returns the standard error of `gap_closed` of the likelihoods.

    Args:
      results: results, among them those named "teacher" and "student".
      name: name of the distilled student.

    Returns:
      The error over draws of the test data, see `error_of_gap_closed`; None where the part is
      undefined, or a likelihood has no `values`.
    """
    values = _values(results)
    if gap_closed(results, name) is None or not {*_REFERENCES, name} <= values.keys():
        return None
    return error_of_gap_closed(values[name], values["student"], values["teacher"])


def _values(results: Sequence[Result]) -> dict[str, np.ndarray]:
    likelihoods = {result.name: result.likelihood for result in results}
    return {name: each.values for name, each in likelihoods.items() if each.values is not None}
