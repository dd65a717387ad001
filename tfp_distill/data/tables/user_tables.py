"""The user's own rows: read, chosen, split and looked at."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tfp_distill.data.splits import SPLITS, check_sizes, draw_missing, first_rows
from tfp_distill.data.tables.look import ColumnLook, look_at, rising_columns
from tfp_distill.data.tables.tables import SUFFIXES, Table, Tables, read_tables, table_suffix

__all__ = [
    "SUFFIXES",
    "Parts",
    "TableOptions",
    "load_file",
    "read_rows",
    "table_suffix",
]

_MAX_NAMED = 20
_FAR = 1e4  # Times the range of the training rows.


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableOptions:
    """What is read of a table, and how it is split. See `load`, whose arguments these are.

    Raises:
      ValueError: If a value breaks its rule.
    """

    columns: tuple[str, ...] = ()
    drop_columns: tuple[str, ...] = ()
    drop_missing: bool = False
    split: str = "random"
    split_seed: int = 0
    validation_fraction: float = 0.1
    test_fraction: float = 0.1
    validation_data: pathlib.Path | None = None
    test_data: pathlib.Path | None = None
    condition_columns: tuple[str, ...] = ()
    train_rows: int = 0

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"`split` must be one of {', '.join(SPLITS)}, got {self.split!r}.")
        if self.columns and self.drop_columns:
            raise ValueError(
                "`drop_columns` must be empty where `columns` are given, got "
                f"{list(self.drop_columns)}."
            )

    def check_unused(self, where: str, *others: str) -> None:
        """Raises `ValueError` if something is asked for that only tables of the user's have."""
        of_tables = ("columns", "drop_columns", "drop_missing", "split", *others)
        defaults = TableOptions()
        for name in (*of_tables, "validation_data", "test_data"):
            value, default = getattr(self, name), getattr(defaults, name)
            if value != default:
                rule = "empty" if default == () else str(default)
                raise ValueError(f"`{name}` must be {rule} where {where}, got {value!r}.")


class Parts(NamedTuple):
    """The rows of a data set, split.

    Attributes:
      names: The names of the D columns.
      train: Rows to train on, float32 `[n, D]`.
      validation: Rows to choose by, likewise.
      test: Rows to report on, likewise.
      look: What the columns look like; none where nobody looked.
      dropped_rows: Number of rows that were left out because a value is missing.
    """

    names: tuple[str, ...]
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    look: tuple[ColumnLook, ...] = ()
    dropped_rows: int = 0


def load_file(path: pathlib.Path, options: TableOptions) -> Parts:
    """Reads, checks and splits a table of the user's.

    Args:
      path: The file.
      options: What is read of it, and how it is split.

    Returns:
      The parts that the file holds, those of files of their own, or a split of its rows.

    Raises:
      ValueError: If a file or its contents break a rule; all columns that do are named.
    """
    tables = _read(path, options)
    names = tables[0].names
    if not names:
        raise ValueError(f"`source` must have at least 1 column, got [] in {path}.")
    problems: dict[str, str] = {}
    parts, dropped = _split(tables, options, problems)
    if len(problems) < len(names):
        sizes = [len(part) for part in parts]
        check_sizes(sizes, "rows", f"the {sum(sizes)} rows of {path}")
    numbering, rising = rising_columns(names, tables[0].values)
    for name in numbering - {*options.columns, *options.condition_columns}:
        problems.setdefault(name, "numbers the rows; name it in `columns` to model it all the same")
    look = _look(parts[0], names, options, problems, rising)
    problems |= {column.name: column.problem for column in look if column.problem}
    for column in look:
        if not column.problem and (far := _farthest(names.index(column.name), parts)):
            problems[column.name] = (
                f"has outliers as far as {far:g} among the rows that are held out"
            )
    if problems:
        found = [f"{name!r} {problems[name]}" for name in names if name in problems]
        if len(found) > _MAX_NAMED:
            found[_MAX_NAMED:] = [f"and {len(found) - _MAX_NAMED:,} more columns"]
        raise ValueError(
            "`source` must have finite numbers, and columns that vary, each in its own way, got "
            f"{path}: {'; '.join(found)}. `drop_columns` leaves columns out, and "
            "`drop_missing` rows with missing values."
        )
    # As large as float32, they were found to be finite.
    train, validation, test = (np.ascontiguousarray(part, np.float32) for part in parts)
    return Parts(names, train, validation, test, look, dropped)


