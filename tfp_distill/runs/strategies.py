"""The devices that a training runs on."""

from __future__ import annotations

import tensorflow as tf

__all__ = ["make_strategy"]


def make_strategy(name: str) -> tf.distribute.Strategy:
    """Returns TensorFlow's strategy of a recipe's name: "default", one device, or "mirrored"."""
    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()
