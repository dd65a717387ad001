"""The published sets of images, through TensorFlow Datasets."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import pathlib
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_distill.data import benchmarks
from tfp_distill.data.images import image_arrays

__all__ = [
    "NAMES",
    "load",
]

NAMES = (
    "cifar10",
    "celeb_a",
    "fashion_mnist",
    "mnist",
    *(f"imagenet_resized/{size}x{size}" for size in (8, 16, 32, 64)),
)

# TFDS compares the bytes of archives, which mirrors compress anew. These are of the contents.
_MD5_OF_CONTENTS = {
    "fashion_mnist": {
        "train-images-idx3-ubyte.gz": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte.gz": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte.gz": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte.gz": "15d484375f8d13e6eb1aabb0c3f46965",
    },
    "mnist": {
        "train-images-idx3-ubyte.gz": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte.gz": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte.gz": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte.gz": "27ae3e4e09519cfbb04c329615203637",
    },
}
_CELEB_A_CROP, _CELEB_A_SIZE = 148, 64

# TFDS takes over half a second to import: the functions here import it late.


def load(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None,
    manual_dir: str | os.PathLike[str] | None,
    seed: int,
    validation_fraction: float,
    image_size: int | None,
) -> list[np.ndarray]:
    """Reads a set of images, which is downloaded and prepared at its first use.

    Args:
      name: One of `NAMES`.
      data_dir: Where TFDS keeps prepared data, by default its own default.
      manual_dir: A directory with archives that were downloaded by hand.
      seed: The seed of the draw of validation images, where the source has none.
      validation_fraction: The part of the training images to draw.
      image_size: Height and width, or None for those of the source (CelebA: 64).

    Returns:
      Images to train, to validate and to test with, uint8 `[n, H, W, C]`.

    Raises:
      ValueError: If `manual_dir` is needed and not a directory.
      OSError: If an archive is neither in `manual_dir` nor can be downloaded.
    """
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=data_dir)
    _prepare(name, builder, manual_dir)
    crop = None
    if name == "celeb_a":
        crop, image_size = _CELEB_A_CROP, image_size or _CELEB_A_SIZE

    def read(split: str, part_of: np.ndarray, num_parts: int) -> list[np.ndarray]:
        images = builder.as_dataset(
            split=split,
            decoders=tfds.decode.PartialDecoding({"image": True}),
            read_config=tfds.ReadConfig(try_autocache=False),  # The images are read once.
        )
        batches = (
            images.map(
                lambda example: image_arrays.crop_and_resize(example["image"], image_size, crop),
                num_parallel_calls=tf.data.AUTOTUNE,
            )
            .batch(image_arrays.BATCH_SIZE)
            .prefetch(2)
        )
        return image_arrays.collect(batches.as_numpy_iterator(), part_of, num_parts)

    def read_whole(split: str) -> np.ndarray:
        num_images = builder.info.splits[split].num_examples
        return read(split, np.zeros(num_images, np.int8), 1)[0]

    splits = set(builder.info.splits)
    if {"validation", "test"} <= splits:
        return [read_whole(split) for split in ("train", "validation", "test")]
    num_images = builder.info.splits["train"].num_examples
    part_of = image_arrays.draw_parts(num_images, [validation_fraction], seed)
    # The images of ImageNet's test part are not published.
    held_out = "test" if "test" in splits else "validation"
    return [*read("train", part_of, 2), read_whole(held_out)]


def _prepare(name: str, builder: Any, manual_dir: str | os.PathLike[str] | None) -> None:
    from tensorflow_datasets.core.download import download_manager, extractor, util

    failures = (
        OSError,
        extractor.ExtractError,
        download_manager.NonMatchingChecksumError,
        util.DownloadError,
    )
    try:
        with _accept_contents(builder, manual_dir):
            benchmarks.prepare(builder, manual_dir)
    except failures as error:
        archives = sorted(info.filename for info in builder.url_infos.values())
        if builder.name == "imagenet_resized":
            width = builder.builder_config.size
            archives = [file for file in archives if file.startswith(f"Imagenet{width}_")]
        reason = str(error).partition("\n")[0].rstrip(":")
        raise OSError(
            f"`{name}` needs {', '.join(archives)}, which could not be prepared ({reason}). Put "
            "the published files into a directory and pass that directory as `manual_dir`."
        ) from error


@contextlib.contextmanager
def _accept_contents(builder: Any, manual_dir: str | os.PathLike[str] | None) -> Iterator[None]:
    """Lets TFDS take archives from `manual_dir` that hold the published contents."""
    from tensorflow_datasets.core.download import checksums

    known = _MD5_OF_CONTENTS.get(builder.name, {})
    published = dict(builder.url_infos)
    if known and manual_dir is not None and not builder.data_path.exists():
        for url, info in published.items():
            path = pathlib.Path(manual_dir).expanduser() / info.filename
            if path.is_file() and _md5_of_contents(path) == known[info.filename]:
                builder.url_infos[url] = checksums.compute_url_info(path)
    try:
        yield
    finally:
        builder.url_infos.update(published)


def _md5_of_contents(path: pathlib.Path) -> str | None:
    try:
        with gzip.open(path) as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except (OSError, EOFError, zlib.error):  # TFDS says what is wrong with it.
        return None
