"""One `load` for every source of rows and images."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from tfp_distill.data import benchmarks, files, images
from tfp_distill.pixels import DequantizedImages, PixelFormat

__all__ = [
    "FlowData",
    "Statistics",
    "load",
    "sources",
]

_EMBEDDED = "embedded"
_PARTS = ("train", "validation", "test")
_NUM_BITS = {"digits": 4}  # Those of the source; others have 8.


@dataclasses.dataclass(frozen=True, eq=False)
class Statistics:
    """The mean and scale of columns.

    Attributes:
      mean: float32 `[D]`.
      scale: float32 `[D]`, positive.
    """

    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def of_rows(cls, rows: np.ndarray) -> Statistics:
        """Returns the mean and standard deviation of each column of rows `[n, D]`."""
        # Sums in float64, of one column at a time: no second copy of all rows.
        moments = [(column.mean(), column.std()) for column in _float64_columns(rows)]
        mean, scale = np.array(moments, np.float32).T
        return cls(np.ascontiguousarray(mean), np.ascontiguousarray(scale))

    @classmethod
    def identity(cls, num_columns: int) -> Statistics:
        """Returns mean 0 and scale 1."""
        return cls(np.zeros(num_columns, np.float32), np.ones(num_columns, np.float32))

    def standardize(self, rows: np.ndarray) -> np.ndarray:
        """Returns `(rows - mean) / scale` of rows `[n, D]`."""
        return (rows - self.mean) / self.scale


@dataclasses.dataclass(frozen=True, eq=False)
class FlowData:
    """Rows or images to train, choose and report with, in the units of their source.

    Attributes:
      name: The source, or the name of the file without its suffix.
      train: float32 `[n, D]`, or images, uint8 `[n, h, w, C]`; as `validation` and `test` with
        numbers of rows of their own.
      validation: See `train`.
      test: See `train`.
      statistics: What brings the columns, or the channels of dequantised images, to mean 0 and
        scale 1, from the training rows. For
        `flow.adapt(sample, statistics=data.statistics)`.
      feature_names: The names of the D columns; none for images.
      pixel_format: How images become the examples of a flow; None for rows. For
        `GlowConfig(image_shape=data.event_shape, num_bits=..., padding=...)`.
      train_condition: float32 `[n, C]`, or None without `condition_columns`; not standardised.
      validation_condition: See `train_condition`.
      test_condition: See `train_condition`.
      condition_statistics: Those of the conditions, or None.
      condition_names: The names of the C columns.
    """

    name: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    statistics: Statistics
    feature_names: tuple[str, ...] = ()
    pixel_format: PixelFormat | None = None
    train_condition: np.ndarray | None = None
    validation_condition: np.ndarray | None = None
    test_condition: np.ndarray | None = None
    condition_statistics: Statistics | None = None
    condition_names: tuple[str, ...] = ()

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one example of a flow: `(D,)`, or `(H, W, C)` with the padding of images."""
        shape = self.train.shape[1:]
        return self.pixel_format.padded_shape(shape) if self.pixel_format else shape

    @property
    def condition_dims(self) -> int:
        """Number C of columns of the conditions, 0 without them."""
        return len(self.condition_names)

    def examples(self, part: str, *, draw: int = 0) -> np.ndarray | DequantizedImages:
        """Returns a part as a flow takes it: rows as they are, or images dequantised.

        Args:
          part: "train", "validation" or "test".
          draw: Which draw of the noise of images.

        Returns:
          What has a length, a shape `[n, ...]` and float32 slices; images are dequantised slice
          by slice.
        """
        if part not in _PARTS:
            raise ValueError(f"`part` must be one of {', '.join(_PARTS)}, got {part!r}.")
        values = getattr(self, part)
        if self.pixel_format is None:
            return values
        return DequantizedImages(values, self.pixel_format, draw=draw)

    def condition(self, part: str) -> np.ndarray | None:
        """Returns the conditions of a part, or None."""
        return getattr(self, f"{part}_condition")


