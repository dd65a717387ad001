"""The user's own rows, from .npy, .npz, .csv and .parquet files."""

from __future__ import annotations

import pathlib
import zipfile
from typing import NamedTuple

import numpy as np
import pandas as pd

__all__ = [
    "SUFFIXES",
    "Parts",
    "load_file",
]

SUFFIXES = (".npy", ".npz", ".csv", ".parquet")

_PART_NAMES = ("train", "validation", "test")


class Parts(NamedTuple):
    """The rows of a data set, split.

    Attributes:
      names: The names of the D columns.
      train: Rows to train on, float32 `[n, D]`.
      validation: Rows to choose by, likewise.
      test: Rows to report on, likewise.
    """

    names: tuple[str, ...]
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def load_file(
    path: pathlib.Path, *, seed: int, validation_fraction: float, test_fraction: float
) -> Parts:
    """Reads, checks and splits a file of the user's.

    Args:
      path: The file.
      seed: The seed of the random split.
      validation_fraction: The part of the rows to validate with.
      test_fraction: The part of the rows to test with.

    Returns:
      The parts that the file holds, or a random split of its rows.

    Raises:
      ValueError: If the file or its contents break a rule; all columns that do are named.
    """
    if not path.is_file():
        raise ValueError(f"`source` must be an existing file, got {path}.")
    tables = _read_tables(path)
    rows, problems = _to_float32(pd.concat(tables, ignore_index=True))
    if len(tables) == 1:
        parts = _split(rows, seed, validation_fraction, test_fraction)
    else:
        parts = np.split(rows, np.cumsum([len(table) for table in tables[:-1]]))
    _check_sizes(path, parts)
    names = tuple(tables[0].columns)
    for place, column in enumerate(parts[0].T):
        if place not in problems and column.min() == column.max():
            problems[place] = f"is constant ({column[0]:g}) in the training rows"
    if problems:
        found = "; ".join(f"{names[place]!r} {problems[place]}" for place in sorted(problems))
        raise ValueError(
            f"`source` must have finite numbers that vary in every column, got {path}: {found}."
        )
    return Parts(names, *(np.ascontiguousarray(part) for part in parts))


def _read_tables(path: pathlib.Path) -> list[pd.DataFrame]:
    """Returns one table, or those of training, validation and test."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".csv":
            table = pd.read_csv(path, low_memory=False)  # One type a column.
        elif suffix == ".parquet":
            table = pd.read_parquet(path)
        else:
            stored = np.load(path, allow_pickle=False)
            arrays = dict(stored) if suffix == ".npz" else {"": stored}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"`source` must be a readable {suffix} file, got {path}: {error}"
        ) from error
    if suffix in (".npy", ".npz"):
        return _tables_of_arrays(path, arrays)
    table.columns = [str(name) for name in table.columns]
    if suffix == ".csv" and any(_is_number(name) for name in table.columns):
        raise ValueError(
            "`source` must start with a line of column names, got numbers in the first line of "
            f"{path}."
        )
    return [table]


def _tables_of_arrays(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> list[pd.DataFrame]:
    if len(arrays) == 1:
        chosen = list(arrays.values())
    elif set(arrays) == set(_PART_NAMES):
        chosen = [arrays[name] for name in _PART_NAMES]
    else:
        raise ValueError(
            "`source` must hold either one array or arrays named train, validation and test, got "
            f"{sorted(arrays)} in {path}."
        )
    shapes = [array.shape for array in chosen]
    if any(len(shape) != 2 for shape in shapes) or len({shape[1] for shape in shapes}) > 1:
        raise ValueError(
            "`source` must hold arrays of shape [rows, columns] with the same columns, got "
            f"{' and '.join(map(str, shapes))} in {path}."
        )
    names = [f"x{place}" for place in range(shapes[0][1])]
    return [pd.DataFrame(array, columns=names) for array in chosen]


def _to_float32(table: pd.DataFrame) -> tuple[np.ndarray, dict[int, str]]:
    """Returns the rows `[n, D]`, and what is wrong with a column by its place."""
    rows = np.full(table.shape, np.nan, np.float32)
    problems = {}
    for place in range(table.shape[1]):
        column = table.iloc[:, place]
        if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_complex_dtype(column):
            problems[place] = f"is not numeric ({_describe(column)})"
            continue
        with np.errstate(over="ignore"):  # Too large for float32 becomes infinite.
            rows[:, place] = column.to_numpy(np.float64, na_value=np.nan)
        num_bad = len(rows) - np.count_nonzero(np.isfinite(rows[:, place]))
        if num_bad:
            problems[place] = f"is missing or not finite in {num_bad} of {len(rows)} rows"
    return rows, problems


def _describe(column: pd.Series) -> str:
    if pd.api.types.is_string_dtype(column):
        texts = column[pd.to_numeric(column, errors="coerce").isna() & column.notna()]
        if len(texts):
            return f"row {texts.index[0]} holds {texts.iloc[0]!r}"
    return f"it is of type {column.dtype}"


def _split(
    rows: np.ndarray, seed: int, validation_fraction: float, test_fraction: float
) -> list[np.ndarray]:
    order = np.random.default_rng(seed).permutation(len(rows))
    num_validation = max(1, round(validation_fraction * len(rows)))
    num_test = max(1, round(test_fraction * len(rows)))
    num_train = max(0, len(rows) - num_validation - num_test)
    return [rows[places] for places in np.split(order, [num_train, num_train + num_validation])]


def _check_sizes(path: pathlib.Path, parts: list[np.ndarray]) -> None:
    sizes = [len(part) for part in parts]
    if sizes[0] < 2 or min(sizes) < 1:
        raise ValueError(
            "`source` must give at least 2 rows to train with, 1 to validate and 1 to test with, "
            f"got {'/'.join(map(str, sizes))} from the {sum(sizes)} rows of {path}."
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
