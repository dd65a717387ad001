"""The stages of a run: train the teacher, train or distill students."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras

from tfp_distill.data import TrainingRows
from tfp_distill.distillation import (
    DataBalance,
    DistillationMonitor,
    FlowDistiller,
    LossWeightSchedule,
    SynthesizedLossGate,
    TeacherPairs,
    TeacherTraces,
    align_with_teacher,
    copy_linear_maps,
    copy_matching_steps,
    have_same_linear_maps,
    rows_to_align,
)
from tfp_distill.evaluation import SampleGrid, evaluation_batch_size
from tfp_distill.files import copy_file, sha256_of
from tfp_distill.flows import Flow
from tfp_distill.runs.data_record import DataRecord
from tfp_distill.runs.fitting.fit_flow import fit_flow
from tfp_distill.runs.fitting.guard import Guard
from tfp_distill.runs.fitting.optimizers import execution_steps, make_optimizer, optimizers_of_parts
from tfp_distill.runs.fitting.rows import first_rows, initial_rows, statistics_of, training_rows
from tfp_distill.runs.fitting.training_record import read_record
from tfp_distill.runs.partitions import model_name, note_parts, part_schedule, partition_of_run
from tfp_distill.runs.recipe.partition_names import END_TO_END
from tfp_distill.runs.run_directory import RunDirectory
from tfp_distill.runs.strategies import make_strategy
from tfp_distill.training import PartwiseModel

__all__ = [
    "best_student",
    "train_student",
    "train_students",
    "train_teacher",
]

_MONITOR_ROWS = 10_000
_REFRESH_STEPS = 1000
_LARGEST_TRACES = 2**30  # Bytes.


def train_teacher(run: RunDirectory) -> None:
    """Trains the teacher by maximum likelihood, or takes the one that the recipe names."""
    recipe = run.recipe
    directory = run.model_directory("teacher")
    if recipe.teacher_path:
        if "teacher" in run.trained():
            print("teacher: already taken over", flush=True)
            return
        DataRecord.copy(recipe.teacher_path, directory)
        copy_file(recipe.teacher_path, run.teacher_path)
        return
    steps = recipe.training_steps("teacher")
    with make_strategy(recipe.strategy).scope():
        flow = _new_flow(run, "teacher", "teacher")
        flow.compile(
            make_optimizer(recipe, run.learning_rate("teacher"), steps),
            jit_compile=recipe.uses_xla,
            steps_per_execution=execution_steps(recipe.report_steps),
            memory=recipe.memory,
        )
    _fit(flow, flow, run, _rows(run), "teacher", steps)


def train_student(
    run: RunDirectory, method: str, partition: str = END_TO_END, *, until: int | None = None
) -> None:
    """Trains a student by a method; all but "student" need the teacher.

    Where the method is guarded, the plain student is trained first, if it is not yet.

    Args:
      run: the run.
      method: how it learns.
      partition: name of the partition that it is trained in.
      until: the step at which the training pauses; by default it ends.

    Raises:
      ValueError: if the teacher has not been trained, or the student cannot be divided so.
    """
    recipe, name = run.recipe, model_name(method, partition)
    guard = _guard(run, method, partition)
    with make_strategy(recipe.strategy).scope():
        learner = _compiled_student(run, method, partition)
    _fit(
        learner.model,
        learner.student,
        run,
        learner.rows,
        name,
        recipe.training_steps("student"),
        callbacks=learner.callbacks,
        monitor=learner.monitor,
        keep_rows=recipe.guard and (method == "student" or guard is not None),
        guard=guard,
        until=until,
        teacher=sha256_of(run.teacher_path) if recipe.losses(method) else "",
    )


class _Learner(NamedTuple):
    """What is trained, its student, and what goes with its training."""

    model: PartwiseModel
    student: Flow
    rows: TrainingRows | TeacherTraces
    callbacks: Sequence[keras.callbacks.Callback]
    monitor: DistillationMonitor | None


def _compiled_student(run: RunDirectory, method: str, partition: str) -> _Learner:
    recipe = run.recipe
    name = model_name(method, partition)
    steps = recipe.training_steps("student")
    student = _new_student(run, method, name)
    model: PartwiseModel = student
    rows: TrainingRows | TeacherTraces = _rows(run)
    callbacks: Sequence[keras.callbacks.Callback] = []
    monitor = None
    if losses := recipe.losses(method):
        nll_weight, *weights = recipe.weights(method)
        model = FlowDistiller(
            student=student,
            teacher=run.load_teacher(),
            distillation_losses=losses,
            distillation_loss_weights=weights,
            student_loss_weight=nll_weight,
            rows_per_sample=recipe.rows_per_sample,
            seed=recipe.seed,
        )
        rows = _rows_of_distiller(run, method, model)
        callbacks = _distillation_callbacks(run, method, model, steps)
        monitor = DistillationMonitor(
            *first_rows(run.data, "validation", _MONITOR_ROWS),
            batch_size=evaluation_batch_size(student),
        )
    divided = partition_of_run(recipe, student, partition, run.model_directory(name))
    if divided is None:
        optimizers = make_optimizer(recipe, run.learning_rate("student"), steps)
    else:
        print(f"{name}:\n{divided}", flush=True)
        optimizers = optimizers_of_parts(recipe, run.learning_rate("student"), len(divided.parts))
        callbacks = [part_schedule(recipe, len(divided.parts), rows), *callbacks]
    model.compile(
        optimizers,
        partition=divided,
        jit_compile=recipe.uses_xla,
        steps_per_execution=execution_steps(recipe.report_steps),
        memory=recipe.memory,
    )
    if divided is not None:
        note_parts(model, run.model_directory(name))
    return _Learner(model, student, rows, callbacks, monitor)


def train_students(run: RunDirectory) -> None:
    """Trains every student of the recipe, by each of its methods in each of its partitions."""
    for method in run.recipe.students:
        for partition in run.recipe.partitions:
            train_student(run, method, partition)


def best_student(run: RunDirectory) -> str:
    """Returns the name of the student that won the race, or has the lowest validation nll.

    Raises:
      ValueError: if no student has been trained.
    """
    if winner := run.winner():
        return winner
    names = [name for name in run.trained() if name != "teacher"]
    if not names:
        raise ValueError(f"`run_dir` must hold a trained student, got none in {str(run.path)!r}.")
    return min(names, key=lambda name: read_record(run.model_directory(name)).best_val_nll)


def _fit(
    model: PartwiseModel,
    flow: Flow,
    run: RunDirectory,
    rows: TrainingRows | TeacherTraces,
    name: str,
    steps: int,
    *,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    **options: Any,
) -> None:
    if run.data.domain.is_images:
        callbacks = [*callbacks, SampleGrid(run.model_directory(name) / "pictures")]
    fit_flow(
        model,
        flow,
        run.data,
        rows,
        directory=run.model_directory(name),
        steps=steps,
        report_steps=run.recipe.report_steps,
        callbacks=callbacks,
        label=run.label(name),
        **options,
    )


def _rows(run: RunDirectory) -> TrainingRows:
    recipe = run.recipe
    return training_rows(run.data, run.batch_size, seed=recipe.seed, random_flip=recipe.random_flip)


def _new_flow(run: RunDirectory, role: str, name: str) -> Flow:
    return Flow(run.config(role), seed=run.recipe.seed, name=name)


def _new_student(run: RunDirectory, method: str, name: str) -> Flow:
    """Returns a student as it starts; one whose training goes on gets its weights later."""
    recipe, flow = run.recipe, _new_flow(run, "student", name)
    if read_record(run.model_directory(name)).steps:
        return flow
    if recipe.student_path:
        run.keep_student_start()
        flow.set_weights(run.student_start().get_weights())
        flow.restart()
        return flow
    start, rows, statistics = recipe.start(method), initial_rows(run.data), statistics_of(run.data)
    if start == "aligned" and len(rows[0]) < rows_to_align(flow):
        needs = f"the teacher's frame is found from {rows_to_align(flow):,} rows at least"
        print(f"{run.label(name)}: starts anew; {needs}, not {len(rows[0]):,}", flush=True)
    elif start == "aligned":
        align_with_teacher(flow, run.load_teacher(), *rows, **statistics)
    elif start == "linear_maps":
        teacher = run.load_teacher()
        if have_same_linear_maps(flow, teacher):
            copy_linear_maps(flow, teacher, *rows, **statistics)
            print(f"{run.label(name)}: starts with the linear maps of the teacher", flush=True)
    elif start == "copied":
        copied = copy_matching_steps(flow, run.load_teacher(), *rows, **statistics)
        pairs = ", ".join(f"{step} from {teacher_step}" for step, teacher_step in copied)
        print(f"{run.label(name)}: starts with copies of steps of the teacher: {pairs}", flush=True)
    return flow


def _guard(run: RunDirectory, method: str, partition: str) -> Guard | None:
    if not run.recipe.guards(method):
        return None
    plain = run.model_directory(model_name("student", partition))
    if not read_record(plain).finished:
        train_student(run, "student", partition)
    label = run.label(model_name(method, partition))
    return Guard(
        plain,
        read_record(plain),
        label=label,
        steps=run.recipe.training_steps("student"),
        # Of a mixture only the hints fade: the teacher's samples stay.
        lets_go=method == "mixture" or not run.recipe.fades_out(method),
    )


def _distillation_callbacks(
    run: RunDirectory, method: str, distiller: FlowDistiller, steps: int
) -> list[keras.callbacks.Callback]:
    recipe = run.recipe
    callbacks: list[keras.callbacks.Callback] = [*_pairs(run, method, distiller)]
    weights = distiller.initial_loss_weights
    names = [loss.name for loss in distiller.distillation_losses]
    if method == "mixture":
        callbacks.append(_data_balance(run, distiller))
        names.remove("forward_kl_loss")
        if not names:  # It has no hints to fade out.
            return callbacks
    gated = "synthesized_loss" if "synthesized_loss" in names else None
    if not recipe.fades_out(method):
        start = round(recipe.synthesized_start * steps)
        return [*callbacks, *([SynthesizedLossGate(open_at_step=start)] if gated and start else [])]

    def schedule(name: str):
        start = recipe.synthesized_start * steps if name == gated else 0
        end = recipe.fade_out * steps
        return lambda step: weights[name] * max(0.0, 1 - step / end) * (step >= start)

    return [*callbacks, LossWeightSchedule({name: schedule(name) for name in names})]


def _pairs(run: RunDirectory, method: str, distiller: FlowDistiller) -> list[TeacherPairs]:
    recipe = run.recipe
    is_conditional = distiller.student.config.condition_dims > 0
    if run.data.domain.is_images or is_conditional or not recipe.draws_pairs(method):
        return []
    pairs = TeacherPairs(
        recipe.teacher_pairs, refresh_steps=_REFRESH_STEPS, temperature=recipe.temperature
    )
    return [pairs]


def _rows_of_distiller(
    run: RunDirectory, method: str, distiller: FlowDistiller
) -> TrainingRows | TeacherTraces:
    """Returns the rows, with the teacher's latents of them where that makes steps cheaper.

    Not where data have noise, which would be the same at each visit of a row.
    """
    recipe, rows = run.recipe, _rows(run)
    if run.data.domain.has_noise:
        return rows
    steps = recipe.training_steps("student") * (recipe.fade_out if recipe.fades_out(method) else 1)
    looks = any(loss.needs_data for loss in distiller.distillation_losses)
    if not looks or steps <= rows.steps_per_epoch:
        return rows
    traces = TeacherTraces(distiller.teacher, rows, max_bytes=_LARGEST_TRACES)
    return traces if traces.num_bytes <= _LARGEST_TRACES else rows


def _data_balance(run: RunDirectory, distiller: FlowDistiller) -> DataBalance:
    x, condition = first_rows(run.data, "train", _MONITOR_ROWS)
    held_out, held_out_condition = first_rows(run.data, "validation", _MONITOR_ROWS)
    return DataBalance(
        x,
        held_out,
        condition=condition,
        held_out_condition=held_out_condition,
        tolerance=run.recipe.mixture_tolerance,
        batch_size=evaluation_batch_size(distiller.student),
    )
