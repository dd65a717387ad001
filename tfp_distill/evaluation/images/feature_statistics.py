"""Mean and covariance of the features of images, and a place on disk that keeps them."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from tfp_distill.arrays import Array
from tfp_distill.evaluation.images.features import FeatureExtractor, check_images
from tfp_distill.evaluation.images.fingerprints import ImagesFingerprint

__all__ = ["FeatureStatistics", "image_statistics", "reference_statistics"]


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """Mean and covariance of the features of some images.

    Attributes:
      mean: float64 `[F]`.
      covariance: float64 `[F, F]`, the unbiased estimate (divided by `num_images - 1`).
      num_images: number of images, at least 2.
      image_shape: `(h, w, C)` of an image.
      extractor: name of the feature extractor.
      extractor_fingerprint: of its architecture, weights and preprocessing.
      images_fingerprint: of the bytes of the images, in their order.
      num_non_finite: number of images with a value that is not finite, which is black in its bytes.

    Raises:
      ValueError: if a shape or value breaks a rule.
    """

    mean: np.ndarray
    covariance: np.ndarray
    num_images: int
    image_shape: tuple[int, int, int]
    extractor: str
    extractor_fingerprint: str
    images_fingerprint: str
    num_non_finite: int = 0

    def __post_init__(self) -> None:
        if self.mean.ndim != 1 or self.covariance.shape != 2 * self.mean.shape:
            raise ValueError(
                "`mean` and `covariance` must have shapes (F,) and (F, F), got "
                f"{self.mean.shape} and {self.covariance.shape}."
            )
        for name in ("mean", "covariance"):
            num_bad = np.count_nonzero(~np.isfinite(getattr(self, name)))
            if num_bad:
                raise ValueError(f"`{name}` must be finite, got {num_bad:,} values that are not.")
        if self.num_images < 2:
            raise ValueError(f"`num_images` must be at least 2, got {self.num_images}.")


def image_statistics(
    images: np.ndarray | Iterable[np.ndarray], extractor: FeatureExtractor
) -> FeatureStatistics:
    """Computes mean and covariance of the features of images, in one pass.

    Only a batch of features exists at any time. They are accumulated in float64 such that a large
    mean costs no accuracy: to n images with mean m and C = sum (f - m)(f - m)^T a batch of b
    images with mean m', and likewise C', is added as

        d = m' - m,    m <- m + d b / (n + b),    C <- C + C' + d d^T n b / (n + b)

    (Chan, Golub and LeVeque, 1979, "Updating formulae and a pairwise algorithm for computing sample
    variances", equation 2.1). How `images` are cut into batches does not change the result.

    Args:
      images: uint8 `[n, h, w, C]`, of which a memory-mapped one is read batch by batch; or an
        iterable of such arrays, all of one image shape, such as `sampled_images` yields, whose
        `num_non_finite` is then that of the statistics.
      extractor: computes the features.

    Returns:
      The `FeatureStatistics`.

    Raises:
      ValueError: if there are fewer than 2 images, they are no bytes of one shape, or features are
        not finite.
    """
    moments, fingerprint = _Moments(extractor.num_features), ImagesFingerprint()
    shape: tuple[int, ...] = ()
    for batch in _batches(images, extractor.batch_size):
        fingerprint.update(batch)
        shape = batch.shape[1:]
        features = extractor(batch)
        num_bad = np.count_nonzero(~np.isfinite(features).all(axis=1))
        if num_bad:
            raise ValueError(
                f"The features of {extractor.name!r} must be finite, got {num_bad:,} of "
                f"{len(batch):,} images where they are not, after {moments.num:,} good ones."
            )
        moments.add(features)
    if moments.num < 2:
        raise ValueError(f"`images` must hold at least 2 images, got {moments.num}.")
    height, width, channels = map(int, shape)
    return FeatureStatistics(
        mean=moments.mean,
        covariance=moments.squares / (moments.num - 1),
        num_images=moments.num,
        image_shape=(height, width, channels),
        extractor=extractor.name,
        extractor_fingerprint=extractor.fingerprint,
        images_fingerprint=fingerprint.hexdigest(),
        num_non_finite=getattr(images, "num_non_finite", 0),
    )


def reference_statistics(
    images: np.ndarray,
    extractor: FeatureExtractor,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
) -> FeatureStatistics:
    """Returns the `image_statistics` of images, computed once and then read from disk.

    The file's name holds a fingerprint of images, model and preprocessing: others have another
    file. A file that is damaged is replaced.

    Args:
      images: uint8 `[n, h, w, C]`, for instance all training images.
      extractor: computes the features.
      cache_dir: the folder of the files; `$XDG_CACHE_HOME/tfp_distill` by default, where that
        variable is ~/.cache unless it is set.

    Returns:
      The `FeatureStatistics`.

    Raises:
      ValueError: as `image_statistics`.
      OSError: if the folder cannot be written.
    """
    check_images(images=images, minimum=2)
    folder = _default_cache_dir() if cache_dir is None else pathlib.Path(cache_dir)
    folder.mkdir(parents=True, exist_ok=True)  # It fails before the work if it has to.
    fingerprint = ImagesFingerprint()
    for batch in _batches(images, 1024):
        fingerprint.update(batch)
    known = {
        "num_images": len(images),
        "image_shape": tuple(int(size) for size in images.shape[1:]),
        "extractor": extractor.name,
        "extractor_fingerprint": extractor.fingerprint,
        "images_fingerprint": fingerprint.hexdigest(),
    }
    key = hashlib.sha256((extractor.fingerprint + fingerprint.hexdigest()).encode())
    path = folder / f"features_{key.hexdigest()[:32]}.npz"
    if (statistics := _read(path, extractor.num_features, known)) is None:
        statistics = image_statistics(images, extractor)
        _write(path, mean=statistics.mean, covariance=statistics.covariance)
    return statistics


class _Moments:
    """The number of rows, their mean, and the sum of products of what they differ from it."""

    def __init__(self, dims: int) -> None:
        self.num = 0
        self.mean = np.zeros(dims)
        self.squares = np.zeros((dims, dims))

    def add(self, rows: np.ndarray) -> None:
        """Adds rows `[b, dims]`."""
        rows = rows.astype(np.float64)
        mean, total = rows.mean(axis=0), self.num + len(rows)
        difference = mean - self.mean
        # One more row holds what the two means differ by, so that there is one product.
        last = np.sqrt(self.num * len(rows) / total) * difference
        centred = np.concatenate([rows - mean, last[np.newaxis]])
        self.squares += centred.T @ centred
        self.mean += difference * (len(rows) / total)
        self.num = total


def _batches(images: Array, size: int) -> Iterator[np.ndarray]:
    """Yields checked batches of `size` images, the last one of fewer, however they come."""
    if hasattr(images, "shape"):
        array = images
        images = (array[start : start + size] for start in range(0, len(array), size))
    pending = None
    for batch in images:
        check_images(images=batch, minimum=0)
        pending = batch if pending is None else pending
        if batch.shape[1:] != pending.shape[1:]:
            raise ValueError(
                f"`images` must have one shape, got {pending.shape[1:]} and {batch.shape[1:]}."
            )
        pending = batch if pending is batch else np.concatenate([pending, batch])
        while len(pending) >= size:
            yield np.asarray(pending[:size])
            pending = pending[size:]
    if pending is not None and len(pending):
        yield np.asarray(pending)


def _default_cache_dir() -> pathlib.Path:
    root = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(root) / "tfp_distill"


def _read(path: pathlib.Path, dims: int, known: dict[str, Any]) -> FeatureStatistics | None:
    """Returns the statistics of a file; None if it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            statistics = FeatureStatistics(stored["mean"], stored["covariance"], **known)
    except Exception:  # Damaged archives raise errors of many kinds.
        return None
    return statistics if statistics.mean.shape == (dims,) else None


def _write(path: pathlib.Path, **arrays: Any) -> None:
    """Writes a file such that at no time a part of it is there under its name."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("wb") as file:
            np.savez(file, **arrays)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
