"""The user's own images from files of arrays: IDX, the format of MNIST, and NumPy's."""

from __future__ import annotations

import math
import pathlib

import numpy as np

from tfp_distill.data import numpy_files
from tfp_distill.data.numpy_files import ArrayHeader
from tfp_distill.data.reading import check_unpacked, open_binary, reading

__all__ = [
    "find_idx_pair",
    "holds_images",
    "is_idx",
    "read_arrays",
    "read_idx",
]

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
        with reading(path, "IDX"), open_binary(path) as file:
            magic = file.read(4)
    except ValueError:
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
    with reading(path, "IDX"), open_binary(path) as file:
        magic = file.read(4)
        if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _IDX_TYPES:
            raise ValueError(f"its first bytes are {list(magic)}, which are none of IDX")
        sizes = file.read(4 * magic[3])
        if len(sizes) != 4 * magic[3]:
            raise ValueError("it ends amid its header")
    shape = tuple(np.frombuffer(sizes, ">u4").tolist())
    _check(path, "", shape, _IDX_TYPES[magic[2]])
    with reading(path, "IDX"), open_binary(path) as file:
        check_unpacked(path, math.prod(shape))
        file.seek(4 + len(sizes))
        values = file.read(math.prod(shape) + 1)
        rest = len(values) > math.prod(shape)
    if len(values) != math.prod(shape):
        raise ValueError(
            f"`source` must be a whole IDX file, got {path}: {len(values)} bytes of pixels"
            f"{' or more' if rest else ''}, and its header says {list(shape)}, which are "
            f"{math.prod(shape)}."
        )
    return _with_channels(np.frombuffer(values, np.uint8).reshape(shape))


def holds_images(path: pathlib.Path) -> bool:
    """Returns whether a NumPy file has arrays of the rank of images, without reading them."""
    if path.suffix.lower() not in numpy_files.SUFFIXES:
        return False
    try:
        with reading(path, path.suffix.lower()):
            headers = numpy_files.read_headers(path)
    except ValueError:
        return False
    return any(len(header.shape) > 2 for header in headers.values())


def read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the images of a .npy or .npz file.

    Arrays of fewer than 3 dimensions, such as labels, are left out.

    Args:
      path: The file.

    Returns:
      uint8 `[n, H, W, C]` by the names train and validation or test or both; or a single array,
      under any name.

    Raises:
      ValueError: If the file is damaged, or its arrays break a rule.
    """
    kind = path.suffix.lower()
    with reading(path, kind):
        every = numpy_files.read_headers(path)
    headers = {name: header for name, header in every.items() if len(header.shape) > 2}
    _check_headers(path, headers)
    with reading(path, kind):
        arrays = numpy_files.read_arrays(path, headers)
    return {name: _with_channels(array) for name, array in arrays.items()}


def _check_headers(path: pathlib.Path, headers: dict[str, ArrayHeader]) -> None:
    numpy_files.check_parts(path, headers, "images")
    for name, (shape, dtype) in headers.items():
        _check(path, f" in {name!r}", shape, dtype.name)
    if len({(*shape, 1)[1:4] for shape, _ in headers.values()}) > 1:
        found = " and ".join(f"{list(shape)} in {name!r}" for name, (shape, _) in headers.items())
        raise ValueError(f"`source` must have images of one size, got {found} of {path}.")


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


def _with_channels(images: np.ndarray) -> np.ndarray:
    return images[..., None] if images.ndim == 3 else images
