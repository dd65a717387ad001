"""A race of candidates, which ends with the smallest flow that is good enough.

By successive halving (Jamieson and Talwalkar, 2016, arXiv:1502.07943): plain students of all
candidates are trained for a quarter of the steps, the best third of them on validation data, but
at least two, for three quarters, and the two that are left are finished. Then the chosen
architecture is distilled, and so is the smaller one of the two, if it was almost good enough.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from tfp_distill.evaluation import evaluate_likelihood, measure_speed
from tfp_distill.flows import Flow, FlowConfig, load_flow
from tfp_distill.runs.fitting.rows import batch_size_of
from tfp_distill.runs.fitting.training_record import read_record
from tfp_distill.runs.racing.candidates import Candidate, candidates_of, few_rows_folder
from tfp_distill.runs.racing.workers import Task, Workers, workers
from tfp_distill.runs.run_directory import RunDirectory

__all__ = ["Entry", "Outcome", "check_race", "race"]

_FINALISTS = 2
_FIRST_RUNG = 0.25
_FACTOR = 3
# What a candidate that nobody asked for must save, or it is not worth its loss.
_LARGEST_SHARE = 0.5
# Distillation brings no student within the tolerance that is further behind than so many of it.
_REACH = 1.25
_METHOD_OF_FEW_ROWS = "mixture"
_SPEED_BATCH = {False: 1000, True: 64}  # Rows and images, as in the evaluation.


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
        """Its name within the run, which is also the path of its directory there."""
        return f"{self.candidate.name}/{self.method}"

    @property
    def plain(self) -> Entry:
        """The entry of the same architecture that learns without a teacher."""
        return dataclasses.replace(self, method="student")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a race ended.

    Attributes:
      chosen: the smallest student within the tolerance; the best one, if there is none.
      is_within: whether it is within the tolerance, on validation data.
      finished: the students that were trained to the end, the smallest first.
      stopped: the names of those that were given up, or came to nothing, and after how many steps.
      left_out: names of candidates that were not tried, and why.
      few_rows: the names of students of the chosen architecture that saw few rows.
    """

    chosen: Entry
    is_within: bool
    finished: tuple[Entry, ...]
    stopped: Mapping[str, int]
    left_out: Mapping[str, str]
    few_rows: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the models to evaluate, the teacher first."""
        return ("teacher", *(entry.name for entry in self.finished), *self.few_rows)


def check_race(run: RunDirectory) -> None:
    """Raises `ValueError` if there is nothing to race, or too few rows, before any work is done.

    Nothing is checked where students are compared instead of raced.
    """
    if run.recipe.students:
        return
    rule = "default in a race, whose trainings share out the cores; give `students` to compare"
    run.recipe.check("strategy", rule, run.recipe.strategy == "default")
    rows, train = run.recipe.few_rows, run.data.train
    run.recipe.check("few_rows", f"at most the {len(train):,} training rows", rows <= len(train))
    rule = "0, or so many that no column has the same value in all of them"
    varies = run.data.domain.is_images or np.any(train[:rows] != train[:1], axis=0).all()
    run.recipe.check("few_rows", rule, not rows or varies)
    _entries(run)


def race(run: RunDirectory) -> Outcome:
    """Trains the teacher and races students for the place of the smallest that is good enough.

    What the run directory holds already is not trained again, so that an interrupted race goes on
    where it stopped, and one with another tolerance adds only what it misses.

    Args:
      run: the run; its recipe has the candidates, the limits and the tolerance.
    """
    entries, left_out = _entries(run)
    for name, reason in left_out.items():
        print(f"{name}: is not raced, {reason}", flush=True)
    steps = run.recipe.training_steps("student")
    with workers(run) as crew:
        teacher = crew.start(Task("", run.recipe, "teacher"))  # Plain students do not wait for it.
        entries, stopped = _halve(run, entries, crew)
        entries = _train(run, entries, steps, crew, stopped)
        teacher.result()
        limit = _nll(run, "teacher") + _tolerance(run)
        plain = _chosen(run, entries, limit)
        # What the choice will be, unless a distilled student is smaller and good enough.
        trained_on_few = crew.start(*_few_rows_tasks(run, plain))
        distilled = _to_distill(run, entries, plain)
        distilled = _train(run, distilled, steps, crew, stopped)
        finished = sorted([*entries, *distilled], key=lambda entry: (entry.parameters, entry.name))
        chosen = _chosen(run, finished, limit)
        trained_on_few.result()
        if chosen.plain != plain:
            crew.start(*_few_rows_tasks(run, chosen)).result()
    is_within = _nll(run, chosen.name) <= limit
    few_rows = tuple(f"{task.folder}/{task.method}" for task in _few_rows_tasks(run, chosen))
    return Outcome(chosen, is_within, tuple(finished), stopped, left_out, few_rows)


def _halve(
    run: RunDirectory, entries: list[Entry], crew: Workers
) -> tuple[list[Entry], dict[str, int]]:
    """Returns the finalists, and who was given up after how many steps."""
    steps, report = run.recipe.training_steps("student"), run.recipe.report_steps
    stopped: dict[str, int] = {}
    fraction = _FIRST_RUNG
    while len(entries) > _FINALISTS:
        until = min(steps, math.ceil(fraction * steps / report) * report)
        entries = _train(run, entries, until, crew, stopped)
        kept = sorted(entries, key=lambda entry: _nll(run, entry.name, until))
        kept = kept[: max(_FINALISTS, math.ceil(len(entries) / _FACTOR))]
        for entry in entries:
            if entry not in kept:
                stopped[entry.name] = until
                print(f"{entry.name}: is given up after {until:,} steps", flush=True)
        entries = [entry for entry in entries if entry in kept]
        fraction = min(1.0, _FACTOR * fraction)
    return entries, stopped


def _train(
    run: RunDirectory,
    entries: Sequence[Entry],
    until: int,
    crew: Workers,
    stopped: dict[str, int],
) -> list[Entry]:
    """Trains entries up to a step; returns those that did, and notes the others as stopped.

    Raises:
      FloatingPointError: if all plain students come to nothing.
    """
    failed = {
        f"{task.folder}/{task.method}"
        for task in crew.carry_out([_task(run, entry, until) for entry in entries])
    }
    left = [entry for entry in entries if entry.name not in failed]
    if not left and any(entry.method == "student" for entry in entries):
        names = ", ".join(entry.name for entry in entries)
        raise FloatingPointError(f"No candidate is left in the race: {names} could not be trained.")
    for name in failed:
        stopped[name] = read_record(run.model_directory(name)).steps
    return left


def _to_distill(run: RunDirectory, entries: Sequence[Entry], plain: Entry) -> list[Entry]:
    """Returns what to distil: the choice, and the next smaller one if that may become it."""
    limit = _nll(run, "teacher") + _REACH * _tolerance(run)
    smaller = [
        entry
        for entry in entries
        if entry.parameters < plain.parameters and _nll(run, entry.name) <= limit
    ]
    return [
        dataclasses.replace(entry, method=method)
        for method in run.recipe.race_methods
        for entry in (*smaller[-1:], plain)
    ]


def _few_rows_tasks(run: RunDirectory, chosen: Entry) -> list[Task]:
    """Returns the training from few rows alone, and that with the teacher, which waits for it."""
    rows = run.recipe.few_rows
    if not rows:
        return []
    recipe = dataclasses.replace(
        chosen.candidate.of(run.recipe),
        train_rows=rows,
        batch_size=batch_size_of(run.batch_size, rows),
        students=("student", _METHOD_OF_FEW_ROWS),
    )
    folder = few_rows_folder(chosen.candidate, rows)
    return [Task(folder, recipe, method) for method in recipe.students]


def _entries(run: RunDirectory) -> tuple[list[Entry], dict[str, str]]:
    """Returns the plain students to race, the smallest first, and what is left out and why."""
    recipe, images = run.recipe, run.data.domain.is_images
    of_teacher = Flow(_teacher_config(run)).num_parameters
    entries, left_out = [], {}
    for candidate in candidates_of(recipe, images=images):
        flow = Flow(run.within(candidate.name, candidate.of(recipe)).config("student"))
        parameters = flow.num_parameters
        if recipe.max_parameters and parameters > recipe.max_parameters:
            left_out[candidate.name] = f"it has {parameters:,} parameters"
        elif not recipe.candidates and parameters > _LARGEST_SHARE * of_teacher:
            left_out[candidate.name] = f"its {parameters:,} parameters save less than half"
        elif recipe.max_ms and (ms := _milliseconds(flow, images)) > recipe.max_ms:
            left_out[candidate.name] = f"it takes {ms:.3g} ms"
        else:
            entries.append(Entry(candidate, parameters))
    if not entries:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise ValueError(
            "`candidates` must hold one within `max_parameters` and `max_ms`, by default of at "
            f"most half of the teacher's {of_teacher:,} parameters, got {reasons}."
        )
    return sorted(entries, key=lambda entry: (entry.parameters, entry.name)), left_out


def _teacher_config(run: RunDirectory) -> FlowConfig:
    path = run.recipe.teacher_path
    if "teacher" in run.trained():
        return run.load_flow("teacher").config
    return load_flow(path).config if path else run.config("teacher")


def _milliseconds(flow: Flow, images: bool) -> float:
    """Returns the time of a batch in the direction of sampling, in milliseconds."""
    return 1e3 * measure_speed(flow, batch_size=_SPEED_BATCH[images]).to_data_seconds


def _task(run: RunDirectory, entry: Entry, until: int) -> Task:
    return Task(entry.candidate.name, entry.candidate.of(run.recipe), entry.method, until)


def _nll(run: RunDirectory, name: str, until: float = math.inf) -> float:
    """Returns the lowest nll of a model on validation data, up to a step."""
    record = read_record(run.model_directory(name))
    if not record.history:  # A teacher that was taken over.
        data, flow = run.data, run.load_flow(name)
        return -evaluate_likelihood(flow, data.validation, data.validation_condition).mean
    nlls = (row["val_nll"] for row in record.history if row["step"] <= until)
    return min((nll for nll in nlls if math.isfinite(nll)), default=math.inf)


def _tolerance(run: RunDirectory) -> float:
    """Returns `within` in nats per example."""
    return run.recipe.within / run.data.domain.units_per_nat(run.data.event_shape)


def _chosen(run: RunDirectory, entries: Sequence[Entry], limit: float) -> Entry:
    """Returns the smallest entry within a limit of the nll, or the best one if there is none."""
    nlls = {entry: _nll(run, entry.name) for entry in entries}
    within = [entry for entry in entries if nlls[entry] <= limit]
    if within:
        return min(within, key=lambda entry: (entry.parameters, nlls[entry]))
    return min(entries, key=nlls.__getitem__)
