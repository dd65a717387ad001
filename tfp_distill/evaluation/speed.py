"""How long a batch takes, in both directions."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import tensorflow as tf

from tfp_distill.flows import Flow
from tfp_distill.flows.config import check_at_least

__all__ = ["Speed", "measure_speed", "measure_speeds"]


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
    """Times one batch in both directions as they are called, see `measure_speeds`."""
    return measure_speeds({"": flow}, batch_size=batch_size, repeats=repeats)[""]


def measure_speeds(
    flows: Mapping[str, Flow], *, batch_size: int = 1000, repeats: int = 20
) -> dict[str, Speed]:
    """Times one batch of flows in both directions as they are called, from host to host memory.

    The batch holds samples of the flow (a conditional flow's condition is 0). Each direction is
    called once before the timing starts, which compiles it, and every timed call waits for its
    result. The flows take turns, so that other work on the machine slows all of them, and the
    medians leave out the moments of it: their ratios mean more than they do.

    Args:
      flows: the flows by name.
      batch_size: number of rows.
      repeats: number of timed calls of each direction.

    Returns:
      The `Speed` of each, by name.
    """
    check_at_least(1, batch_size=batch_size, repeats=repeats)
    with ThreadPoolExecutor() as pool:  # Most of it is compilation, each on one core.
        calls = dict(
            zip(flows, pool.map(lambda flow: _calls(flow, batch_size), flows.values()), strict=True)
        )
    seconds: dict[str, tuple[list[float], ...]] = {name: ([], []) for name in flows}
    for _ in range(repeats):
        for name, directions in calls.items():
            for call, times in zip(directions, seconds[name], strict=True):
                times.append(_seconds(call))
    return {
        name: Speed(statistics.median(to_latent), statistics.median(to_data), batch_size, repeats)
        for name, (to_latent, to_data) in seconds.items()
    }


def _calls(flow: Flow, batch_size: int) -> tuple[Callable[[], tf.Tensor], ...]:
    """Returns calls to latents and to data, which have been compiled."""
    dims, dtype = flow.config.condition_dims, flow.compute_dtype
    condition = [tf.zeros([batch_size, dims], dtype)] if dims else []
    z = tf.random.stateless_normal([batch_size, flow.latent_dims], [0, 0], dtype=dtype)
    x = flow.to_data(z, *condition)
    calls = (lambda: flow.to_latent(x, *condition)), (lambda: flow.to_data(z, *condition))
    for call in calls:
        call().numpy()
    return calls


def _seconds(call: Callable[[], tf.Tensor]) -> float:
    start = time.perf_counter()
    call().numpy()  # waits for the device
    return time.perf_counter() - start
