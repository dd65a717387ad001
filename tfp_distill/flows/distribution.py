"""A flow as a distribution of TensorFlow Probability."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

__all__ = ["FlowDistribution"]

tfd = tfp.distributions

# TFP returns objects of this base class where a part of them is no composite tensor.
_TransformedDistribution: Any = tfd.TransformedDistribution.__mro__[1]


class FlowDistribution(_TransformedDistribution):
    """A standard normal behind a flow's bijector, evaluated by the flow's compiled passes.

    A `tfd.TransformedDistribution`; a condition is an argument of the bijector,
    `log_prob(x, bijector_kwargs={"condition": condition})`.

    Args:
      flow: the `Flow`.
    """

    def __init__(self, flow: Any) -> None:
        zeros = tf.zeros(flow.latent_dims, flow.compute_dtype)
        base = tfd.Independent(tfd.Normal(zeros, tf.ones_like(zeros)), 1)
        super().__init__(base, flow.bijector, parameters={"flow": flow}, name=flow.name)
        self._flow = self._no_dependency(flow)

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return {}  # A flow has no batch of parameters.

    def _log_prob(self, y, **kwargs):
        return self._flow.log_prob(y, self._condition(kwargs))

    def _call_sample_n(self, sample_shape, seed, **kwargs):
        z = self.distribution.sample(sample_shape, seed=seed)
        return self._flow.to_data(z, self._condition(kwargs))

    def _sample_and_log_prob(self, sample_shape, seed, **kwargs):
        z = self.distribution.sample(sample_shape, seed=seed)
        x, fldj = self._flow.to_data_and_fldj(z, self._condition(kwargs))
        return x, self.distribution.log_prob(z) - fldj

    def _condition(self, kwargs):
        return self._kwargs_split_fn(kwargs)[1].get("condition")
