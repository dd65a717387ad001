"""The parts of a model at work at the same time, on devices of their own."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from tfp_distill.training.batches import unpack_batch
from tfp_distill.training.contracts import PartedModel, PartitionedTraining
from tfp_distill.training.parts.placed_part import Arrival, PlacedPart
from tfp_distill.training.replicas import has_replicas

__all__ = ["PartPipeline", "check_devices", "check_devices_exist"]


def check_devices(model: PartitionedTraining, devices: Sequence[str]) -> None:
    """Raises `ValueError` if the parts of a compiled model cannot work on these devices."""
    parts = model.all_parts or ()
    if len(devices) != len(parts):
        raise ValueError(
            f"`devices` must be one for each of the {len(parts)} parts of {model.name!r}, got "
            f"{len(devices)}: {', '.join(devices)}."
        )
    if has_replicas(strategy := model.distribute_strategy):
        raise ValueError(
            "`devices` must be used without replicas, which have devices of their own, got "
            f"{type(strategy).__name__} with {strategy.num_replicas_in_sync}."
        )
    check_devices_exist(devices)


def check_devices_exist(devices: Sequence[str]) -> None:
    """Raises `ValueError` if TensorFlow does not know a device."""
    existing = [device.name for device in tf.config.list_logical_devices()]
    if unknown := [device for device in devices if not _is_any_of(device, existing)]:
        raise ValueError(
            f"`devices` must be some of {', '.join(existing)}, got {', '.join(unknown)}."
        )


class PartPipeline:
    """Trains the parts of a model at the same time, each on a device of its own.

    Part k works on batch t-k in tick t. What it hands on, the state and the log-likelihood so far
    (of a distiller also latents of the teacher, which the first part makes), with the condition and
    the weights that the losses had when the batch came, lies in the inbox of part k+1, on the
    device of that one, until the next tick; nothing is handed back. So within a tick no part waits
    for another. (Each part's means, a few scalars, go to the process that calls `fit`, for the
    logs.) As in a simultaneous step, a part hands on what it made of a batch before it learnt from
    it: when the pipeline has been drained, its parts have taken the very steps of simultaneous
    training on one device.

    The devices keep copies of the weights and optimisers of their parts. They are taken from the
    model when the pipeline fills, and given back when it is drained.

    `fit` calls it as a train function: it takes an iterator of batches and returns the logs. They
    are of the batches that have left the last part, none while the pipeline fills; `drain`
    completes those that were returned last.

    Args:
      model: a compiled `Flow` or `FlowDistiller` with several parts.
      devices: the device of each part; parts may share one. Those of other processes too, after
        `tf.config.experimental_connect_to_cluster`.
      jit_compile: whether XLA compiles the step of each part.
    """

    def __init__(self, model: PartedModel, devices: Sequence[str], *, jit_compile: bool) -> None:
        self._model = model
        self._devices = tuple(devices)
        self._jit_compile = jit_compile
        self._report = model.report_parts
        if not model.run_eagerly:
            self._report = tf.function(model.report_parts, autograph=False)
        # Made when the first batch shows the types of batches.
        self._parts: list[PlacedPart] = []
        self._no_batch: Arrival | None = None
        self._tick: Any = None
        self._inboxes: list[Arrival] = []
        # The batches on their way, by the part that works on them.
        self._batches: collections.deque[Any] = collections.deque(maxlen=len(self._devices))
        self._logs: dict[str, tf.Tensor] = {}

    @property
    def parts(self) -> tuple[PlacedPart, ...]:
        """The parts on their devices; none before the first batch."""
        return tuple(self._parts)

    @property
    def inboxes(self) -> tuple[Arrival, ...]:
        """What parts 1, 2, ... work on in the next tick; nothing when drained."""
        return tuple(self._inboxes)

    @property
    def num_on_their_way(self) -> int:
        """Number of batches that have come and have not left the last part yet."""
        return sum(map(bool, itertools.islice(self._batches, len(self._devices) - 1)))

    @property
    def tick(self) -> Any:
        """The function of a tick: of a batch and the inboxes, to the inboxes and the means."""
        return self._tick

    def __call__(self, iterator: Iterator[Any]) -> dict[str, tf.Tensor]:
        """Takes the next batches, one a tick, as many as `steps_per_execution`.

        Raises:
          StopIteration: if there is none.
        """
        batch = None
        for _, data in zip(range(self._model.steps_per_execution), iterator):  # noqa: B905
            batch = self._arrival(data)
            if not self._inboxes:
                self._fill(batch)
            self._advance(batch)
        if batch is None:
            raise StopIteration
        return self._logs

    def drain(self) -> None:
        """Lets the batches on their way pass, and gives the model its new weights."""
        if not self._inboxes:
            return
        while any(itertools.islice(self._batches, len(self._parts) - 1)):
            self._advance(None)
        for part in self._parts:
            part.give_back()
        self.discard()

    def discard(self) -> None:
        """Forgets the batches on their way, and all that was learnt since the last `drain`."""
        self._inboxes, self._logs = [], {}
        self._batches.clear()

    def _arrival(self, data):
        """Returns a batch as the first part receives it."""
        x, condition, weights = unpack_batch(data)
        if weights is not None:
            raise ValueError(
                "Batches must be `x` or `(x, condition)` where parts have devices of their own, "
                "got weights of rows too."
            )
        arrival = x, () if condition is None else (condition,), self._model.objective_weights
        return Arrival(*tf.nest.map_structure(tf.convert_to_tensor, arrival))

    def _fill(self, batch):
        if not self._parts:
            self._place(batch.types)
        for part in self._parts:
            part.take()
        empty = [part.hands_on.emptied() for part in self._parts if part.hands_on]
        self._inboxes = self._hand_over(empty)

    def _place(self, batch):
        """Makes the parts on their devices, and the tick for batches of these types."""
        handed = tf.function(
            self._all_handed, autograph=False, input_signature=[batch]
        ).get_concrete_function()
        types = [*(arrival.types for arrival in handed.structured_outputs), None]
        self._parts = [
            PlacedPart(self._model, part, device, hands_on, jit_compile=self._jit_compile)
            for part, (device, hands_on) in enumerate(zip(self._devices, types, strict=True))
        ]
        self._no_batch = batch.emptied()
        self._tick = self._take_tick
        if not self._model.run_eagerly:
            # Of any number of rows: the empty inboxes of the first ticks need no trace of theirs.
            self._tick = tf.function(
                self._take_tick, autograph=False, input_signature=[batch, *types[:-1]]
            )

    def _all_handed(self, batch):
        handed, found = self._model.first_input(batch.x, *batch.condition), []
        for part in range(len(self._devices) - 1):
            handed, _ = self._model.run_part(part, handed, *batch.condition)
            found.append(batch._replace(x=handed))
        return found

    def _advance(self, batch):
        """Takes a tick, with a new batch or none, and reports the batch that was in the last part.

        In the end a batch has the means of all parts, in as many ticks; only then it is a step.
        """
        self._batches.appendleft(None if batch is None else (batch.rows, {}))
        self._inboxes, means = self._tick(batch or self._no_batch, *self._inboxes)
        for part, (entry, own) in enumerate(zip(self._batches, means, strict=False)):
            if entry:
                entry[1][part] = own
        if len(self._batches) == len(self._parts) and self._batches[-1]:
            rows, of_parts = self._batches[-1]
            self._logs.update(self._report(of_parts, rows))

    def _take_tick(self, *received):
        outputs = [part.work(own) for part, own in zip(self._parts, received, strict=True)]
        handed, means = zip(*outputs, strict=True)
        return self._hand_over(handed), list(means)

    def _hand_over(self, handed):
        """Puts what each part hands on into the inbox, and on the device, of the next one."""
        inboxes = []
        for arrival, receiver in zip(handed, self._parts[1:], strict=False):
            with tf.device(receiver.device), tf.name_scope("inbox"):
                inboxes.append(tf.nest.map_structure(tf.identity, arrival))
        return inboxes


def _is_any_of(device, existing):
    """Whether the name of a device, or the end of one, is that of an existing one."""
    try:
        wanted = tf.DeviceSpec.from_string(device)
    except ValueError:
        return False
    known = map(tf.DeviceSpec.from_string, existing)
    return wanted.device_type is not None and any(
        all(
            getattr(wanted, name) in (None, getattr(one, name))
            for name in ("job", "replica", "task", "device_type", "device_index")
        )
        for one in known
    )
