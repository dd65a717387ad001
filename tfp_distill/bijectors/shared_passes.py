"""Passes of equal bijectors, traced once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_distill.bijectors.keras_bijector import KerasBijector

__all__ = ["share_passes"]


def share_passes(bijectors: Sequence[KerasBijector]) -> None:
    """Lets bijectors that differ in the values of their weights alone be traced as one.

    Within `tfp_distill.compiling.shared_traces`, each of their passes is one function of the state
    and the weights, traced at its first call, gradients included: a flow of a hundred equal steps
    is traced about as fast as one of a few. TensorFlow inlines the calls before it runs the graph.

    Args:
      bijectors: any number, with the same structure; the first one's code is what is traced.

    Raises:
      ValueError: if the shapes of their weights differ.
    """
    if not bijectors:
        return
    passes = _SharedPasses(bijectors[0])
    shapes = [[tuple(weight.shape) for weight in b.layer_weights] for b in bijectors]
    for bijector, own in zip(bijectors, shapes, strict=True):
        if own != shapes[0]:
            raise ValueError(
                f"`bijectors` must have weights of equal shapes, got {own} of {bijector.name!r}, "
                f"not {shapes[0]}."
            )
        bijector._shared_passes = passes


class _SharedPasses:
    """The passes of a bijector as functions of its weights."""

    def __init__(self, template: KerasBijector) -> None:
        self._template = template
        self._functions: dict[tuple[str, ...], Any] = {}

    def __call__(self, method, tensors, weights):
        if method not in self._functions:
            self._functions[method] = tf.function(self._of_weights(method), autograph=False)
        values = [tf.convert_to_tensor(weight.value) for weight in weights]
        return self._functions[method](tensors, values)

    def _of_weights(self, method):
        template, (name, *options) = self._template, method

        def run(tensors, values):
            with keras.StatelessScope(list(zip(template.layer_weights, values, strict=True))):
                return getattr(template, name)(*options, *tensors)

        return run
