"""What all scripts share: flags without global state below `main`, and endings of one line."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from absl import app, flags, logging

from tfp_distill.files import DamagedFileError
from tfp_distill.runs.endings import RunStopped, Terminated, raise_when_terminated
from tfp_distill.runs.start_up import start_tensorflow

__all__ = ["run", "usage_errors"]

_MOST_SUGGESTIONS = 6
_GO_ON = "what was saved is kept, and the same command goes on from there."
# What the disk says, and no defect of the script.
_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)


def run(
    main: Callable[[flags.FlagValues], None], define_flags: Callable[[flags.FlagValues], None]
) -> None:
    """Defines the flags, parses the command line and runs `main` with the flag values.

    A wrong flag and an `app.UsageError` of `main` end the process with one line and status 2; what
    stops a run, with one line and status 1; Ctrl-C and SIGTERM, with one line that says how to go
    on, and status 130 or 143.

    Args:
      main: the script, which imports what needs TensorFlow itself: a wrong flag does not wait.
      define_flags: defines the script's flags.
    """
    known = set(flags.FLAGS)
    define_flags(flags.FLAGS)
    # `--help` shows the flags and the docstring of the module that is run.
    for name in set(flags.FLAGS) - known:
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])
    sys.modules["__main__"].__doc__ = sys.modules[main.__module__].__doc__
    logging.set_verbosity(logging.WARNING)

    def guarded(argv: Sequence[str]) -> None:
        try:
            if len(argv) > 1:
                raise app.UsageError(f"Unexpected argument {argv[1]!r}; values go into flags.")
            raise_when_terminated()
            start_tensorflow()
            main(flags.FLAGS)
        except app.UsageError as error:
            _exit(str(error), 2)
        except (DamagedFileError, FloatingPointError, RunStopped) as error:
            _exit(str(error), 1)
        except OSError as error:
            if error.errno not in _OF_DISKS:
                raise
            _exit(f"{error}; {_GO_ON}", 1)
        except KeyboardInterrupt:
            _exit(f"interrupted; {_GO_ON}", 128 + signal.SIGINT)
        except Terminated:
            _exit(f"terminated; {_GO_ON}", 128 + signal.SIGTERM)

    try:
        app.run(guarded, flags_parser=_parse)
    except BrokenPipeError:  # Whoever read the output has left, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)


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
    except flags.UnrecognizedFlagError as error:
        _exit(str(_with_longer_names(error)), 2)
    except flags.Error as error:
        _exit(str(error), 2)


def _with_longer_names(error: flags.UnrecognizedFlagError) -> flags.UnrecognizedFlagError:
    """Suggests the flags that have all words of an unknown one; absl knows misspellings alone."""
    words = set(error.flagname.split("_"))
    names = sorted(name for name in flags.FLAGS if words < set(name.split("_")))
    if not 1 <= len(names) <= _MOST_SUGGESTIONS:
        return error
    return flags.UnrecognizedFlagError(error.flagname, suggestions=names)


def _exit(message: str, status: int) -> NoReturn:
    print(f"{os.path.basename(sys.argv[0])}: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(status)