def sources() -> tuple[str, ...]:
    """Returns the names that `load` knows besides files."""
    return (_EMBEDDED, *benchmarks.NAMES, *images.NAMES)


def load(
    source: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    condition_columns: Sequence[str] = (),
    num_bits: int | None = None,
    padding: int = 0,
    image_size: int | None = None,
) -> FlowData:
    """Loads a data set of rows or of images.

    - `"embedded"`: 100,000 rows of POWER that come with the library, prepared as POWER is.
    - `"power"`, `"gas"`, `"hepmass"`, `"miniboone"`, `"bsds300"`: the benchmarks of Papamakarios,
      Pavlakou and Murray, 2017, arXiv:1705.07057. `"bsds300/small"` has a fifth of the training
      patches. The first use of one downloads and prepares it.
    - A path to a `.npy`, `.npz`, `.csv` (with a line of column names) or `.parquet` file of yours.
      A `.npz` file may hold arrays `train`, `validation` and `test`; all other files are split at
      random. The columns of arrays are called x0, x1, and so on.
    - `"digits"`: 1,797 images of handwritten digits, 8x8 pixels of 4 bits, that come with the
      library.
    - `"mnist"`, `"fashion_mnist"`, `"cifar10"`, `"celeb_a"` (a centre crop of 148x148 pixels,
      resized to 64x64), `"imagenet_resized/8x8"` to `"imagenet_resized/64x64"`, through TensorFlow
      Datasets. Where a source has no part for validation, some of its training images are.
    - A path to images of yours: a `.npz` file of uint8 arrays `[n, H, W, C]` or `[n, H, W]`, an IDX
      file (as those of MNIST, `.gz` or not) or a directory with IDX files of MNIST's names, or a
      directory with PNG and JPEG files, with subdirectories `train`, `validation` and `test` or
      without.

    POWER, embedded or not, GAS, HEPMASS and MINIBOONE come standardised as in the papers, and their
    statistics are 0 and 1; those of BSDS300 and of files are the training rows' mean and deviation.

    Rows are float32, which has 7 digits: subtract large offsets (of a timestamp) beforehand. Images
    are kept in memory as bytes: n H W C of them.

    Args:
      source: One of `sources()`, or a path.
      data_dir: Where TFDS keeps prepared benchmarks, by default `~/tensorflow_datasets`.
      manual_dir: A directory with archives that were downloaded by hand, for the benchmarks.
      seed: The seed of the random split of a file.
      validation_fraction: The part of a file's rows to validate with; for images, of a source's
        training images where it has none for validation.
      test_fraction: The part of a file's rows to test with.
      condition_columns: Names of columns that condition the flow and are not modelled.
      num_bits: Bits of a pixel's channel that are modelled, 1 to 8; by default those of the source.
      padding: Black pixels to add at each border of images: 2 makes 32x32 of 28x28.
      image_size: Images are cropped to a square at the centre and resized to so many pixels a side.

    Returns:
      The data.

    Raises:
      ValueError: If an argument breaks its rule, or a column of a file is constant, not numeric or
        not finite (all such columns are named).
      OSError: If a benchmark is neither in `manual_dir` nor can be downloaded.
    """
    _check_split(seed, validation_fraction, test_fraction)
    path = pathlib.Path(source).expanduser()
    published = dict(data_dir=data_dir, manual_dir=manual_dir)
    fractions = dict(validation_fraction=validation_fraction, test_fraction=test_fraction)
    is_name = source == "" or source in sources()  # Whatever the directory holds of that name.
    if source in images.NAMES or (not is_name and images.is_image_file(path)):
        pixel_format = PixelFormat(
            _NUM_BITS.get(source, 8) if num_bits is None else num_bits, padding
        )
        if condition_columns:
            raise ValueError(
                f"`condition_columns` must be empty for images, got {list(condition_columns)}."
            )
        if source in images.NAMES:
            del fractions["test_fraction"]
            parts = images.load(source, seed=seed, image_size=image_size, **published, **fractions)
            return _to_image_data(source, parts, pixel_format)
        parts = images.load_file(path, seed=seed, image_size=image_size, **fractions)
        return _to_image_data(path.stem, parts, pixel_format)
    for name, value, default in (
        ("num_bits", num_bits, None),
        ("padding", padding, 0),
        ("image_size", image_size, None),
    ):
        if value != default:
            raise ValueError(f"`{name}` must be {default} where `source` is no image, got {value}.")
    standardized = False
    if source == _EMBEDDED:
        name, parts, standardized = source, benchmarks.load_embedded(), True
    elif source in benchmarks.NAMES:
        name, parts = source, benchmarks.load(source, **published)
        standardized = not source.startswith("bsds300")
    elif path.suffix.lower() in files.SUFFIXES:
        name, parts = path.stem, files.load_file(path, seed=seed, **fractions)
    else:
        raise ValueError(
            f"`source` must be one of {', '.join(sources())}, or a path of images or one that ends "
            f"in {', '.join(files.SUFFIXES)}, got {str(source)!r}."
        )
    return _to_flow_data(name, parts, tuple(condition_columns), standardized)


