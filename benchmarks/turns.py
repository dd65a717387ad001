"""Times of functions that take turns, so that what slows the machine slows all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import tensorflow as tf

__all__ = ["medians", "seconds"]


def seconds(function: Callable[[], tf.Tensor]) -> float:
    """Returns the time of one call, the result included."""
    began = time.perf_counter()
    function().numpy()
    return time.perf_counter() - began


def medians(*functions: Callable[[], tf.Tensor], turns: int) -> list[float]:
    """Returns the median time of each function over so many turns."""
    times = [[seconds(function) for function in functions] for _ in range(turns)]
    return [statistics.median(column) for column in zip(*times, strict=True)]
