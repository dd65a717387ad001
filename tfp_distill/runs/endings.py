"""How runs end before their time, and how two of them stay out of each other's way."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import signal
from collections.abc import Iterator
from typing import NoReturn

__all__ = ["RunStopped", "Terminated", "only_here", "raise_when_terminated"]


class RunStopped(RuntimeError):
    """A run cannot go on; the message is one line and says why."""


class Terminated(BaseException):
    """The process was asked to end, by SIGTERM; as `KeyboardInterrupt`, no error."""


def raise_when_terminated() -> None:
    """Makes SIGTERM raise `Terminated`, so that a run ends as it does by Ctrl-C."""

    def terminate(*_: object) -> NoReturn:
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)


@contextlib.contextmanager
def only_here(directory: pathlib.Path) -> Iterator[None]:
    """Keeps a directory for this process as long as the block lasts; no file is made for it.

    Raises:
      RunStopped: if another process works there.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunStopped(
                f"`run_dir` must be used by one process at a time, got {str(directory)!r}, in "
                "which another one works."
            ) from None
        except OSError:
            pass  # A file system without locks.
        yield
    finally:
        os.close(descriptor)
