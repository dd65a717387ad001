"""What passes through a chain leave behind."""

from __future__ import annotations

import math
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

    def log_prob_of_part(self, first: int, last: int) -> tf.Tensor:
        """The log-likelihood if the flow ended after bijector `last`, `[batch]`, in nats.

            log N(h_last; 0, I) + sum_{i <= last} log|det b_i|

        as the truncated problem of PARTS, eq. 3, writes it, with gradients to the bijectors first
        to last only, if the trace stopped gradients before `first`: the log-determinants of the
        bijectors before `first` are constants.

        Args:
          first: index of the first bijector that receives gradients.
          last: index of the last one.
        """
        before, own = self.ildjs[:first], self.ildjs[first : last + 1]
        ildjs = [*map(tf.stop_gradient, before), *own]
        return standard_normal_log_prob(self.latents[last]) + tf.add_n(ildjs)


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

    def stopped(self) -> State:
        """Returns the same state as a constant: what is in the flow, and what has left it."""
        factored_out = tuple(map(tf.stop_gradient, self.factored_out))
        return State(tf.stop_gradient(self.value), factored_out, self.found)


class Segment(NamedTuple):
    """What a contiguous run of bijectors makes of the state that it receives.

    Attributes:
      state: what goes on to the bijector behind: `[batch, ...]`, without what is factored out.
      log_prob: what the run adds to the log-likelihood, `[batch]`, in nats: its log-determinants
        and log N(.; 0, I) of what it factors out, but not of `state`.
    """

    state: tf.Tensor
    log_prob: tf.Tensor

    def ended(self) -> tf.Tensor:
        """The log-likelihood if the flow ended here, log N(state; 0, I) included, `[batch]`."""
        return self.log_prob + standard_normal_log_prob(flat_events(self.state))


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
