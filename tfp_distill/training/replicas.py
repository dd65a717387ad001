"""One step of several replicas: the mean over the global batch, and an update or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf

from tfp_distill.training.fused_adam import apply_gradients

__all__ = [
    "apply_if",
    "has_replicas",
    "logs_of_replica",
    "mean_over_replicas",
    "place_in_global_batch",
]


def has_replicas(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether a strategy merges the updates of replicas, be it of a single one.

    TensorFlow forbids that within conditions, within functions and within loops over steps.
    """
    mirrored = (tf.distribute.MirroredStrategy, tf.distribute.MultiWorkerMirroredStrategy)
    return strategy.num_replicas_in_sync > 1 or isinstance(strategy, mirrored)


def mean_over_replicas(
    strategy: tf.distribute.Strategy,
    means: Mapping[str, tf.Tensor],
    gradients: Sequence[tf.Tensor],
    rows: tf.Tensor,
) -> tuple[Mapping[str, tf.Tensor], Sequence[tf.Tensor], tf.Tensor]:
    """Returns means and gradients of the global batch, and its number of rows.

    Replicas may hold different numbers of rows, or none: a mean over no rows, which is not a
    number, counts as 0.
    """
    if strategy.num_replicas_in_sync == 1:
        return means, gradients, rows
    values = [*means.values(), *gradients]
    weight = tf.cast(rows, values[0].dtype)
    *sums, total = tf.distribute.get_replica_context().all_reduce(
        tf.distribute.ReduceOp.SUM,
        [*(tf.math.multiply_no_nan(value, weight) for value in values), weight],
    )
    averages = [value / total for value in sums]
    return dict(zip(means, averages, strict=False)), averages[len(means) :], total


def place_in_global_batch(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns where a replica's rows begin in the global batch, and how many rows that has.

    Args:
      rows: number of rows of the replica that calls, int32 `[]`; the last batch of a data set may
        give some replicas fewer, or none.
    """
    context = tf.distribute.get_replica_context()
    replica, num_replicas = context.replica_id_in_sync_group, context.num_replicas_in_sync
    own = tf.one_hot(replica, num_replicas) * tf.cast(rows, tf.float32)
    numbers = tf.cast(context.all_reduce(tf.distribute.ReduceOp.SUM, own), tf.int32)
    before = tf.range(num_replicas) < replica
    return tf.reduce_sum(tf.where(before, numbers, 0)), tf.reduce_sum(numbers)


def logs_of_replica(
    strategy: tf.distribute.Strategy, logs: Mapping[str, tf.Tensor]
) -> dict[str, tf.Tensor]:
    """Returns logs in the shape in which Keras reduces them over replicas.

    Of several workers it averages over the first axis, which scalars do not have.
    """
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return {name: tf.reshape(value, [1]) for name, value in logs.items()}
    return dict(logs)


def apply_if(
    strategy: tf.distribute.Strategy,
    finite: tf.Tensor,
    optimizer: keras.optimizers.Optimizer,
    gradients: Sequence[tf.Tensor],
    weights: Sequence[keras.Variable],
) -> None:
    """Applies the gradients, or leaves weights and optimiser exactly as they were.

    Args:
      strategy: of the model.
      finite: whether to apply them, bool `[]`.
      optimizer: of the weights.
      gradients: the gradients of the global batch, the same on every replica.
      weights: what to update.
    """
    if not has_replicas(strategy):
        tf.cond(finite, lambda: apply_gradients(optimizer, gradients, weights), lambda: None)
        return
    # Keras merges the replicas inside `apply`, which TensorFlow forbids inside a `tf.cond`:
    # apply a zero gradient, then put everything back. Every replica holds the reduced gradient
    # already; only the first contributes it to Keras's sum, so that clipping sees all of it.
    first = tf.distribute.get_replica_context().replica_id_in_sync_group == 0
    contributes = finite & first
    variables = [v.value for v in [*weights, *optimizer.variables]]
    before = [tf.identity(v) for v in variables]
    optimizer.apply([tf.where(contributes, g, tf.zeros_like(g)) for g in gradients], weights)
    tf.distribute.get_replica_context().merge_call(
        _restore_unless, args=(finite, variables, before)
    )


def _restore_unless(strategy, keep, variables, before):
    """Gives variables their values of before unless `keep`; runs in the cross-replica context."""
    for variable, value in zip(variables, before, strict=True):
        strategy.extended.update(
            variable,
            lambda v, old, keep: v.assign(tf.where(keep, v, old)),
            args=(value, keep),
            group=False,
        )
