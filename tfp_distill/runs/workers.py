"""Trainings of a run that do not depend on each other, one after the other or side by side."""

from __future__ import annotations

import concurrent.futures
import functools
import multiprocessing
import os
import pathlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import tensorflow as tf

from tfp_distill.runs.recipe import Recipe
from tfp_distill.runs.run_directory import RunDirectory
from tfp_distill.runs.stages import train_student, train_teacher

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
            return self._pool.submit(_train_in_worker, self._run.path, self._run.recipe, tasks)
        for task in tasks:
            _train(self._run, task)
        done: concurrent.futures.Future[None] = concurrent.futures.Future()
        done.set_result(None)
        return done

    def carry_out(self, tasks: Sequence[Task]) -> None:
        """Starts tasks that do not wait for each other, in their order, and waits for all."""
        for future in concurrent.futures.as_completed([self.start(task) for task in tasks]):
            future.result()


@contextmanager
def workers(run: RunDirectory) -> Iterator[Workers]:
    """Yields what carries out the tasks of a run, as long as the context lasts.

    With several workers, each is a process of its own, with its share of the cores. A training is
    the same whatever trains beside it.
    """
    number = num_workers(run.recipe)
    if number <= 1:
        yield Workers(run, None)
        return
    threads = max(1, len(os.sched_getaffinity(0)) // number)
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(number, context, _begin, (threads,)) as pool:
        try:
            yield Workers(run, pool)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def num_workers(recipe: Recipe) -> int:
    """Returns how many processes train side by side: one a core, and one where there is a GPU."""
    if recipe.workers:
        return recipe.workers
    return 1 if tf.config.list_physical_devices("GPU") else len(os.sched_getaffinity(0))


def _begin(threads: int) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    # Processes that share cores wait for each other where each hands small operations around.
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    tf.get_logger().setLevel("ERROR")


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
