"""What a person passes to a flow, checked and as one batch of events."""

from __future__ import annotations

import math
import numbers
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfp_distill.arrays import Array, as_numbers

__all__ = ["Batch", "check_sampling", "flat_batch", "per_sample"]


class Batch(NamedTuple):
    """Events of any batch shape, with that shape flattened into one axis.

    Attributes:
      events: `[n, ...]`.
      condition: `[n, C]`, or None.
      shape: the batch shape, int32; None where it has the one axis anyway.
    """

    events: tf.Tensor
    condition: tf.Tensor | None
    shape: tf.Tensor | np.ndarray | None

    @property
    def tensors(self) -> tuple[tf.Tensor, ...]:
        """The events, and the condition if there is one."""
        return (self.events,) if self.condition is None else (self.events, self.condition)

    def unflatten(self, outputs: Any) -> Any:
        """Gives the tensors of a structure, each `[n, ...]`, the batch shape back."""
        if self.shape is None:
            return outputs

        def unflatten(value: tf.Tensor) -> tf.Tensor:
            return tf.reshape(value, tf.concat([self.shape, tf.shape(value)[1:]], axis=0))

        return tf.nest.map_structure(unflatten, outputs)


def flat_batch(
    events: Array,
    condition: Array | None,
    *,
    event_shape: tuple[int, ...],
    condition_dims: int,
    dtype: str,
    name: str,
    owner: str,
) -> Batch:
    """Converts and checks events and their condition, before any work is done.

    Args:
      events: `[..., *event_shape]`, with any batch shape.
      condition: `[..., C]`, whose batch shape is, or broadcasts to, that of the events; None if the
        flow takes none.
      event_shape: shape of one event.
      condition_dims: C, 0 for none.
      dtype: type of the results.
      name: what a message calls the events.
      owner: name of the flow.

    Raises:
      ValueError: if a shape breaks these rules, or something is no real number.
    """
    events = as_numbers(name, events, dtype)
    rank = len(event_shape)
    shape = events.shape
    if shape.rank is None or shape.rank < rank or tuple(shape[shape.rank - rank :]) != event_shape:
        expected = ", ".join(map(str, ("...", *event_shape)))
        raise ValueError(f"`{name}` of {owner!r} must have shape ({expected}), got {shape}.")
    batch_shape = shape[: shape.rank - rank]
    is_static = batch_shape.is_fully_defined()
    sizes = batch_shape.as_list() if is_static else tf.shape(events)[: batch_shape.rank]
    condition = _condition(condition, condition_dims, batch_shape, sizes, dtype, owner)
    if batch_shape.rank == 1:
        return Batch(events, condition, None)
    events = tf.reshape(events, [-1, *event_shape]) if math.prod(event_shape) else events
    if condition is not None:
        condition = tf.reshape(condition, [-1, condition_dims])
    return Batch(events, condition, np.array(sizes, np.int32) if is_static else sizes)


def per_sample(
    condition: Array | None, n: Any, *, condition_dims: int, dtype: str, owner: str
) -> Any:
    """Returns the condition `[n, C]` of `n` samples, given one for each or one for all.

    Raises:
      ValueError: if it has another shape, or the flow takes none.
    """
    static = tf.get_static_value(n) if tf.is_tensor(n) else n
    batch_shape = tf.TensorShape([static])
    return _condition(condition, condition_dims, batch_shape, [n], dtype, owner)


def check_sampling(n: Any, temperature: Any, seed: Any) -> None:
    """Raises `ValueError` unless `Flow.sample` takes these; the values of tensors are not known."""
    for name, value in (("n", n), ("seed", seed)):
        is_integer = isinstance(value, numbers.Integral) and not isinstance(value, (bool, np.bool_))
        if not (is_integer or tf.is_tensor(value) or (name == "seed" and value is None)):
            raise ValueError(f"`{name}` must be an integer, got {value!r}.")
    if not tf.is_tensor(n) and n < 0:
        raise ValueError(f"`n` must be at least 0, got {n}.")
    if not tf.is_tensor(temperature) and not 0 <= temperature < math.inf:
        raise ValueError(f"`temperature` must be finite and at least 0, got {temperature!r}.")


def _condition(condition, dims, batch_shape, sizes, dtype, owner):
    """Returns the condition, broadcast to the batch shape."""
    if (condition is None) != (dims == 0):
        rule = f"be given, with shape (..., {dims})" if dims else "be None"
        got = "None" if condition is None else f"shape {np.shape(condition)}"
        raise ValueError(f"`condition` of {owner!r} must {rule}, got {got}.")
    if condition is None:
        return None
    condition = as_numbers("condition", condition, dtype)
    shape = condition.shape
    if shape.rank is None or shape.rank < 1 or shape[-1] != dims:
        raise ValueError(f"`condition` of {owner!r} must have shape (..., {dims}), got {shape}.")
    if shape[:-1] == batch_shape and (batch_shape.is_fully_defined() or batch_shape.rank == 1):
        return condition  # Of unknown sizes the passes themselves find out whether they differ.
    try:
        fits = tf.broadcast_static_shape(shape[:-1], batch_shape).is_compatible_with(batch_shape)
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"`condition` of {owner!r} must have the batch shape {tuple(batch_shape)} or broadcast "
            f"to it, got shape {shape}."
        )
    return tf.broadcast_to(condition, tf.concat([sizes, [dims]], axis=0))
