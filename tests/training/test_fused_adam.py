"""Adam's update by one operation is Keras's."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfp_distill.training.fused_adam import apply_gradients

_SHAPES = [(3, 4), (5,), ()]


def _weights(dtype):
    values = np.random.default_rng(0)
    return [keras.Variable(values.normal(size=shape), dtype=dtype) for shape in _SHAPES]


def _take_steps(apply, optimizer, dtype, steps=7):
    weights = _weights(dtype)
    optimizer.build(weights)
    step = tf.function(lambda *gradients: apply(optimizer, gradients, weights), autograph=False)
    values = np.random.default_rng(1)
    for _ in range(steps):
        step(*(tf.constant(values.normal(size=shape), dtype) for shape in _SHAPES))
    return [v.numpy() for v in [*weights, *optimizer.variables]], step


def _keras_apply(optimizer, gradients, weights):
    optimizer.apply(gradients, weights)


def _operations(step):
    graph = next(iter(step._list_all_concrete_functions())).graph
    return [operation.type for operation in graph.get_operations()]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"global_clipnorm": 0.1},
        {"clipvalue": 0.2, "weight_decay": 0.1},
        {"use_ema": True, "ema_momentum": 0.9},
        {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3},
    ],
    ids=lambda settings: ",".join(settings) or "plain",
)
def test_weights_and_state_are_those_of_keras(settings):
    def make():
        rate = keras.optimizers.schedules.CosineDecay(0.1, 10, warmup_target=0.2, warmup_steps=3)
        return keras.optimizers.Adam(rate, **settings)

    expected, _ = _take_steps(_keras_apply, make(), "float32")
    found, step = _take_steps(apply_gradients, make(), "float32")

    assert _operations(step).count("ResourceApplyAdam") == len(_SHAPES)
    for index, (value, other) in enumerate(zip(found, expected, strict=True)):
        # Second moments are a factor of 1.00001 apart: TensorFlow subtracts 1 - 0.999 in float32.
        rtol = 1e-6 if index < len(_SHAPES) else 2e-5
        np.testing.assert_allclose(value, other, rtol=rtol, atol=1e-6)


def test_weights_of_float64_follow_the_formula():
    rate, beta1, beta2, epsilon = 0.1, 0.8, 0.95, 1e-4
    optimizer = keras.optimizers.Adam(rate, beta1, beta2, epsilon)
    found, _ = _take_steps(apply_gradients, optimizer, "float64")

    expected = [weight.numpy() for weight in _weights("float64")]
    m, v = ([np.zeros(shape) for shape in _SHAPES] for _ in range(2))
    values = np.random.default_rng(1)
    for step in range(1, 8):
        for index, shape in enumerate(_SHAPES):
            gradient = values.normal(size=shape)
            m[index] = beta1 * m[index] + (1 - beta1) * gradient
            v[index] = beta2 * v[index] + (1 - beta2) * gradient**2
            alpha = rate * np.sqrt(1 - beta2**step) / (1 - beta1**step)
            expected[index] -= alpha * m[index] / (np.sqrt(v[index]) + epsilon)
    for value, other in zip(found, expected, strict=False):
        np.testing.assert_allclose(value, other, rtol=1e-6)  # The rate is a float32 variable.


def test_adamw_is_adam_with_decay():
    found, step = _take_steps(
        apply_gradients, keras.optimizers.AdamW(0.1, weight_decay=0.3), "float32"
    )
    expected, _ = _take_steps(
        _keras_apply, keras.optimizers.AdamW(0.1, weight_decay=0.3), "float32"
    )

    assert "ResourceApplyAdam" in _operations(step)
    for value, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-6, atol=1e-6)


class Halved(keras.optimizers.Adam):
    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient, variable, learning_rate / 2)


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.optimizers.Adam(0.1, amsgrad=True),
        lambda: keras.optimizers.Adam(0.1, gradient_accumulation_steps=3),
        lambda: keras.optimizers.RMSprop(0.1),
        lambda: keras.optimizers.SGD(0.1, momentum=0.9),
        lambda: Halved(0.1),
    ],
    ids=["amsgrad", "accumulation", "rmsprop", "sgd", "subclass"],
)
def test_other_optimizers_are_left_alone(make):
    expected, _ = _take_steps(_keras_apply, make(), "float32")
    found, step = _take_steps(apply_gradients, make(), "float32")

    assert "ResourceApplyAdam" not in _operations(step)
    for value, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(value, other)


def test_the_optimizer_is_as_it_was_after_an_error():
    optimizer = keras.optimizers.Adam(0.1)
    weights = _weights("float32")
    optimizer.build(weights)
    method = optimizer.update_step

    with pytest.raises(ValueError):
        apply_gradients(optimizer, [tf.zeros([2])], [keras.Variable([0.0, 0.0])])

    assert optimizer.update_step == method
