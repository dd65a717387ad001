"""A race of candidates by successive halving, which ends with the smallest flow that is good enough.

Plain students of all candidates are trained for a quarter of the steps; the half with the lowest
nll on validation data goes on to half of the steps, and so on, until two are left, which are
finished (Jamieson and Talwalkar, 2016, arXiv:1502.07943). Then the chosen architecture, and the
next smaller one that was not good enough, are distilled.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

from tfp_distill.runs.candidates import Candidate, candidates_of, is_worth_racing, num_parameters
from tfp_distill.runs.fitting import TrainingRecord, read_record
from tfp_distill.runs.run_directory import RunDirectory
from tfp_distill.runs.workers import Task, Workers

__all__ = ["Entry", "Outcome", "race"]

_FINALISTS = 2
_RUNGS = (0.25, 0.5, 1.0)


@dataclasses.dataclass(frozen=True)
class Entry:
    """A student of a race.

    Attributes:
      candidate: its architecture.
      parameters: number of its trainable parameters.
      method: how it learns; "student" for maximum likelihood alone.
    """

    candidate: Candidate
    parameters: int
    method: str = "student"

    @property
    def name(self) -> str:
        """Its name, which is also that of its directory."""
        plain = self.candidate.name
        return plain if self.method == "student" else f"{plain}_{self.method}"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a race ended.

    Attributes:
      chosen: the smallest student within the tolerance; the best one, if there is none.
      is_within: whether it is within the tolerance, on validation data.
      finished: the students that were trained to the end, the smallest first.
      stopped: those that were given up, and after how many steps.
      left_out: candidates that were not tried, and why.
    """

    chosen: Entry
    is_within: bool
    finished: tuple[Entry, ...]
    stopped: Mapping[str, int]
    left_out: Mapping[str, str]


def race(run: RunDirectory, workers: Workers) -> Outcome:
    """Trains the teacher and races students for the place of the smallest that is good enough.

    Whatever the run directory holds already is not trained again, so that a race which was
    interrupted goes on where it stopped, and one with another tolerance only adds what it misses.

    Args:
      run: the run; its recipe has the candidates, the limits and the tolerance.
      workers: what trains.

    Raises:
      ValueError: if no candidate is within the limits.
    """
    entries, left_out = _entries(run)
    for name, reason in left_out.items():
        print(f"{name}: is not raced, {reason}", flush=True)
    steps = run.recipe.training_steps("student")
    report = run.recipe.report_steps
    stopped: dict[str, int] = {}
    teacher = Task("teacher", run.recipe)
    for rung in _RUNGS:
        until = min(steps, math.ceil(rung * steps / report) * report)
        tasks = [_task(run, entry, until) for entry in entries]
        workers.carry_out([teacher, *tasks] if rung == _RUNGS[0] else tasks)
        if until >= steps or (len(entries) <= _FINALISTS and rung < 1.0):
            continue
        kept = _best(run, entries, until, max(_FINALISTS, math.ceil(len(entries) / 2)))
        dropped = [entry for entry in entries if entry not in kept]
        stopped |= {entry.name: until for entry in dropped}
        for entry in dropped:
            print(f"{entry.name}: is given up after {until:,} steps", flush=True)
        entries = kept
    limit = _best_nll(run, "teacher") + run.recipe.within_nats(run.data)
    plain = _chosen(run, entries, limit)
    distilled = _distilled(run, entries, plain, limit)
    workers.carry_out([_task(run, entry, steps) for entry in distilled])
    finished = sorted([*entries, *distilled], key=lambda entry: (entry.parameters, entry.name))
    chosen = _chosen(run, finished, limit)
    is_within = _best_nll(run, chosen.name) <= limit
    return Outcome(chosen, is_within, tuple(finished), stopped, left_out)


def _entries(run: RunDirectory) -> tuple[list[Entry], dict[str, str]]:
    """Returns the plain students to race, the smallest first, and what is left out and why."""
    recipe, teacher = run.recipe, num_parameters(run.teacher_config)
    entries, left_out = [], {}
    for candidate in candidates_of(recipe, images=run.data.pixel_format is not None):
        parameters = num_parameters(run.variant(candidate.of(recipe)).config("student"))
        if recipe.max_parameters and parameters > recipe.max_parameters:
            left_out[candidate.name] = f"it has {parameters:,} parameters"
        elif not recipe.candidates and not is_worth_racing(parameters, teacher):
            left_out[candidate.name] = f"its {parameters:,} parameters save less than half"
        else:
            entries.append(Entry(candidate, parameters))
    if not entries:
        raise ValueError(
            "`candidates` must hold one within `max_parameters`, and by default of at most half "
            f"the {teacher:,} parameters of the teacher, got none."
        )
    return sorted(entries, key=lambda entry: (entry.parameters, entry.name)), left_out


def _distilled(
    run: RunDirectory, entries: Sequence[Entry], plain: Entry, limit: float
) -> list[Entry]:
    """Returns what is worth distilling: the plain choice, and the next smaller finalist."""
    smaller = [entry for entry in entries if entry.parameters < plain.parameters]
    return [
        dataclasses.replace(entry, method=method)
        for method in run.recipe.race_methods
        for entry in (*smaller[-1:], plain)
    ]


def _task(run: RunDirectory, entry: Entry, until: int) -> Task:
    recipe = entry.candidate.of(run.recipe)
    return Task(entry.name, recipe, method=entry.method, until=until)


def _best(run: RunDirectory, entries: Sequence[Entry], step: int, number: int) -> list[Entry]:
    """Returns the entries with the lowest nll on validation data up to a step."""

    def nll(entry: Entry) -> float:
        history = read_record(run.model_directory(entry.name)).history
        return min(row["val_nll"] for row in history if row["step"] <= step)

    kept = sorted(entries, key=nll)[:number]
    return [entry for entry in entries if entry in kept]


def _chosen(run: RunDirectory, entries: Sequence[Entry], limit: float) -> Entry:
    """Returns the smallest entry within a limit of the nll, or the best one if there is none."""
    nlls = {entry: _best_nll(run, entry.name) for entry in entries}
    within = [entry for entry in entries if nlls[entry] <= limit]
    if within:
        return min(within, key=lambda entry: (entry.parameters, nlls[entry]))
    return min(entries, key=nlls.__getitem__)


def _best_nll(run: RunDirectory, name: str) -> float:
    record: TrainingRecord = read_record(run.model_directory(name))
    return record.best_val_nll


Trainer = Callable[[Task], None]
