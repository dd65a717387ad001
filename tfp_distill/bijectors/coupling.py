"""Affine and additive coupling over any Keras conditioner."""

from __future__ import annotations

import keras
import tensorflow as tf

from tfp_distill.bijectors.conditional_affine import bounded_log_scale, check_log_scale_bound
from tfp_distill.bijectors.keras_bijector import KerasBijector

__all__ = ["AdditiveCoupling", "AffineCoupling"]


class _Coupling(KerasBijector):
    """What both couplings share: the split, the conditioner and its checks."""

    def __init__(self, conditioner, channels, *, outputs_per_channel, condition_dims, **kwargs):
        if channels < 2:
            raise ValueError(f"`channels` must be at least 2, got {channels}.")
        self._kept = channels // 2
        self._changed = channels - self._kept
        if not conditioner.built:
            conditioner.build((None,) * kwargs["event_ndims"] + (self._kept + condition_dims,))
        self._conditioner = conditioner
        self._expected_outputs = outputs_per_channel * self._changed
        super().__init__([conditioner], conditional=condition_dims > 0, **kwargs)

    def _split(self, x):
        return tf.split(x, [self._kept, self._changed], axis=-1)

    def initialize(self, x: tf.Tensor, condition: tf.Tensor | None = None) -> tf.Tensor:
        """Initialises the conditioner, where it has a method `initialize`, from its inputs."""
        if hasattr(self._conditioner, "initialize"):
            self._conditioner.initialize(self._conditioner_inputs(self._split(x)[0], condition))
        return super().initialize(x, condition)

    def _conditioner_inputs(self, kept, condition):
        if not self.conditional:
            return kept
        if condition is None:
            raise ValueError(f"`condition` must be given to the conditional {self.name!r}.")
        return tf.concat([kept, condition], axis=-1)

    def _conditioner_outputs(self, kept, condition):
        outputs = self._conditioner(self._conditioner_inputs(kept, condition))
        if outputs.shape[-1] != self._expected_outputs:
            raise ValueError(
                f"`conditioner` of {self.name!r} must return {self._expected_outputs} channels, "
                f"got {outputs.shape[-1]}."
            )
        return outputs

    def _sum(self, per_channel):
        return tf.reduce_sum(per_channel, axis=list(range(-self.event_ndims, 0)))


class AffineCoupling(_Coupling):
    """Changes one half of the channels by an affine map that the other half determines.

        x = (a, b),  (shift, raw) = conditioner(a),  log_scale = bound * tanh(raw / bound)
        normalizing:  z = (a, (b - shift) * exp(-log_scale))     ildj = -sum(log_scale)
        generative:   x = (a, shift + b' * exp(log_scale))       fldj =  sum(log_scale)

    a is the first floor(C/2) channels, b the remaining ceil(C/2) (Dinh, Sohl-Dickstein and Bengio,
    2017, arXiv:1605.08803, equations 7 and 8). The bound keeps every scale within
    [exp(-bound), exp(bound)], see `bounded_log_scale`.

    Args:
      conditioner: Keras layer or model,
        `[..., floor(C/2) (+ condition_dims)] -> [..., 2 ceil(C/2)]`: first all shifts, then all raw
        log-scales. Where it has a method `initialize(inputs)`, `initialize` of the coupling calls
        it.
      channels: size C of the last axis, at least 2.
      log_scale_bound: the bound, in nats. 3 by default: a factor of 20 per coupling.
      condition_dims: size of the condition that is concatenated to a; 0 for none.
      event_ndims: 1 for vectors, 3 for images.
      name: name of the bijector.
    """

    def __init__(
        self,
        conditioner: keras.layers.Layer,
        channels: int,
        *,
        log_scale_bound: float = 3.0,
        condition_dims: int = 0,
        event_ndims: int = 1,
        name: str = "affine_coupling",
    ) -> None:
        check_log_scale_bound(log_scale_bound)
        self._bound = log_scale_bound
        super().__init__(
            conditioner,
            channels,
            outputs_per_channel=2,
            condition_dims=condition_dims,
            event_ndims=event_ndims,
            name=name,
        )

    def _shift_and_log_scale(self, kept, condition):
        shift, raw = tf.split(self._conditioner_outputs(kept, condition), 2, axis=-1)
        return shift, bounded_log_scale(raw, self._bound)

    def _inverse_and_ildj(self, x, condition):
        kept, changed = self._split(x)
        shift, log_scale = self._shift_and_log_scale(kept, condition)
        changed = (changed - shift) * tf.exp(-log_scale)
        return tf.concat([kept, changed], axis=-1), -self._sum(log_scale)

    def _forward_and_fldj(self, z, condition):
        kept, changed = self._split(z)
        shift, log_scale = self._shift_and_log_scale(kept, condition)
        changed = shift + changed * tf.exp(log_scale)
        return tf.concat([kept, changed], axis=-1), self._sum(log_scale)


class AdditiveCoupling(_Coupling):
    """Shifts one half of the channels by what the other half determines; it preserves volume.

        x = (a, b)
        normalizing:  z = (a, b - conditioner(a))      ildj = 0
        generative:   x = (a, b' + conditioner(a))     fldj = 0

    (Dinh, Krueger and Bengio, 2015, arXiv:1410.8516, section 3.2.)

    Args:
      conditioner: Keras layer or model, `[..., floor(C/2) (+ condition_dims)] -> [..., ceil(C/2)]`;
        `initialize` as for `AffineCoupling`.
      channels: size C of the last axis, at least 2.
      condition_dims: size of the condition that is concatenated to a; 0 for none.
      event_ndims: 1 for vectors, 3 for images.
      name: name of the bijector.
    """

    def __init__(
        self,
        conditioner: keras.layers.Layer,
        channels: int,
        *,
        condition_dims: int = 0,
        event_ndims: int = 1,
        name: str = "additive_coupling",
    ) -> None:
        super().__init__(
            conditioner,
            channels,
            outputs_per_channel=1,
            condition_dims=condition_dims,
            event_ndims=event_ndims,
            name=name,
        )

    def _inverse_and_ildj(self, x, condition):
        kept, changed = self._split(x)
        changed -= self._conditioner_outputs(kept, condition)
        return tf.concat([kept, changed], axis=-1), self._sum(tf.zeros_like(x))

    def _forward_and_fldj(self, z, condition):
        kept, changed = self._split(z)
        changed += self._conditioner_outputs(kept, condition)
        return tf.concat([kept, changed], axis=-1), self._sum(tf.zeros_like(z))
