"""Arrays of numbers, as people pass them."""

from __future__ import annotations

import contextlib
import math
import numbers
from collections.abc import Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

__all__ = ["Array", "as_numbers", "check_finite", "check_numbers", "rows_to_look_at"]

# TensorFlow has no types of its own.
Array: TypeAlias = np.ndarray | tf.Tensor | tf.Variable
_VALUES_TO_LOOK_AT = 2_000_000


def as_numbers(name: str, values: Any, dtype: str) -> tf.Tensor:
    """Returns real numbers as a tensor of a type.

    Args:
      name: what a message calls them.
      values: an array, a tensor, or what NumPy makes an array of.
      dtype: the type of the tensor.

    Raises:
      ValueError: if something is no real number, or is masked, sparse, ragged or symbolic.
    """
    values = _dense(name, values)
    if tf.is_tensor(values):
        check_numbers(name, values)
        return tf.cast(values, dtype)
    if values.dtype.kind == "O" and not any(value is None for value in values.flat):
        with contextlib.suppress(TypeError, ValueError):  # The check says it.
            values = values.astype(dtype)
    check_numbers(name, values)
    return tf.convert_to_tensor(values.astype(dtype, copy=False))


def check_numbers(name: str, values: Any) -> None:
    """Checks that an array is of a type of real numbers, as `as_numbers`, objects excluded."""
    values = _dense(name, values)
    if not _is_real(values.dtype):
        raise ValueError(f"`{name}` must hold real numbers, got {_kind(values)}.")


def check_finite(name: str, values: Any) -> None:
    """Raises `ValueError` if rows of numbers `[n, ...]` are not all finite."""
    values = np.asarray(values)
    with np.errstate(over="ignore", invalid="ignore"):
        total = values.sum(dtype=np.float64)  # Takes no memory.
    if np.isfinite(total):
        return
    number = np.count_nonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
    if number:
        raise ValueError(f"`{name}` must be finite, got {number:,} of {len(values):,} rows not so.")


def rows_to_look_at(example_shape: Sequence[int]) -> int:
    """Returns how many examples are looked at before a training: of two million values, or two."""
    return max(2, _VALUES_TO_LOOK_AT // max(1, math.prod(example_shape)))


def _is_real(dtype: np.dtype | tf.DType) -> bool:
    if isinstance(dtype, np.dtype) and dtype.kind in "fiub":
        return True
    try:
        known = tf.as_dtype(dtype)
    except TypeError:
        return False
    return known.is_floating or known.is_integer or known.is_bool


def _kind(values: np.ndarray | tf.Tensor) -> str:
    """Returns what an array that holds no numbers holds."""
    if tf.is_tensor(values) or values.dtype.kind not in "OSU" or not values.size:
        return values.dtype.name
    items = values.ravel().tolist()
    culprit = next((item for item in items if not isinstance(item, numbers.Real)), items[0])
    return f"{culprit!r} in an array of {'objects' if values.dtype.kind == 'O' else 'text'}"


def _dense(name: str, values: Any) -> np.ndarray | tf.Tensor:
    if type(values) is np.ndarray or isinstance(values, tf.Tensor):
        return values
    if isinstance(values, keras.KerasTensor):
        raise ValueError(
            f"`{name}` must hold numbers, got a symbolic KerasTensor, which only the call of a "
            "flow, `flow(x)`, takes."
        )
    if isinstance(values, tf.SparseTensor | tf.RaggedTensor) or hasattr(values, "toarray"):
        raise ValueError(f"`{name}` must be a dense array, got a {type(values).__name__}.")
    if np.ma.is_masked(values):
        number = np.ma.count_masked(values)
        raise ValueError(f"`{name}` must have no masked values, got {number:,} of {values.size:,}.")
    if tf.is_tensor(values):
        return values
    try:
        return np.asarray(values)
    except ValueError:
        raise ValueError(
            f"`{name}` must be an array, got a {type(values).__name__} whose rows differ in shape."
        ) from None
