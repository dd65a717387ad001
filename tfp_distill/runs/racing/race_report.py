"""The end of a race as a table, and in a few sentences."""

from __future__ import annotations

from collections.abc import Sequence

from tfp_distill.evaluation import (
    PairedDifference,
    Result,
    Table,
    paired_difference,
)
from tfp_distill.evaluation.paired import error_of_gap_closed
from tfp_distill.evaluation.text_table import format_duration
from tfp_distill.runs.racing.race import Outcome
from tfp_distill.runs.run_directory import RunDirectory

__all__ = ["race_summary", "race_table"]

_NOTE = (
    "Differences are means over the same test rows ± two standard errors; positive is better. What "
    "another training of the same models would give is not in them: this is one seed. By the "
    "teacher: the difference to the student of the same architecture that learns without one. "
    "Time is for a batch of samples."
)


def race_table(results: Sequence[Result], outcome: Outcome) -> Table:
    """Returns a row per model of a race, and a note on those that were given up.

    Args:
      results: the evaluated models of `outcome.names`.
      outcome: how the race ended.
    """
    by_name = {result.name: result for result in results}
    teacher = by_name["teacher"]
    rows = []
    for result in results:
        beside, by_teacher = "", ""
        if result is not teacher:
            beside = _difference(result, teacher)
            plain = by_name.get(f"{result.name.rpartition('/')[0]}/student")
            by_teacher = "" if plain in (None, result) else _difference(result, plain)
        rows.append(
            [
                f"{result.name} (chosen)" if result.name == outcome.chosen.name else result.name,
                f"{result.parameters:,}",
                f"{result.parameters / teacher.parameters:.0%}",
                format_duration(result.speed.to_data_seconds),
                _figure(result),
                beside,
                by_teacher,
            ]
        )
    unit = "bits/dim" if teacher.bits_per_dim is not None else "nats"
    header = ["model", "parameters", "of teacher", "time", f"test {unit}"]
    given_up = [f"{name} after {step:,} steps" for name, step in outcome.stopped.items()]
    left_out = [f"{name}, {reason}" for name, reason in outcome.left_out.items()]
    note = _NOTE
    for title, names in (("Given up: ", given_up), ("Not raced: ", left_out)):
        note += f" {title}{'; '.join(names)}." if names else ""
    return Table([*header, "ahead of teacher", "by the teacher"], rows, note=note)


def race_summary(results: Sequence[Result], outcome: Outcome, run: RunDirectory) -> list[str]:
    """Returns what a user wants to know, a sentence or two a line.

    Args:
      results: the evaluated models of `outcome.names`.
      outcome: how the race ended.
      run: the run.
    """
    by_name = {result.name: result for result in results}
    teacher, chosen = by_name["teacher"], by_name[outcome.chosen.name]
    unit = "bits/dim" if teacher.bits_per_dim is not None else "nats"
    within = f"within {run.recipe.within:g} {unit} of the teacher on validation data"
    size = chosen.parameters / teacher.parameters
    time = chosen.speed.to_data_seconds / teacher.speed.to_data_seconds
    lines = [
        f"chosen: {chosen.name}, the smallest {within}"
        if outcome.is_within
        else f"chosen: {chosen.name}, the best; none is {within}",
        f"  {chosen.parameters:,} parameters, {100 * size:.0f} % of the teacher's; samples take "
        f"{100 * time:.0f} % of its time; {_difference(chosen, teacher)} test {unit} beside it",
    ]
    plain = by_name[outcome.chosen.plain.name]
    for entry in outcome.finished:
        if entry.method != "student" and entry.plain == outcome.chosen.plain:
            gain = paired_difference(by_name[entry.name].likelihood.values, plain.likelihood.values)
            verdict = "no more than its noise" if _is_noise(gain) else "more than its noise"
            lines.append(
                f"distillation ({entry.method}) of this architecture: "
                f"{_difference(by_name[entry.name], plain)} test {unit}, {verdict}; the rest is "
                "the architecture's"
            )
    lines += _few_rows(by_name, outcome, run, unit)
    return lines


def _few_rows(
    by_name: dict[str, Result], outcome: Outcome, run: RunDirectory, unit: str
) -> list[str]:
    if not outcome.few_rows:
        return []
    plain, *distilled = (by_name[name] for name in outcome.few_rows)
    teacher, lines = by_name["teacher"], []
    for result in distilled:
        lines.append(
            f"from {run.recipe.few_rows:,} rows: {_figure(result)} test {unit} with the teacher, "
            f"which saw {len(run.data.train):,}, and {_figure(plain)} without; "
            f"{_difference(result, plain)}{_part_of_gap(result, plain, teacher)}"
        )
    return lines


def _part_of_gap(result: Result, plain: Result, teacher: Result) -> str:
    """Returns which part of the gap to the teacher is closed; nothing where there is hardly one."""
    values = [r.likelihood.values for r in (result, plain, teacher)]
    gap = paired_difference(values[2], values[1])
    if gap.mean <= 0 or _is_noise(gap):
        return ""
    closed = paired_difference(values[0], values[1]).mean / gap.mean
    return f", {closed:.0%} ± {2 * error_of_gap_closed(*values):.0%} of the gap"


def _is_noise(difference: PairedDifference) -> bool:
    return not abs(difference.mean) > 2 * difference.standard_error


def _difference(result: Result, other: Result) -> str:
    """Returns by how much a result is better, in nats or in bits per dimension."""
    difference = paired_difference(result.likelihood.values, other.likelihood.values)
    scale = result.bits_per_nat or 1.0
    return f"{scale * difference.mean:+.3f} ± {2 * scale * difference.standard_error:.3f}"


def _figure(result: Result) -> str:
    return f"{result.likelihood.mean if result.bits_per_dim is None else result.bits_per_dim:.3f}"
