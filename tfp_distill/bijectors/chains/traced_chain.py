"""A chain of bijectors that can show every value on the way."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_distill.bijectors.chains.trace import Segment, Trace, Visit
from tfp_distill.bijectors.keras_bijector import (
    KerasBijector,
    forward_and_fldj,
    inverse_and_ildj,
    uninverted,
)

__all__ = ["Initializer", "TracedChain", "initialize_bijector"]


Initializer = Callable[[KerasBijector, tf.Tensor, tf.Tensor | None], tf.Tensor]


def initialize_bijector(
    bijector: KerasBijector, x: tf.Tensor, condition: tf.Tensor | None
) -> tf.Tensor:
    """Initialises a bijector as it does itself."""
    return bijector.initialize(x, condition)


class TracedChain(KerasBijector):
    """The composition of bijectors, as `tfb.Chain`: `bijectors[0]` is next to the data.

        normalizing:  z = (b_n^-1 o ... o b_1^-1)(x)         ildj = sum of the parts'
        generative:   x = (b_1 o ... o b_n)(z)               fldj = sum of the parts'

    It differs from `tfb.Chain` in that a pass yields value and log-determinant together, that
    `trace` returns every intermediate latent, that a `condition` reaches the bijectors that take
    one, and that gradients can be stopped between bijectors.

    Args:
      bijectors: at least one; `KerasBijector`s (nested chains too), `tfb.Invert`s of them, and any
        other `tfb.Bijector` that has no trainable variables of its own.
      condition_bijector: maps the condition, in its normalizing direction, before any bijector
        sees it: `Standardize`, so that conditions come in the user's units.
      event_ndims: rank of one event.
      latent_ndims: rank of one latent, where it differs from that of an event.
      name: name of the bijector.

    Raises:
      ValueError: if `bijectors` is empty, or one of them holds trainable variables that Keras would
        not see.
    """

    def __init__(
        self,
        bijectors: Sequence[tfp.bijectors.Bijector],
        *,
        condition_bijector: KerasBijector | None = None,
        event_ndims: int = 1,
        latent_ndims: int | None = None,
        name: str = "traced_chain",
    ) -> None:
        if not bijectors:
            raise ValueError("`bijectors` must hold at least one bijector, got none.")
        keras_bijectors = [_keras_bijector(b) for b in bijectors]
        for bijector, keras_bijector in zip(bijectors, keras_bijectors, strict=True):
            if keras_bijector is None and bijector.trainable_variables:
                raise ValueError(
                    f"`bijectors` must keep their weights in Keras layers, got {bijector.name!r} "
                    f"with {len(bijector.trainable_variables)} trainable tf.Variables."
                )
        self._bijectors = self._no_dependency(tuple(bijectors))
        self._condition_bijector = condition_bijector
        found = [b for b in (*keras_bijectors, condition_bijector) if b is not None]
        super().__init__(
            [layer for b in found for layer in b.keras_layers],
            event_ndims=event_ndims,
            latent_ndims=latent_ndims,
            conditional=any(b.conditional for b in found),
            is_constant_jacobian=all(b.is_constant_jacobian for b in bijectors),
            name=name,
        )

    @property
    def bijectors(self) -> tuple[tfp.bijectors.Bijector, ...]:
        """The bijectors, the one next to the data first."""
        return self._bijectors

    @property
    def reversible(self) -> bool:
        """Whether all bijectors are, and none is hidden from Keras."""
        return self._condition_bijector is None and all(
            isinstance(bijector, KerasBijector) and bijector.reversible
            for bijector in self._bijectors
        )

    @property
    def condition_bijector(self) -> KerasBijector | None:
        """What maps the condition before any bijector sees it."""
        return self._condition_bijector

    def trace(
        self,
        x: tf.Tensor,
        condition: tf.Tensor | None = None,
        *,
        stop_gradient_after: Collection[int] = (),
        until: int | None = None,
    ) -> Trace:
        """Runs the normalizing direction once and keeps every intermediate latent.

        Args:
          x: data `[batch, ...]`.
          condition: optional `[batch, C]`.
          stop_gradient_after: indices i such that no gradient flows from bijector i+1 back into
            bijector i. The latent in the trace is the one *before* the stop, so that a loss on it
            still reaches bijector i.
          until: index of the last bijector that runs; by default all do.

        Returns:
          A `Trace` with one latent and one log-determinant per bijector that ran.
        """
        condition = self.map_condition(condition)
        latents, ildjs = [], []
        bijectors = self._bijectors if until is None else self._bijectors[: until + 1]
        for index, bijector in enumerate(bijectors):
            x, ildj = inverse_and_ildj(bijector, x, condition, event_ndims=self.event_ndims)
            latents.append(x)
            ildjs.append(ildj)
            if index in stop_gradient_after:
                x = tf.stop_gradient(x)
        return Trace(tuple(latents), tuple(ildjs))

    def generative_trace(
        self, z: tf.Tensor, condition: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, Trace]:
        """Runs the generative direction once and keeps every value on the way.

        Args:
          z: latents `[batch, ...]`.
          condition: optional `[batch, C]`.

        Returns:
          x, and what `trace(x)` is up to rounding.
        """
        condition = self.map_condition(condition)
        latents, ildjs = [], []
        for bijector in reversed(self._bijectors):
            latents.append(z)
            z, fldj = forward_and_fldj(bijector, z, condition, event_ndims=self.event_ndims)
            ildjs.append(-fldj)
        return z, Trace(tuple(reversed(latents)), tuple(reversed(ildjs)))

    def walk(self, x: tf.Tensor, condition: tf.Tensor | None = None) -> Iterator[Visit]:
        """Visits every bijector once, from the data's end on, for whoever looks for a fault.

        Args:
          x: data `[batch, ...]`.
          condition: optional `[batch, C]`.
        """
        condition = self.map_condition(condition)
        for bijector in self._bijectors:
            z, ildj = inverse_and_ildj(bijector, x, condition, event_ndims=self.event_ndims)
            yield Visit(bijector, x, z, ildj)
            x = z

    def segment(
        self, first: int, last: int, state: tf.Tensor, condition: tf.Tensor | None = None
    ) -> Segment:
        """Runs the bijectors first to last only, in the normalizing direction.

        The segments of a chain, each on the state of the one before, make up its log-likelihood:

            log p(x) = sum_k log_prob_k + log N(state_n; 0, I)

        Args:
          first: index of the first bijector that runs.
          last: index of the last one.
          state: what the bijector before `first` hands on; the data where there is none.
          condition: optional `[batch, C]`, as the user gives it.
        """
        condition = self.map_condition(condition)
        ildjs = []
        for bijector in self._bijectors[first : last + 1]:
            state, ildj = inverse_and_ildj(bijector, state, condition, event_ndims=self.event_ndims)
            ildjs.append(ildj)
        return Segment(state, tf.add_n(ildjs))

    def layers_of(self, first: int, last: int) -> tuple[keras.layers.Layer, ...]:
        """Returns the Keras layers that hold the weights of the bijectors first to last."""
        found = (_keras_bijector(b) for b in self._bijectors[first : last + 1])
        return tuple(layer for b in found if b is not None for layer in b.keras_layers)

    def arriving_shapes(self, event_shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """Returns the shape of one event as it arrives at each bijector."""
        shapes = [tuple(event_shape)]
        for bijector in self._bijectors[:-1]:
            shapes.append(tuple(bijector.inverse_event_shape(shapes[-1])))
        return tuple(shapes)

    def initialize(
        self,
        x: tf.Tensor,
        condition: tf.Tensor | None = None,
        *,
        initialize: Initializer = initialize_bijector,
    ) -> tf.Tensor:
        """Initialises every bijector from the data as it arrives there, from the data's end on.

        Args:
          x: data `[batch, ...]`.
          condition: optional `[batch, C]`.
          initialize: initialises one bijector and returns what it makes of its input.

        Returns:
          z.
        """
        condition = self.map_condition(condition)
        for bijector in self._bijectors:
            if isinstance(bijector, KerasBijector):
                x = initialize(bijector, x, condition)
            else:
                x, _ = inverse_and_ildj(bijector, x, condition, event_ndims=self.event_ndims)
        return x

    def _inverse_and_ildj(self, x, condition):
        trace = self.trace(x, condition)
        return trace.latents[-1], trace.ildj

    def _forward_and_fldj(self, z, condition):
        x, trace = self.generative_trace(z, condition)
        return x, -trace.ildj

    def _backward(self, way, x, y, condition, gradients):
        if x is not None:
            return super()._backward(way, x, y, condition, gradients)
        (dy, dlog_det), of_condition = gradients, []
        of_weights: dict[int, Sequence[tf.Tensor | None]] = {}
        last_first = way == "_inverse_and_ildj"
        for index in sorted(range(len(self._bijectors)), reverse=last_first):
            y, dy, dcondition, of_weights[index] = self._bijectors[index].run_backward(
                way, None, y, condition, (dy, dlog_det)
            )
            of_condition += [] if dcondition is None else [dcondition]
        dweights = [d for index in sorted(of_weights) for d in of_weights[index]]
        return y, dy, tf.add_n(of_condition) if of_condition else None, dweights

    def _forward_event_shape(self, shape):
        for bijector in reversed(self._bijectors):
            shape = bijector.forward_event_shape(shape)
        return shape

    def _forward_event_shape_tensor(self, shape):
        for bijector in reversed(self._bijectors):
            shape = bijector.forward_event_shape_tensor(shape)
        return shape

    def _inverse_event_shape(self, shape):
        for bijector in self._bijectors:
            shape = bijector.inverse_event_shape(shape)
        return shape

    def _inverse_event_shape_tensor(self, shape):
        for bijector in self._bijectors:
            shape = bijector.inverse_event_shape_tensor(shape)
        return shape

    def map_condition(self, condition: tf.Tensor | None) -> tf.Tensor | None:
        """Returns the condition as the bijectors of the chain see it."""
        if condition is None or self._condition_bijector is None:
            return condition
        return self._condition_bijector.inverse_and_ildj(condition)[0]


def _keras_bijector(bijector: tfp.bijectors.Bijector) -> KerasBijector | None:
    """Returns the `KerasBijector` behind any number of `tfb.Invert`s, or None."""
    bijector = uninverted(bijector)
    return bijector if isinstance(bijector, KerasBijector) else None
