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

__all__ = ["Task", "Workers", "num_workers", "workers"]


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


class Workers:
    """Carries out tasks, in this process or in others, see `workers`.

    Args:
      run: the run that the tasks are of.
      pool: the other processes; None for this one.
    """

    def __init__(
        self, run: RunDirectory, pool: concurrent.futures.ProcessPoolExecutor | None
    ) -> None:
        self._run = run
        self._pool = pool

    def start(self, *tasks: Task) -> concurrent.futures.Future[None]:
        """Starts tasks of which each waits for the one before it, and returns their future.

        Where there are no other processes they are done when it returns.
        """
        if self._pool is not None:
            with _workers_ignore_interrupts():
                return self._pool.submit(_train_in_worker, self._run.path, self._run.recipe, tasks)
        done: concurrent.futures.Future[None] = concurrent.futures.Future()
        try:
            for task in tasks:
                _train(self._run, task)
        except FloatingPointError as error:
            done.set_exception(error)
        else:
            done.set_result(None)
        return done

    def carry_out(self, tasks: Sequence[Task]) -> list[Task]:
        """Starts tasks that do not wait for each other, in their order, and waits for all.

        Returns:
          The tasks that came to nothing, because their trainings took no step any more.
        """
        started = {self.start(task): task for task in tasks}
        failed = []
        for future in concurrent.futures.as_completed(started):
            try:
                future.result()
            except FloatingPointError as error:
                task = started[future]
                failed.append(task)
                print(f"{task.folder}/{task.method}: {error}", flush=True)
        return failed


@contextlib.contextmanager
def workers(run: RunDirectory) -> Iterator[Workers]:
    """Yields what carries out the tasks of a run, as long as the context lasts.

    With several workers, each is a process of its own, with its share of the cores. A training is
    the same whatever trains beside it.

    Raises:
      RunStopped: if a worker was ended from outside.
    """
    number = num_workers(run.recipe)
    if number <= 1:
        yield Workers(run, None)
        return
    threads = max(1, len(os.sched_getaffinity(0)) // number)
    context = multiprocessing.get_context("spawn")
    others = multiprocessing.active_children()
    pool = concurrent.futures.ProcessPoolExecutor(number, context, start_worker, (threads,))
    try:
        yield Workers(run, pool)
    except BrokenProcessPool:
        raise RunStopped(
            f"one of {number} processes that trained side by side was ended from outside, as for "
            "want of memory; what was saved is kept, and the same command goes on from there, with "
            "--workers=1 in this process."
        ) from None
    finally:
        # Those that still train, if this ends before its time: each left its last measurement.
        for process in multiprocessing.active_children():
            if process not in others:
                process.terminate()
        pool.shutdown(cancel_futures=True)


def num_workers(recipe: Recipe) -> int:
    """Returns how many processes train side by side: one a core, and one where there is a GPU."""
    if recipe.workers:
        return recipe.workers
    return 1 if tf.config.list_physical_devices("GPU") else len(os.sched_getaffinity(0))


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


def _train_in_worker(path: pathlib.Path, recipe: Recipe, tasks: Sequence[Task]) -> None:
    for task in tasks:
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
