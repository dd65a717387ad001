"""Trainings of a run that do not depend on each other, one after the other or side by side."""

from __future__ import annotations

import concurrent.futures
import functools
import multiprocessing
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from tfp_distill.runs.recipe import Recipe
from tfp_distill.runs.run_directory import RunDirectory
from tfp_distill.runs.stages import train_student, train_teacher

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
    """
    number = min(num_workers(run.recipe), len(tasks))
    if number <= 1:
        for task in tasks:
            _train(run, task)
        return
    threads = max(1, len(os.sched_getaffinity(0)) // number)
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(number, context, _begin, (threads,)) as pool:
        futures = [pool.submit(_train_in_worker, run.path, run.recipe, task) for task in tasks]
        for future in concurrent.futures.as_completed(futures):
            future.result()


def _begin(threads: int) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.get_logger().setLevel("ERROR")


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
