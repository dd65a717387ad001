"""Compilation for arguments of one shape."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tfp_distill.flows import Flow

__all__ = ["compiled", "prefers_xla"]


def compiled(
    function: Callable[..., tf.Tensor], *examples: tf.Tensor, jit_compile: bool = True
) -> Callable[..., tf.Tensor]:
    """Compiles a function for tensors of the shapes and types of the examples.

    Unlike a `tf.function` it cannot be compiled again by accident, and TensorFlow does not warn of
    retracing where one flow after the other is evaluated.

    Args:
      function: a function of tensors.
      *examples: example arguments.
      jit_compile: whether XLA compiles it; a plain graph otherwise.
    """
    specs = [tf.TensorSpec.from_tensor(example) for example in examples]
    return tf.function(function, jit_compile=jit_compile).get_concrete_function(*specs)


def prefers_xla(flow: Flow) -> bool:
    """Returns whether XLA makes a flow faster: on CPUs it slows convolutions down."""
    return flow.config.pixel_format is None or bool(tf.config.list_physical_devices("GPU"))
