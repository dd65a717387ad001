"""The user's own images from folders of PNG and JPEG files."""

from __future__ import annotations

import os
import pathlib
import struct
from collections.abc import Iterator
from typing import IO, NamedTuple

import numpy as np
import tensorflow as tf

from tfp_distill.data.images import image_arrays
from tfp_distill.data.reading import allowed_bytes, short

__all__ = [
    "ImageHeader",
    "decode",
    "find_images",
    "read_header",
    "read_headers",
]

_SUFFIXES = (".jpeg", ".jpg", ".png")
_OTHER_FORMATS = (".bmp", ".gif", ".heic", ".tif", ".tiff", ".webp")
_VALIDATION = ("validation", "val")
# What a file of any size may have, and what a larger one may have for each of its bytes.
_PIXELS, _PIXELS_A_BYTE = 2**24, 20
_PIXELS_AT_ONCE = 2**24
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # By its colour type; a palette holds colours.


class ImageHeader(NamedTuple):
    """What the header of a file says of its image."""

    height: int
    width: int
    channels: int


def find_images(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """Finds the PNG and JPEG files in a folder and below it. Hidden ones are left out.

    Args:
      folder: The folder.

    Returns:
      Sorted paths by the names train and, where such folders exist, validation and test. Without a
      folder train, all are training images.

    Raises:
      ValueError: If there are none, or some that would be left out.
    """
    paths = sorted(_walk(folder))
    others = [path for path in paths if path.suffix.lower() in _OTHER_FORMATS]
    if others:
        raise ValueError(f"`source` must hold PNG and JPEG files only, got {others[0]}.")
    paths = [path for path in paths if path.suffix.lower() in _SUFFIXES]
    if not paths:
        raise ValueError(f"`source` must hold PNG or JPEG files, got none in {folder}.")
    names = {name: name for name in ("train", "test")} | dict.fromkeys(_VALIDATION, "validation")
    present = [name for name in names if (folder / name).is_dir()]
    if not present:
        return {"train": paths}
    if "train" not in present or set(_VALIDATION) <= set(present):
        raise ValueError(
            "`source` must have images to train with in a folder train, and no more than one of "
            f"{' and '.join(_VALIDATION)}, got {', '.join(sorted(present))} in {folder}."
        )
    found: dict[str, list[pathlib.Path]] = {names[name]: [] for name in present}
    for path in paths:
        name = path.relative_to(folder).parts[0]
        if name not in present:
            raise ValueError(
                f"`source` must have all images in {', '.join(sorted(present))}, got {path}."
            )
        found[names[name]].append(path)
    for name, part in found.items():
        if not part:
            raise ValueError(f"`source` must hold images for {name}, got none in {folder}.")
    return found


def read_headers(paths: list[pathlib.Path], image_size: int | None) -> int:
    """Checks the sizes of images before any is decoded.

    Args:
      paths: The files, at least one.
      image_size: The size that images are brought to, if any.

    Returns:
      The number of channels: that of all files, or 3 if they differ.

    Raises:
      ValueError: If a file is not a PNG or JPEG file, or two differ in size without `image_size`.
    """
    first, channels, num_pixels, num_bytes = None, set(), 0, 0
    for path in paths:
        header = read_header(path)
        _check_pixels(path, header)
        first = first or header
        channels.add(header.channels)
        num_pixels += header.height * header.width
        num_bytes += path.stat().st_size
        if image_size is None and header[:2] != first[:2]:
            raise ValueError(
                f"`image_size` must be given for images of different sizes: {paths[0]} has "
                f"{first.height}x{first.width} pixels and {path} has "
                f"{header.height}x{header.width}."
            )
    number = channels.pop() if len(channels) == 1 else 3
    if num_pixels * number > allowed_bytes(num_bytes):
        raise ValueError(
            f"`source` must hold files that unpack to at most {allowed_bytes(num_bytes):,} bytes, "
            f"got {num_pixels * number:,} in the {num_bytes:,} of {paths[0]} and others."
        )
    return number


def _check_depth(path: pathlib.Path, depth: int) -> None:
    # Often of fewer bits than it has room for, of which decoders keep the highest 8.
    if depth > 8:
        raise ValueError(
            f"`source` must hold images of at most 8 bits a channel, got {depth} in {path}: scale "
            "them to 0 to 255 beforehand."
        )


def _check_pixels(path: pathlib.Path, header: ImageHeader) -> None:
    pixels, allowed = header.height * header.width, path.stat().st_size * _PIXELS_A_BYTE
    if not 0 < pixels <= max(_PIXELS, allowed):
        raise ValueError(
            f"`source` must hold images of 1 to {max(_PIXELS, allowed):,} pixels for files of that "
            f"size, got {header.height}x{header.width} in {path}."
        )


def decode(
    paths: list[pathlib.Path], channels: int, image_size: int | None
) -> Iterator[np.ndarray]:
    """Decodes files, in parallel.

    Args:
      paths: The files.
      channels: Of the result, whatever the files have.
      image_size: Height and width, to which centre squares are resized, or None.

    Yields:
      Batches in the order of the files, uint8 `[m, H, W, C]`.

    Raises:
      ValueError: If a file is damaged.
    """

    def read(path: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_image(
            tf.io.read_file(path),
            channels=0 if channels == 2 else channels,  # 2 is known to the decoder, not its check.
            expand_animations=False,
        )
        image.set_shape([None, None, channels])
        return image_arrays.crop_and_resize(image, image_size)

    names = tf.data.Dataset.from_tensor_slices([str(path) for path in paths])
    # Large images are decoded one by one, and not kept by the batch.
    pixels = max(header.height * header.width for header in map(read_header, paths))
    parallel = tf.data.AUTOTUNE if 64 * pixels <= _PIXELS_AT_ONCE else 1
    kept = image_size**2 if image_size else pixels
    batch_size = min(image_arrays.BATCH_SIZE, max(1, _PIXELS_AT_ONCE // kept))
    batches = names.map(read, num_parallel_calls=parallel)
    batches = batches.batch(batch_size).prefetch(1)
    done = 0
    try:
        for batch in batches.as_numpy_iterator():
            yield batch
            done += len(batch)
    except tf.errors.OpError:
        # The error does not say which file it was.
        for path in paths[done:]:
            try:
                read(tf.constant(str(path)))
            except tf.errors.OpError as error:
                reason = short(error.message)
                raise ValueError(
                    f"`source` must hold whole PNG and JPEG files, got {path}: {reason}"
                ) from error
        raise


def read_header(path: pathlib.Path) -> ImageHeader:
    """Reads the size of a PNG or JPEG file, whatever its name, without decoding it.

    Raises:
      ValueError: If it is neither, has 16 bits a channel, or ends amid its header.
    """
    try:
        with path.open("rb") as file:
            start = file.read(26)
            if start.startswith(_PNG):
                width, height, depth, colour = struct.unpack(">IIBB", start[16:])
                _check_depth(path, depth)
                return ImageHeader(height, width, _PNG_CHANNELS[colour])
            if start.startswith(b"\xff\xd8"):
                return _read_jpeg_header(file)
    except (OSError, struct.error, KeyError) as error:
        raise ValueError(f"`source` must hold whole PNG and JPEG files, got {path}.") from error
    raise ValueError(f"`source` must hold PNG and JPEG files, got {path}, which is neither.")


def _read_jpeg_header(file: IO[bytes]) -> ImageHeader:
    """Walks through the segments of a JPEG file to the one that starts the frame."""
    file.seek(2)
    while True:
        mark, kind = struct.unpack(">BB", file.read(2))
        while kind == 0xFF:  # Fill bytes.
            (kind,) = struct.unpack(">B", file.read(1))
        if mark != 0xFF or kind == 0xDA:
            raise struct.error("no frame before the pixels")
        if kind == 0x01 or 0xD0 <= kind <= 0xD8:  # Marks that stand alone.
            continue
        (length,) = struct.unpack(">H", file.read(2))
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            _, height, width, components = struct.unpack(">BHHB", file.read(6))
            return ImageHeader(height, width, 1 if components == 1 else 3)
        file.seek(length - 2, os.SEEK_CUR)


def _walk(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (pathlib.Path(parent, name) for name in names if not name.startswith("."))
