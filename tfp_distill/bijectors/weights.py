"""A bag of named weights, for bijectors that own weights without being a network."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

__all__ = ["weights_layer"]


def weights_layer(
    name: str, trainable: dict[str, Any], fixed: dict[str, Any] | None = None
) -> keras.layers.Layer:
    """Returns a built Keras layer whose only purpose is to hold weights.

    The weights become attributes of the layer, so that Keras tracks, saves and counts them.

    Args:
      name: name of the layer.
      trainable: initial values of the trainable weights, by name.
      fixed: initial values of the weights that are saved but never trained, by name. Integer
        values keep their type, all others take the layer's.
    """
    layer = keras.layers.Layer(name=name)
    for values, is_trainable in ((trainable, True), (fixed or {}, False)):
        for key, value in values.items():
            value = np.asarray(value)
            weight = layer.add_weight(
                shape=value.shape,
                dtype="int32" if np.issubdtype(value.dtype, np.integer) else None,
                initializer="zeros",
                trainable=is_trainable,
                name=key,
            )
            weight.assign(value)
            setattr(layer, key, weight)
    layer.built = True
    return layer
