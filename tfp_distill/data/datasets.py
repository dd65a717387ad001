"""One `load` for every source of rows and images."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfp_distill.data import benchmarks
from tfp_distill.data.flow_data import FlowData, Statistics
from tfp_distill.data.images import image_sets
from tfp_distill.data.splits import check_fractions, first_rows
from tfp_distill.data.tables import user_tables
from tfp_distill.data.tables.column_kinds import choose_columns
from tfp_distill.data.tables.look import look_at
from tfp_distill.domains import ImageDomain, RowDomain
from tfp_distill.pixels import PixelFormat

__all__ = [
    "load",
    "sources",
]

_EMBEDDED = "embedded"
_NUM_BITS: dict[str | os.PathLike[str], int] = {"digits": 4}  # Those of the source; others have 8.


def sources() -> tuple[str, ...]:
    """Returns the names that `load` knows besides files."""
    return (_EMBEDDED, *benchmarks.NAMES, *image_sets.NAMES)


def load(
    source: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
    columns: Sequence[str] = (),
    drop_columns: Sequence[str] = (),
    drop_missing: bool = False,
    condition_columns: Sequence[str] = (),
    split: str = "random",
    split_seed: int = 0,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    validation_data: str | os.PathLike[str] | None = None,
    test_data: str | os.PathLike[str] | None = None,
    train_rows: int = 0,
    column_kinds: Sequence[str] = ("auto",),
    num_bits: int | None = None,
    padding: int = 0,
    image_size: int | None = None,
) -> FlowData:
    """Loads a data set of rows or of images.

    - `"embedded"`: 100,000 rows of POWER that come with the library, prepared as POWER is.
    - `"power"`, `"gas"`, `"hepmass"`, `"miniboone"`, `"bsds300"`: the benchmarks of Papamakarios,
      Pavlakou and Murray, 2017, arXiv:1705.07057. `"bsds300/small"` has a fifth of the training
      patches. The first use of one downloads and prepares it.
    - A path to a table of yours: a `.npy`, `.npz` or `.parquet` file, or one of text with a line of
      column names, `.csv`, `.tsv` or `.txt`, compressed (`.csv.gz`) or not, with commas,
      semicolons, tabs, bars or blanks between values, and points or, where it is certain, commas
      before decimals. Comments (`#`) may precede the names. What is missing is empty, `?` or as
      pandas has it. A `.npz` file may hold arrays `train` and `validation` or `test` or both, or
      `x_train` and so on, and labels beside them; what it has not is split off. The columns of
      arrays are called x0, x1, and so on. A file with columns that no flow can model is refused:
      text, constants, numbers of rows, what follows exactly from other columns, numbers that
      float32 cannot tell apart.
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
      columns: The columns of a table of yours to read, in this order; all if empty.
      drop_columns: Columns of a table of yours to leave out.
      drop_missing: Whether rows of a table of yours in which a value is missing, or not finite, are
        left out instead of refused.
      condition_columns: Names of columns that condition the flow and are not modelled.
      split: How a table of yours is split: "random", or "by_order", the first rows to train and the
        last ones to test with.
      split_seed: The seed of random splits. It is none of a training's, so that all trainings on a
        file hold the same rows out.
      validation_fraction: The part of a file's rows to validate with; for images, of a source's
        training images where it has none for validation.
      test_fraction: The part of a file's rows to test with.
      validation_data: A table of yours with the rows to validate with.
      test_data: A table of yours with the rows to test with.
      train_rows: Use only the first so many training rows; 0 for all.
      column_kinds: What columns hold: `("auto",)`, `("continuous",)`, or `NAME:KIND` or
        `NAME:KIND:LOW:HIGH` of some, as `("age:integer", "angle:bounded:0:360")`, after "auto" if
        others are to be judged by their look. By their look, integers (up to 2^20, with bounds if
        cut off at both ends) and what is cut off at both ends are told in tables of yours; named
        sources stay continuous. The result is `data.domain.columns`, see `Columns`.
      num_bits: Bits of a pixel's channel that are modelled, 1 to 8; by default those of the source.
      padding: Black pixels to add at each border of images: 2 makes 32x32 of 28x28.
      image_size: Images are cropped to a square at the centre and resized to so many pixels a side.

    Returns:
      The data.

    Raises:
      ValueError: If an argument breaks its rule, a file is damaged, or no flow can model a
        column of it (all such columns are named).
      OSError: If a benchmark is neither in `manual_dir` nor can be downloaded.
    """
    for name, value in (("split_seed", split_seed), ("train_rows", train_rows)):
        if value < 0:
            raise ValueError(f"`{name}` must be at least 0, got {value}.")
    check_fractions(validation_fraction, test_fraction)
    options = user_tables.TableOptions(
        columns=tuple(columns),
        drop_columns=tuple(drop_columns),
        drop_missing=drop_missing,
        condition_columns=tuple(condition_columns),
        split=split,
        split_seed=split_seed,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
        validation_data=_expand(validation_data),
        test_data=_expand(test_data),
        train_rows=train_rows,
    )
    path = pathlib.Path(source).expanduser()
    published: dict[str, Any] = dict(data_dir=data_dir, manual_dir=manual_dir)
    is_name = source == "" or source in sources()  # Whatever the directory holds of that name.
    is_table = not is_name and user_tables.table_suffix(path) in user_tables.SUFFIXES
    if source in image_sets.NAMES or (not is_name and image_sets.is_image_file(path)):
        pixel_format = PixelFormat(
            _NUM_BITS.get(source, 8) if num_bits is None else num_bits, padding
        )
        options.check_unused("`source` holds images", "condition_columns")
        drawn: dict[str, Any] = dict(
            seed=split_seed, validation_fraction=validation_fraction, image_size=image_size
        )
        if source in image_sets.NAMES:
            name, parts = source, image_sets.load(source, **published, **drawn)
        else:
            parts = image_sets.load_file(path, test_fraction=test_fraction, **drawn)
            name = path.stem
        parts = parts._replace(train=first_rows(parts.train, train_rows))
        if not set(column_kinds) <= {"auto", "continuous"}:
            raise ValueError(
                "`column_kinds` must be auto where `source` holds images, got "
                f"{', '.join(column_kinds)}."
            )
        return _to_image_data(name, parts, pixel_format)
    for name, given, default in (
        ("num_bits", num_bits, None),
        ("padding", padding, 0),
        ("image_size", image_size, None),
    ):
        if given != default:
            raise ValueError(f"`{name}` must be {default} where `source` is no image, got {given}.")
    if is_table:
        name = path.name[: -len(user_tables.table_suffix(path))]
        data = _to_flow_data(
            name, user_tables.load_file(path, options), options, standardized=False
        )
        return _with_columns(data, column_kinds)
    if source == _EMBEDDED:
        rows = benchmarks.load_embedded()
    elif source in benchmarks.NAMES:
        rows = benchmarks.load(source, **published)
    else:
        raise ValueError(
            f"`source` must be one of {', '.join(sources())}, or a path of images or one that ends "
            f"in {', '.join(user_tables.SUFFIXES)}, got {str(source)!r}."
        )
    options.check_unused(f"`source` is {source!r}")
    rows = rows._replace(train=first_rows(rows.train, train_rows))
    rows = rows._replace(look=look_at(rows.names, rows.train, conditions=condition_columns))
    standardized = not source.startswith("bsds300")
    data = _to_flow_data(source, rows, options, standardized=standardized)
    # Published sets are modelled as in the papers.
    return _with_columns(data, [kind for kind in column_kinds if kind != "auto"])


def _with_columns(data: FlowData, kinds: Sequence[str]) -> FlowData:
    parts = (data.train, data.validation, data.test)
    columns = choose_columns(kinds, data.feature_names, parts, data.look)
    return data if columns is None else dataclasses.replace(data, domain=RowDomain(columns))


def _expand(path: str | os.PathLike[str] | None) -> pathlib.Path | None:
    return None if path is None else pathlib.Path(path).expanduser()


def _to_image_data(name: str, parts: image_sets.ImageParts, pixel_format: PixelFormat) -> FlowData:
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
    return FlowData(name, *parts, statistics, domain=ImageDomain(pixel_format))


def _to_flow_data(
    name: str, parts: user_tables.Parts, options: user_tables.TableOptions, *, standardized: bool
) -> FlowData:
    condition_names = options.condition_columns
    unknown = [column for column in condition_names if column not in parts.names]
    if unknown or len(set(condition_names)) < len(condition_names):
        raise ValueError(
            f"`condition_columns` must be different names of {list(parts.names)}, "
            f"got {list(condition_names)}."
        )
    feature_names = tuple(column for column in parts.names if column not in condition_names)
    if not feature_names:
        raise ValueError(
            "`source` must have at least 1 column besides `condition_columns`, got "
            f"{list(feature_names)} and {list(condition_names)} in {name}."
        )

    def select(names: tuple[str, ...]) -> tuple[Statistics, list[np.ndarray]]:
        places = [parts.names.index(column) for column in names]
        rows = [parts.train, parts.validation, parts.test]
        if names != parts.names:
            rows = [np.ascontiguousarray(part[:, places]) for part in rows]
        if standardized:
            return Statistics.identity(len(names)), rows
        return Statistics.of_rows(rows[0]), rows

    statistics, rows = select(feature_names)
    data = FlowData(
        name,
        train=rows[0],
        validation=rows[1],
        test=rows[2],
        statistics=statistics,
        feature_names=feature_names,
        look=parts.look,
        dropped_rows=parts.dropped_rows,
    )
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
