"""What is compiled by XLA, and functions that are traced once for batches of any size."""

from __future__ import annotations

import contextlib
import contextvars
import functools
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
_LARGEST_GRAPH = 6000  # Operations; XLA takes one to two milliseconds for each.

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
    with shared_traces(not jit_compile):
        return _concrete(function, specs, jit_compile=jit_compile)


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
    from 256 on; of what XLA does not suit, for 1 alone, where the many operations of a graph take
    longer than what they compute. Batches of the sizes that data happen to have run as a plain
    graph, which takes any size, about as fast. What runs is a function of the batch, and not of
    what was called before, so that equal calls have equal results to the last bit. Graphs of many
    thousand operations, such as those of flows of a hundred steps, XLA would compile for a minute:
    they stay as they are.

    Where few rows fill a processor's caches, larger batches run in pieces (`rows_in_cache`).

    Args:
      function: of tensors, the first axis of which is that of the batch, as of all its results.
      specs: type of each argument, with an unknown size of the batch.
      suits_xla: whether XLA makes it faster, see `xla_pays`.
      rows_at_once: the rows of a piece; None for the whole batch.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        specs: Sequence[tf.TensorSpec],
        *,
        suits_xla: bool,
        rows_at_once: int | None = None,
    ) -> None:
        self._function, self._specs = function, specs
        self._suits_xla, self._rows_at_once = suits_xla, rows_at_once
        with shared_traces(not suits_xla):
            self._graph = _concrete(function, specs, jit_compile=False)

    @functools.cached_property
    def _xla(self) -> Callable[..., Any]:
        if _num_operations(self._graph) > _LARGEST_GRAPH:
            return self._graph
        # What has shared traces within it is no function for XLA, see `shared_traces`.
        function = self._graph if self._suits_xla else self._function
        return _concrete(function, self._specs, jit_compile=True)

    def __call__(self, *batch: tf.Tensor) -> Any:
        """Runs the function on a batch."""
        number, rows = batch[0].shape[0], self._rows_at_once
        if rows is not None and number > rows:
            starts = range(0, number, rows)
            pieces = [self(*(value[start : start + rows] for value in batch)) for start in starts]
            return tf.nest.map_structure(lambda *values: tf.concat(values, axis=0), *pieces)
        by_xla = number == 1 or (self._suits_xla and _is_chosen(number))
        return (self._xla if by_xla else self._graph)(*batch)


class CompiledPasses:
    """The passes of one model, each made when it is first called.

    Args:
      suits_xla: whether XLA makes them faster, see `xla_pays`.
    """

    def __init__(self, *, suits_xla: bool) -> None:
        self._suits_xla = suits_xla
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
                function, specs, suits_xla=self._suits_xla, rows_at_once=rows_at_once
            )
        return self._passes[key](*batch)


def _concrete(
    function: Callable[..., Any], specs: Sequence[tf.TensorSpec], *, jit_compile: bool
) -> Callable[..., Any]:
    """Traces a function of tensors.

    It is wrapped, because TensorFlow, when it calls what it has traced, takes an argument that was
    left to its default for a missing one: before it goes on, it prints all tensors into a message
    that nobody sees, which takes milliseconds.
    """
    wrapped = tf.function(lambda *batch: function(*batch), autograph=False, jit_compile=jit_compile)
    return wrapped.get_concrete_function(*specs)


def _num_operations(graph: Any) -> int:
    """Returns how many operations a traced function runs, those of shared traces included."""
    definition = graph.graph.as_graph_def()
    sizes = {f.signature.name: len(f.node_def) for f in definition.library.function}
    return sum(sizes.get(node.attr["f"].func.name, 1) for node in definition.node)


def _is_chosen(size: int) -> bool:
    """Returns whether a batch size is one of those that programs choose for many rows."""
    is_round = size & (size - 1) == 0 or size == 10 ** (len(str(size)) - 1)
    return size >= _SMALLEST_CHOSEN and is_round
