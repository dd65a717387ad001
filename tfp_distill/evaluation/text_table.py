"""A table of cells, as aligned text or for the report."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

__all__ = ["UNDEFINED", "Table", "format_bytes", "format_duration"]

UNDEFINED = "—"


@dataclasses.dataclass(frozen=True)
class Table:
    """Cells with a header; `str(table)` aligns them as plain text.

    Attributes:
      header: names of the columns.
      rows: a row of cells each, as many as there are columns.
      note: what the columns mean, in sentences; not part of the text.
      text_columns: number of columns, from the left, that hold words and are aligned as such.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    text_columns: int = 1

    def __post_init__(self) -> None:
        """Checks the lengths."""
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(
                    f"`rows` must have {len(self.header)} cells each, as `header` has, got "
                    f"{len(row)} in {list(row)}."
                )

    def __str__(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]
        lines = []
        for row in (self.header, *self.rows):
            cells = (
                cell.ljust(width) if index < self.text_columns else cell.rjust(width)
                for index, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            lines.append("  ".join(cells).rstrip())
        lines.insert(1, "  ".join("─" * width for width in widths))
        return "\n".join(lines)


def format_duration(seconds: float) -> str:
    """Returns a time with a unit that suits it."""
    if seconds < 1:
        return f"{1e3 * seconds:.3g} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def format_bytes(number: float) -> str:
    """Returns an amount of memory, in powers of 1000, with a unit that suits it."""
    for unit in ("B", "kB", "MB"):
        if number < 999.5:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.3g} GB" if number < 999.5 else f"{number:,.0f} GB"
