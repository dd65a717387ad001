"""The start of TensorFlow, without the lines that it writes of itself."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator

__all__ = ["start_tensorflow", "start_worker"]

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_ERRORS_ONLY = "2"
# Information and warnings of its C++ libraries, and that a machine without a GPU has none.
_OWN_LINES = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog"
    rb"|[IW]\d{4} \d\d:\d\d:"
    rb"|E\d{4} \d\d:\d\d:[\d.]+ +\d+ cuda_platform\.cc:\d+\] failed call to cuInit"
    rb"|To enable the following instructions"
)


def start_tensorflow() -> None:
    """Imports TensorFlow and looks for devices; its own lines are kept back, errors are not.

    Float32 is float32: the 10 bits of TensorFloat-32, with which recent GPUs multiply matrices
    unless they are told otherwise, cost a flow its round trip.

    Where the environment says that TensorFlow is to tell more than errors (`TF_CPP_MIN_LOG_LEVEL`),
    it does. This leaves word there for the processes that this one starts.
    """
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # Of retracing, for instance.
    # Scripts say it of a table before they train.
    warnings.filterwarnings("ignore", message="`x` holds integers as continuous numbers")
    level = os.environ.setdefault(_LEVEL, _ERRORS_ONLY)
    with _without_own_lines() if level == _ERRORS_ONLY else contextlib.nullcontext():
        import tensorflow as tf

        tf.config.list_physical_devices()
    tf.config.experimental.enable_tensor_float_32_execution(False)


def start_worker(threads: int) -> None:
    """Begins a process that trains for another one, and ends with it, however that ends.

    Args:
      threads: how many threads it may use, for an operation and for several.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    start_tensorflow()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    # Processes that share cores wait for each other where each hands small operations around.
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


@contextlib.contextmanager
def _without_own_lines() -> Iterator[None]:
    """Keeps back what is written to the standard error, and writes what is not TensorFlow's own.

    C++ writes to the descriptor before anything can tell it not to.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as written:
        error = os.dup(2)
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(error, 2)
            os.close(error)
            written.seek(0)
            lines = [line for line in written if not _OWN_LINES.match(line)]
            os.write(2, b"".join(lines))
