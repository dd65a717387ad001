"""Interpolation between data points, in the latent space."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfp_distill.arrays import Array
from tfp_distill.flows.flow import Flow

__all__ = ["interpolate", "interpolate_latents"]


def interpolate_latents(z_a: tf.Tensor, z_b: tf.Tensor, alphas: tf.Tensor) -> tf.Tensor:
    """Interpolates between latents such that the norm is interpolated too.

        mix(alpha) = (1 - alpha) z_a + alpha z_b
        z(alpha)   = mix(alpha) * ((1 - alpha) |z_a| + alpha |z_b|) / |mix(alpha)|

    A plain mix of two draws of a standard normal is shorter than both, and in many dimensions so
    short that the flow has never seen its like (Walton et al., 2023, "Distilling Normalizing
    Flows", equation 16). Exactly opposite latents have no direction half-way; there z is 0.

    Args:
      z_a: latents `[batch, D]`.
      z_b: latents `[batch, D]`.
      alphas: `[m]`, in [0, 1]; 0 yields `z_a` and 1 yields `z_b`.

    Returns:
      `[batch, m, D]`: every pair at every alpha.
    """
    alphas = alphas[tf.newaxis, :, tf.newaxis]
    z_a, z_b = z_a[:, tf.newaxis, :], z_b[:, tf.newaxis, :]
    mix = (1 - alphas) * z_a + alphas * z_b
    norm = (1 - alphas) * _norm(z_a) + alphas * _norm(z_b)
    return mix * tf.math.divide_no_nan(norm, _norm(mix))


def interpolate(
    flow: Flow, x_a: Array, x_b: Array, alphas: Array, condition: Array | None = None
) -> tf.Tensor:
    """Interpolates between data points through *all* of the flow's latents.

    See `interpolate_latents` for the formula.

    Args:
      flow: the flow.
      x_a: data `[batch, ...]`, in the user's units.
      x_b: data `[batch, ...]`.
      alphas: `[m]`, in [0, 1]; 0 yields `x_a` and 1 yields `x_b`.
      condition: `[batch, C]` for a conditional flow.

    Returns:
      `[batch, m, ...]`: every pair at every alpha.

    Raises:
      ValueError: if `alphas` is no vector of numbers in [0, 1] (the values of a symbolic tensor are
        not checked), or `x_b` has not as many rows as `x_a`.
    """
    alphas = tf.convert_to_tensor(alphas, flow.compute_dtype)
    known = tf.get_static_value(alphas)
    if alphas.shape.rank != 1 or (known is not None and not np.all((known >= 0) & (known <= 1))):
        raise ValueError(f"`alphas` must be a vector of numbers in [0, 1], got {alphas}.")
    ends = flow.to_latent(x_a, condition), flow.to_latent(x_b, condition)
    if not ends[1].shape.is_compatible_with(ends[0].shape):
        rows = [z.shape[0] for z in ends]
        raise ValueError(f"`x_b` must have the {rows[0]} rows of `x_a`, got {rows[1]}.")
    z = interpolate_latents(*ends, alphas)
    pairs_and_alphas = tf.shape(z)[:2]
    if condition is not None:
        condition = tf.repeat(condition, pairs_and_alphas[1], axis=0)
    x = flow.to_data(tf.reshape(z, [-1, flow.latent_dims]), condition)
    return tf.reshape(x, tf.concat([pairs_and_alphas, flow.event_shape], axis=0))


def _norm(z: tf.Tensor) -> tf.Tensor:
    return tf.linalg.norm(z, axis=-1, keepdims=True)
