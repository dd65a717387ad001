"""The devices that a training runs on, and the processes that train together."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from tfp_distill.runs.endings import RunStopped

__all__ = ["join_workers", "make_strategy", "of_chief", "share_directory", "together"]

_WORKERS = "multi_worker"
# What collective operations raise where one of the processes is not there.
_OF_OTHERS = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


def make_strategy(name: str) -> tf.distribute.Strategy:
    """Returns TensorFlow's strategy of a recipe's name.

    Args:
      name: "default", one device; "mirrored", all GPUs of the machine; or "multi_worker", the
        processes of `TF_CONFIG`, after `join_workers`.
    """
    if name == _WORKERS:
        return _strategy_of_workers()
    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def join_workers(name: str) -> bool:
    """Waits for the other processes of a strategy, if it has some.

    To be called before TensorFlow computes anything, which would settle that the process is alone.

    Args:
      name: as for `make_strategy`.

    Returns:
      Whether this process is the chief, that writes what all have in common.

    Raises:
      ValueError: if `TF_CONFIG` does not say who the workers are.
      RunStopped: if one of them does not come.
    """
    if name != _WORKERS:
        return True
    _check_environment()
    with _all_answer():
        return _is_chief(_strategy_of_workers())


def share_directory(name: str, path: pathlib.Path) -> pathlib.Path:
    """Returns the directory that this process works in, when all processes of a strategy call it.

    The chief works in `path`; the others in copies of it that are gone when they end: they begin
    where the chief begins, and what they write is in nobody's way. All must see the same files.
    """
    if name != _WORKERS:
        return path
    with together(name):  # The chief changes nothing before it is copied.
        _meet(_strategy_of_workers())  # It has made the directory.
        if _is_chief(_strategy_of_workers()):
            return path
        folder = pathlib.Path(tempfile.mkdtemp(prefix="tfp_distill_worker_"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return shutil.copytree(path, folder / path.name)


def of_chief(strategy: tf.distribute.Strategy, value: np.ndarray) -> np.ndarray:
    """Returns the chief's value in every process, for decisions that must be the same in all."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return value
    own = value if _is_chief(strategy) else np.zeros_like(value)
    return strategy.reduce(tf.distribute.ReduceOp.SUM, tf.constant(own), axis=None).numpy()


@contextlib.contextmanager
def together(name: str) -> Iterator[None]:
    """Ends when all processes of a strategy have come to the end of this block.

    Raises:
      RunStopped: if one of them does not answer any more.
    """
    if name != _WORKERS:
        yield
        return
    with _all_answer():
        yield
        _meet(_strategy_of_workers())  # A process that leaves is one that died, for the others.


@contextlib.contextmanager
def _all_answer() -> Iterator[None]:
    try:
        yield
    except _OF_OTHERS as error:
        raise RunStopped(
            "another worker has ended or cannot be reached; what was saved is kept, and the same "
            "command, given to all workers, goes on from there."
        ) from error


def _is_chief(strategy: tf.distribute.Strategy) -> bool:
    return strategy.extended.should_checkpoint


def _meet(strategy: tf.distribute.Strategy) -> None:
    of_chief(strategy, np.zeros([1], np.float32))


@functools.cache
def _strategy_of_workers() -> tf.distribute.Strategy:
    return tf.distribute.MultiWorkerMirroredStrategy()


def _check_environment() -> None:
    given = os.environ.get("TF_CONFIG", "")
    try:
        config = json.loads(given)
        workers, task = config["cluster"]["worker"], config["task"]
        is_one = task["type"] == "worker" and 0 <= int(task["index"]) < len(workers)
    except (ValueError, KeyError, TypeError):
        is_one = False
    if not is_one:
        raise ValueError(
            "`TF_CONFIG` must name the workers and which of them this process is, for `strategy` "
            'multi_worker, as {"cluster": {"worker": ["host:port", "host:port"]}, "task": {"type": '
            f'"worker", "index": 0}}}}, got {given!r}.'
        )
