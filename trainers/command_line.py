"""What all scripts share: flags without global state below `main`, and errors of one line."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf
from absl import app, flags, logging

__all__ = ["run", "usage_errors"]


def run(
    main: Callable[[flags.FlagValues], None], define_flags: Callable[[flags.FlagValues], None]
) -> None:
    """Defines the flags, parses the command line and runs `main` with the flag values.

    A wrong flag and an `app.UsageError` of `main` end the process with one line and status 2.

    Args:
      main: the script.
      define_flags: defines the script's flags.
    """
    known = set(flags.FLAGS)
    define_flags(flags.FLAGS)
    # `--help` shows the flags and the docstring of the module that is run.
    for name in set(flags.FLAGS) - known:
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])
    sys.modules["__main__"].__doc__ = sys.modules[main.__module__].__doc__
    logging.set_verbosity(logging.WARNING)
    # TensorFlow warns of retracing where one short training comes after the other.
    tf.get_logger().setLevel("ERROR")

    def guarded(argv: Sequence[str]) -> None:
        try:
            if len(argv) > 1:
                raise app.UsageError(f"Unexpected argument {argv[1]!r}; values go into flags.")
            main(flags.FLAGS)
        except app.UsageError as error:
            _exit(error)

    app.run(guarded, flags_parser=_parse)


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """Turns `ValueError` and `OSError` inside the block into `app.UsageError`.

    For the part of a script that reads what the user gave; a later failure is a defect.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        raise app.UsageError(str(error)) from error


def _parse(argv: Sequence[str]) -> list[str]:
    try:
        return flags.FLAGS(list(argv))
    except flags.Error as error:
        _exit(error)


def _exit(error: Exception) -> None:
    message = " ".join(str(error).split())
    print(f"{os.path.basename(sys.argv[0])}: {message}", file=sys.stderr)
    sys.exit(2)
