"""Fingerprints of models and images, by which equal ones are known again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

__all__ = ["ImagesFingerprint", "model_fingerprint"]

# Keys of what Keras makes of a model.
_IRRELEVANT = {"compile_config", "shared_object_id"}
_OF_LAYERS = {"batch_shape", "inbound_nodes", "trainable"}
_REFERENCES = {"input_layers", "keras_history", "name", "output_layers"}


def model_fingerprint(model: keras.Model, *, salt: str = "") -> str:
    """Returns 64 hexadecimal digits that depend on a model's architecture and weights alone.

    Names of layers do not matter: Keras numbers them in the order in which a process makes them.

    Args:
      model: a model that Keras can serialise.
      salt: what else the fingerprint shall depend on.
    """
    config = keras.saving.serialize_keras_object(model)
    names = {name: f"layer {place}" for place, name in enumerate(dict.fromkeys(_names(config)))}
    digest = hashlib.sha256(salt.encode())
    digest.update(json.dumps(_renamed(config, names), sort_keys=True, default=str).encode())
    for weight in model.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
        digest.update(f"{value.dtype} {value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


class ImagesFingerprint:
    """The fingerprint of images that come in batches; how they are cut does not matter."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._shape: tuple[int, ...] | None = None

    def update(self, images: np.ndarray) -> None:
        """Adds uint8 images `[n, h, w, C]`; all have one shape."""
        if self._shape is None:
            self._shape = images.shape[1:]
            self._digest.update(str(self._shape).encode())
        self._digest.update(np.ascontiguousarray(images).data)

    def hexdigest(self) -> str:
        """Returns 64 hexadecimal digits."""
        return self._digest.hexdigest()


def _names(config: Any) -> Iterator[str]:
    """Yields the names of layers and operations, the outer ones first."""
    if isinstance(config, dict):
        if "name" in config and config.keys() & _OF_LAYERS:
            yield config["name"]
        config = list(config.values())
    if isinstance(config, (list, tuple)):
        for item in config:
            yield from _names(item)


def _renamed(config: Any, names: dict[str, str], *, refers: bool = False) -> Any:
    """Returns the configuration with other names, where they name a layer and nowhere else."""
    if isinstance(config, dict):
        return {
            key: _renamed(value, names, refers=key in _REFERENCES)
            for key, value in config.items()
            if key not in _IRRELEVANT
        }
    if isinstance(config, (list, tuple)):
        return [_renamed(item, names, refers=refers) for item in config]
    return names.get(config, config) if refers and isinstance(config, str) else config
