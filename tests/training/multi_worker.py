"""A training under a strategy, or on one device, as a script that a test starts.

python multi_worker.py OUTPUT          trains on one device and writes its weights
python multi_worker.py OUTPUT INDEX    the same as one of two workers, with TF_CONFIG
"""

from __future__ import annotations

import sys

import keras
import numpy as np
import tensorflow as tf

from tfp_distill import Flow, FlowDistiller, IntermediateLatentLoss, TabularGlowConfig

BATCH, STEPS = 16, 20


def rows() -> np.ndarray:
    """All rows, in the order of the steps."""
    return np.random.RandomState(0).normal(size=(BATCH * STEPS, 3)).astype(np.float32)


def batches(index: int | None) -> tf.data.Dataset:
    """The batches of one device, or the half of each that a worker takes."""
    size = BATCH if index is None else BATCH // 2
    own = rows().reshape(STEPS, BATCH, 3)[:, (index or 0) * size :][:, :size]
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return tf.data.Dataset.from_tensor_slices(own).with_options(options)


def model() -> tuple[keras.Model, Flow]:
    """A distiller with a likelihood of its own, and its student."""
    flows = [
        Flow(TabularGlowConfig(3, num_steps=2, hidden_units=8, num_hidden_layers=1, seed=seed))
        for seed in (0, 1)
    ]
    for flow in flows:
        flow.adapt(rows())
    student, teacher = flows
    distiller = FlowDistiller(
        student=student, teacher=teacher, distillation_losses=IntermediateLatentLoss()
    )
    distiller.compile(keras.optimizers.Adam(1e-2, global_clipnorm=1.0), jit_compile=False)
    return distiller, student


def main(output: str, index: int | None) -> None:
    """Trains, and writes the weights of the student and the last loss."""
    if index is None:
        strategy, data = tf.distribute.get_strategy(), batches(None)
    else:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        data = strategy.distribute_datasets_from_function(lambda _: batches(index))
    with strategy.scope():
        distiller, student = model()
    history = distiller.fit(data, epochs=1, steps_per_epoch=STEPS, verbose=0)
    weights = {str(n): w.numpy() for n, w in enumerate(student.trainable_variables)}
    np.savez(output, loss=history.history["loss"][-1], **weights)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None)
