"""One `load` for every source of tabular data."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from tfp_distill.data import benchmarks, files

__all__ = [
    "FlowData",
    "Statistics",
    "load",
    "sources",
]

_EMBEDDED = "embedded"


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
    """Rows to train, choose and report with. All of them are in the units of their source.

    Attributes:
      name: The source, or the name of the file without its suffix.
      train: float32 `[n, D]`, as `validation` and `test` with numbers of rows of their own.
      validation: See `train`.
      test: See `train`.
      statistics: What brings the columns to mean 0 and scale 1, from the training rows. For
        `flow.set_statistics(data.statistics.mean, data.statistics.scale)`.
      feature_names: The names of the D columns.
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
    feature_names: tuple[str, ...]
    train_condition: np.ndarray | None = None
    validation_condition: np.ndarray | None = None
    test_condition: np.ndarray | None = None
    condition_statistics: Statistics | None = None
    condition_names: tuple[str, ...] = ()


def sources() -> tuple[str, ...]:
    """Returns the names that `load` knows besides files."""
    return (_EMBEDDED, *benchmarks.NAMES)


def load(
    source: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    condition_columns: Sequence[str] = (),
) -> FlowData:
    """Loads a data set.

    - `"embedded"`: 100,000 rows of POWER that come with the library, prepared as POWER is.
    - `"power"`, `"gas"`, `"hepmass"`, `"miniboone"`, `"bsds300"`: the benchmarks of Papamakarios,
      Pavlakou and Murray, 2017, arXiv:1705.07057. `"bsds300/small"` has a fifth of the training
      patches. The first use of one downloads and prepares it.
    - A path to a `.npy`, `.npz`, `.csv` (with a line of column names) or `.parquet` file of yours.
      A `.npz` file may hold arrays `train`, `validation` and `test`; all other files are split at
      random. The columns of arrays are called x0, x1, and so on.

    POWER, embedded or not, GAS, HEPMASS and MINIBOONE come standardised as in the papers, and their
    statistics are 0 and 1; those of BSDS300 and of files are the training rows' mean and deviation.

    Rows are float32, which has 7 digits: subtract large offsets (of a timestamp) beforehand.

    Args:
      source: One of `sources()`, or a path.
      data_dir: Where TFDS keeps prepared benchmarks, by default `~/tensorflow_datasets`.
      manual_dir: A directory with archives that were downloaded by hand, for the benchmarks.
      seed: The seed of the random split of a file.
      validation_fraction: The part of a file's rows to validate with.
      test_fraction: The part of a file's rows to test with.
      condition_columns: Names of columns that condition the flow and are not modelled.

    Returns:
      The data.

    Raises:
      ValueError: If an argument breaks its rule, or a column of a file is constant, not numeric or
        not finite (all such columns are named).
      OSError: If a benchmark is neither in `manual_dir` nor can be downloaded.
    """
    _check_split(seed, validation_fraction, test_fraction)
    path = pathlib.Path(source).expanduser()
    standardized = False
    if source == _EMBEDDED:
        name, parts, standardized = source, benchmarks.load_embedded(), True
    elif source in benchmarks.NAMES:
        name, parts = source, benchmarks.load(source, data_dir=data_dir, manual_dir=manual_dir)
        standardized = not source.startswith("bsds300")
    elif path.suffix.lower() in files.SUFFIXES:
        name = path.stem
        parts = files.load_file(
            path,
            seed=seed,
            validation_fraction=validation_fraction,
            test_fraction=test_fraction,
        )
    else:
        raise ValueError(
            f"`source` must be one of {', '.join(sources())}, or a path that ends in "
            f"{', '.join(files.SUFFIXES)}, got {str(source)!r}."
        )
    return _to_flow_data(name, parts, tuple(condition_columns), standardized)


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
