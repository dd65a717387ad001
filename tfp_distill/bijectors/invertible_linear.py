"""An invertible linear map in its PLU factorisation; on images, a 1x1 convolution."""

from __future__ import annotations

from typing import Literal

import numpy as np
import scipy.linalg
import tensorflow as tf

from tfp_distill.bijectors.keras_bijector import KerasBijector, weights_layer

__all__ = ["InvertibleLinear"]


class InvertibleLinear(KerasBijector):
    """Mixes the channels by an invertible matrix (Kingma and Dhariwal, 2018, section 3.2).

        W = P L (U + diag(sign * exp(log_scale)))
        normalizing:  z = W x                                  ildj =  H*W * sum(log_scale)
        generative:   x = (U + diag(...))^-1 L^-1 P^-1 z       fldj = -H*W * sum(log_scale)

    at every position of an image `[H, W, C]` (H*W is 1 for vectors). P is a fixed permutation, L
    unit lower triangular, U strictly upper triangular, and the signs are fixed. Only free entries
    are weights: C(C-1)/2 of L, C(C-1)/2 of U and C of log_scale, C^2 in all. The normalizing
    direction, which training takes, inverts no matrix. The generative direction solves two
    triangular systems once for all rows of the batch, with the columns of P^-1 as right-hand sides,
    so that a row costs a product with a matrix, as it does the other way.

    W starts as a random rotation; or as one that leaves every column what it is, so that a
    transform of single columns meets their atoms and bounds (Durkan et al., 2019, start with
    permutations): for couplings a permutation that exchanges the two halves, each in random order,
    so that the next one changes what one lets through, and for autoregressive steps, which
    change all columns, the identity.

    Args:
      channels: size C of the last axis.
      event_ndims: 1 for vectors, 3 for images.
      start: "rotation", "permutation" or "identity", what W is at first.
      seed: seed of the first W.
      name: name of the bijector and of its layer.

    Raises:
      ValueError: if `start` is none of these.
    """

    def __init__(
        self,
        channels: int,
        *,
        event_ndims: int = 1,
        start: Literal["rotation", "permutation", "identity"] = "rotation",
        seed: int = 0,
        name: str = "invertible_linear",
    ) -> None:
        if start not in _STARTS:
            raise ValueError(f"`start` must be one of {', '.join(_STARTS)}, got {start!r}.")
        self._channels = channels
        self._strictly_lower = np.tril_indices(channels, -1)
        self._strictly_upper = np.triu_indices(channels, 1)
        self._entries = self._entries_of_places()
        self._places = np.argsort(self._entries, axis=None)[: channels**2]
        factors = self._factorize(_STARTS[start](channels, np.random.RandomState(seed)))
        fixed = {key: factors.pop(key) for key in ("permutation", "sign")}
        self._weights = weights_layer(name, trainable=factors, fixed=fixed)
        super().__init__(
            [self._weights], event_ndims=event_ndims, name=name, is_constant_jacobian=True
        )

    @property
    def pivots(self) -> np.ndarray:
        """|diag U| `[C]`: where one is tiny, the generative direction magnifies errors."""
        return np.exp(self._weights.log_scale.numpy())

    def set_matrix(self, matrix: np.ndarray) -> None:
        """Makes W = `matrix`.

        Args:
          matrix: invertible, `[C, C]`.

        Raises:
          ValueError: if it has another shape or is singular.
        """
        shape = (self._channels, self._channels)
        matrix = np.asarray(matrix, np.float64)
        if matrix.shape != shape:
            raise ValueError(f"`matrix` must have shape {shape}, got {matrix.shape}.")
        for name, value in self._factorize(matrix).items():
            getattr(self._weights, name).assign(value)

    def _factorize(self, matrix: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the weights that make up a matrix."""
        # scipy: matrix = (L U)[rows]
        rows, lower, upper = scipy.linalg.lu(matrix, p_indices=True)
        diagonal = np.diag(upper)
        if not np.all(np.abs(diagonal) > 0):
            raise ValueError(f"`matrix` must be invertible, got the pivots {diagonal}.")
        return {
            "lower": lower[self._strictly_lower],
            "upper": upper[self._strictly_upper],
            "log_scale": np.log(np.abs(diagonal)),
            "permutation": rows.astype(np.int32),
            "sign": np.sign(diagonal),
        }

    def _inverse_and_ildj(self, x, condition):
        lower, upper = self._factors()
        matrix = tf.gather(lower @ upper, self._weights.permutation.value)
        z = self._on_vectors(lambda v: tf.linalg.matmul(v, matrix, transpose_b=True), x)
        return z, self._constant_log_det(x, tf.reduce_sum(self._weights.log_scale.value))

    def _forward_and_fldj(self, z, condition):
        lower, upper = self._factors()
        rows = self._weights.permutation.value
        permutation = tf.one_hot(rows, self._channels, axis=0, dtype=lower.dtype)  # P^-1
        inverse = tf.linalg.triangular_solve(lower, permutation, lower=True)
        inverse = tf.linalg.triangular_solve(upper, inverse, lower=False)
        x = self._on_vectors(lambda v: tf.linalg.matmul(v, inverse, transpose_b=True), z)
        return x, self._constant_log_det(z, -tf.reduce_sum(self._weights.log_scale.value))

    def _factors(self):
        """Returns L and U + diag(sign * exp(log_scale)), both `[C, C]`."""
        weights = self._weights
        diagonal = weights.sign.value * tf.exp(weights.log_scale.value)
        entries = tf.concat([weights.lower.value, weights.upper.value, diagonal], axis=0)
        return tf.unstack(self._placed(entries), 2)

    def _placed(self, entries):
        """Puts the free entries `[C^2]` of both factors into their places `[2, C, C]`.

        Its gradient gathers too, as every entry has one place: XLA makes loops of scattering.
        """

        @tf.custom_gradient
        def place(entries):
            fixed = tf.constant([0.0, 1.0], entries.dtype)
            factors = tf.gather(tf.concat([entries, fixed], axis=0), self._entries)
            return factors, lambda d: tf.gather(tf.reshape(d, [-1]), self._places)

        return place(entries)

    def _entries_of_places(self):
        """Returns which entry is where in L and U: lower, upper, diagonal, and then 0 and 1."""
        channels, triangle = self._channels, self._channels * (self._channels - 1) // 2
        entries = np.full([2, channels, channels], channels**2)
        entries[0][self._strictly_lower] = np.arange(triangle)
        entries[1][self._strictly_upper] = triangle + np.arange(triangle)
        np.fill_diagonal(entries[0], channels**2 + 1)
        np.fill_diagonal(entries[1], 2 * triangle + np.arange(channels))
        return entries

    def _on_vectors(self, function, x):
        """Applies `function` to `x` with all but the last axis flattened into one."""
        if x.shape.rank == 2:
            return function(x)
        y = tf.reshape(function(tf.reshape(x, [-1, self._channels])), tf.shape(x))
        y.set_shape(x.shape)
        return y


def _rotation(channels: int, random: np.random.RandomState) -> np.ndarray:
    return np.linalg.qr(random.normal(size=(channels, channels)))[0]


def _permutation(channels: int, random: np.random.RandomState) -> np.ndarray:
    """Returns the one that puts the second half before the first, each in random order."""
    first, second = np.split(np.arange(channels), [channels // 2])
    return np.eye(channels)[np.concatenate([random.permutation(second), random.permutation(first)])]


def _identity(channels: int, random: np.random.RandomState) -> np.ndarray:
    return np.eye(channels)


_STARTS = {"rotation": _rotation, "permutation": _permutation, "identity": _identity}
