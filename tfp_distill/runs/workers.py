"""Trainings of a run that do not depend on each other, one after the other or side by side."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import multiprocessing
import os
import pathlib
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

import tensorflow as tf

from tfp_distill.runs.endings import RunStopped
from tfp_distill.runs.recipe import Recipe
from tfp_distill.runs.run_directory import RunDirectory
from tfp_distill.runs.stages import train_student, train_teacher
from tfp_distill.runs.start_up import start_worker

__all__ = ["Task", "carry_out", "num_workers"]


class Task(NamedTuple):
    """One training.

    Attributes:
      folder: the folder of the run that holds it, see `RunDirectory.within`; "" for the run itself.
      recipe: the recipe of that folder.
      method: how the student learns; "teacher" for the teacher.
      until: the step at which the training pauses; None for its end.
    """

    folder: str
    recipe: Recipe
    method: str
    until: int | None = None


def num_workers(recipe: Recipe) -> int:
    """Returns how many processes train side by side: one a core, and one where there is a GPU."""
    if recipe.workers:
        return recipe.workers
    return 1 if tf.config.list_physical_devices("GPU") else len(os.sched_getaffinity(0))


def carry_out(run: RunDirectory, tasks: Sequence[Task]) -> None:
    """Carries out tasks, in order of their beginning.

    With several workers, each is a process of its own, with its share of the cores. A training is
    the same whatever trains beside it.

    Args:
      run: the run that the tasks are of.
      tasks: what to train; none waits for another.

    Raises:
      RunStopped: if a worker was ended from outside.
    """
    number = min(num_workers(run.recipe), len(tasks))
    if number <= 1:
        for task in tasks:
            _train(run, task)
        return
    threads = max(1, len(os.sched_getaffinity(0)) // number)
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(number, context, start_worker, (threads,))
    try:
        with _workers_ignore_interrupts():
            futures = [pool.submit(_train_in_worker, run.path, run.recipe, task) for task in tasks]
        for future in concurrent.futures.as_completed(futures):
            future.result()
    except BrokenProcessPool:
        raise RunStopped(
            f"one of {number} processes that trained side by side was ended from outside, as for "
            "want of memory; what was saved is kept, and the same command goes on from there, with "
            "--workers=1 in this process."
        ) from None
    finally:
        # Those that still train, if this ends before its time: each left its last measurement.
        for process in multiprocessing.active_children():
            process.terminate()
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _workers_ignore_interrupts() -> Iterator[None]:
    """Ctrl-C reaches all processes of a terminal: this one ends the others, without their words."""
    try:
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # Not in the main thread, where no handler is called anyway.
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _train_in_worker(path: pathlib.Path, recipe: Recipe, task: Task) -> None:
    _train(_opened(path, recipe), task)


@functools.cache
def _opened(path: pathlib.Path, recipe: Recipe) -> RunDirectory:
    """The run as this process knows it, so that its data are loaded once."""
    return RunDirectory(path, recipe)


def _train(run: RunDirectory, task: Task) -> None:
    if task.method == "teacher":
        train_teacher(run)
    else:
        train_student(run.within(task.folder, task.recipe), task.method, until=task.until)
