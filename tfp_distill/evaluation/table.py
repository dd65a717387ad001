"""The results of an evaluation as a table of text."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from tfp_distill.evaluation.comparisons import ahead_of_student, gap_closed, gap_closed_error
from tfp_distill.evaluation.flow_result import Result
from tfp_distill.evaluation.text_table import UNDEFINED, Table, format_duration

__all__ = ["format_table", "results_table"]

_NATS = (
    "Test nats are mean log-likelihoods of the test data, per example, ± two standard errors; "
    "higher is better. "
)
_BITS = (
    "Test bits/dim are mean negative log-likelihoods of the test images, in bits per dimension, "
    "± two standard errors; lower is better. "
)
_FRECHET = (
    "Columns with FD are Fréchet distances from {} test images, of {} samples or of as many images "
    "half-way between two test images, under the features of {}; lower is better, and figures "
    "under other features are of another scale. Behind them, the part of the gap that is closed. "
)
# Below the plain text too.
_ERRORS = (
    "± beside a likelihood is the error of that figure, not that of a difference of two models: "
)
_PAIRED = (
    "that is in the column ahead of student, the mean difference to the plain student on the same "
    "test data, in {}, ± two standard errors; positive is better. "
)
_UNPAIRED = "all models see the same test data, so that differences are surer than it suggests. "
_ONE_SEED = (
    "Each model was trained once: differences of one seed also contain the luck of the training."
)
_EXPLANATION = (
    "Gap closed is (distilled − student) / (teacher − student), ± two standard errors where they "
    "are known, and only where the teacher is ahead of the student by more than two. "
    "Round trip is the largest error of data → latent → data, in units of the data’s scale, or of "
    "latent → data → latent, if that is larger. "
)
_OUTSIDE = (
    "Outside is the share of samples beyond the range of the training data in any column, by more "
    "than 1 % of what lies between its quantiles 0.001 and 0.999; of the test data it is {}. "
)
_INTEGERS = (
    "The likelihoods are of {} with uniform noise: lower bounds, on average, of the "
    "log-probability of the integers, not to be compared with densities of models that take them "
    "as they are."
)
_SKIPPED = "Skipped steps changed nothing because a loss or gradient was not finite."


def format_table(results: Sequence[Result]) -> str:
    """Returns the results as an aligned table of plain text.

    Args:
      results: one row each, in this order. The gap closed needs "teacher" and "student".
    """
    if not results:
        return str(results_table(results))
    return "\n".join(
        [
            str(results_table(results)),
            *_batch_sizes(results),
            *_integers(results),
            _errors(results),
            _ONE_SEED,
        ]
    )


def results_table(results: Sequence[Result]) -> Table:
    """Returns a row per result, with a note on what the columns mean."""
    columns: dict[str, Callable[[Result], str]] = {
        "model": lambda r: r.name,
        _likelihood_name(results): lambda r: _likelihood(r),
        **({"ahead of student": functools.partial(_ahead, results)} if _pairs(results) else {}),
        "gap closed": lambda r: _gap_closed(results, r.name),
        **{
            f"FD {name}": functools.partial(_frechet, results, name) for name in _distances(results)
        },
        "parameters": lambda r: f"{r.parameters:,}",
        "to latent": lambda r: format_duration(r.speed.to_latent_seconds),
        "to data": lambda r: format_duration(r.speed.to_data_seconds),
        "round trip": lambda r: f"{r.worst_round_trip_error:.0e}",
        **({"outside": _outside} if any(r.samples for r in results) else {}),
        "steps": lambda r: f"{r.training_steps:,}",
        "training": lambda r: format_duration(r.training_seconds),
        "skipped": lambda r: f"{r.skipped_steps:,}",
    }
    rows = [[cell(r) for cell in columns.values()] for r in results]
    return Table(list(columns), rows, note=_explanation(results))


def _explanation(results: Sequence[Result]) -> str:
    """Returns what the columns mean, in sentences."""
    text = _BITS if _are_images(results) else _NATS
    for name in _distances(results)[:1]:
        distance = next(r.frechet[name] for r in results if name in r.frechet)
        text += _FRECHET.format(
            f"{distance.num_reference:,}", f"{distance.num_samples:,}", distance.extractor
        )
    text += " ".join([_errors(results), _ONE_SEED, _EXPLANATION])
    for shares in [r.samples.held_out_outside for r in results if r.samples][:1]:
        text += _OUTSIDE.format(_share(shares))
    return " ".join([text + _SKIPPED, *_integers(results), *_batch_sizes(results)])


def _errors(results: Sequence[Result]) -> str:
    """Returns what ± is the error of, and where that of a difference is."""
    if not _pairs(results):
        return (_ERRORS + _UNPAIRED).rstrip()
    unit = "bits per dimension" if _are_images(results) else "nats per example"
    return (_ERRORS + _PAIRED.format(unit)).rstrip()


def _batch_sizes(results: Sequence[Result]) -> list[str]:
    """Returns a sentence on the batches of the timings; no sentence where there are none."""
    sizes = sorted({result.speed.batch_size for result in results})
    rows = " or ".join(f"{size:,}" for size in sizes)
    return [f"Times to latent and to data are medians for a batch of {rows} rows."] if sizes else []


def _integers(results: Sequence[Result]) -> list[str]:
    """Returns a sentence on integers that got noise; no sentence where there are none."""
    number = max((result.num_integers for result in results), default=0)
    columns = "1 column of integers" if number == 1 else f"{number} columns of integers"
    return [_INTEGERS.format(columns)] if number else []


def _are_images(results: Sequence[Result]) -> bool:
    return any(result.bits_per_dim is not None for result in results)


def _pairs(results: Sequence[Result]) -> bool:
    return any(ahead_of_student(results, result.name) for result in results)


def _likelihood_name(results: Sequence[Result]) -> str:
    return "test bits/dim" if _are_images(results) else "test nats"


def _distances(results: Sequence[Result]) -> list[str]:
    """Returns the names of all Frechet distances, in order."""
    return list(dict.fromkeys(name for result in results for name in result.frechet))


def _frechet(results: Sequence[Result], name: str, result: Result) -> str:
    if name not in result.frechet:
        return UNDEFINED
    distance = result.frechet[name]
    if distance.num_non_finite:
        return f"{UNDEFINED} ({distance.num_non_finite:,} not finite)"
    text = f"{distance.value:.2f}"
    closed = gap_closed(results, result.name, frechet=name)
    return text if closed is None else f"{text} ({_percent(closed)})"


def _likelihood(result: Result) -> str:
    likelihood = result.likelihood
    mean, error = likelihood.mean, likelihood.standard_error
    if result.bits_per_dim is not None and result.bits_per_dim_error is not None:
        mean, error = result.bits_per_dim, result.bits_per_dim_error
    text = f"{mean:.3f} ± {2 * error:.3f}"
    if likelihood.num_non_finite:
        text += f" ({likelihood.num_non_finite:,} not finite)"
    return text


def _ahead(results: Sequence[Result], result: Result) -> str:
    """Returns the difference to the student, in the unit of the column of likelihoods."""
    ahead = ahead_of_student(results, result.name)
    if ahead is None:
        return UNDEFINED
    unit = 1.0 if result.bits_per_nat is None else result.bits_per_nat
    return f"{unit * ahead.mean:.3f} ± {2 * unit * ahead.standard_error:.3f}"


def _gap_closed(results: Sequence[Result], name: str) -> str:
    part, error = gap_closed(results, name), gap_closed_error(results, name)
    if part is None or error is None:
        return _percent(part)
    return f"{100 * part:.0f} ± {200 * error:.0f} %"


def _outside(result: Result) -> str:
    if result.samples is None:
        return UNDEFINED
    text = _share(result.samples.outside)
    if result.samples.num_non_finite:
        text += f" ({result.samples.num_non_finite:,} not finite)"
    return text


def _percent(part: float | None) -> str:
    return UNDEFINED if part is None else f"{100 * part:.0f} %"


def _share(part: float) -> str:
    """Returns a part that may be small in percent, without pretending that it is nothing."""
    return f"{100 * part:.1f} %" if part >= 0.01 or part == 0 else f"{100 * part:.1g} %"
