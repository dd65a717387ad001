"""Files that are there whole or not at all, and say so where they were damaged since."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = [
    "DamagedFileError",
    "check_archive",
    "check_writable",
    "copy_file",
    "directory_written_whole",
    "one_line",
    "read_json",
    "reserve",
    "sha256_of",
    "write_json",
    "write_text",
    "written_whole",
]

_CHECKSUM = "sha256"
_LARGEST_RATIO = 20  # Of what an archive unpacks to; Keras packs without compression.


class DamagedFileError(ValueError):
    """A file does not hold what was written into it; the message is one line and names it."""


@contextlib.contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Gives the path of a file that takes the place of `path` when the block ends well.

    At no time is a part of it there under the name of `path`: it is on the disk before it gets that
    name. If the block raises, what was there before stays. The suffixes are those of `path`. What a
    killed process leaves is overwritten by the next one.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".unfinished.{path.name}")
    try:
        yield unfinished
        _sync(unfinished)
        unfinished.replace(path)
        _sync(path.parent)  # Of the new name.
    finally:
        unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def directory_written_whole(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Gives the path of a directory that takes the place of `path` when the block ends well.

    As `written_whole`; the block makes the directory.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".unfinished.{path.name}")
    new, old = beside / "new", beside / "old"
    if old.exists() and not path.exists():  # Killed between two names.
        old.rename(path)
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    try:
        yield new
        if path.exists():
            path.rename(old)
        try:
            new.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a text as a whole."""
    with written_whole(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def copy_file(source: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Copies a file as a whole."""
    with written_whole(path) as unfinished:
        shutil.copyfile(source, unfinished)


def write_json(path: str | os.PathLike[str], values: Mapping[str, Any]) -> None:
    """Writes values with their SHA-256, which `read_json` compares."""
    write_text(path, json.dumps({**values, _CHECKSUM: _digest(values)}, indent=2) + "\n")


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads what `write_json` wrote; a file without a checksum is taken as it is.

    Raises:
      DamagedFileError: if it holds anything else.
    """
    try:
        values = json.loads(pathlib.Path(path).read_bytes())
        written = values.pop(_CHECKSUM, None)
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise DamagedFileError(f"{str(path)!r} is damaged: {one_line(error)}.") from error
    if written not in (None, _digest(values)):
        raise DamagedFileError(
            f"{str(path)!r} is damaged: its contents do not have the checksum in its last line."
        )
    return values


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_archive(path: str | os.PathLike[str]) -> None:
    """Compares each member of a zip archive, as a `.keras` file is one, with its checksum.

    Keras reads weights again in another way where that fails, and raises errors of many kinds.

    An archive that unpacks to far more than it takes is none of ours, and could fill the memory.

    Raises:
      DamagedFileError: if the file is no whole archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            num_bytes = sum(member.file_size for member in archive.infolist())
            if num_bytes > _LARGEST_RATIO * os.path.getsize(path):
                raise ValueError(f"it unpacks to {num_bytes:,} bytes")
            wrong = archive.testzip()
    except Exception as error:  # Of a damaged directory, of many kinds.
        # Places before the start of the file are no fault of the disk.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise DamagedFileError(f"{str(path)!r} is damaged: {one_line(error)}.") from error
    if wrong is not None:
        raise DamagedFileError(f"{str(path)!r} is damaged: {wrong!r} does not have its checksum.")


def reserve(path: str | os.PathLike[str], num_bytes: int) -> None:
    """Makes sure that a file of so many bytes can be written; it is there then, of that size.

    For writers that crash on a full disk, as HDF5 does.

    Raises:
      OSError: if there is no space for it.
    """
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, num_bytes))


def check_writable(directory: str | os.PathLike[str]) -> None:
    """Raises `OSError` unless files can be made in a directory, which need not exist yet."""
    directory = pathlib.Path(directory).absolute()
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    with tempfile.TemporaryFile(dir=existing) as file:
        file.write(b"0")


def one_line(error: BaseException) -> str:
    """Returns the first line of what an error says, or its type if it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0].strip().rstrip(".") if lines else type(error).__name__


def _digest(values: Mapping[str, Any]) -> str:
    # NaN and infinity are written and read by this module alone.
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _sync(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
