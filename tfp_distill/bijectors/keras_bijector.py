"""The only bridge between Keras weights and TensorFlow Probability's bijectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_distill.compiling import shares_traces
from tfp_distill.recomputation import Backpropagation, recomputation

__all__ = [
    "FORWARD",
    "INVERSE",
    "KerasBijector",
    "forward_and_fldj",
    "inverse_and_ildj",
    "recompute_passes",
    "uninverted",
    "weights_layer",
]

tfb = tfp.bijectors

# What `tfb.Invert(b)` returns is not a `tfb.Invert` but its base, where b is no composite tensor.
_INVERT = tfb.Invert.__mro__[1]
INVERSE = "_inverse_and_ildj"
FORWARD = "_forward_and_fldj"


class KerasBijector(tfp.bijectors.Bijector):
    """A bijector whose weights live in Keras layers and are seen by Keras and by `tf.Module` alike.

    Keras tracks layers, TensorFlow Probability tracks `tf.Variable`s; a Keras layer inside a plain
    `tfb.Bijector` is invisible to the latter, and a `tfb.Bijector` inside a `keras.Model` is
    invisible to the former. A `KerasBijector` holds the layers in `keras_layers`, which a
    `keras.Model` takes up as an attribute, and the layers' variables as its own, so that
    `bijector.trainable_variables` is the same list of `tf.Variable`s.

    Subclasses implement two methods, each *one* pass that yields both the value and the
    log-determinant, per example:

        _inverse_and_ildj(x, condition) -> (z, log|det dz/dx|)        normalizing direction, x -> z
        _forward_and_fldj(z, condition) -> (x, log|det dx/dz|)        generative direction, z -> x

    The public methods of `tfb.Bijector` (`forward`, `inverse`, their log-determinants) are derived
    from these. Training calls `inverse_and_ildj` and `forward_and_fldj`, which run a conditioner
    once where the public pair of methods would compute it twice. Where training rebuilds
    activations (`tfp_distill.recomputation`), `_backward` runs one pass to rebuild the input and
    one for the gradients; a subclass may do both in one.

    Args:
      layers: built Keras layers that hold every weight of the bijector.
      event_ndims: rank of one event: 1 for vectors `[D]`, 3 for images `[H, W, C]`.
      name: name of the bijector.
      latent_ndims: rank of one latent, where it differs from that of an event.
      conditional: whether the passes use `condition`, a tensor `[batch, C]`.
      is_constant_jacobian: whether the log-determinant is the same at every point.
    """

    def __init__(
        self,
        layers: Sequence[keras.layers.Layer],
        *,
        event_ndims: int,
        name: str,
        latent_ndims: int | None = None,
        conditional: bool = False,
        is_constant_jacobian: bool = False,
    ) -> None:
        super().__init__(
            forward_min_event_ndims=event_ndims if latent_ndims is None else latent_ndims,
            inverse_min_event_ndims=event_ndims,
            is_constant_jacobian=is_constant_jacobian,
            parameters={"name": name},
            name=name,
        )
        for layer in layers:
            if not layer.built:
                raise ValueError(
                    f"`layers` of bijector {name!r} must be built, got the unbuilt {layer.name!r}."
                )
        self._event_ndims = event_ndims
        self._latent_ndims = event_ndims if latent_ndims is None else latent_ndims
        self._conditional = conditional
        self._keras_layers = self._no_dependency(tuple(layers))
        self._shared_passes: Callable[..., Any] | None = None
        self._recomputes = False
        # Found by tf.Module, which walks attributes but does not look into Keras layers.
        self._layer_variables = [weight.value for weight in self.layer_weights]

    @property
    def keras_layers(self) -> tuple[keras.layers.Layer, ...]:
        """The Keras layers that hold the weights."""
        return self._keras_layers

    @property
    def layer_weights(self) -> list[keras.Variable]:
        """All weights of the layers, the fixed ones too."""
        return [weight for layer in self._keras_layers for weight in layer.weights]

    @property
    def event_ndims(self) -> int:
        """Rank of one event."""
        return self._event_ndims

    @property
    def conditional(self) -> bool:
        """Whether `condition` reaches the bijector."""
        return self._conditional

    @property
    def reversible(self) -> bool:
        """Whether a pass in either direction costs about as much as one in the other."""
        return True

    def initialize(self, x: tf.Tensor, condition: tf.Tensor | None = None) -> tf.Tensor:
        """Sets data-dependent initial weights from a batch of data, and passes the batch on.

        Args:
          x: data as it arrives at this bijector, `[batch, ...]`.
          condition: optional `[batch, C]`.

        Returns:
          The batch after this bijector, in the normalizing direction.
        """
        return self.inverse_and_ildj(x, condition)[0]

    def inverse_and_ildj(
        self, x: tf.Tensor, condition: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns z and log|det dz/dx| `[batch]`, in one pass."""
        return self._run(INVERSE, x, condition)

    def forward_and_fldj(
        self, z: tf.Tensor, condition: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns x and log|det dx/dz| `[batch]`, in one pass."""
        return self._run(FORWARD, z, condition)

    def run_pass(
        self, way: str, state: tf.Tensor, condition: tf.Tensor | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Runs a pass: a function that is shared, see `share_passes`, or the code itself."""
        return self._call((way,), state, condition)

    def run_backward(
        self,
        way: str,
        known: tf.Tensor,
        condition: tf.Tensor | None,
        gradients: tuple[tf.Tensor, tf.Tensor],
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None, list[tf.Tensor | None]]:
        """Returns x and the gradients of a pass, see `tfp_distill.recomputation.Recomputable`."""
        return self._call(("_backward", way), known, condition, gradients)

    def _run(self, way, state, condition):
        current = recomputation() if self._recomputes else None
        if current is None:
            return self.run_pass(way, state, condition)
        return current.run(self, way, state, condition)

    def _call(self, method, *tensors):
        if self._shared_passes is not None and shares_traces():
            return self._shared_passes(method, tensors, self.layer_weights)
        name, *options = method
        return getattr(self, name)(*options, *tensors)

    def _backward(self, way, known, condition, gradients):
        x = known
        if self.reversible:
            x, _ = getattr(self, FORWARD if way == INVERSE else INVERSE)(known, condition)
        with Backpropagation([x, condition, *self.layer_weights]) as backpropagation:
            outputs = getattr(self, way)(x, condition)
        dx, dcondition, *dweights = backpropagation.gradients(outputs, gradients)
        return x, dx, dcondition, dweights

    def _constant_log_det(self, x: tf.Tensor, of_position: tf.Tensor) -> tf.Tensor:
        """Returns the log-determinant `[batch]` of a map that is the same at every position.

        Args:
          x: a batch of events.
          of_position: log-determinant at one position of an image, or of a vector; a scalar.
        """
        batch_ndims = x.shape.rank - self.event_ndims
        positions = x.shape[batch_ndims:-1].num_elements()
        if positions is None:
            positions = tf.cast(tf.reduce_prod(tf.shape(x)[batch_ndims:-1]), of_position.dtype)
        return tf.fill(tf.shape(x)[:batch_ndims], positions * of_position)

    def _inverse_and_ildj(self, x, condition):
        raise NotImplementedError

    def _forward_and_fldj(self, z, condition):
        raise NotImplementedError

    def _forward(self, z, condition=None):
        return self._of_any_batch(self.forward_and_fldj, self._latent_ndims, z, condition)[0]

    def _inverse(self, x, condition=None):
        return self._of_any_batch(self.inverse_and_ildj, self._event_ndims, x, condition)[0]

    def _forward_log_det_jacobian(self, z, condition=None):
        return self._of_any_batch(self.forward_and_fldj, self._latent_ndims, z, condition)[1]

    def _inverse_log_det_jacobian(self, x, condition=None):
        return self._of_any_batch(self.inverse_and_ildj, self._event_ndims, x, condition)[1]

    def _of_any_batch(self, run, ndims, x, condition):
        """Runs a pass, which takes one batch axis, with any number of them, as TFP's methods do."""
        if x.shape.rank == ndims + 1:
            return run(x, condition)
        batch = tf.shape(x)[: x.shape.rank - ndims]
        rows = tf.reshape(x, [-1, *x.shape[x.shape.rank - ndims :]])
        if condition is not None:
            dims = condition.shape[-1]
            condition = tf.broadcast_to(condition, tf.concat([batch, [dims]], axis=0))
            condition = tf.reshape(condition, [-1, dims])
        return tuple(
            tf.reshape(y, tf.concat([batch, tf.shape(y)[1:]], axis=0)) for y in run(rows, condition)
        )

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return {}


def recompute_passes(bijectors: Iterable[tfp.bijectors.Bijector]) -> None:
    """Lets passes keep no activations within `tfp_distill.recomputation.recomputed_activations`.

    Args:
      bijectors: `KerasBijector`s, or `tfb.Invert`s of them, each of which is recomputed as a whole.
    """
    for bijector in map(uninverted, bijectors):
        if isinstance(bijector, KerasBijector):
            bijector._recomputes = True


def weights_layer(
    name: str, trainable: dict[str, Any], fixed: dict[str, Any] | None = None
) -> keras.layers.Layer:
    """Returns a built Keras layer whose only purpose is to hold weights.

    The weights become attributes of the layer, so that Keras tracks, saves and counts them.

    Args:
      name: name of the layer.
      trainable: initial values of the trainable weights, by name.
      fixed: initial values of the weights that are saved but never trained, by name. Integer
        values keep their type, all others take the layer's.
    """
    layer = keras.layers.Layer(name=name)
    for values, is_trainable in ((trainable, True), (fixed or {}, False)):
        for key, value in values.items():
            value = np.asarray(value)
            weight = layer.add_weight(
                shape=value.shape,
                dtype="int32" if np.issubdtype(value.dtype, np.integer) else None,
                initializer="zeros",
                trainable=is_trainable,
                name=key,
            )
            weight.assign(value)
            setattr(layer, key, weight)
    layer.built = True
    return layer


def inverse_and_ildj(
    bijector: tfp.bijectors.Bijector,
    x: tf.Tensor,
    condition: tf.Tensor | None = None,
    *,
    event_ndims: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Runs any TFP bijector in the normalizing direction.

    Args:
      bijector: a `KerasBijector`, a `tfb.Invert` of one, or any `tfb.Bijector`.
      x: `[batch, ...]`.
      condition: optional `[batch, C]`; only conditional bijectors receive it.
      event_ndims: rank of one event of `x`.

    Returns:
      z, and log|det dz/dx| per example, `[batch]`.
    """
    if isinstance(bijector, KerasBijector):
        return bijector.inverse_and_ildj(x, condition)
    if isinstance(bijector, _INVERT):
        return forward_and_fldj(bijector.bijector, x, condition, event_ndims=event_ndims)
    z = bijector.inverse(x)
    return z, _per_example(bijector.inverse_log_det_jacobian(x, event_ndims), x, event_ndims)


def forward_and_fldj(
    bijector: tfp.bijectors.Bijector,
    z: tf.Tensor,
    condition: tf.Tensor | None = None,
    *,
    event_ndims: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Runs any TFP bijector in the generative direction; the counterpart of `inverse_and_ildj`."""
    if isinstance(bijector, KerasBijector):
        return bijector.forward_and_fldj(z, condition)
    if isinstance(bijector, _INVERT):
        return inverse_and_ildj(bijector.bijector, z, condition, event_ndims=event_ndims)
    x = bijector.forward(z)
    return x, _per_example(bijector.forward_log_det_jacobian(z, event_ndims), z, event_ndims)


def uninverted(bijector: tfp.bijectors.Bijector) -> tfp.bijectors.Bijector:
    """Returns the bijector behind any number of `tfb.Invert`s."""
    while isinstance(bijector, _INVERT):
        bijector = bijector.bijector
    return bijector


def _per_example(log_det: tf.Tensor, x: tf.Tensor, event_ndims: int) -> tf.Tensor:
    """Broadcasts a log-determinant that TFP reduced to a constant over the batch of `x`."""
    return tf.broadcast_to(log_det, tf.shape(x)[: tf.rank(x) - event_ndims])
