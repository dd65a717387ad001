"""Tables of text: a line of column names, then lines of as many values."""

from __future__ import annotations

import csv
import io
import itertools
import pathlib
import re
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from tfp_distill.data.reading import open_text, short

__all__ = [
    "MAX_INTEGER",
    "SUFFIXES",
    "Columns",
    "read_columns",
    "read_names",
    "too_large",
]

MAX_INTEGER = 2**53  # Larger ones are not all numbers of float64.

_PLAIN = (".csv", ".tsv", ".txt")
SUFFIXES = (*_PLAIN, *(f"{suffix}.gz" for suffix in _PLAIN))

_WHITESPACE = r"\s+"
_SEPARATORS = (",", ";", "\t", "|", _WHITESPACE)
_HEAD = 2**20
_SAMPLED_LINES = 50
_VALUES_A_CHUNK = 2_000_000
_MISSING = ["?"]  # Besides those of pandas, such as NA, nan and nothing at all.
_COMMA_FOR_POINT = re.compile(r"[+-]?\d*,\d+(e[+-]?\d+)?", re.IGNORECASE)
_MAYBE_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")
_POINT = re.compile(r"[+-]?[\d,]*\.\d*(e[+-]?\d+)?", re.IGNORECASE)
_SWAPPED = str.maketrans(",.", ".,")


class Columns(NamedTuple):
    """Columns of numbers.

    Attributes:
      values: float64 `[n, D]`, NaN where a value is missing.
      problems: Why a column cannot be used, by its place among them.
    """

    values: np.ndarray
    problems: dict[int, str]


class _Layout(NamedTuple):
    """How a file is laid out: between values, its names, lines up to and with these, its point."""

    separator: str
    names: list[str]
    header_lines: int
    point: str


def read_names(path: pathlib.Path) -> list[str]:
    """Reads the names of the columns; one without a name is called as pandas does, "Unnamed: 0".

    Raises:
      ValueError: If there are no names; other errors for damaged files.
    """
    return _find_layout(path).names


def read_columns(path: pathlib.Path, places: Sequence[int]) -> Columns:
    """Reads columns by their places in the file.

    Raises:
      ValueError: If a line has more values than the header has names; others for damaged files.
    """
    layout = _find_layout(path)
    width = len(layout.names)
    blocks: list[np.ndarray] = []
    problems: dict[int, str] = {}
    with open_text(path) as file, warnings.catch_warnings():
        # Of lines that are longer still.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        chunks = pd.read_csv(
            file,
            sep=layout.separator,
            skipinitialspace=True,
            header=None,
            skiprows=layout.header_lines,
            # pandas would take a value more as the row's name, and shift all others by a column.
            names=range(width + 1),
            decimal=layout.point,
            index_col=False,
            na_values=_MISSING,
            chunksize=max(1, _VALUES_A_CHUNK // (width + 1)),
            low_memory=False,
        )
        for chunk in chunks:
            _check_width(chunk, width)
            block = np.full([len(chunk), len(places)], np.nan)
            for i, place in enumerate(places):
                problem = _to_numbers(chunk[place], block[:, i], layout.point)
                if problem:
                    problems.setdefault(i, problem)
            blocks.append(block)
            if problems:
                break  # The file is refused, and texts take long to read.
    return Columns(np.concatenate(blocks), problems)


def too_large(largest: int) -> str:
    """Returns what is wrong with integers that are no numbers of float64."""
    return f"holds integers up to {largest}, which have too many digits (are they ids?)"


def _check_width(chunk: pd.DataFrame, width: int) -> None:
    """Allows for a separator at the end of lines, but not for a value behind it."""
    extra = chunk[width].notna()
    if extra.any():
        row = extra.idxmax()
        raise ValueError(
            f"row {row} has more values than the header has names, which are {width}: "
            f"{str(chunk.loc[row, width])!r} has none. Is the name of the first column, of the "
            "rows' numbers, missing?"
        )


