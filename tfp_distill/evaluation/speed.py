"""How long a batch takes, in both directions."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable

import tensorflow as tf

from tfp_distill.flows import Flow
from tfp_distill.flows.config import check_at_least

__all__ = ["Speed", "measure_speed"]


@dataclasses.dataclass(frozen=True)
class Speed:
    """The time of one batch.

    Attributes:
      to_latent_seconds: normalizing direction, x -> z; median.
      to_data_seconds: generative direction, z -> x; median.
      batch_size: number of rows of the batch.
      repeats: number of timed calls of each direction.
    """

    to_latent_seconds: float
    to_data_seconds: float
    batch_size: int
    repeats: int

    def __str__(self) -> str:
        """Both times in milliseconds."""
        return (
            f"to latent {1e3 * self.to_latent_seconds:.3g} ms, "
            f"to data {1e3 * self.to_data_seconds:.3g} ms for {self.batch_size:,} rows"
        )


def measure_speed(flow: Flow, *, batch_size: int = 1000, repeats: int = 20) -> Speed:
    """Times one batch in both directions as they are called, from host memory to host memory.

    The batch holds samples of the flow (a conditional flow's condition is 0). Each direction is
    called once before the timing starts, which compiles it, and every timed call waits for its
    result. The median makes the figure robust against other work on the machine.

    Args:
      flow: the flow.
      batch_size: number of rows.
      repeats: number of timed calls of each direction.

    Returns:
      The `Speed`.
    """
    check_at_least(1, batch_size=batch_size, repeats=repeats)
    dims, dtype = flow.config.condition_dims, flow.compute_dtype
    condition = [tf.zeros([batch_size, dims], dtype)] if dims else []
    z = tf.random.stateless_normal([batch_size, flow.latent_dims], [0, 0], dtype=dtype)
    x = flow.to_data(z, *condition)
    return Speed(
        to_latent_seconds=_median_seconds(lambda: flow.to_latent(x, *condition), repeats),
        to_data_seconds=_median_seconds(lambda: flow.to_data(z, *condition), repeats),
        batch_size=batch_size,
        repeats=repeats,
    )


def _median_seconds(function: Callable[[], tf.Tensor], repeats: int) -> float:
    function().numpy()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function().numpy()  # waits for the device
        times.append(time.perf_counter() - start)
    return statistics.median(times)
