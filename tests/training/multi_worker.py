"""Trainings under a strategy, or on one device, as a script that a test starts.

python multi_worker.py OUTPUT          trains on one device and writes weights and losses
python multi_worker.py OUTPUT INDEX    the same as one of two workers, with TF_CONFIG
"""

from __future__ import annotations

import sys

import keras
import numpy as np
import tensorflow as tf

from tfp_distill import (
    Flow,
    FlowDistiller,
    ForwardKLLoss,
    IntermediateLatentLoss,
    LatentLoss,
    Partition,
    SynthesizedLoss,
    TabularGlowConfig,
    TeacherPairs,
)

ROWS, BATCH = 279, 14  # 20 steps, the last one of 13 rows, which two workers cannot share evenly.
LOSSES = {
    "lkd": LatentLoss(),
    "ilkd": IntermediateLatentLoss(),
    "skd": SynthesizedLoss(),
    "forward_kl": ForwardKLLoss(),
    "pairs": SynthesizedLoss(),
    "ilkd_in_parts": IntermediateLatentLoss(),
}


KINDS = ("likelihood", "parts", *LOSSES)


def rows() -> np.ndarray:
    """All rows, in the order of the steps."""
    return np.random.RandomState(0).normal(size=(ROWS, 3)).astype(np.float32)


def flow(seed: int) -> Flow:
    """A small flow that has been adapted."""
    made = Flow(TabularGlowConfig(3, num_steps=2, hidden_units=8, num_hidden_layers=1, seed=seed))
    made.adapt(rows())
    return made


def trained(kind: str, strategy: tf.distribute.Strategy) -> dict[str, np.ndarray]:
    """Returns the weights of the student and the last loss."""
    with strategy.scope():
        student = model = flow(0)
        if kind in LOSSES:
            model = FlowDistiller(
                student=student, teacher=flow(1), distillation_losses=LOSSES[kind]
            )
        partition = Partition.at_steps(student, [1]) if "parts" in kind else None
        optimizer = keras.optimizers.Adam(1e-2, global_clipnorm=1.0)
        model.compile(optimizer, partition=partition, jit_compile=False)
    data = tf.data.Dataset.from_tensor_slices(rows()).batch(BATCH)
    callbacks = [TeacherPairs(64, refresh_steps=10)] if kind == "pairs" else []
    history = model.fit(data, verbose=0, callbacks=callbacks)
    weights = {f"{kind}/{n}": w.numpy() for n, w in enumerate(student.trainable_variables)}
    return {f"{kind}/loss": history.history["loss"][-1], **weights}


def main(output: str, index: int | None) -> None:
    """Trains in all ways, and writes what came of it."""
    is_one = index is None
    strategy = (
        tf.distribute.get_strategy() if is_one else tf.distribute.MultiWorkerMirroredStrategy()
    )
    results = {}
    for kind in KINDS:
        results |= trained(kind, strategy)
    np.savez(output, **results)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None)
