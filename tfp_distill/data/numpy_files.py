"""NumPy's files, whose headers are checked before their arrays are read."""

from __future__ import annotations

import contextlib
import math
import pathlib
import zipfile
from collections.abc import Iterable, Iterator
from typing import IO, NamedTuple

import numpy as np

from tfp_distill.data.reading import check_unpacked

__all__ = [
    "SUFFIXES",
    "ArrayHeader",
    "check_parts",
    "read_arrays",
    "read_headers",
]

SUFFIXES = (".npy", ".npz")

_OTHER_NAMES = {
    "val": "validation",
    "valid": "validation",
    "x_train": "train",
    "x_val": "validation",
    "x_valid": "validation",
    "x_validation": "validation",
    "x_test": "test",
}
_ONLY = "images"  # What the array of a .npy file, which has no name, is called.


class ArrayHeader(NamedTuple):
    """What a file says of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype


def read_headers(path: pathlib.Path) -> dict[str, ArrayHeader]:
    """Reads the shapes and types of the arrays in a file, which has to be as long as they say.

    Damaged files make this raise what `reading` is there for.

    Returns:
      A header by the name of each array; that of a .npy file is "images", and parts that are called
      as Keras calls them, x_train and so on, or val, are train, validation and test.
    """
    if path.suffix.lower() == ".npy":
        return {_ONLY: _read_header(path, path.stat().st_size)}
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        check_unpacked(path, sum(member.file_size for member in members))
        headers = {
            member.filename.removesuffix(".npy"): _read_member_header(archive, member)
            for member in members
        }
    return {name: headers[stored] for name, stored in _names_of(headers).items()}


def read_arrays(path: pathlib.Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Reads arrays of a file by the names that `read_headers` returns."""
    if path.suffix.lower() == ".npy":
        return {name: np.load(path, allow_pickle=False) for name in names}
    with np.load(path, allow_pickle=False) as stored:
        stored_as = _names_of(stored.files)
        return {name: stored[stored_as[name]] for name in names}


def check_parts(path: pathlib.Path, names: Iterable[str], kind: str) -> None:
    """Checks that the arrays of a file are one, or parts to train with and to hold out.

    Args:
      path: The file.
      names: Of its arrays of this kind.
      kind: What they hold, rows or images.

    Raises:
      ValueError: If they are not.
    """
    names = set(names)
    if len(names) != 1 and not {"train"} <= names <= {"train", "validation", "test"}:
        raise ValueError(
            f"`source` must hold one array of {kind}, or train and validation or test or both, got "
            f"{sorted(names)} in {path}."
        )


def _names_of(stored: Iterable[str]) -> dict[str, str]:
    """Returns what arrays are stored as, by what they are called here."""
    stored = list(stored)
    own = {name: _OTHER_NAMES.get(name.lower(), name) for name in stored}
    return {name if own[name] in stored else own[name]: name for name in stored}


def _read_header(path: pathlib.Path, size: int) -> ArrayHeader:
    with path.open("rb") as file:
        return _parse(file, size)


def _read_member_header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> ArrayHeader:
    with archive.open(member) as file, _named(member.filename):
        return _parse(file, member.file_size)


def _parse(file: IO[bytes], size: int) -> ArrayHeader:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    num_bytes = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or num_bytes != size - file.tell():
        raise ValueError(
            f"an array of shape {list(shape)} and type {dtype} has {num_bytes:,} bytes, and there "
            f"are {size - file.tell():,}"
        )
    return ArrayHeader(tuple(shape), dtype)


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Says which array of an archive an error is about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
