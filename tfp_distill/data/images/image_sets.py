"""Images from every source: published sets, those that come with the library, the user's own."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from tfp_distill.data.images import image_arrays, image_builders, image_files, image_folders
from tfp_distill.data.splits import check_sizes

__all__ = [
    "NAMES",
    "ImageParts",
    "is_image_file",
    "load",
    "load_file",
]

_DIGITS = "digits"
NAMES = (_DIGITS, *image_builders.NAMES)

_PART_NAMES = ("train", "validation", "test")
_MAX_SIZE = 1024


class ImageParts(NamedTuple):
    """The images of a data set, split.

    Attributes:
      train: Images to train on, uint8 `[n, H, W, C]` with 1 to 4 channels C.
      validation: Images to choose by, likewise.
      test: Images to report on, likewise.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def load(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
    validation_fraction: float = 0.1,
    image_size: int | None = None,
) -> ImageParts:
    """Loads a set of images by its name.

    The parts of `"digits"` are always the same: 1,437/180/180 images. CelebA has parts of its own;
    its images are the centre squares of 148x148 pixels, resized. Of the others, a random part of
    the training images validates. ImageNet's validation images are the test part here.

    Args:
      name: One of `NAMES`.
      data_dir: Where TFDS keeps prepared data, by default its own default.
      manual_dir: A directory with archives that were downloaded by hand.
      seed: The seed of the draw of validation images.
      validation_fraction: The part of the training images to draw.
      image_size: Height and width to which centre squares are resized, with antialiasing; None
        leaves images as they are (CelebA: 64).

    Returns:
      The images.

    Raises:
      ValueError: If an argument breaks its rule.
      OSError: If an archive is neither in `manual_dir` nor can be downloaded.
    """
    _check_size(image_size)
    if name not in NAMES:
        raise ValueError(f"`source` must be one of {', '.join(NAMES)}, got {name!r}.")
    if name == _DIGITS:
        return _load_digits(image_size)
    return ImageParts(
        *image_builders.load(
            name,
            data_dir=data_dir,
            manual_dir=manual_dir,
            seed=seed,
            validation_fraction=validation_fraction,
            image_size=image_size,
        )
    )


def is_image_file(path: str | os.PathLike[str]) -> bool:
    """Returns whether a path is what `load_file` takes, by a look at headers.

    Args:
      path: A directory, an IDX file, or a .npy or .npz file with an array of 3 or 4 dimensions.
    """
    path = pathlib.Path(path).expanduser()
    if path.is_dir():
        return True
    return path.is_file() and (image_files.holds_images(path) or image_files.is_idx(path))


def load_file(
    path: str | os.PathLike[str],
    *,
    seed: int = 0,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    image_size: int | None = None,
) -> ImageParts:
    """Reads, checks and splits images of the user's.

    - A `.npz` file with one array, uint8 `[n, H, W]` or `[n, H, W, C]`, or with arrays train, test
      and, optionally, validation, or x_train and so on; or a `.npy` file. Labels may lie beside
      them.
    - An IDX file, the format of MNIST, compressed with gzip or not; or a directory that holds
      train-images-idx3-ubyte and t10k-images-idx3-ubyte, which are the test images.
    - A directory with PNG and JPEG files in it and in its subdirectories. Those named train,
      validation (or val) and test are the parts. If the files' channels differ, all become RGB.

    A part that is not there is drawn at random from the training images. A channel of transparency,
    the second or fourth, is left out where it is 255 in all pixels.

    Args:
      path: The file or directory.
      seed: The seed of the random split.
      validation_fraction: The part of the images to validate with.
      test_fraction: The part of the images to test with.
      image_size: Height and width to which centre squares are resized, with antialiasing. Needed
        where the files of a directory differ in size.

    Returns:
      The images.

    Raises:
      ValueError: If an argument or a file breaks a rule; the file is named.
    """
    _check_size(image_size)
    path = pathlib.Path(path).expanduser()
    if not path.exists():
        raise ValueError(f"`source` must be an existing file or directory, got {path}.")
    fractions = {"validation": validation_fraction, "test": test_fraction}
    sources = _open_sources(path, image_size)
    missing = [name for name in fractions if name not in sources]
    num_images = sources["train"][0]
    part_of = image_arrays.draw_parts(num_images, [fractions[name] for name in missing], seed)
    sizes = {
        name: int(np.count_nonzero(part_of == i)) for i, name in enumerate(["train", *missing])
    }
    sizes |= {name: sources[name][0] for name in sources if name != "train"}
    check_sizes([sizes[name] for name in _PART_NAMES], "images", str(path))
    drawn = image_arrays.collect(sources["train"][1], part_of, len(missing) + 1)
    parts = dict(zip(["train", *missing], drawn, strict=True))
    for name in sources.keys() - parts.keys():
        num_images, batches = sources[name]
        parts[name] = image_arrays.collect(batches, np.zeros(num_images, np.int8), 1)[0]
    low, high = parts["train"].min(), parts["train"].max()
    if low == high:
        raise ValueError(
            f"`source` must have images that vary, got {low} in all pixels to train with of {path}."
        )
    if high == 1:
        raise ValueError(
            f"`source` must have pixels from 0 to 255, got 0 and 1 alone to train with of {path}; "
            "times 255 they are black and white, for which there is `num_bits=1`."
        )
    return ImageParts(**_without_opaque_alpha(parts))


