"""How far a flow that trains is from numbers that cannot be inverted."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf

from tfp_distill.arrays import Array
from tfp_distill.bijectors import InvertibleLinear, named_visits, uninverted
from tfp_distill.compiling import inlined
from tfp_distill.evaluation.likelihood import (
    latent_round_trip_error,
    round_trip_error,
    rows_with_noise,
)
from tfp_distill.flows import Flow
from tfp_distill.flows.config import check_at_least
from tfp_distill.training import PartwiseModel, averaged_weights

__all__ = ["Health"]

_MOST_ROWS = 256
_WORSE = 10.0  # How many times as large an error must be to be told of again.


class Health(keras.callbacks.Callback):
    """Measures after an epoch how well a flow can still be inverted, and warns before it cannot.

    A flow is invertible on paper; in float32 its inverse is wrong by what its bijectors magnify
    rounding errors by. On held rows, with the averages where the optimiser averages weights, these
    figures are added to the logs of the epoch:

    - `round_trip`: the largest error of `to_data(to_latent(x))`, in units of the data's scale;
    - `latent_round_trip`: that of `to_latent(to_data(z))` for as many normal z;
    - `smallest_scale`, `largest_scale`: of exp(ildj / D), the factor by which a bijector stretches
      a row, on the geometric mean of its D dimensions, over all bijectors and rows;
    - `smallest_pivot`, `largest_pivot`: of |diag U| of invertible linear maps, if there are any;
    - `largest_latent`: the largest root mean square of the latents after a bijector.

    A warning names the bijectors of the extremes as soon as an error of a round trip is larger than
    the tolerance, and again whenever it has become ten times as large. Training goes on: a smaller
    learning rate, weight decay, clipping of gradients or the weights of a former epoch may help.

    Example:
        flow.fit(dataset, epochs=100, callbacks=[Health(validation_x)])

    Args:
      x: held rows `[n, ...]` as for `evaluate_likelihood`, of which up to 256 are used.
      condition: `[n, C]` for conditional flows.
      tolerance: largest error of a round trip that is not warned of.
      every: number of epochs from one measurement to the next.
      warn: is called with a warning of one line; by default a `RuntimeWarning`.

    Raises:
      ValueError: if there are no rows, or `tolerance` or `every` is not positive.
    """

    def __init__(
        self,
        x: Array,
        condition: Array | None = None,
        *,
        tolerance: float = 1e-3,
        every: int = 1,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__()
        check_at_least(1, every=every)
        if len(x) < 1:
            raise ValueError("`x` must have at least one row, got none.")
        if not tolerance > 0:
            raise ValueError(f"`tolerance` must be positive, got {tolerance}.")
        self._x = x[:_MOST_ROWS]
        self._condition = None if condition is None else condition[:_MOST_ROWS]
        self._tolerance = self._told_of = tolerance
        self._every = every
        self._warn = warn

    def set_model(self, model: keras.Model) -> None:
        """Takes the model that is fitted.

        Raises:
          ValueError: if it is neither a flow nor the distiller of one.
        """
        flow = model.trained_flow() if isinstance(model, PartwiseModel) else None
        if not isinstance(flow, Flow):
            raise ValueError(
                f"`Health` must be used with a Flow or a FlowDistiller, got {type(model).__name__}."
            )
        super().set_model(model)
        self._flow = flow

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Measures, after every so many epochs."""
        if (epoch + 1) % self._every:
            return
        with averaged_weights(self.model), inlined():
            figures, extremes = self._measure(self._flow)
        if logs is not None:
            logs.update(figures)
        errors = [figures["round_trip"], figures["latent_round_trip"]]
        worst = max(math.inf if math.isnan(error) else error for error in errors)
        if worst > self._told_of:
            self._told_of = _WORSE * worst
            self._tell(figures, extremes)

    def _measure(self, flow: Flow) -> tuple[dict[str, float], Mapping[str, str]]:
        """Returns the figures, and the bijectors of the extremes by the names of their figures."""
        figures = {
            "round_trip": round_trip_error(flow, self._x, self._condition),
            "latent_round_trip": latent_round_trip_error(flow, len(self._x), self._condition),
        }
        found: dict[str, list[tuple[float, str]]] = {"scale": [], "pivot": [], "latent": []}
        inputs = rows_with_noise(flow, self._x)[:], self._condition
        tensors = (
            None if v is None else tf.convert_to_tensor(v, flow.compute_dtype) for v in inputs
        )
        for name, visit in named_visits(flow.bijector, *tensors):
            dims = math.prod(visit.x.shape[1:])
            scales = np.exp(visit.ildj.numpy().astype(np.float64) / dims)
            found["scale"] += [(float(scale), name) for scale in (scales.min(), scales.max())]
            if isinstance(linear := uninverted(visit.bijector), InvertibleLinear):
                pivots = linear.pivots
                found["pivot"] += [(float(p), name) for p in (pivots.min(), pivots.max())]
            latents = visit.z.numpy().astype(np.float64)
            found["latent"].append((float(np.sqrt(np.mean(latents**2))), name))
        extremes = {}
        for figure, values in found.items():
            for side, choose in (("smallest", min), ("largest", max)):
                if values and (figure, side) != ("latent", "smallest"):
                    key = f"{side}_{figure}"
                    figures[key], extremes[key] = choose(values)
        return figures, extremes

    def _tell(self, figures: Mapping[str, float], extremes: Mapping[str, str]) -> None:
        found = "; ".join(
            f"{figure.replace('_', ' ')} {figures[figure]:.1e} in {name}"
            for figure, name in extremes.items()
        )
        text = (
            f"at step {self.model.step:,}, an inverse is wrong by up to "
            f"{figures['round_trip']:.1e} of the data's scale from data and "
            f"{figures['latent_round_trip']:.1e} from latents, more than {self._tolerance:.1e}: "
            f"{found}."
        )
        if self._warn is None:
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        else:
            self._warn(text)
