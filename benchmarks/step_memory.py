"""Growth of memory in training steps, measured in processes of their own."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import time
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_distill.training import PeakMemory

__all__ = ["StepMemory", "bytes_of", "in_new_process"]


class StepMemory(keras.callbacks.Callback):
    """Measures the steps of a `fit`, but for the first ones, which compile and allocate.

    Args:
      steps_before: how many those are.

    Attributes:
      growths: the growth of memory during each step, in bytes, above what is there before it.
      seconds: the time of each step.
    """

    def __init__(self, steps_before: int) -> None:
        super().__init__()
        self.memory = PeakMemory()
        self.growths: list[int] = []
        self.seconds: list[float] = []
        self._steps_before = steps_before

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes memory and time."""
        self.memory.reset()
        self._level, self._start = self.memory.read(), time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Keeps by how much they grew."""
        if batch >= self._steps_before and self._level is not None:
            self.seconds.append(time.perf_counter() - self._start)
            self.growths.append(self.memory.read() - self._level)


def in_new_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function where the allocator remembers nothing of what was before."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def bytes_of(variables: Iterable[keras.Variable]) -> int:
    """Returns how much memory variables take."""
    return sum(int(np.prod(v.shape)) * tf.as_dtype(v.dtype).size for v in variables)