def _without_opaque_alpha(parts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Leaves out a channel of transparency that says that nothing is transparent."""
    has_alpha = parts["train"].shape[-1] in (2, 4)
    if has_alpha and all((images[..., -1] == 255).all() for images in parts.values()):
        return {name: np.ascontiguousarray(images[..., :-1]) for name, images in parts.items()}
    return parts


def _open_sources(
    path: pathlib.Path, image_size: int | None
) -> dict[str, tuple[int, Iterable[np.ndarray]]]:
    """Returns the number of images and their batches for each part that a source has."""
    pair = image_files.find_idx_pair(path) if path.is_dir() else []
    if path.is_dir() and not pair:
        found = image_folders.find_images(path)
        every = [file for files in found.values() for file in files]
        channels = image_folders.read_headers(every, image_size)
        return {
            name: (len(files), image_folders.decode(files, channels, image_size))
            for name, files in found.items()
        }
    if len(pair) == 1:
        raise ValueError(
            "`source` must hold IDX files of both training and test images, train-images-... and "
            f"t10k-images-..., got {pair[0].name} alone in {path}."
        )
    if pair:
        arrays = dict(zip(("train", "test"), map(image_files.read_idx, pair), strict=True))
        if arrays["train"].shape[1:] != arrays["test"].shape[1:]:
            raise ValueError(
                f"`source` must have images of one size, got {arrays['train'].shape} in {pair[0]} "
                f"and {arrays['test'].shape} in {pair[1]}."
            )
    elif path.suffix.lower() in (".npy", ".npz"):
        arrays = image_files.read_arrays(path)
        if len(arrays) == 1:
            arrays = {"train": next(iter(arrays.values()))}
    elif image_files.is_idx(path):
        arrays = {"train": image_files.read_idx(path)}
    else:
        raise ValueError(
            "`source` must be a directory, an IDX file, a .npy or a .npz file to hold images, got "
            f"{path}."
        )
    return {
        name: (len(images), image_arrays.batches_of(images, image_size))
        for name, images in arrays.items()
    }


def _load_digits(image_size: int | None) -> ImageParts:
    from tfp_distill.data import embedded

    images = embedded.load_digits()[..., None]
    bytes_ = np.minimum(16 * images.astype(np.int32), 255).astype(np.uint8)
    fractions = [embedded.NUM_HELD_OUT_DIGITS / len(images)] * 2
    part_of = image_arrays.draw_parts(len(images), fractions, seed=0)
    return ImageParts(
        *image_arrays.collect(image_arrays.batches_of(bytes_, image_size), part_of, 3)
    )


def _check_size(image_size: int | None) -> None:
    if image_size is None:
        return
    is_integer = isinstance(image_size, int) and not isinstance(image_size, bool)
    if not is_integer or not 1 <= image_size <= _MAX_SIZE:
        raise ValueError(
            f"`image_size` must be None or an integer from 1 to {_MAX_SIZE}, got {image_size!r}."
        )