def _to_numbers(column: pd.Series, result: np.ndarray, point: str) -> str:
    """Writes a column into an array and returns what is wrong with it, if anything is."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_complex_dtype(column):
        result[:] = column.to_numpy(np.float64, na_value=np.nan)
        if pd.api.types.is_integer_dtype(column):
            largest = max(abs(int(column.min())), abs(int(column.max())))
            return too_large(largest) if largest > MAX_INTEGER else ""
        return ""
    with_points = column if point == "." else column.str.translate(_SWAPPED)
    numbers = pd.to_numeric(with_points, errors="coerce")
    texts = column[numbers.isna() & column.notna()]
    if len(texts):
        return f"is not numeric (row {texts.index[0]} holds {short(str(texts.iloc[0]))[:40]!r})"
    if pd.api.types.is_complex_dtype(numbers):
        return f"is not numeric (it is of type {numbers.dtype})"
    result[:] = numbers.to_numpy(np.float64, na_value=np.nan)
    return ""


def _find_layout(path: pathlib.Path) -> _Layout:
    with open_text(path) as file:
        head = file.read(_HEAD)
    lines = list(io.StringIO(head, newline=""))
    cut = [lines.pop()] if len(head) == _HEAD and len(lines) > 1 else []
    if "\0" in head:
        raise ValueError("it holds bytes that are no text")
    header_lines = _find_names(lines)
    sample = lines[header_lines : header_lines + _SAMPLED_LINES]
    if not sample:
        raise ValueError("it is empty")
    sample[0] = sample[0].lstrip().removeprefix("#")  # As NumPy writes a header.
    separator = _find_separator(sample)
    fields, consumed = _split(sample, separator)[0]
    fields = [field.strip() for field in fields]
    if any(_is_number(name) for name in fields):
        raise ValueError("it must start with a line of column names, got numbers in its first line")
    if len(fields) > 1 and not fields[-1] and _ends_are_empty(sample[consumed:], separator, fields):
        fields.pop()  # Lines end with a separator.
    # pandas would make a column of each value first, a million for a line of as many commas.
    for values, _ in _split([*sample[consumed:], *cut], separator):
        if len(values) > len(fields) + 1:
            raise ValueError(
                f"a line has {len(values):,} values, and the header has {len(fields)} names"
            )
    names = [name or f"Unnamed: {place}" for place, name in enumerate(fields)]
    point = _find_point(sample[consumed:], separator)
    return _Layout(separator, names, header_lines + consumed, point)


def _find_names(lines: list[str]) -> int:
    """Returns the place of the line of names, which may be the last comment, as NumPy writes it."""
    filled = [place for place, line in enumerate(lines) if line.strip()]
    comments = list(
        itertools.takewhile(lambda place: lines[place].lstrip().startswith("#"), filled)
    )
    behind = filled[len(comments) :][:1]
    if not comments or not behind:
        return (comments or behind or [len(lines)])[-1]
    line = [lines[behind[0]]]
    values = _split(line, _find_separator(line))[0][0]
    return (comments if any(map(_is_number, values)) else behind)[-1]


def _find_point(lines: list[str], separator: str) -> str:
    """Returns "," if it is certain that values have commas for points, else "."."""
    if separator == ",":
        return "."
    values = [value.strip() for fields, _ in _split(lines, separator) for value in fields]
    commas = [value for value in values if _COMMA_FOR_POINT.fullmatch(value)]
    is_certain = not all(map(_MAYBE_THOUSANDS.fullmatch, commas))
    has_points = any(_POINT.fullmatch(value) or value.count(",") > 1 for value in values)
    return "," if is_certain and not has_points else "."


def _find_separator(lines: list[str]) -> str:
    """Returns the separator that divides most lines into as many fields as the header."""
    best, best_score = ",", (0.0, 0.0, 0)
    for separator in _SEPARATORS:
        widths = np.array([len(fields) for fields, _ in _split(lines, separator)])
        is_blank_beside_others = separator == _WHITESPACE and best_score[0] == 1
        if widths[0] < 2 or is_blank_beside_others:
            continue
        # A value more is an error to be named, and not a sign of another separator.
        apart = abs(widths - widths[0])
        score = (np.mean(apart == 0), np.mean(apart < 2), widths[0])
        if score > best_score:
            best, best_score = separator, score
    return best


def _split(lines: list[str], separator: str) -> list[tuple[list[str], int]]:
    """Returns the fields of lines that are not blank, and the number of the last line of each."""
    if separator == _WHITESPACE:
        split = [(line.split(), number) for number, line in enumerate(lines, start=1)]
        return [(fields, number) for fields, number in split if fields]
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    return [(fields, reader.line_num) for fields in reader if any(fields) or len(fields) > 1]


def _ends_are_empty(lines: list[str], separator: str, header: list[str]) -> bool:
    """Returns whether lines have nothing in the last column of the header."""
    split = (fields for fields, _ in _split(lines, separator))
    return all(not "".join(fields[len(header) - 1 :]).strip() for fields in split)


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", ".", 1))
    except ValueError:
        return False
    return True
