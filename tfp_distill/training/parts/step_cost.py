"""What each step of a flow costs, and contiguous parts of equal cost."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_distill.bijectors import inverse_and_ildj, standard_normal_log_prob
from tfp_distill.training.contracts import SteppedFlow

__all__ = ["balanced_ends", "measure_step_costs"]

_ROWS = 128  # So many that the cost of starting operations does not count.
_REPEATS = 5


def balanced_ends(
    costs: Sequence[float], num_parts: int, allowed: Sequence[int]
) -> tuple[int, ...]:
    """Divides steps into contiguous parts with the least sum of squared costs.

    By dynamic programming over the last boundary.

    Args:
      costs: cost of each step.
      num_parts: number of parts.
      allowed: the steps, counted from 1 and rising, behind which a boundary may be; at least
        `num_parts - 1`.

    Returns:
      The last step of every part but the last one.
    """
    total = np.concatenate([[0.0], np.cumsum(costs)])
    # By the end of the last part so far: sum of squares, ends.
    best: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}
    for _ in range(num_parts - 1):
        best = {
            end: min(
                (square + (total[end] - total[begin]) ** 2, (*ends, end))
                for begin, (square, ends) in best.items()
                if begin < end
            )
            for end in allowed
            if any(begin < end for begin in best)
        }
    return min(
        (square + (total[-1] - total[begin]) ** 2, ends) for begin, (square, ends) in best.items()
    )[1]


def measure_step_costs(flow: SteppedFlow) -> list[float]:
    """Returns the seconds that each step of a flow takes, forward and backward.

    Steps whose inputs and weights have the same shapes are measured once. A step is run alone, on
    random inputs, in a compiled function without XLA; the least of several times counts.

    Args:
      flow: a `Flow`.
    """
    shapes = flow.bijector.arriving_shapes(flow.event_shape)
    seconds: dict[Any, float] = {}
    costs = []
    for step in range(1, flow.num_steps + 1):
        weights = flow.step_weights(step, step)
        key = (shapes[step], tuple(tuple(weight.shape) for weight in weights))
        if key not in seconds:
            seconds[key] = _least_seconds(_runner(flow, step, shapes[step], weights))
        costs.append(seconds[key])
    return costs


def _runner(flow, step, shape, weights) -> Callable[[], Any]:
    bijector = flow.bijector.bijectors[step]
    random = np.random.RandomState(0)
    h = tf.constant(random.normal(size=(_ROWS, *shape)), flow.compute_dtype)
    dims = flow.config.condition_dims
    condition = tf.zeros([_ROWS, dims], flow.compute_dtype) if dims else None
    values = [weight.value for weight in weights]

    @tf.function(autograph=False)
    def run():
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            # The input too: steps in the middle of a part have one that is no constant.
            tape.watch([h, *values])
            z, ildj = inverse_and_ildj(bijector, h, condition, event_ndims=len(shape))
            z = tf.reshape(z, [_ROWS, math.prod(shape)])
            loss = -tf.reduce_mean(standard_normal_log_prob(z) + ildj)
        return tape.gradient(loss, [h, *values])

    return lambda: run()[0].numpy()


def _least_seconds(run: Callable[[], Any]) -> float:
    run()
    times = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)
