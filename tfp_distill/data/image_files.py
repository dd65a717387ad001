"""The user's own images from files of arrays: IDX, the format of MNIST, and NumPy's."""

from __future__ import annotations

import gzip
import math
import pathlib
import zipfile
import zlib
from typing import IO

import numpy as np

__all__ = [
    "find_idx_pair",
    "holds_images",
    "is_idx",
    "read_arrays",
    "read_idx",
]

_PART_NAMES = ("train", "validation", "test")
_NUMPY_SUFFIXES = (".npy", ".npz")
_UNREADABLE = (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error)
_IDX_TYPES = {
    0x08: "uint8",
    0x09: "int8",
    0x0B: "int16",
    0x0C: "int32",
    0x0D: "float32",
    0x0E: "float64",
}


def find_idx_pair(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the files of training and test images that a folder holds under MNIST's names."""
    found = []
    for start in ("train", "t10k"):
        names = [f"{start}-images{mark}idx3-ubyte{end}" for mark in "-." for end in ("", ".gz")]
        found += [folder / name for name in names if (folder / name).is_file()][:1]
    return found


def is_idx(path: pathlib.Path) -> bool:
    """Returns whether a file is in the IDX format, by its name or its first bytes."""
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(("-ubyte", ".idx")):
        return True
    try:
        with _open(path) as file:
            magic = file.read(4)
    except _UNREADABLE:
        return False
    return len(magic) == 4 and magic[:2] == b"\0\0" and magic[2] in _IDX_TYPES and 0 < magic[3] < 9


def read_idx(path: pathlib.Path) -> np.ndarray:
    """Reads an IDX file.

        bytes 0, 0, type, rank;  big-endian uint32 sizes [rank];  the values

    Args:
      path: The file, compressed with gzip or not.

    Returns:
      uint8 `[n, H, W, C]`.

    Raises:
      ValueError: If the file is damaged or holds no images.
    """
    try:
        with _open(path) as file:
            magic = file.read(4)
            if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _IDX_TYPES:
                raise ValueError(f"its first bytes are {list(magic)}, which are none of IDX")
            sizes = file.read(4 * magic[3])
            if len(sizes) != 4 * magic[3]:
                raise ValueError("it ends amid its header")
            values = file.read()
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    shape = tuple(np.frombuffer(sizes, ">u4").tolist())
    dtype = _IDX_TYPES[magic[2]]
    _check(path, "", shape, dtype)
    if len(values) != math.prod(shape):
        raise ValueError(
            f"`source` must be a whole IDX file, got {path}: {len(values)} bytes of pixels, and "
            f"its header says {list(shape)}, which are {math.prod(shape)}."
        )
    return _with_channels(np.frombuffer(values, np.uint8).reshape(shape))


def holds_images(path: pathlib.Path) -> bool:
    """Returns whether a NumPy file has arrays of the rank of images, without reading them."""
    if path.suffix.lower() not in _NUMPY_SUFFIXES:
        return False
    try:
        return any(len(shape) > 2 for shape, _ in _read_headers(path).values())
    except _UNREADABLE:
        return False


def read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the images of a .npy or .npz file.

    Arrays of fewer than 3 dimensions, such as labels, are left out.

    Args:
      path: The file.

    Returns:
      uint8 `[n, H, W, C]` by the names train, test and, maybe, validation; or a single array, under
      any name.

    Raises:
      ValueError: If the file is damaged, or its arrays break a rule.
    """
    try:
        headers = {name: h for name, h in _read_headers(path).items() if len(h[0]) > 2}
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    _check_headers(path, headers)
    try:
        if path.suffix.lower() == ".npy":
            arrays = {name: np.load(path, allow_pickle=False) for name in headers}
        else:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in headers}
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    return {name: _with_channels(array) for name, array in arrays.items()}


def _read_headers(path: pathlib.Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Returns the shapes and types of the arrays in a NumPy file by their names."""
    if path.suffix.lower() == ".npy":
        with path.open("rb") as file:
            return {"images": _read_header(file)}
    headers = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            with archive.open(member) as file:
                headers[member.removesuffix(".npy")] = _read_header(file)
    return headers


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], str]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    return shape, dtype.name


def _check_headers(path: pathlib.Path, headers: dict[str, tuple[tuple[int, ...], str]]) -> None:
    names = set(headers)
    if len(names) != 1 and not {"train", "test"} <= names <= set(_PART_NAMES):
        raise ValueError(
            "`source` must hold either one array of images or arrays named train, test and, "
            f"optionally, validation, got {sorted(names)} in {path}."
        )
    for name, (shape, dtype) in headers.items():
        _check(path, f" in {name!r}", shape, dtype)
    if len({(*shape, 1)[1:4] for shape, _ in headers.values()}) > 1:
        found = " and ".join(f"{list(shape)} in {name!r}" for name, (shape, _) in headers.items())
        raise ValueError(f"`source` must have images of one size, got {found} of {path}.")


def _open(path: pathlib.Path) -> IO[bytes]:
    with path.open("rb") as file:
        is_compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if is_compressed else path.open("rb")


def _check(path: pathlib.Path, place: str, shape: tuple[int, ...], dtype: str) -> None:
    if dtype != "uint8":
        raise ValueError(
            f"`source` must hold images as uint8, 0 to 255, got {dtype}{place} of {path}."
        )
    is_image = len(shape) == 3 or (len(shape) == 4 and 1 <= shape[3] <= 4)
    if not is_image or min(shape[1:]) < 1:
        raise ValueError(
            "`source` must hold images of shape [n, height, width] or [n, height, width, channels] "
            f"with 1 to 4 channels, got {list(shape)}{place} of {path}."
        )


def _unreadable(path: pathlib.Path, error: Exception) -> ValueError:
    kind = path.suffix.lower() if path.suffix.lower() in _NUMPY_SUFFIXES else "IDX"
    return ValueError(f"`source` must be a readable {kind} file, got {path}: {error}")


def _with_channels(images: np.ndarray) -> np.ndarray:
    return images[..., None] if images.ndim == 3 else images
