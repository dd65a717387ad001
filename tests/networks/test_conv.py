"""Tests of the convolutional networks."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfp_distill.networks import ConvConditioner, ZeroConv


def _images(channels, rows=8, seed=0):
    random = np.random.RandomState(seed)
    return tf.constant(3 + 2 * random.normal(size=(rows, 6, 5, channels)), tf.float32)


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 4), (6, 6)])
def test_shape_size_and_zero_output(inputs, outputs):
    network = ConvConditioner(inputs, outputs, hidden_channels=7)
    assert network.count_params() == 9 * inputs * 7 + 14 + 49 + 14 + 9 * 7 * outputs + 2 * outputs
    assert len(network.trainable_variables) == 9
    y = network(_images(inputs))
    np.testing.assert_array_equal(y, np.zeros([8, 6, 5, outputs]))


def _as_written(network, x):
    """Returns the outputs of the formulas, with TensorFlow's own gradients."""
    weights = {weight.name: weight.value for weight in network.weights}

    def convolve(x, name):
        return tf.nn.conv2d(x, weights[name], strides=1, padding="SAME")

    h = x
    for index in range(2):
        scale, bias = weights[f"hidden_{index}_scale"], weights[f"hidden_{index}_bias"]
        h = tf.nn.relu(convolve(h, f"hidden_{index}_kernel") * scale + bias)
    return (convolve(h, "kernel") + weights["bias"]) * tf.exp(
        10 * tf.tanh(3 * weights["log_scale"] / 10)
    )


def test_agrees_with_kerass_layers(randomize):
    network = ConvConditioner(2, 4, hidden_channels=5)
    randomize([network])
    weights = {weight.name: weight.numpy() for weight in network.weights}
    h = _images(2)
    for index, size in enumerate((3, 1)):
        convolution = keras.layers.Conv2D(5, size, padding="same", use_bias=False)
        convolution.build(h.shape)
        convolution.set_weights([weights[f"hidden_{index}_kernel"]])
        h = convolution(h) * weights[f"hidden_{index}_scale"] + weights[f"hidden_{index}_bias"]
        h = tf.nn.relu(h)
    convolution = keras.layers.Conv2D(4, 3, padding="same")
    convolution.build(h.shape)
    convolution.set_weights([weights["kernel"], weights["bias"]])
    expected = convolution(h) * np.exp(10 * np.tanh(3 * weights["log_scale"] / 10))
    np.testing.assert_allclose(network(_images(2)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("use_xla", [False, True])
def test_gradients_are_those_of_the_formulas(use_xla, randomize):
    network = ConvConditioner(2, 4, hidden_channels=5)
    randomize([network])

    @tf.function(jit_compile=use_xla)
    def outputs_and_gradients(run, x):
        weights = [weight.value for weight in network.trainable_weights]
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = run(x)
            loss = tf.reduce_sum(tf.sin(y))
        return y, *tape.gradient(loss, [x, *weights])

    for x in (_images(2), _images(2)[:1]):
        found = outputs_and_gradients(network, x)
        expected = outputs_and_gradients(lambda x: _as_written(network, x), x)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_zero_convolution_scales_each_channel():
    network = ZeroConv(1, 2)
    kernel, bias, log_scale = network.weights
    kernel.assign(np.eye(9)[4].reshape(3, 3, 1, 1) * [[1.0, 2.0]])  # looks at the pixel itself
    bias.assign([0.5, -1.0])
    log_scale.assign([0.0, 0.1])
    x = _images(1)
    y = network(x)
    np.testing.assert_allclose(y[..., :1], x + 0.5, rtol=1e-6)
    scale = np.exp(10 * np.tanh(0.03))
    assert scale == pytest.approx(np.exp(0.3), rel=1e-3)
    np.testing.assert_allclose(y[..., 1:], (2 * x - 1) * scale, rtol=1e-5)


def test_initialisation_normalises_the_hidden_layers():
    network = ConvConditioner(2, 4, hidden_channels=5)
    x = _images(2, rows=50)
    network.initialize(x)
    weights = {weight.name: weight.value for weight in network.weights}
    for index in range(2):
        x = tf.nn.conv2d(x, weights[f"hidden_{index}_kernel"], 1, "SAME")
        x = x * weights[f"hidden_{index}_scale"] + weights[f"hidden_{index}_bias"]
        np.testing.assert_allclose(np.mean(x, (0, 1, 2)), 0, atol=1e-4)
        np.testing.assert_allclose(np.std(x, (0, 1, 2)), 1, atol=1e-4)
        x = tf.nn.relu(x)
    np.testing.assert_array_equal(network(_images(2)), np.zeros([8, 6, 5, 4]))


def test_constant_inputs_and_extreme_weights_stay_finite(randomize):
    network = ConvConditioner(2, 4, hidden_channels=5)
    network.initialize(tf.zeros([3, 4, 4, 2]))
    assert all(np.all(np.isfinite(w)) for w in network.get_weights())
    randomize([network], size=1000.0)
    assert np.all(np.isfinite(network(_images(2))))


def test_layers_differ_and_the_seed_decides():
    first, same, other = (
        ConvConditioner(4, 2, hidden_channels=4, seed=seed).get_weights() for seed in (0, 0, 7)
    )
    for a, b in zip(first, same, strict=True):
        np.testing.assert_array_equal(a, b)
    kernels = [w for weights in (first, other) for w in weights[:6] if w.ndim == 4 and np.any(w)]
    assert len(kernels) == 4
    for i, a in enumerate(kernels):
        for b in kernels[:i]:
            assert np.max(np.abs(a.ravel()[:16] - b.ravel()[:16])) > 0.01


@pytest.mark.parametrize(
    "make",
    [lambda: ConvConditioner(2, 4, hidden_channels=3, seed=5), lambda: ZeroConv(2, 4)],
    ids=["conditioner", "zero_conv"],
)
def test_layers_are_serialised(make, randomize):
    layer = make()
    randomize([layer])
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(_images(2)), layer(_images(2)))
