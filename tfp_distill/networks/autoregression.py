"""The sequential direction of a masked network, block by block."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

__all__ = ["autoregress"]

# So many blocks are written out, fewer of splines, each of which is a large graph; more take turns
# in a loop, two at a time, whose code does not grow with them. Larger turns compile for longer and
# run no faster.
_MOST_AFFINE_BLOCKS_WITHOUT_LOOP = 8
_MOST_BLOCKS_WITHOUT_LOOP = 4
_BLOCKS_OF_A_TURN = 2


def autoregress(
    transform: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
    z: tf.Tensor,
    *,
    kernels: Sequence[tf.Tensor],
    biases: Sequence[tf.Tensor],
    degrees: np.ndarray,
    activation: Callable[[tf.Tensor], tf.Tensor],
    condition_term: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Solves x_i = T(z_i; network_i(x_1 ... x_{i-1})) for x, computing each hidden unit once.

    A hidden unit of degree m is known as soon as x_1 ... x_m are; between two degrees lies a block
    of dimensions that are known together. Blocks are filled up to the same numbers of dimensions
    and units, with weights of 0, so that a loop can go through them. In a turn of the loop, what
    all earlier turns have to say is one product for each layer; what its own blocks say to each
    other is added where it arises. Rows are the last axis, so that a block is a slice in one piece.

    Args:
      transform: T, as `transform(values [M], parameters [P, M])`; returns the values and the
        logarithms of its derivatives, both `[M]`; where all parameters are 0, it may return any.
      z: `[batch, D]`.
      kernels: masked kernels of all layers, the last one `[H, P D]`.
      biases: biases of all layers.
      degrees: degrees of the H units of every hidden layer, ascending, at most D - 1.
      activation: that of the hidden layers.
      condition_term: what is added to the first hidden layer, `[batch, H]`.

    Returns:
      x and the logarithms of the derivatives, both `[batch, D]`.
    """
    dims, wanted = z.shape[-1], tf.shape(z)[0]
    # TensorFlow updates no slice of an empty tensor: of no rows it makes one.
    filling = [[0, tf.cast(wanted == 0, tf.int32)], [0, 0]]
    z, rows = tf.pad(z, filling), tf.maximum(wanted, 1)
    num_parameters = kernels[-1].shape[-1] // dims
    is_affine = num_parameters <= 2
    most = _MOST_AFFINE_BLOCKS_WITHOUT_LOOP if is_affine else _MOST_BLOCKS_WITHOUT_LOOP
    plan = _Blocks(dims, degrees, most)
    turns, inputs, units = plan.turns, plan.inputs_of_turn, plan.units_of_turn
    layers = len(kernels) - 1
    own_inputs = [inputs] + [units] * layers

    weights = [
        tf.transpose(
            plan.by_unit(plan.by_unit(kernel, 0) if layer else plan.by_input(kernel, 0), 1)
        )
        for layer, kernel in enumerate(kernels[:-1])
    ]
    weights = [tf.reshape(weight, [turns, units, -1]) for weight in weights]
    constants = [tf.reshape(plan.by_unit(b, 0), [turns, units, 1]) for b in biases[:-1]]
    if condition_term is not None:
        term = plan.by_unit(tf.transpose(tf.pad(condition_term, filling)), 0)
        constants[0] += tf.reshape(term, [turns, units, rows])

    def by_output(values: tf.Tensor) -> tf.Tensor:
        """Orders `[P D, ...]` by turn, block, parameter and dimension."""
        values = tf.reshape(values, [num_parameters, dims, -1])
        values = tf.reshape(plan.by_input(values, 1), [num_parameters, plan.number, plan.width, -1])
        outputs = inputs * num_parameters
        return tf.reshape(tf.transpose(values, [1, 0, 2, 3]), [turns, outputs, -1])

    weights.append(by_output(tf.transpose(plan.by_unit(kernels[-1], 0))))
    constants.append(by_output(biases[-1]))
    own_weights = [
        _of_own_turn(weight, width) for weight, width in zip(weights, own_inputs, strict=True)
    ]
    noise = tf.reshape(plan.by_input(tf.transpose(z), 0), [turns, inputs, rows])

    def turn(index, known, log_derivatives):
        """Takes a turn; `known` are x and the hidden layers, `[turns, of a turn, batch]`."""
        rows = tf.shape(log_derivatives)[-1]  # XLA knows shapes in a loop, but no values.
        said = [constant[index] for constant in constants]
        if turns > 1:
            flat = [tf.reshape(layer, [-1, rows]) for layer in known]
            said = [
                constant + weight[index] @ below
                for constant, weight, below in zip(said, weights, flat, strict=True)
            ]
        own = [weight[index] for weight in own_weights]
        new: list[list[tf.Tensor]] = [[] for _ in known]
        derivatives = []
        for block in range(plan.blocks_of_turn):
            parameters = _of_block(layers, block, said, own, new, plan.width * num_parameters)
            parameters = tf.broadcast_to(parameters, [plan.width * num_parameters, rows])
            values = noise[index][block * plan.width : (block + 1) * plan.width]
            x, derivative = transform(
                tf.reshape(values, [-1]), tf.reshape(parameters, [num_parameters, -1])
            )
            new[0].append(tf.reshape(x, [plan.width, rows]))
            derivatives.append(tf.reshape(derivative, [plan.width, rows]))
            for layer in range(layers):
                unit = activation(_of_block(layer, block, said, own, new, plan.units))
                new[layer + 1].append(unit)
        known = tuple(
            _with_turn(layer, index, values) for layer, values in zip(known, new, strict=True)
        )
        return index + 1, known, _with_turn(log_derivatives, index, derivatives)

    nothing = [tf.zeros([turns, size, rows], z.dtype) for size in own_inputs]
    state = (0, tuple(nothing), nothing[0])
    if turns > 1:
        state = tf.while_loop(
            lambda index, *_: index < turns, turn, state, maximum_iterations=turns
        )
    else:
        state = turn(*state)
    _, (x, *_), log_derivatives = state
    return plan.dimensions(x)[:wanted], plan.dimensions(log_derivatives)[:wanted]


