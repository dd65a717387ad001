"""Flows that were saved."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from typing import Any

import keras

from tfp_distill.files import check_archive, one_line
from tfp_distill.flows.config import FlowConfig
from tfp_distill.flows.flow import Flow

__all__ = ["load_flow"]


_BYTES_OF_A_WEIGHT = 2  # At least.


def load_flow(path: str | os.PathLike[str]) -> Flow:
    """Loads a flow that `flow.save("NAME.keras")` wrote, with its optimiser if it was compiled.

    Args:
      path: the `.keras` file.

    Raises:
      ValueError: if the file does not exist, is damaged, or holds something else than a flow.
    """
    if not os.path.isfile(path):
        raise ValueError(f"`path` must be an existing .keras file, got {str(path)!r}.")
    check_archive(path)
    _check_weights(path)
    try:
        model = keras.models.load_model(path)
    except Exception as error:  # Of archives of something else Keras raises many kinds.
        raise ValueError(
            f"`path` must hold a flow that `save` wrote, got {str(path)!r}: {one_line(error)}."
        ) from error
    if not isinstance(model, Flow):  # A class of that name, of another library.
        raise ValueError(f"`path` must hold a Flow, got a {type(model).__name__} in {str(path)!r}.")
    return model


def _check_weights(path: str | os.PathLike[str]) -> None:
    """Raises `ValueError` unless a file has the weights of its flow, which Keras makes first."""
    try:
        with zipfile.ZipFile(path) as archive:
            saved = json.loads(archive.read("config.json"))
            num_bytes = archive.getinfo("model.weights.h5").file_size
        kind = saved["class_name"]
        if kind == Flow.__name__:
            needed = _BYTES_OF_A_WEIGHT * _config_of(saved["config"]["config"]).fewest_weights
    except Exception as error:  # Of archives of something else, of many kinds.
        raise ValueError(
            f"`path` must hold a flow that `save` wrote, got {str(path)!r}: {one_line(error)}."
        ) from error
    if kind != Flow.__name__:
        raise ValueError(f"`path` must hold a Flow, got a {kind} in {str(path)!r}.")
    if needed > num_bytes:
        raise ValueError(
            f"`path` must hold the weights of its flow, got {num_bytes:,} bytes of them in "
            f"{str(path)!r} where at least {needed:,} are needed."
        )


def _config_of(saved: Mapping[str, Any]) -> FlowConfig:
    """Returns the configuration of a flow, and makes nothing else that a file may name."""
    kind = keras.saving.get_registered_object(saved["registered_name"])
    if not (isinstance(kind, type) and issubclass(kind, FlowConfig)):
        raise ValueError(f"{saved['class_name']!r} is no configuration of a flow")
    return keras.saving.deserialize_keras_object(saved)
