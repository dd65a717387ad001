"""Whose turn it is: the parts one after the other, in turns, or together, and then the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import numpy as np

from tfp_distill.training.callbacks.prefix_cache import PrefixCache
from tfp_distill.training.parts.partition import Partition
from tfp_distill.training.parts.pipeline import check_devices
from tfp_distill.training.partwise_model import PartwiseModel

__all__ = ["MODES", "PartSchedule"]

MODES = ("sequential", "alternating", "simultaneous")
_NEVER = np.iinfo(np.int64).max


class PartSchedule(keras.callbacks.Callback):
    """Trains the parts of a partition in phases of whole epochs, and then the model end to end.

    - "sequential": part 0 for all of its epochs, then part 1, and so on;
    - "alternating": an epoch each in turn, on what the parts before it are by then;
    - "simultaneous": all parts in every step.

    These are the schemes of PARTS, section 3, and the one that gradient isolation allows besides.
    A part whose turn it is not costs nothing if it lies behind the active ones, and its forward
    pass if it lies before them. Where its optimiser averages (EMA), a part that waits has its
    averages as weights, which are what the others are trained on and what is validated, and goes on
    from its own weights at its next turn.

    Who trains in an epoch is a function of the epoch and, with `patience`, of the epochs after
    which parts stalled, which are saved with the model: a resumed run (`initial_epoch`) goes on as
    an uninterrupted one. When the plan is over `fit` ends, even if it was given more epochs.
    Example, 30 epochs of each of two parts in turns and 30 end to end:

        partition = Partition.across_blocks(flow, 2)
        schedule = PartSchedule("alternating", 30, end_to_end_epochs=30)
        flow.compile("adam", partition=partition)
        flow.fit(dataset_of_x, epochs=schedule.num_epochs(partition), callbacks=[schedule])

    Args:
      mode: "sequential", "alternating" or "simultaneous".
      epochs_per_part: number of epochs that each part trains, one number or one a part.
      end_to_end_epochs: number of epochs that follow end to end.
      fresh_optimizers: whether the end-to-end epochs begin with new optimisers, schedules and
        averages included, or go on with those of the parts.
      patience: a part is done, before its epochs are used up, after so many of its own epochs in
        which its validation loss (`val_part_0_loss`, ...) did not fall; None for never.
      min_delta: by how much the loss has to fall to count.
      prefix_cache: with "sequential", where what the frozen parts hand on is kept, so that they do
        not run in every epoch; it changes what noise images get, see `PrefixCache`.
      devices: the device of each part, for "simultaneous": in epochs in which all parts train they
        work at the same time, on successive batches, and hand on activations only (see
        `PartPipeline`). Weights, logs and files of an epoch are those of training without
        `devices`; within one, the weights that callbacks see are those of its begin.

    Raises:
      ValueError: if an argument breaks a rule.
    """

    def __init__(
        self,
        mode: str,
        epochs_per_part: int | Sequence[int],
        *,
        end_to_end_epochs: int = 0,
        fresh_optimizers: bool = False,
        patience: int | None = None,
        min_delta: float = 0.0,
        prefix_cache: PrefixCache | None = None,
        devices: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise ValueError(f"`mode` must be one of {', '.join(MODES)}, got {mode!r}.")
        single = isinstance(epochs_per_part, int)
        each = (epochs_per_part,) if isinstance(epochs_per_part, int) else tuple(epochs_per_part)
        if not each or min(each) < 1:
            raise ValueError(f"`epochs_per_part` must be at least 1, got {epochs_per_part}.")
        if end_to_end_epochs < 0:
            raise ValueError(f"`end_to_end_epochs` must be at least 0, got {end_to_end_epochs}.")
        if patience is not None and patience < 1:
            raise ValueError(f"`patience` must be None or at least 1, got {patience}.")
        if min_delta < 0:
            raise ValueError(f"`min_delta` must be at least 0, got {min_delta}.")
        if prefix_cache is not None and mode != "sequential":
            raise ValueError(
                f"`mode` must be sequential where `prefix_cache` is given, got {mode!r}."
            )
        if devices is not None and mode != "simultaneous":
            raise ValueError(f"`mode` must be simultaneous where `devices` are, got {mode!r}.")
        self._mode = mode
        self._epochs_per_part = epochs_per_part if single else each
        self._end_to_end_epochs = end_to_end_epochs
        self._fresh_optimizers = fresh_optimizers
        self._patience = patience
        self._min_delta = min_delta
        self._prefix_cache = prefix_cache
        self._devices = None if devices is None else tuple(devices)
        self._epoch: int | None = None
        self._validated = False

    def num_epochs(self, partition: Partition) -> int:
        """Returns the epochs of the whole plan, the most that it takes where parts can stall."""
        epochs = self._epochs_of(len(partition.parts))
        in_parts = max(epochs) if self._mode == "simultaneous" else sum(epochs)
        return in_parts + self._end_to_end_epochs

    def phase(
        self, epoch: int, num_parts: int, stalled_after: Sequence[int] | None = None
    ) -> tuple[int, ...] | None:
        """Returns the parts that train in an epoch; None for end to end, () after the plan.

        Args:
          epoch: the epoch, counted from 0.
          num_parts: number of parts.
          stalled_after: for each part the epoch after which it is done, whatever is left of it.
        """
        return self._turn(epoch, num_parts, stalled_after)[0]

    def set_model(self, model: keras.Model) -> None:
        """Takes the model that is fitted.

        Raises:
          ValueError: if it was not compiled with several parts, or not as many as there are epochs
            and devices, cannot be trained on these devices, or `prefix_cache` cannot serve it.
        """
        if not isinstance(model, PartwiseModel) or model.all_parts is None:
            raise ValueError(
                "`PartSchedule` must be used with a model that was compiled with a partition of "
                f"several parts, got {model.name!r}."
            )
        self._epochs_of(len(model.all_parts))
        if self._prefix_cache is not None:
            self._prefix_cache.check(model)
        if self._devices is not None:
            check_devices(model, self._devices)
        super().set_model(model)

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Begins without anything that a former training left in the cache.

        Raises:
          ValueError: if there is a cache, whose batches have no end, and nothing ends an epoch.
        """
        if self._prefix_cache is None:
            return
        if self.params["steps"] is None:
            raise ValueError("`steps_per_epoch` must be given where `prefix_cache` is, got None.")
        self._prefix_cache.clear()

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Gives the turn to the parts of this epoch."""
        if epoch == 0:
            self.model.callback_state.clear()
        self._epoch, self._validated = epoch, False
        parts = self._phase(epoch)
        if parts == ():
            raise ValueError(f"`initial_epoch` must be within the schedule, got {epoch}.")
        self._hand_over(epoch, parts)
        if parts is None and self._fresh_optimizers and not self._state("end_to_end", 0, 1)[0]:
            self.model.reset_optimizers()
            # Saved, so that a run which resumes within the phase does not reset them again.
            self._state("end_to_end", 0, 1)[0] = 1
        cache = self._prefix_cache
        batches = None if cache is None else cache.batches(self.model, parts, epoch)
        devices = self._devices if parts == self.model.all_parts else None
        self.model.train_parts(parts, batches=batches, devices=devices)

    def on_test_end(self, logs: Mapping[str, float] | None = None) -> None:
        """Notes which parts have stalled, before any callback saves the model in `on_epoch_end`."""
        self._validated = True
        if self._patience is None or self._epoch is None:
            return
        best = self._state("best", np.inf, len(self.model.all_parts))
        waited = self._state("waited", 0, len(self.model.all_parts))
        for part in self._phase(self._epoch) or ():
            loss = float((logs or {})[f"part_{part}_loss"])
            waited[part] += 1
            if loss < best[part] - self._min_delta:
                best[part], waited[part] = loss, 0
            if waited[part] >= self._patience:
                self._stalled_after[part] = self._epoch

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Ends `fit` after the last epoch of the plan.

        Raises:
          ValueError: if parts should be done when they stall, but nothing was validated.
        """
        if self._patience is not None and not self._validated:
            raise ValueError(
                "`validation_data` must be given to `fit`, and used in every epoch, where "
                f"`patience` is, got none in epoch {epoch}."
            )
        self._epoch = None
        if self._phase(epoch + 1) == ():
            self.model.stop_training = True

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
        """Frees the cache."""
        if self._prefix_cache is not None:
            self.model.train_parts(self.model.active_parts)
            self._prefix_cache.clear()

    def _phase(self, epoch):
        return self.phase(epoch, len(self.model.all_parts), self._stalled_after)

    def _hand_over(self, epoch, parts):
        """Lets the parts of the epoch before rest, or be done, and those of this one go on."""
        former = set(self._phase(epoch - 1) or ()) if epoch else set()
        now = set(parts or ())
        left = set(self._turn(epoch, len(self.model.all_parts), self._stalled_after)[1])
        self.model.finalize_part_weights(former - left)
        for part in (former & left) - now:
            self.model.rest_part(part)
        for part in now - former:
            self.model.wake_part(part)

    def _turn(self, epoch, num_parts, stalled_after):
        """Returns what `phase` returns, and the parts that had turns left when the epoch began."""
        epochs = self._epochs_of(num_parts)
        stalled_after = [_NEVER] * num_parts if stalled_after is None else stalled_after
        used = [0] * num_parts
        end_to_end = 0
        active: tuple[int, ...] | None = ()
        left: tuple[int, ...] = ()
        for past in range(epoch + 1):
            left = tuple(
                part
                for part in range(num_parts)
                if used[part] < epochs[part] and past <= stalled_after[part]
            )
            if not left:
                active = None if end_to_end < self._end_to_end_epochs else ()
                end_to_end += 1
                continue
            active = left
            if self._mode == "sequential":
                active = left[:1]
            elif self._mode == "alternating":
                active = (min(left, key=used.__getitem__),)
            for part in active:
                used[part] += 1
        return active, left

    @property
    def _stalled_after(self):
        return self._state("stalled_after", _NEVER, len(self.model.all_parts))

    def _state(self, name, initial, size):
        """Returns an array that is saved with the model."""
        return self.model.callback_state.setdefault(f"part_{name}", np.full(size, initial))

    def _epochs_of(self, num_parts):
        if isinstance(self._epochs_per_part, int):
            return (self._epochs_per_part,) * num_parts
        if len(self._epochs_per_part) != num_parts:
            raise ValueError(
                f"`epochs_per_part` must have one number for each of the {num_parts} parts, got "
                f"{self._epochs_per_part}."
            )
        return self._epochs_per_part