def read_rows(path: pathlib.Path, names: tuple[str, ...], *, argument: str) -> np.ndarray:
    """Reads columns of a table of its own, such as the conditions of samples.

    Args:
      path: The table, of any kind that `load` takes.
      names: Its columns to read, in this order.
      argument: What messages call it.

    Returns:
      float32 `[n, D]`, at least one row, finite.

    Raises:
      ValueError: If it has not these columns, or their values break these rules.
    """
    if table_suffix(path) not in SUFFIXES:
        raise ValueError(f"`{argument}` must end in one of {', '.join(SUFFIXES)}, got {path}.")
    table = _read_held_out(path, argument, names)
    finite = np.all(_finite(table.values), axis=0)
    bad = {
        name: "is not finite" for name, is_good in zip(names, finite, strict=True) if not is_good
    }
    if problems := bad | table.problems:
        found = "; ".join(f"{name!r} {text}" for name, text in problems.items())
        raise ValueError(f"`{argument}` must have finite numbers, got {path}: {found}.")
    if not len(table.values):
        raise ValueError(f"`{argument}` must have at least 1 row, got none in {path}.")
    return np.ascontiguousarray(table.values, np.float32)


def _read(path: pathlib.Path, options: TableOptions) -> Tables:
    """Returns the table to train on, and those to validate and to test with; None is drawn."""
    held_out = {"validation_data": options.validation_data, "test_data": options.test_data}
    for argument, file in {"source": path, **held_out}.items():
        if file is not None and not file.is_file():
            raise ValueError(f"`{argument}` must be an existing file, got {file}.")
    tables = read_tables(path, options.columns, options.drop_columns)
    if tables[1:] == (None, None):
        validation, test = (
            None if file is None else _read_held_out(file, argument, tables[0].names)
            for argument, file in held_out.items()
        )
        return tables[0], validation, test
    for argument, file in held_out.items():
        if file is not None:
            raise ValueError(
                f"`{argument}` must not be given where `source` holds parts, got {file}."
            )
    if options.split != "random":
        raise ValueError(
            f"`split` must be random where `source` holds parts, got {options.split!r}."
        )
    return tables


def _split(
    tables: Tables, options: TableOptions, problems: dict[str, str]
) -> tuple[list[np.ndarray], int]:
    """Returns the rows of each part, and the number of rows that were left out.

    What is wrong with columns is added to `problems`.
    """
    names = tables[0].names
    parts = [None if table is None else table.values for table in tables]
    for table in filter(None, tables):
        for name, problem in table.problems.items():
            problems.setdefault(name, problem)
    present = [part for part in parts if part is not None]
    is_finite = [_finite(part) for part in present]
    num_rows = sum(map(len, present))
    bad = sum((len(finite) - np.count_nonzero(finite, axis=0)) for finite in is_finite)
    dropped = 0
    if options.drop_missing:
        usable = [i for i, name in enumerate(names) if name not in problems]
        keep = [finite[:, usable].all(axis=1) for finite in is_finite]
        dropped = num_rows - sum(map(np.count_nonzero, keep))
        kept = iter(
            part if mask.all() else part[mask] for part, mask in zip(present, keep, strict=True)
        )
        parts = [None if part is None else next(kept) for part in parts]
    else:
        for i in np.flatnonzero(bad):
            text = f"is missing or not finite in {bad[i]:,} of {num_rows:,} rows"
            problems.setdefault(names[i], text)
    drawn = draw_missing(
        parts,
        (options.validation_fraction, options.test_fraction),
        seed=options.split_seed if options.split == "random" else None,
    )
    return [first_rows(drawn[0], options.train_rows), *drawn[1:]], dropped


def _read_held_out(path: pathlib.Path, argument: str, names: tuple[str, ...]) -> Table:
    """Reads the same columns from another file."""
    try:
        tables = read_tables(path, names, ())
    except ValueError as error:
        if str(error).startswith("`columns`"):
            raise ValueError(
                f"`{argument}` must have the columns {list(names)} of `source`, got {path} without."
            ) from error
        raise ValueError(str(error).replace("`source`", f"`{argument}`")) from error
    if tables[1:] != (None, None):
        raise ValueError(f"`{argument}` must hold one array, got parts in {path}.")
    return tables[0]


def _finite(rows: np.ndarray) -> np.ndarray:
    """Returns which values are numbers of float32."""
    finite = np.empty(rows.shape, bool)
    with np.errstate(over="ignore"):  # Too large for float32 becomes infinite.
        for i in range(rows.shape[1]):
            finite[:, i] = np.isfinite(rows[:, i].astype(np.float32))
    return finite


def _look(
    train: np.ndarray,
    names: tuple[str, ...],
    options: TableOptions,
    problems: dict[str, str],
    rising: dict[str, str],
) -> tuple[ColumnLook, ...]:
    places = [i for i, name in enumerate(names) if name not in problems]
    return look_at(
        [names[i] for i in places],
        train if len(places) == len(names) else train[:, places],
        conditions=options.condition_columns,
        rising=rising,
    )


def _farthest(place: int, parts: Sequence[np.ndarray]) -> float:
    """Returns the value that is farthest from all training rows, if it is very far, or 0."""
    low, high = (float(f(parts[0][:, place])) for f in (np.min, np.max))
    ends = [float(f(part[:, place])) for part in parts[1:] for f in (np.min, np.max)]
    far = max(ends, key=lambda x: max(low - x, x - high))
    return far if max(low - far, far - high) > _FAR * (high - low) else 0.0
