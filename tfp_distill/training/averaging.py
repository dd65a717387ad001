"""The optimiser's moving average of the weights, put into the model for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras

__all__ = ["averaged_weights"]


@contextlib.contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Gives the model its averaged weights inside the block, and exactly the former ones after it.

    For validation and saving in the middle of a training whose optimiser has `use_ema=True`; with
    another optimiser the block sees the weights as they are. (`keras.callbacks.SwapEMAWeights`
    exchanges by adding and subtracting, which changes the weights by rounding.)

    Args:
      model: a compiled model.
    """
    if not model.optimizer.use_ema:
        yield
        return
    weights = model.trainable_variables
    before = [weight.numpy() for weight in weights]
    averages = model.optimizer._model_variables_moving_average
    for weight, average in zip(weights, averages, strict=True):
        weight.assign(average)
    try:
        yield
    finally:
        for weight, value in zip(weights, before, strict=True):
            weight.assign(value)