def _to_image_data(name: str, parts: images.ImageParts, pixel_format: PixelFormat) -> FlowData:
    channels = parts.train.shape[-1]
    moments = []
    for channel in range(channels):
        # What is at a byte is at its midpoint, padding and noise left out.
        counts = np.bincount(parts.train[..., channel].ravel(), minlength=256)
        values = (np.arange(256) >> (8 - pixel_format.num_bits)) + 0.5
        mean = np.average(values, weights=counts)
        deviation = np.average((values - mean) ** 2, weights=counts) ** 0.5
        moments.append((mean / pixel_format.bins, max(deviation, 0.5) / pixel_format.bins))
    statistics = Statistics(*np.ascontiguousarray(np.array(moments, np.float32).T))
    return FlowData(name, *parts, statistics, pixel_format=pixel_format)


def _to_flow_data(
    name: str, parts: files.Parts, condition_names: tuple[str, ...], standardized: bool
) -> FlowData:
    unknown = [column for column in condition_names if column not in parts.names]
    if unknown or len(set(condition_names)) < len(condition_names):
        raise ValueError(
            f"`condition_columns` must be different names of {list(parts.names)}, "
            f"got {list(condition_names)}."
        )
    feature_names = tuple(column for column in parts.names if column not in condition_names)
    if len(feature_names) < 2:
        raise ValueError(
            "`source` must have at least 2 columns besides `condition_columns`, got "
            f"{list(feature_names)} and {list(condition_names)} in {name}."
        )

    def select(names: tuple[str, ...]) -> tuple[Statistics, list[np.ndarray]]:
        places = [parts.names.index(column) for column in names]
        rows = list(parts[1:])
        if names != parts.names:
            rows = [np.ascontiguousarray(part[:, places]) for part in rows]
        if standardized:
            return Statistics.identity(len(names)), rows
        return Statistics.of_rows(rows[0]), rows

    statistics, rows = select(feature_names)
    data = FlowData(name, *rows, statistics, feature_names)
    if not condition_names:
        return data
    statistics, rows = select(condition_names)
    return dataclasses.replace(
        data,
        train_condition=rows[0],
        validation_condition=rows[1],
        test_condition=rows[2],
        condition_statistics=statistics,
        condition_names=condition_names,
    )


def _float64_columns(rows: np.ndarray) -> Iterator[np.ndarray]:
    return (column.astype(np.float64) for column in rows.T)


def _check_split(seed: int, validation_fraction: float, test_fraction: float) -> None:
    if seed < 0:
        raise ValueError(f"`seed` must be at least 0, got {seed}.")
    fractions = {"validation_fraction": validation_fraction, "test_fraction": test_fraction}
    for name, fraction in fractions.items():
        if not 0 < fraction < 1:
            raise ValueError(f"`{name}` must be between 0 and 1, got {fraction}.")
    if sum(fractions.values()) >= 1:
        raise ValueError(
            "`validation_fraction` and `test_fraction` must leave rows to train with, got "
            f"{validation_fraction} and {test_fraction}."
        )
