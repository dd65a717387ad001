"""One optimiser a part: how they are made, copied and started anew."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf
from keras.optimizers import Optimizer

from tfp_distill.training.parts.partition import Partition

__all__ = ["check_gradients", "clone_optimizer", "optimizers_of_parts", "reset_optimizer"]


def optimizers_of_parts(
    optimizer: str | Optimizer | Sequence[str | Optimizer], partition: Partition | None
) -> list[Optimizer]:
    """Returns one optimiser a part; a single one is cloned, without its state.

    Args:
      optimizer: an optimiser or its name, or one a part.
      partition: the parts; None for a single one.

    Raises:
      ValueError: if the numbers do not match, or parts share an optimiser.
    """
    if not isinstance(optimizer, (list, tuple)):
        if partition is None or len(partition.parts) == 1:
            return [keras.optimizers.get(optimizer)]
        return [_clone(keras.optimizers.get(optimizer)) for _ in partition.parts]
    optimizers = [keras.optimizers.get(one) for one in optimizer]
    names = ", ".join(type(one).__name__ for one in optimizers)
    if partition is None:
        raise ValueError(
            "`optimizer` must be a single one where no `partition` is given, got a list of "
            f"{len(optimizers)}: {names}."
        )
    if len(optimizers) != len(partition.parts):
        parts = ", ".join(f"{part.first_step}-{part.last_step}" for part in partition.parts)
        raise ValueError(
            f"`optimizer` must hold one for each of the {len(partition.parts)} parts (steps "
            f"{parts}), got {len(optimizers)}: {names}."
        )
    if len({id(one) for one in optimizers}) < len(optimizers):
        raise ValueError(f"`optimizer` must hold a different object for each part, got {names}.")
    return optimizers


def reset_optimizer(optimizer: Optimizer, weights: Sequence[keras.Variable]) -> None:
    """Gives an optimiser the state of a new one: no momentum, no average, its schedule at 0."""
    new = _clone(optimizer)
    new.build(weights)
    for variable, value in zip(optimizer.variables, new.variables, strict=True):
        variable.assign(value.numpy())


def clone_optimizer(
    optimizer: Optimizer, weights: Sequence[keras.Variable], copies: Sequence[keras.Variable]
) -> Optimizer:
    """Returns a new optimiser of the same kind, built for copies of the weights."""
    new = _clone(optimizer)
    # Not in the configuration.
    excluded = [copy for w, copy in zip(weights, copies, strict=True) if not _decays(optimizer, w)]
    new.exclude_from_weight_decay(var_list=excluded)
    new.build(copies)
    return new


def check_gradients(
    gradients: Sequence[tf.Tensor | None], weights: Sequence[keras.Variable]
) -> None:
    """Raises `ValueError` if a weight has no gradient."""
    for weight, gradient in zip(weights, gradients, strict=True):
        if gradient is None:
            raise ValueError(
                f"Every trainable weight must have a gradient, got none for {weight.path!r}."
            )


def _decays(optimizer: Optimizer, weight: keras.Variable) -> bool:
    return optimizer._use_weight_decay(weight)


def _clone(optimizer: Optimizer) -> Optimizer:
    return type(optimizer).from_config(optimizer.get_config())
