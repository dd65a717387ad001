"""The optimiser's moving average of the weights, put into the model for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tfp_distill.training.partitioned_model import PartitionedModel

__all__ = ["averaged_weights"]


@contextlib.contextmanager
def averaged_weights(model: PartitionedModel) -> Iterator[None]:
    """Gives the model its averaged weights inside the block, and exactly the former ones after it.

    For validation and saving in the middle of a training whose optimiser has `use_ema=True`; the
    block sees the weights of another optimiser, or of one before its first step, as they are.
    (`keras.callbacks.SwapEMAWeights` exchanges by adding and subtracting, which changes the weights
    by rounding.)

    Args:
      model: a compiled model.
    """
    weights, averages = [], []
    for part, optimizer in enumerate(model.optimizers):
        if optimizer.use_ema and int(optimizer.iterations.numpy()):
            weights += model.part_weights(part)
            averages += optimizer._model_variables_moving_average
    before = [weight.numpy() for weight in weights]
    for weight, average in zip(weights, averages, strict=True):
        weight.assign(average)
    try:
        yield
    finally:
        for weight, value in zip(weights, before, strict=True):
            weight.assign(value)