def _of_own_turn(weight, width):
    """Returns of `[turns, outputs, turns * width]` what a turn says to itself.

    Outside of the loop: XLA has no gradient of slices whose place changes within it.
    """
    turns, outputs, _ = weight.shape
    by_turn = tf.reshape(weight, [turns, outputs, turns, width])
    return tf.gather(by_turn, np.arange(turns), axis=2, batch_dims=1)


def _of_block(layer, block, said, own, new, width):
    """Returns what a layer gets in a block: of earlier turns, and of the blocks of this one."""
    rows = slice(block * width, (block + 1) * width)
    result = said[layer][rows]
    if not new[layer]:
        return result
    below = tf.concat(new[layer], axis=0)
    return result + own[layer][rows, : below.shape[0]] @ below


def _with_turn(known, index, new):
    return tf.tensor_scatter_nd_update(known, [[index]], tf.concat(new, axis=0)[None])


class _Blocks:
    """Dimensions and hidden units in the order in which they become known, in equal blocks.

    Attributes:
      number: number of blocks, those included that fill up the last turn.
      width: dimensions of a block.
      units: hidden units of a block, of each layer.
      blocks_of_turn: blocks that a turn takes.
      turns: number of turns.
      inputs_of_turn: dimensions of all blocks of a turn.
      units_of_turn: hidden units of all blocks of a turn.
    """

    def __init__(self, dims: int, degrees: np.ndarray, most_without_loop: int) -> None:
        known, starts = np.unique(degrees, return_index=True)
        inputs = np.split(np.arange(dims), known)
        units = [*np.split(np.arange(len(degrees)), starts[1:]), np.arange(0)]
        number = len(inputs)
        few = number <= most_without_loop
        self.blocks_of_turn = number if few else _BLOCKS_OF_A_TURN
        self.turns = math.ceil(number / self.blocks_of_turn)
        self.number = self.turns * self.blocks_of_turn
        self.width, self.units = (max(map(len, blocks)) for blocks in (inputs, units))
        self.inputs_of_turn = self.width * self.blocks_of_turn
        self.units_of_turn = self.units * self.blocks_of_turn
        self._inputs = self._filled(inputs, self.width, dims)
        self._units = self._filled(units, self.units, len(degrees))
        self._places = np.argsort(self._inputs)[:dims]  # What fills up comes last.

    def by_input(self, values: tf.Tensor, axis: int) -> tf.Tensor:
        """Orders an axis of D dimensions by blocks, filled up with zeros."""
        return _gather_or_zero(values, self._inputs, axis)

    def by_unit(self, values: tf.Tensor, axis: int) -> tf.Tensor:
        """Orders an axis of H units by blocks, filled up with zeros."""
        return _gather_or_zero(values, self._units, axis)

    def dimensions(self, values: tf.Tensor) -> tf.Tensor:
        """Returns `[batch, D]` of `[turns, inputs of a turn, batch]`."""
        flat = tf.reshape(values, [self.turns * self.inputs_of_turn, -1])
        return tf.transpose(tf.gather(flat, self._places))

    def _filled(self, blocks, size, filling):
        result = np.full([self.number, size], filling)
        for row, block in zip(result, blocks, strict=False):
            row[: len(block)] = block
        return result.reshape(-1)


def _gather_or_zero(values, index, axis):
    """Gathers along an axis, where an index behind its end gives 0."""
    paddings = [[0, int(n == axis)] for n in range(values.shape.rank)]
    return tf.gather(tf.pad(values, paddings), index, axis=axis)
