"""What frozen parts hand on, computed once instead of in every epoch."""

from __future__ import annotations

import functools
import itertools
import math
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_distill.training.batches import check_ordered_rows, placed_batches
from tfp_distill.training.contracts import Handed, OrderedRows
from tfp_distill.training.partwise_model import PartwiseModel

__all__ = ["PrefixCache"]

_DRAW = "prefix_draw"
_FILE = "prefix.npy"


class PrefixCache:
    """Keeps what the one part that trains receives, while the parts before it are frozen.

        h(x) = f_{k-1} o ... o f_0(x),   and the log-likelihood so far,   for part k and all rows x

    and, where a student is distilled, the latents of the teacher that the losses of part k and of
    those behind it look at: neither the student's frozen parts nor the teacher runs in a step.

    With the forward pass of one of equal parts as unit and backward as 2, a step of part k, counted
    from 0, then costs 3 instead of k + 3. The parts before it run once a phase, over all rows and
    on one device: that pays where a phase takes more steps than the rows have batches. Example:

        rows = tfp_distill.data.TrainingRows(x, 256)
        schedule = PartSchedule("sequential", 20, prefix_cache=PrefixCache(rows))
        flow.fit(
            rows.batches(),
            steps_per_epoch=rows.steps_per_epoch,
            epochs=schedule.num_epochs(flow.partition),
            callbacks=[schedule],
        )

    `fit` then draws every batch from `rows`, without a cache in the phases that need none. Of the
    data that it was given it only counts the steps, and initialises a new flow: the batch of a step
    is the first of `rows.batches(start_step=model.step)`, whatever was cached before.

    Where the data have no noise, a training with the cache is the one without it, up to rounding.
    Images get noise and flips when the cache is filled: in the phases of all parts but the first,
    an image is the same whenever it is visited, until the cache is filled again. That is another
    training than on noise that is always fresh, and may overfit sooner. The noise depends on the
    rows' seed and on the epoch of the filling, which is saved with the model: a resumed run fills
    the cache with the numbers of an uninterrupted one.

    Args:
      rows: the `tfp_distill.data.TrainingRows`, or a teacher's `TeacherTraces` of them.
      max_bytes: the most that the cache may take; `num_bytes` says what it takes. Conditions are
        not copied and do not count.
      refresh_epochs: the cache is filled again, with fresh noise and flips, after so many epochs of
        `fit`; None for once a phase.
      directory: where the cache is kept in a memory-mapped file instead of in memory, by one
        training at a time. It is removed when `fit` ends.

    Raises:
      ValueError: if an argument breaks a rule.
    """

    def __init__(
        self,
        rows: OrderedRows,
        *,
        max_bytes: int = 2**31,
        refresh_epochs: int | None = None,
        directory: str | os.PathLike[str] | None = None,
    ) -> None:
        check_ordered_rows(rows)
        if max_bytes < 1:
            raise ValueError(f"`max_bytes` must be at least 1, got {max_bytes}.")
        if refresh_epochs is not None and refresh_epochs < 1:
            raise ValueError(f"`refresh_epochs` must be None or at least 1, got {refresh_epochs}.")
        self._rows = rows
        self._max_bytes = max_bytes
        self._refresh_epochs = refresh_epochs
        self._directory = None if directory is None else pathlib.Path(directory)
        self._iterator: Iterator[Any] | None = None
        self._contents: tuple[int, int] | None = None
        self._prefix: tuple[int, Callable[..., Any]] | None = None
        self._buffer: np.ndarray | None = None
        self._filled: Handed | None = None

    def num_bytes(self, model: PartwiseModel) -> int:
        """Returns what the cache takes: the largest input of a part behind the first one."""
        return self._size(model) * np.dtype(model.compute_dtype).itemsize

    def check(self, model: PartwiseModel) -> None:
        """Raises `ValueError` if what the model's parts receive takes too much."""
        need = self.num_bytes(model)
        if need > self._max_bytes:
            raise ValueError(
                f"`max_bytes` must be at least {need:,} for {len(self._rows):,} rows of what the "
                f"parts of {model.name!r} receive, got {self._max_bytes:,}."
            )

    def batches(
        self, model: PartwiseModel, parts: Sequence[int] | None, epoch: int
    ) -> Iterator[Any]:
        """Returns an iterator of what parts are trained on, from the model's step on.

        Args:
          model: the flow, or the distiller.
          parts: the parts that an epoch trains; None for end to end.
          epoch: the epoch, which begins.
        """
        contents = None
        if parts is not None and len(parts) == 1 and parts[0] > 0:
            contents = parts[0], self._draw(model, parts[0], epoch)
        if self._iterator is None or contents != self._contents:
            # Ends the reading ahead from the former contents.
            self._iterator = None
            if contents is not None:
                self._filled = self._fill(model, *contents)
                dataset = self._rows.batches_of(self._filled, start_step=model.step)
            else:
                dataset = self._rows.batches(start_step=model.step)
            distributed = model.distribute_strategy.experimental_distribute_dataset(dataset)
            self._iterator, self._contents = iter(distributed), contents
        return self._iterator

    def clear(self) -> None:
        """Frees the memory, or removes the file."""
        self._iterator = self._contents = self._prefix = None
        self._buffer = self._filled = None
        if self._directory is not None:
            (self._directory / _FILE).unlink(missing_ok=True)

    def _draw(self, model, part, epoch):
        """Returns the epoch in which the cache of this one was, or is to be, filled."""
        last = model.callback_state.setdefault(_DRAW, np.full(2, -1))
        due = self._refresh_epochs is not None and epoch - last[1] >= self._refresh_epochs
        if last[0] != part or due:
            last[:] = part, epoch
        return int(last[1])

    def _fill(self, model, part, draw):
        """Runs the parts before `part` over all rows."""
        if self._prefix is None or self._prefix[0] != part:
            self._prefix = part, _compiled(model, functools.partial(model.part_input, part))
        arrays: list[np.ndarray] = []
        for place, batch in placed_batches(self._rows, draw):
            handed = self._prefix[1](*batch)
            values = [value.numpy() for value in tf.nest.flatten(handed)]
            arrays = arrays or self._arrays(model, [value.shape[1:] for value in values])
            for array, value in zip(arrays, values, strict=True):
                array[place] = value
        return tf.nest.pack_sequence_as(handed, arrays)

    def _arrays(self, model, shapes):
        """Returns parts of the buffer, an array of values of all rows for each shape of a value."""
        buffer = self._buffer = self._allocate(model) if self._buffer is None else self._buffer
        sizes = [len(self._rows) * math.prod(shape) for shape in shapes]
        ends = itertools.accumulate(sizes)
        return [
            buffer[end - size : end].reshape(len(self._rows), *shape)
            for shape, size, end in zip(shapes, sizes, ends, strict=True)
        ]

    def _allocate(self, model):
        """Makes the flat array that the input of every part fits in."""
        size, dtype = self._size(model), model.compute_dtype
        if self._directory is None:
            return np.empty(size, dtype)
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._directory / _FILE
        return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=(size,))

    def _size(self, model):
        """Returns how many numbers the largest input of a part behind the first one has."""
        return len(self._rows) * max(map(model.handed_size, model.all_parts[1:]))


def _compiled(model: PartwiseModel, function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a function as the model's steps are."""
    if model.run_eagerly:
        return function
    return tf.function(function, autograph=False, jit_compile=model.uses_xla)
