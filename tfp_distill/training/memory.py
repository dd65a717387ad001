"""How much memory was used at most."""

from __future__ import annotations

import pathlib

import tensorflow as tf

__all__ = ["PeakMemory"]

_PROCESS = pathlib.Path("/proc/self")
_RESET_RESIDENT_PEAK = "5"  # proc(5), clear_refs.


class PeakMemory:
    """The peak of memory since a reset.

    What it is depends on what can be known, and `source` says it:

    - "allocator": the highest sum of the tensors and variables that TensorFlow held at one time,
      with what its allocator rounds them up by: of the fullest accelerator, or of the CPU where
      there is none, input batches included. On a CPU with oneDNN, what is smaller than 256 KiB is
      counted only if the environment has `TF_CPU_ALLOCATOR_USE_BFC=1` when TensorFlow starts;
    - "resident": the highest resident set of the process, on Linux, where TensorFlow does not
      count: also Python, code, and memory that was freed but not given back, so that only large
      differences mean something;
    - None: nothing can be known, or there is no way to reset it.

    Example:
        memory = PeakMemory()
        memory.reset()
        level = memory.read()  # What is held all the time: weights, optimisers' slots.
        model.fit(...)
        print(memory.read() - level)
    """

    def __init__(self) -> None:
        accelerators = [d for d in tf.config.list_logical_devices() if d.device_type != "CPU"]
        # Logical CPUs have one allocator.
        devices = accelerators or tf.config.list_logical_devices("CPU")[:1]
        names = [device.name.removeprefix("/device:") for device in devices]
        self._devices = [name for name in names if _counts(name)]
        self._source = "allocator" if self._devices else None
        if not accelerators and not self._devices and _resets_resident_peak():
            self._source = "resident"

    @property
    def source(self) -> str | None:
        """What is measured: "allocator", "resident" or, where nothing is, None."""
        return self._source

    def reset(self) -> None:
        """Lets the peak be what is used now."""
        for name in self._devices:
            tf.config.experimental.reset_memory_stats(name)
        if self._source == "resident":
            _resets_resident_peak()

    def read(self) -> int | None:
        """Returns the peak since the last reset in bytes; None where it cannot be known."""
        if self._source == "resident":
            return _resident_peak()
        info = tf.config.experimental.get_memory_info
        return max((int(info(name)["peak"]) for name in self._devices), default=None)


def _counts(device: str) -> bool:
    try:
        tf.config.experimental.reset_memory_stats(device)
        tf.config.experimental.get_memory_info(device)
    except (ValueError, tf.errors.OpError):
        return False
    return True


def _resets_resident_peak() -> bool:
    """Resets the peak of the resident set, and returns whether that is possible."""
    try:
        (_PROCESS / "clear_refs").write_text(_RESET_RESIDENT_PEAK)
        _resident_peak()
    except (OSError, LookupError):
        return False
    return True


def _resident_peak() -> int:
    lines = (_PROCESS / "status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return 1024 * int(fields["VmHWM"].split()[0])
