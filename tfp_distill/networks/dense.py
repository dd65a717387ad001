"""The fully connected conditioner of tabular coupling flows."""

from __future__ import annotations

import keras

__all__ = ["dense_conditioner"]


def dense_conditioner(
    inputs: int,
    outputs: int,
    *,
    hidden_units: int,
    num_hidden_layers: int,
    activation: str = "relu",
    seed: int = 0,
    name: str = "dense_conditioner",
) -> keras.Sequential:
    """Returns a multilayer perceptron whose last layer starts at zero.

    A zero last layer makes a new coupling the identity (Kingma and Dhariwal, 2018, section 3.3).

    Args:
      inputs: size of the last axis of the input.
      outputs: size of the last axis of the output.
      hidden_units: width of every hidden layer.
      num_hidden_layers: number of hidden layers.
      activation: Keras name of the hidden activation.
      seed: seed of the initial weights.
      name: name of the network.

    Returns:
      A built `keras.Sequential`, `[batch, inputs] -> [batch, outputs]`.
    """
    layers = [keras.Input((inputs,))]
    for index in range(num_hidden_layers):
        # Keras's own seeding gives equal layers equal weights, hence one seed a layer.
        initializer = keras.initializers.GlorotUniform(seed=seed + index)
        layers.append(
            keras.layers.Dense(hidden_units, activation=activation, kernel_initializer=initializer)
        )
    layers.append(keras.layers.Dense(outputs, kernel_initializer="zeros"))
    return keras.Sequential(layers, name=name)
