"""What all tests share: two CPU devices, a float64 mode, and random weights."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfp_distill.flows import FlowConfig

# For strategies with two replicas; it has to happen before TensorFlow uses its devices.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

# Most graphs of tests run a few times: optimising them takes longer than they do.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


@pytest.fixture(autouse=True, scope="module")
def frozen() -> Iterator[None]:
    """What is left of a module, as graphs that TensorFlow keeps, is not searched for garbage again.

    Every search of hundreds of thousands of objects would take seconds.
    """
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture
def optimized_graphs() -> Iterator[None]:
    """Graphs are optimised, as those of users are."""
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


@pytest.fixture
def float64() -> Iterator[None]:
    """Layers, and so bijectors and flows, that a test makes hold float64 weights."""
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)


@pytest.fixture(scope="module")
def without_xla() -> Iterator[None]:
    """XLA compiles where it is asked to, not by default: it takes longer than short jobs do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FlowConfig, "suits_xla", False)
        yield


@pytest.fixture(scope="session")
def randomize() -> Callable[..., None]:
    """A function that perturbs all trainable weights of Keras layers.

    New conditioners end in zeros: at initialisation, wrong code may pass.
    """

    def perturb(layers: Iterable[keras.layers.Layer], size: float = 0.3, seed: int = 0) -> None:
        random = np.random.RandomState(seed)
        for layer in layers:
            for weight in layer.trainable_weights:
                weight.assign(weight.numpy() + size * random.normal(size=weight.shape))

    return perturb


@pytest.fixture(scope="session")
def two_replicas() -> tf.distribute.Strategy:
    """The strategy with two replicas on the CPU.

    There must be one of several devices only: each numbers its collective operations from the same
    start, and TensorFlow refuses a second one whose tensors have other shapes.
    """
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
