"""Reading files that may be damaged, or may unpack to far more than they are."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import pathlib
from collections.abc import Iterator
from typing import IO, Any

__all__ = [
    "allowed_bytes",
    "check_unpacked",
    "open_binary",
    "open_text",
    "reading",
    "short",
]

# What real data stay below, and what two cores unpack within seconds.
_SMALLEST_LIMIT, _RATIO = 2**28, 100
# A number takes two bytes of text and eight of memory.
_SMALLEST_TEXT_LIMIT, _TEXT_RATIO = 2**26, 30
_LONGEST_REASON = 300


@contextlib.contextmanager
def reading(path: pathlib.Path, kind: str) -> Iterator[None]:
    """Turns whatever the parser of a damaged file raises into a `ValueError` of one line.

    Parsers raise errors of many kinds for damaged files, `MemoryError` and those of Python's own
    parser among them, so this is only for blocks that do nothing but read.

    Args:
      path: The file.
      kind: What it should be, such as ".npz" or "IDX".
    """
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(
            f"`source` must be a {kind} file in UTF-8, got {path}, which holds the byte "
            f"{error.object[error.start]:#x}: save it in that encoding"
        ) from error
    except Exception as error:
        reason = short(str(error) or type(error).__name__)
        raise ValueError(
            f"`source` must be a readable {kind} file, got {path}: {reason}"
        ) from error


def short(text: str) -> str:
    """Returns a text in one line that is not too long."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_REASON else line[: _LONGEST_REASON - 3] + "..."


def allowed_bytes(num_bytes: int) -> int:
    """Returns how much memory the contents of files of a size may take."""
    return max(_SMALLEST_LIMIT, _RATIO * num_bytes)


def check_unpacked(path: pathlib.Path, num_bytes: int) -> None:
    """Checks what a file says of the size of its contents, before they are unpacked.

    Raises:
      ValueError: If it is negative, or out of proportion to the file.
    """
    size = path.stat().st_size
    if not 0 <= num_bytes <= allowed_bytes(size):
        raise ValueError(
            f"its {size:,} bytes would unpack to {num_bytes:,}, and at most "
            f"{allowed_bytes(size):,} are allowed"
        )


def open_binary(path: pathlib.Path) -> gzip.GzipFile | io.BufferedReader:
    """Opens a file that may be compressed with gzip, whatever its name."""
    return gzip.open(path) if _is_gzip(path) else path.open("rb")


def open_text(path: pathlib.Path) -> IO[str]:
    """Opens a file of text that may be compressed with gzip, as far as it unpacks in proportion.

    The text is in UTF-8, or in UTF-16 with the mark that spreadsheets put before it.
    """
    file = open_binary(path)
    if isinstance(file, gzip.GzipFile):
        limit = max(_SMALLEST_TEXT_LIMIT, _TEXT_RATIO * path.stat().st_size)
        file = io.BufferedReader(_Limited(file, limit), buffer_size=2**17)
    is_utf16 = file.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return io.TextIOWrapper(file, encoding="utf-16" if is_utf16 else "utf-8-sig", newline="")


def _is_gzip(path: pathlib.Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


class _Limited(io.RawIOBase):
    """A stream that fails where it is longer than a limit."""

    def __init__(self, file: gzip.GzipFile, limit: int) -> None:
        self._file, self._limit, self._left = file, limit, limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # `collections.abc.Buffer` is of Python 3.12.
        content = self._file.read(len(buffer))
        self._left -= len(content)
        if self._left < 0:
            raise ValueError(f"it unpacks to over {self._limit:,} bytes; unpack it beforehand")
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()
