"""MADE: a masked network that is autoregressive in its inputs."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from tfp_distill.networks.autoregression import autoregress

__all__ = ["MADE"]


@keras.saving.register_keras_serializable("tfp_distill")
class MADE(keras.layers.Layer):
    """Masked autoencoder for distribution estimation (Germain et al., 2015, arXiv:1502.03509).

        h_1 = act(W_1*M_1 x + b_1 (+ V c)),  h_l = act(W_l*M_l h_{l-1} + b_l),  out = W*M h + b

    Every hidden unit has a degree m; it sees the inputs 1..m, and outputs i see the units with
    m < i, so that outputs i depend on x_1 ... x_{i-1} only. Degrees are spread evenly over
    1..D-1 and sorted, so that the units of one degree are a slice. With a condition c there are
    also units of degree 0, that see nothing but c: the first dimension depends on c too.

    Two ways to evaluate: `made(x)`, all dimensions at once; and `made.autoregress(T, z)`, which
    builds x while it goes, computing each hidden unit once, when its inputs are known. Dimensions
    between which no new hidden unit becomes known are built together, so that D = 63 with 32 units
    takes at most 33 small steps.

    Args:
      dims: number of dimensions D, at least 1.
      num_parameters: number P of outputs of each dimension.
      hidden_units: width of every hidden layer.
      num_hidden_layers: number of hidden layers, at least 1.
      activation: Keras name of the hidden activation.
      reverse: whether the order of the dimensions is x_D, ..., x_1.
      condition_dims: size C of the condition; 0 for none.
      seed: seed of the initial weights.
      name: name of the layer.
    """

    def __init__(
        self,
        dims: int,
        *,
        num_parameters: int = 2,
        hidden_units: int = 32,
        num_hidden_layers: int = 2,
        activation: str = "relu",
        reverse: bool = False,
        condition_dims: int = 0,
        seed: int = 0,
        name: str = "made",
    ) -> None:
        if dims < 1:
            raise ValueError(f"`dims` must be at least 1, got {dims}.")
        if num_parameters < 1:
            raise ValueError(f"`num_parameters` must be at least 1, got {num_parameters}.")
        if hidden_units < 1:
            raise ValueError(f"`hidden_units` must be at least 1, got {hidden_units}.")
        if num_hidden_layers < 1:
            raise ValueError(f"`num_hidden_layers` must be at least 1, got {num_hidden_layers}.")
        super().__init__(name=name)
        self._config = dict(
            dims=dims,
            num_parameters=num_parameters,
            hidden_units=hidden_units,
            num_hidden_layers=num_hidden_layers,
            activation=activation,
            reverse=reverse,
            condition_dims=condition_dims,
            seed=seed,
            name=name,
        )
        self._dims = dims
        self.num_parameters = num_parameters
        self._reverse = reverse
        self._activation = keras.activations.get(activation)
        self.conditional = condition_dims > 0
        first_degree = 0 if self.conditional else min(1, dims - 1)
        self._degrees = np.round(np.linspace(first_degree, dims - 1, hidden_units)).astype(int)
        sizes = [dims] + [hidden_units] * num_hidden_layers
        self._kernels: list[keras.Variable] = []
        self._biases: list[keras.Variable] = []
        for index, (fan_in, fan_out) in enumerate(zip(sizes, sizes[1:], strict=False)):
            self._add_dense(f"hidden_{index}", fan_in, fan_out, seed + index)
        self._add_dense("output", hidden_units, num_parameters * dims, None)
        self._masks = self._make_masks(num_hidden_layers)
        if self.conditional:
            self._condition_kernel = self.add_weight(
                shape=(condition_dims, hidden_units),
                initializer=keras.initializers.GlorotUniform(seed=seed + num_hidden_layers),
                name="condition_kernel",
            )
        self.built = True

    def call(self, x: tf.Tensor, condition: tf.Tensor | None = None) -> tf.Tensor:
        """Returns the parameters `[batch, P, D]` of all dimensions at once."""
        kernels = self._masked_kernels()
        hidden = self._flip(x)
        for index, (kernel, bias) in enumerate(zip(kernels[:-1], self._biases[:-1], strict=True)):
            pre = hidden @ kernel + bias.value
            if index == 0 and self.conditional:
                pre += self._condition_term(condition)
            hidden = self._activation(pre)
        outputs = hidden @ kernels[-1] + self._biases[-1].value
        return self._flip(tf.reshape(outputs, [-1, self.num_parameters, self._dims]))

    def autoregress(
        self,
        transform: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
        z: tf.Tensor,
        condition: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Solves x_i = T(z_i; parameters_i(x_1 ... x_{i-1})), computing each hidden unit once.

        Args:
          transform: T, as `transform(values [M], parameters [P, M])`; returns the values and the
            logarithms of its derivatives, both `[M]`.
          z: `[batch, D]`.
          condition: optional `[batch, C]`.

        Returns:
          x and the logarithms of the derivatives, both `[batch, D]`.
        """
        x, log_derivative = autoregress(
            transform,
            self._flip(z),
            kernels=self._masked_kernels(),
            biases=[bias.value for bias in self._biases],
            degrees=self._degrees,
            activation=self._activation,
            condition_term=self._condition_term(condition) if self.conditional else None,
        )
        return self._flip(x), self._flip(log_derivative)

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return dict(self._config)

    def _make_masks(self, num_hidden_layers):
        inputs, hidden = np.arange(1, self._dims + 1), self._degrees
        masks = [inputs[:, None] <= hidden[None, :]]
        masks += [hidden[:, None] <= hidden[None, :]] * (num_hidden_layers - 1)
        masks.append(hidden[:, None] < np.tile(inputs, self.num_parameters)[None, :])
        return [mask.astype(np.float32) for mask in masks]

    def _masked_kernels(self):
        return [
            kernel.value * tf.cast(mask, kernel.dtype)
            for kernel, mask in zip(self._kernels, self._masks, strict=True)
        ]

    def _condition_term(self, condition):
        if condition is None:
            raise ValueError(f"`condition` must be given to the conditional {self.name!r}.")
        return condition @ self._condition_kernel.value

    def _flip(self, x):
        return tf.reverse(x, axis=[-1]) if self._reverse else x

    def _add_dense(self, name, fan_in, fan_out, seed):
        # The output layer (no seed) starts at zero: a new flow is the identity.
        initializer = "zeros" if seed is None else keras.initializers.GlorotUniform(seed=seed)
        self._kernels.append(
            self.add_weight(shape=(fan_in, fan_out), initializer=initializer, name=f"{name}_kernel")
        )
        self._biases.append(
            self.add_weight(shape=(fan_out,), initializer="zeros", name=f"{name}_bias")
        )
