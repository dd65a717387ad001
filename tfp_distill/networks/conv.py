"""The convolutional networks of image flows."""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

__all__ = ["ConvConditioner", "ZeroConv"]

_SMALLEST_SCALE = 1e-6
# Glow's: it makes the learned log-scale three times as fast as the optimiser would.
_LOG_SCALE_FACTOR = 3.0
_LOG_SCALE_BOUND = 10.0


@keras.saving.register_keras_serializable("tfp_distill")
class ZeroConv(keras.layers.Layer):
    """A 3x3 convolution that starts at zero (Kingma and Dhariwal, 2018, arXiv:1807.03039).

        y = (kernel * x + bias) exp(bound tanh(3 log_scale / bound)),  bound = 10

    with one learned log-scale per output channel, without which an output that starts at zero
    grows slowly. The bound, beyond any useful scale, keeps exp from overflowing.

    Args:
      inputs: number of input channels.
      outputs: number of output channels.
      name: name of the layer.
    """

    def __init__(self, inputs: int, outputs: int, *, name: str = "zero_conv") -> None:
        super().__init__(name=name)
        self._config = dict(inputs=inputs, outputs=outputs, name=name)
        self._kernel = self.add_weight(
            shape=(3, 3, inputs, outputs), initializer="zeros", name="kernel"
        )
        self._bias = self.add_weight(shape=(outputs,), initializer="zeros", name="bias")
        self._log_scale = self.add_weight(shape=(outputs,), initializer="zeros", name="log_scale")
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Returns `[batch, H, W, outputs]` for `[batch, H, W, inputs]`."""
        factor = _LOG_SCALE_FACTOR / _LOG_SCALE_BOUND
        scale = tf.exp(_LOG_SCALE_BOUND * tf.tanh(factor * self._log_scale.value))
        return _convolve(x, self._kernel.value * scale, self._bias.value * scale)

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return dict(self._config)


@keras.saving.register_keras_serializable("tfp_distill")
class ConvConditioner(keras.layers.Layer):
    """Glow's conditioner (Kingma and Dhariwal, 2018, arXiv:1807.03039, section 4).

        h_1 = relu(actnorm_1(3x3 convolution of x))
        h_2 = relu(actnorm_2(1x1 convolution of h_1))
        y   = 3x3 zero convolution of h_2, see `ZeroConv`

    where actnorm(h) = scale h + bias per channel takes the place of the convolution's bias.
    `initialize(x)` sets scale and bias such that actnorm's output has mean 0 and standard deviation
    1 over the batch. The network starts as y = 0. Trainable parameters, with h hidden channels:

        9 inputs h + 2 h + h^2 + 2 h + 9 h outputs + 2 outputs

    Args:
      inputs: number of input channels.
      outputs: number of output channels.
      hidden_channels: number h of channels of the hidden layers.
      seed: seed of the initial kernels.
      name: name of the layer.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        hidden_channels: int,
        seed: int = 0,
        name: str = "conv_conditioner",
    ) -> None:
        super().__init__(name=name)
        self._config = dict(
            inputs=inputs, outputs=outputs, hidden_channels=hidden_channels, seed=seed, name=name
        )
        self._kernels: list[keras.Variable] = []
        self._scales: list[keras.Variable] = []
        self._biases: list[keras.Variable] = []
        for index, (size, channels) in enumerate(((3, inputs), (1, hidden_channels))):
            self._kernels.append(
                self.add_weight(
                    shape=(size, size, channels, hidden_channels),
                    initializer=keras.initializers.RandomNormal(stddev=0.05, seed=seed + index),
                    name=f"hidden_{index}_kernel",
                )
            )
            for weights, start in ((self._scales, "ones"), (self._biases, "zeros")):
                kind = "scale" if start == "ones" else "bias"
                weights.append(
                    self.add_weight(
                        shape=(hidden_channels,), initializer=start, name=f"hidden_{index}_{kind}"
                    )
                )
        self._output = ZeroConv(hidden_channels, outputs, name="output")
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Returns `[batch, H, W, outputs]` for `[batch, H, W, inputs]`."""
        scaled = [k.value * s.value for k, s in zip(self._kernels, self._scales, strict=True)]
        # A custom gradient takes tensors: under a strategy, a bias is a variable with replicas.
        first, second = (tf.convert_to_tensor(bias.value) for bias in self._biases)
        x = _convolve(x, scaled[0], first, activation=tf.nn.relu)
        return self._output(_rectified_pointwise(x, scaled[1], second))

    def initialize(self, x: tf.Tensor) -> None:
        """Sets the scales and biases from a batch of inputs `[batch, H, W, inputs]`.

        Standard deviations below 1e-6 count as 1e-6, so that a constant channel stays finite.
        """
        for kernel, scale, bias in zip(self._kernels, self._scales, self._biases, strict=True):
            x = _convolve(x, kernel.value)
            mean, variance = tf.nn.moments(x, axes=list(range(x.shape.rank - 1)))
            deviation = tf.maximum(tf.sqrt(variance), _SMALLEST_SCALE)
            scale.assign(1 / deviation)
            bias.assign(-mean / deviation)
            x = tf.nn.relu(x * scale.value + bias.value)

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return dict(self._config)


def _convolve(
    x: tf.Tensor,
    kernel: tf.Tensor,
    bias: tf.Tensor | None = None,
    *,
    activation: Callable[[tf.Tensor], tf.Tensor] = tf.identity,
) -> tf.Tensor:
    """Returns a convolution, its bias and its activation, which TensorFlow computes in one pass.

    A scale of the outputs is one of the kernel, which is far smaller.
    """
    y = tf.nn.conv2d(x, kernel, strides=1, padding="SAME")
    return activation(y if bias is None else tf.nn.bias_add(y, bias))


@tf.custom_gradient
def _rectified_pointwise(
    x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, ...]]]:
    """Returns relu(1x1 convolution + bias), whose gradients are products of matrices.

    TensorFlow's own, of a convolution, are equal but for rounding, and slower on CPUs.
    """
    y = _convolve(x, kernel, bias, activation=tf.nn.relu)

    def gradients(dy):
        inputs, outputs = kernel.shape[2:]
        before_relu = tf.raw_ops.ReluGrad(gradients=dy, features=y)
        rows = tf.reshape(before_relu, [-1, outputs])
        dx = tf.linalg.matmul(rows, kernel[0, 0], transpose_b=True)
        dkernel = tf.linalg.matmul(tf.reshape(x, [-1, inputs]), rows, transpose_a=True)
        dbias = tf.raw_ops.BiasAddGrad(out_backprop=rows)
        return tf.reshape(dx, tf.shape(x)), dkernel[None, None], dbias

    return y, gradients
