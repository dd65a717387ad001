"""Flows that were saved."""

from __future__ import annotations

import os

import keras

from tfp_distill.files import check_archive, one_line
from tfp_distill.flows.flow import Flow

__all__ = ["load_flow"]


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
    try:
        model = keras.models.load_model(path)
    except Exception as error:  # Of archives of something else Keras raises many kinds.
        raise ValueError(
            f"`path` must hold a flow that `save` wrote, got {str(path)!r}: {one_line(error)}."
        ) from error
    if not isinstance(model, Flow):
        raise ValueError(f"`path` must hold a Flow, got a {type(model).__name__} in {str(path)!r}.")
    return model
