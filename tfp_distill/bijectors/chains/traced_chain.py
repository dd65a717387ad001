"""A chain of bijectors that can show every value on the way."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_distill.bijectors.chains.trace import (
    Segment,
    State,
    Trace,
    Visit,
    flat_events,
    standard_normal_log_prob,
)
from tfp_distill.bijectors.keras_bijector import (
    INVERSE,
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
    one, and that a `segment` of it runs by itself.

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

    def trace(self, x: tf.Tensor, condition: tf.Tensor | None = None) -> Trace:
        """Runs the normalizing direction once and keeps every intermediate latent.

        Args:
          x: data `[batch, ...]`.
          condition: optional `[batch, C]`.

        Returns:
          A `Trace` with one latent and one log-determinant per bijector.
        """
        states = list(self._walk(State(x), condition))
        return Trace(tuple(map(self._arrange, states)), tuple(state.found for state in states))

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
        condition, state = self.map_condition(condition), self._disarrange(z)
        latents, ildjs = [], []
        for index, bijector in reversed(list(enumerate(self._bijectors))):
            state = self._return(index, state)
            latents.append(self._arrange(state))
            value, fldj = forward_and_fldj(
                bijector, state.value, condition, event_ndims=self.event_ndims
            )
            state = state._replace(value=value)
            ildjs.append(-fldj)
        return state.value, Trace(tuple(reversed(latents)), tuple(reversed(ildjs)))

    def walk(self, x: tf.Tensor, condition: tf.Tensor | None = None) -> Iterator[Visit]:
        """Visits every bijector once, from the data's end on, for whoever looks for a fault.

        Args:
          x: data `[batch, ...]`.
          condition: optional `[batch, C]`.
        """

        def visit(bijector, value, condition):
            z, ildj = self._normalize(bijector, value, condition)
            return z, Visit(bijector, value, z, ildj)

        for state in self._walk(State(x), condition, run=visit):
            yield state.found

    def segment(
        self,
        first: int,
        last: int,
        state: State,
        condition: tf.Tensor | None = None,
        *,
        shown: Collection[int] = (),
    ) -> Segment:
        """Runs the bijectors first to last only, in the normalizing direction.

        The segments of a chain, each on the state of the one before, make up its log-likelihood:

            log p(x) = sum_k log_prob_k + log N(state_n; 0, I)

        Args:
          first: index of the first bijector that runs.
          last: index of the last one.
          state: what the bijector before `first` hands on; `State(x)` of the data where there is
            none. What has left the flow is of use for latents only, and may be left out.
          condition: optional `[batch, C]`, as the user gives it.
          shown: indices of bijectors behind which the latents are to be shown.
        """
        log_probs, latents = [], {}
        walk = self._walk(state, condition, first=first, last=last)
        for index, end in enumerate(walk, first):
            log_probs.append(end.found)
            if index in shown:
                latents[index] = self._arrange(end)
        end = self._depart(last, end)._replace(found=None)
        left = end.factored_out[len(state.factored_out) :]
        log_probs += [standard_normal_log_prob(flat_events(out)) for out in left]
        return Segment(end, tf.add_n(log_probs), latents)

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

        def run(bijector, value, condition):
            if isinstance(bijector, KerasBijector):
                return initialize(bijector, value, condition), None
            return self._normalize(bijector, value, condition)

        # One state at a time: there may be many rows.
        for state in self._walk(State(x), condition, run=run):  # noqa: B007
            pass
        return self._arrange(state)

    def _walk(
        self,
        state: State,
        condition: tf.Tensor | None,
        *,
        first: int = 0,
        last: int | None = None,
        run: Callable[..., tuple[tf.Tensor, Any]] | None = None,
    ) -> Iterator[State]:
        """Runs the bijectors first to last, from the data's end on; yields the state after each.

        Args:
          state: what arrives at the first one.
          condition: as the user gives it.
          first: index of the first bijector that runs.
          last: index of the last one; by default all do.
          run: runs a bijector on what arrives and the mapped condition; returns what goes on, and
            what the state has as `found`: by default the log-determinant.
        """
        condition, run = self.map_condition(condition), run or self._normalize
        for index in range(len(self._bijectors))[first : None if last is None else last + 1]:
            arriving = self._arrive(index, state.value)
            value, found = run(self._bijectors[index], arriving, condition)
            state = state._replace(value=value, found=found)
            yield state
            state = self._depart(index, state)

    def _normalize(self, bijector, x, condition):
        return inverse_and_ildj(bijector, x, condition, event_ndims=self.event_ndims)

    def _arrive(self, index: int, value: tf.Tensor) -> tf.Tensor:
        """Returns what is in the flow as the bijector of an index sees it."""
        return value

    def _depart(self, index: int, state: State) -> State:
        """Lets leave what leaves the flow after the bijector of an index."""
        return state

    def _return(self, index: int, state: State) -> State:
        """Undoes `_depart` of an index and `_arrive` of the next, in the generative direction."""
        return state

    def _arrange(self, state: State) -> tf.Tensor:
        """Returns all of a state as one latent."""
        return state.value

    def _disarrange(self, z: tf.Tensor) -> State:
        """Returns the state at the end of the chain, of its latent."""
        return State(z)

    def _inverse_and_ildj(self, x, condition):
        ildjs = []
        for state in self._walk(State(x), condition):  # noqa: B007
            ildjs.append(state.found)
        return self._arrange(state), tf.add_n(ildjs)

    def _forward_and_fldj(self, z, condition):
        x, trace = self.generative_trace(z, condition)
        return x, -trace.ildj

    def _backward(self, way, known, condition, gradients):
        if not self.reversible:
            return super()._backward(way, known, condition, gradients)
        (dy, dlog_det), of_condition = gradients, []
        of_weights: dict[int, Sequence[tf.Tensor | None]] = {}
        for index in sorted(range(len(self._bijectors)), reverse=way == INVERSE):
            known, dy, dcondition, of_weights[index] = self._bijectors[index].run_backward(
                way, known, condition, (dy, dlog_det)
            )
            of_condition += [] if dcondition is None else [dcondition]
        dweights = [d for index in sorted(of_weights) for d in of_weights[index]]
        return known, dy, tf.add_n(of_condition) if of_condition else None, dweights

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
