"""What is compiled by XLA, and functions that are traced once for batches of any size."""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import tensorflow as tf

__all__ = [
    "CompiledPass",
    "CompiledPasses",
    "compiled",
    "inlined",
    "rows_in_cache",
    "runs_inline",
    "shared_traces",
    "shares_traces",
    "uses_xla",
    "xla_pays",
]

_SMALLEST_CHOSEN = 256
_FEWEST_VALUES, _VALUES_IN_CACHE = 512, 1_500_000
_LARGEST_GRAPH = 4000  # Operations; XLA takes one to two milliseconds for each.

_inlined = contextvars.ContextVar("inlined", default=False)
_shared = contextvars.ContextVar("shared", default=False)


def xla_pays(suits_xla: bool) -> bool:
    """Returns whether XLA makes passes faster: always on GPUs, and on CPUs where they suit it.

    Args:
      suits_xla: whether it makes them faster on CPUs: everything but convolutions.
    """
    return suits_xla or bool(tf.config.list_physical_devices("GPU"))


def rows_in_cache(values: int) -> int | None:
    """Returns how many rows a layer that makes so many values of each is quickest with.

    On CPUs, as measured: a power of 2, of about 1.5 million values; None, for any number of rows,
    where there are too few values to matter, and on GPUs.

    Args:
      values: for a spline, the dimensions that it changes times the parameters of each.
    """
    if values < _FEWEST_VALUES or tf.config.list_physical_devices("GPU"):
        return None
    return 2 ** max(8, round(math.log2(_VALUES_IN_CACHE / values)))


def uses_xla(jit_compile: str | bool, *, suits_xla: bool) -> bool:
    """Returns whether XLA compiles, of what a user asks for.

    Args:
      jit_compile: True, False, or "auto" for `xla_pays`.
      suits_xla: see `xla_pays`.

    Raises:
      ValueError: if `jit_compile` is none of these.
    """
    if isinstance(jit_compile, bool):
        return jit_compile
    if jit_compile != "auto":
        raise ValueError(f'`jit_compile` must be True, False or "auto", got {jit_compile!r}.')
    return xla_pays(suits_xla)


def compiled(
    function: Callable[..., Any], *examples: tf.Tensor, jit_compile: bool
) -> Callable[..., Any]:
    """Compiles a function for tensors of the shapes and types of the examples.

    Unlike a `tf.function` it cannot be compiled again by accident, and TensorFlow does not warn of
    retracing where one flow after the other is evaluated.

    Args:
      function: a function of tensors.
      *examples: example arguments.
      jit_compile: whether XLA compiles it; a plain graph otherwise.
    """
    specs = [tf.TensorSpec.from_tensor(example) for example in examples]
    graph = tf.function(function, autograph=False, jit_compile=jit_compile)
    with shared_traces(not jit_compile):
        return graph.get_concrete_function(*specs)


@contextlib.contextmanager
def inlined() -> Iterator[None]:
    """Within it, passes run operation by operation, as `run_eagerly` promises."""
    token = _inlined.set(True)
    try:
        yield
    finally:
        _inlined.reset(token)


@contextlib.contextmanager
def shared_traces(allowed: bool = True) -> Iterator[None]:
    """Within it, equal steps of a flow are traced once, if that is allowed (`share_passes`).

    It is where TensorFlow runs the graph as it is. XLA takes a function's arguments for constants
    as soon as the shape of one of its results must be one: it would compile anew for all weights.
    """
    token = _shared.set(allowed)
    try:
        yield
    finally:
        _shared.reset(token)


def shares_traces() -> bool:
    """Returns whether equal steps of a flow share the trace that is being made, if any."""
    return _shared.get() and not tf.executing_eagerly()


def runs_inline() -> bool:
    """Returns whether a pass that is called now becomes part of what calls it.

    So it does within a `tf.function`, within `inlined` and where TensorFlow runs functions eagerly;
    and under a `tf.distribute` strategy, whose replicas each have variables of their own.
    """
    return (
        not tf.executing_eagerly()
        or tf.distribute.has_strategy()
        or tf.config.functions_run_eagerly()
        or _inlined.get()
    )


class CompiledPass:
    """A function of batches that is traced once, for batches of any size.

    XLA compiles a function anew for each size of a batch, for a second or several: far longer than
    most calls take. So it compiles for the few sizes that programs choose: 1, and powers of 2 or 10
    from 256 on. Batches of the sizes that data happen to have run as a plain graph, which takes any
    size, about as fast. What runs is a function of the batch, and not of what was called before, so
    that equal calls have equal results to the last bit. Graphs of many thousand operations, such as
    those of flows of a hundred steps, XLA would compile for a minute: they stay as they are.

    Where few rows fill a processor's caches, larger batches run in pieces (`rows_in_cache`).

    Args:
      function: of tensors, the first axis of which is that of the batch, as of all its results.
      specs: type of each argument, with an unknown size of the batch.
      use_xla: whether XLA may compile.
      rows_at_once: the rows of a piece; None for the whole batch.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        specs: Sequence[tf.TensorSpec],
        *,
        use_xla: bool,
        rows_at_once: int | None = None,
    ) -> None:
        self._rows_at_once = rows_at_once
        with shared_traces(not use_xla):
            graph = tf.function(function, autograph=False).get_concrete_function(*specs)
        self._graph = self._xla = graph
        if use_xla and len(graph.graph.get_operations()) <= _LARGEST_GRAPH:
            whole = tf.function(lambda *batch: graph(*batch), autograph=False, jit_compile=True)
            self._xla = whole.get_concrete_function(*specs)

    def __call__(self, *batch: tf.Tensor) -> Any:
        """Runs the function on a batch."""
        number, rows = batch[0].shape[0], self._rows_at_once
        if rows is not None and number > rows:
            starts = range(0, number, rows)
            pieces = [self(*(value[start : start + rows] for value in batch)) for start in starts]
            return tf.nest.map_structure(lambda *values: tf.concat(values, axis=0), *pieces)
        run = self._xla if _is_chosen(number) else self._graph
        return run(*batch)


class CompiledPasses:
    """The passes of one model, each made when it is first called.

    Args:
      use_xla: whether XLA may compile them.
    """

    def __init__(self, *, use_xla: bool) -> None:
        self._use_xla = use_xla
        self._passes: dict[Hashable, CompiledPass] = {}

    def __call__(
        self,
        key: Hashable,
        function: Callable[..., Any],
        *batch: tf.Tensor,
        rows_at_once: int | None = None,
    ) -> Any:
        """Runs a function on a batch: the one that was compiled for the key, if there is one.

        Args:
          key: what tells the function from others.
          function: of tensors, the first axis of which is that of the batch.
          *batch: the tensors.
          rows_at_once: see `CompiledPass`.
        """
        if runs_inline():
            return function(*batch)
        if key not in self._passes:
            specs = [tf.TensorSpec([None, *value.shape[1:]], value.dtype) for value in batch]
            self._passes[key] = CompiledPass(
                function, specs, use_xla=self._use_xla, rows_at_once=rows_at_once
            )
        return self._passes[key](*batch)


def _is_chosen(size: int) -> bool:
    """Returns whether a batch size is one that programs choose, see `CompiledPass`."""
    if size < _SMALLEST_CHOSEN:
        return size == 1
    return size & (size - 1) == 0 or size == 10 ** (len(str(size)) - 1)
