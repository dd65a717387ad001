"""Gradients for which activations are computed again instead of being kept."""

from __future__ import annotations

import contextlib
import contextvars
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import keras
import tensorflow as tf

__all__ = [
    "Backpropagation",
    "Recomputable",
    "Recomputation",
    "recomputation",
    "recomputed_activations",
]

_current: contextvars.ContextVar[Recomputation | None] = contextvars.ContextVar(
    "recomputation", default=None
)


class Recomputable(Protocol):
    """A map (state, condition) -> (output, log-determinant) that can be run backwards."""

    @property
    def reversible(self) -> bool:
        """Whether what arrived can be rebuilt from the output, at about the cost of a pass."""

    @property
    def layer_weights(self) -> Sequence[keras.Variable]:
        """All weights that it reads."""

    def run_pass(self, way: str, state: tf.Tensor, condition: tf.Tensor | None) -> Any:
        """Returns output and log-determinant of a pass in a direction."""

    def run_backward(
        self,
        way: str,
        known: tf.Tensor,
        condition: tf.Tensor | None,
        gradients: tuple[tf.Tensor, tf.Tensor],
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None, Sequence[tf.Tensor | None]]:
        """Returns what arrived, and gradients with respect to it, the condition and all weights.

        Args:
          way: the direction of the pass.
          known: the output, if the map is `reversible`; otherwise what arrived.
          condition: the condition, if any.
          gradients: those with respect to the output and the log-determinant.
        """


class Recomputation:
    """What the backward passes of one step have rebuilt, and how well.

    A pass begins where another ends: its backward pass, which comes first, rebuilds the very tensor
    that the backward pass of the other needs. So of a chain of reversible passes only the last
    output is kept (Gomez, Ren, Urtasun and Grosse, 2017, arXiv:1707.04585, algorithm 1).

    Args:
      use_xla: whether XLA compiles the step.
    """

    def __init__(self, *, use_xla: bool = False) -> None:
        self._use_xla = use_xla
        self._outputs: set[Any] = set()
        self._rebuilt: dict[Any, tf.Tensor] = {}
        self._drifts: list[tf.Tensor] = []

    @property
    def drift(self) -> tf.Tensor:
        """How far what was rebuilt, x', is from what arrived first: max |x' - x| / (1 + |x|)."""
        return tf.reduce_max([0.0, *self._drifts])

    def run(
        self, bijector: Recomputable, way: str, state: tf.Tensor, condition: tf.Tensor | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Runs a pass whose gradients need nothing of it but its output, or, if need be, its input.

        The gradients are those of the pass at the rebuilt input, which is the input up to rounding.

        Args:
          bijector: what to run.
          way: the direction.
          state: what arrives, `[batch, ...]`.
          condition: optional `[batch, C]`.
        """
        weights = bijector.layer_weights
        outputs: list[tf.Tensor] = []
        conditions = [] if condition is None else [condition]
        values = [tf.convert_to_tensor(weight.value) for weight in weights]

        def with_values(function, own_values, *arguments):
            values_of_weights = keras.StatelessScope(list(zip(weights, own_values, strict=True)))
            with recomputed_activations(False), values_of_weights:
                return function(way, *arguments)

        def split(read):
            return read[0] if conditions else None, read[len(conditions) :]

        @tf.custom_gradient
        def run(x, *read):
            def gradient(dy, dlog_det):
                known = self._take(outputs[0]) if bijector.reversible else x
                known, dy, dlog_det = self._in_turn([known, dy, dlog_det])
                own_condition, own_values = split(read)
                rebuilt, dx, dcondition, dvalues = with_values(
                    bijector.run_backward, own_values, known, own_condition, (dy, dlog_det)
                )
                gradients = [dx, *([dcondition] if conditions else []), *dvalues]
                rebuilt, *gradients = self._in_turn([rebuilt, *gradients])
                self._give(state, rebuilt)
                return gradients

            # The tape sees the gradient above alone, and need not keep what leads to the output.
            arrived, *rest = map(tf.stop_gradient, (x, *read))
            own_condition, own_values = split(rest)
            return with_values(bijector.run_pass, own_values, arrived, own_condition), gradient

        outputs += run(state, *conditions, *values)
        self._outputs.add(outputs[0].ref())
        return outputs[0], outputs[1]

    def _take(self, output: tf.Tensor) -> tf.Tensor:
        """Returns the output of a pass as it was rebuilt; as it was, where nothing came behind."""
        return self._rebuilt.pop(output.ref(), output)

    def _give(self, x: tf.Tensor, rebuilt: tf.Tensor) -> None:
        """Notes what was rebuilt of what arrived at a pass."""
        if x.ref() in self._outputs:
            self._rebuilt[x.ref()] = rebuilt
        else:
            drift = tf.reduce_max(tf.abs(rebuilt - x) / (1 + tf.abs(x)))
            self._drifts.append(tf.cast(drift, tf.float32))

    def _in_turn(self, tensors: Sequence[tf.Tensor | None]) -> list[tf.Tensor | None]:
        """Returns the tensors, none of which can be used before all of them are computed.

        Without it, activations would be rebuilt long before they are needed, or, where x is kept,
        those of the pass would be taken, which is what keeps them.
        """
        if not self._use_xla:
            # Copies, because who waits for a call of a function does not wait for its results.
            return tf.tuple([None if t is None else tf.identity(t) for t in tensors])
        # XLA knows no other order than that of values. Where one is no number, the step is skipped.
        nothing = 0 * tf.add_n([tf.reduce_sum(tensor) for tensor in tensors if tensor is not None])
        return [None if tensor is None else tensor + nothing for tensor in tensors]


class Backpropagation:
    """What is computed within it has gradients with respect to some of what it reads.

    Args:
      sources: tensors and weights; those of None or of no floating-point numbers have no gradient.
    """

    def __init__(self, sources: Sequence[tf.Tensor | keras.Variable | None]) -> None:
        values = [s.value if isinstance(s, keras.Variable) else s for s in sources]
        self._is_watched = [value is not None and value.dtype.is_floating for value in values]
        self._watched = list(itertools.compress(values, self._is_watched))
        self._tape = tf.GradientTape(watch_accessed_variables=False)

    def __enter__(self) -> Backpropagation:
        self._tape.__enter__()
        self._tape.watch(self._watched)
        return self

    def __exit__(self, *raised: Any) -> None:
        self._tape.__exit__(*raised)

    def gradients(self, outputs: Any, output_gradients: Any) -> list[tf.Tensor | None]:
        """Returns a gradient for each of the sources, once, given those with respect to outputs."""
        found = iter(
            self._tape.gradient(
                outputs, self._watched, output_gradients, unconnected_gradients="zero"
            )
        )
        return [next(found) if is_watched else None for is_watched in self._is_watched]


@contextlib.contextmanager
def recomputed_activations(
    allowed: bool = True, *, use_xla: bool = False
) -> Iterator[Recomputation | None]:
    """Within it, passes keep no activations, if that is allowed.

    Args:
      allowed: nothing happens otherwise.
      use_xla: whether XLA compiles what is traced.
    """
    token = _current.set(Recomputation(use_xla=use_xla) if allowed else None)
    try:
        yield _current.get()
    finally:
        _current.reset(token)


def recomputation() -> Recomputation | None:
    """Returns the recomputation of the step that is being traced, if any."""
    return _current.get()
