"""What passes through a chain leave behind."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp

__all__ = ["Segment", "State", "Trace", "Visit", "flat_events", "standard_normal_log_prob"]


def standard_normal_log_prob(z: tf.Tensor) -> tf.Tensor:
    """Returns sum_d log N(z_d; 0, 1) over the last axis, in nats."""
    normal = tfp.distributions.Normal(tf.zeros([], z.dtype), tf.ones([], z.dtype))
    return tf.reduce_sum(normal.log_prob(z), axis=-1)


def flat_events(value: tf.Tensor) -> tf.Tensor:
    """Returns `[batch, ...]` as `[batch, D]`."""
    return tf.reshape(value, [tf.shape(value)[0], math.prod(value.shape[1:])])


class Trace(NamedTuple):
    """One pass between data and latents, in either direction, with everything that it met.

    Attributes:
      latents: what is on the latent side of each bijector, the one next to the data first;
        `latents[-1]` is z.
      ildjs: the log-determinant of each bijector, in the normalizing direction, per example
        `[batch]`.
    """

    latents: tuple[tf.Tensor, ...]
    ildjs: tuple[tf.Tensor, ...]

    @property
    def ildj(self) -> tf.Tensor:
        """The log-determinant of the whole chain, per example `[batch]`."""
        return tf.add_n(list(self.ildjs))

    def log_prob(self) -> tf.Tensor:
        """The log-likelihood under a standard-normal base, `[batch]`, in nats.

        log p(x) = sum_d log N(z_d; 0, 1) + log|det dz/dx|
        """
        return standard_normal_log_prob(self.latents[-1]) + self.ildj

    def log_prob_until(self, last: int) -> tf.Tensor:
        """The log-likelihood if the flow ended after bijector `last`, `[batch]`, in nats.

        log N(h_last; 0, I) + sum_{i <= last} log|det b_i|

        Args:
          last: index of the last bijector.
        """
        ildj = tf.add_n(list(self.ildjs[: last + 1]))
        return standard_normal_log_prob(self.latents[last]) + ildj


class State(NamedTuple):
    """Where a walk along a chain is.

    Attributes:
      value: what is in the flow `[batch, ...]`.
      factored_out: what has left it, in the order in which it left.
      found: what the last bijector has told besides, such as its log-determinant `[batch]`.
    """

    value: tf.Tensor
    factored_out: tuple[tf.Tensor, ...] = ()
    found: Any = None


class Segment(NamedTuple):
    """What a contiguous run of bijectors makes of the state that it receives.

    Attributes:
      state: what goes on to the bijector behind, and what has left the flow until there.
      log_prob: what the run adds to the log-likelihood, `[batch]`, in nats: its log-determinants
        and log N(.; 0, I) of what it factors out, but not of what goes on.
      latents: the latents that were asked for, by the index of their bijector, as in a `Trace`.
    """

    state: State
    log_prob: tf.Tensor
    latents: Mapping[int, tf.Tensor]

    def ended(self) -> tf.Tensor:
        """The log-likelihood if the flow ended here, log N(.; 0, I) of all included, `[batch]`."""
        return self.log_prob + standard_normal_log_prob(flat_events(self.state.value))


class Visit(NamedTuple):
    """What one bijector of a chain makes of what arrives at it, in the normalizing direction.

    Attributes:
      bijector: the bijector.
      x: what arrives at it `[batch, ...]`.
      z: what it makes of it `[batch, ...]`.
      ildj: its log-determinant `[batch]`.
    """

    bijector: tfp.bijectors.Bijector
    x: tf.Tensor
    z: tf.Tensor
    ildj: tf.Tensor
