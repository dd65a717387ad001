"""Tables of numbers from the user's files: columns as they are, and what is wrong with them."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from tfp_distill.data import numpy_files
from tfp_distill.data.reading import check_unpacked, reading
from tfp_distill.data.tables import text_tables
from tfp_distill.data.tables.text_tables import MAX_INTEGER, Columns, too_large

__all__ = [
    "SUFFIXES",
    "Table",
    "Tables",
    "read_tables",
    "table_suffix",
]

SUFFIXES = (*numpy_files.SUFFIXES, ".parquet", *text_tables.SUFFIXES)

_MAX_COLUMNS = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """The columns of a table.

    Attributes:
      names: Of the D columns.
      values: `[n, D]`, of the type of the file if it has one for all columns, or float64. What is
        missing is NaN.
      problems: Why a column cannot be used, by its name.
    """

    names: tuple[str, ...]
    values: np.ndarray
    problems: dict[str, str]


# To train on, to validate and to test with; None where a file holds none.
Tables: TypeAlias = tuple[Table, Table | None, Table | None]


def table_suffix(path: pathlib.Path) -> str:
    """Returns the end of a file's name that says what it holds, such as .csv or .csv.gz."""
    *_, last = ["", *path.suffixes]
    if last.lower() == ".gz":
        return "".join(path.suffixes[-2:]).lower()
    return last.lower()


def read_tables(path: pathlib.Path, columns: Sequence[str], drop_columns: Sequence[str]) -> Tables:
    """Reads the columns of a file that are asked for.

    Args:
      path: The file.
      columns: Names of the columns to read, in the order of the result; all of them if empty.
      drop_columns: Names of columns that are left out.

    Returns:
      The table to train on, and those of validation and test where a file holds them.

    Raises:
      ValueError: If the file is damaged or its columns break a rule.
    """
    suffix = table_suffix(path)
    if suffix in numpy_files.SUFFIXES:
        return _read_arrays(path, columns, drop_columns)
    with reading(path, suffix):
        read_names = _read_parquet_names if suffix == ".parquet" else text_tables.read_names
        names = read_names(path)
    places = _choose(path, names, columns, drop_columns)
    with reading(path, suffix):
        read_columns = _read_parquet if suffix == ".parquet" else text_tables.read_columns
        values, problems = read_columns(path, places)
    chosen = [names[place] for place in places]
    table = Table(tuple(chosen), values, {chosen[i]: text for i, text in problems.items()})
    return table, None, None


def _choose(
    path: pathlib.Path, names: Sequence[str], columns: Sequence[str], drop_columns: Sequence[str]
) -> list[int]:
    """Returns the places of the columns that are asked for."""
    for argument, asked in (("columns", columns), ("drop_columns", drop_columns)):
        if not set(asked) <= set(names) or len(set(asked)) < len(asked):
            raise ValueError(
                f"`{argument}` must be different names of {_some(names)}, as {path} has them, got "
                f"{list(asked)}."
            )
    if columns and drop_columns:
        raise ValueError(
            f"`drop_columns` must be empty where `columns` are given, got {list(drop_columns)}."
        )
    chosen = list(columns) or [name for name in names if name not in set(drop_columns)]
    if len(chosen) > _MAX_COLUMNS:
        raise ValueError(
            f"`source` must have at most {_MAX_COLUMNS:,} columns, got {len(chosen):,} in {path}."
        )
    twice = sorted({name for name in chosen if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"`source` must have different names of columns, got {_some(twice)} more than once in "
            f"{path}; rename them, or leave them out with `drop_columns`."
        )
    place_of = {name: place for place, name in enumerate(names)}
    return [place_of[name] for name in chosen]


def _some(names: Sequence[str]) -> str:
    """Returns names, but not thousands of them."""
    shown = ", ".join(map(repr, names[:20]))
    return f"[{shown}]" if len(names) <= 20 else f"[{shown}, and {len(names) - 20:,} more]"


def _read_arrays(path: pathlib.Path, columns: Sequence[str], drop_columns: Sequence[str]) -> Tables:
    suffix = table_suffix(path)
    with reading(path, suffix):
        headers = numpy_files.read_headers(path)
    rows = {name: header for name, header in headers.items() if len(header.shape) > 1}
    headers = rows or headers  # Labels may lie beside the rows.
    numpy_files.check_parts(path, headers, "rows")
    shapes = [header.shape for header in headers.values()]
    if any(len(shape) != 2 for shape in shapes) or len({shape[1] for shape in shapes}) > 1:
        raise ValueError(
            "`source` must hold arrays of shape [rows, columns] with the same columns, got "
            f"{' and '.join(map(str, shapes))} in {path}."
        )
    places = _choose(path, [f"x{i}" for i in range(shapes[0][1])], columns, drop_columns)
    names = tuple(f"x{place}" for place in places)
    unfit = {str(own.dtype) for own in headers.values() if own.dtype.kind not in "biuf"}
    if unfit:
        problem = f"is not numeric (it is of type {' and '.join(sorted(unfit))})"
        return Table(names, np.zeros([0, len(names)]), dict.fromkeys(names, problem)), None, None
    with reading(path, suffix):
        arrays = numpy_files.read_arrays(path, headers)
    whole = places == list(range(shapes[0][1]))
    tables = {}
    for name, array in arrays.items():
        values = array.astype(np.uint8) if array.dtype == bool else array
        tables[name] = Table(names, values if whole else values[:, places], {})
    train = tables.pop("train") if len(tables) > 1 else tables.popitem()[1]
    return train, tables.get("validation"), tables.get("test")


def _read_parquet_names(path: pathlib.Path) -> list[str]:
    import pyarrow.parquet

    schema = pyarrow.parquet.read_schema(path)
    described = (schema.pandas_metadata or {}).get("index_columns", [])
    index = {name for name in described if isinstance(name, str)}  # The names of pandas's rows.
    return [name for name in schema.names if name not in index]


def _read_parquet(path: pathlib.Path, places: list[int]) -> Columns:
    import pyarrow.compute
    import pyarrow.parquet

    every = _read_parquet_names(path)
    names = [every[place] for place in places]
    file = pyarrow.parquet.ParquetFile(path)
    groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    check_unpacked(path, sum(group.total_byte_size for group in groups))
    check_unpacked(path, 8 * file.metadata.num_rows * max(1, len(names)))
    types = pyarrow.types
    numeric = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)
    kinds = {name: file.schema_arrow.field(name).type for name in names}
    fit = [name for name in names if any(test(kinds[name]) for test in numeric)]
    stored = file.read(columns=fit, use_threads=False)
    values = np.full([stored.num_rows, len(names)], np.nan)
    problems = {}
    for i, name in enumerate(names):
        if name not in fit:
            problems[i] = f"is not numeric (it is of type {kinds[name]})"
            continue
        column = stored.column(name)
        if types.is_integer(column.type):
            bounds = pyarrow.compute.min_max(column).as_py().values()
            largest = max((abs(bound) for bound in bounds if bound is not None), default=0)
            if largest > MAX_INTEGER:
                problems[i] = too_large(largest)
        values[:, i] = column.cast(pyarrow.float64(), safe=False).to_numpy()
    return Columns(values, problems)
