"""What the columns of a table look like, as a table."""

from __future__ import annotations

from tfp_distill.data import ColumnLook, FlowData
from tfp_distill.evaluation import Table

__all__ = ["columns_table"]

_NOTE = (
    "Distinct values, the share of the commonest one and the resolution (the smallest gap between "
    "values, over the standard deviation) are those of at most 100,000 training rows. Where single "
    "values are common, a likelihood has no bound: compare it among models of these data only."
)
_KINDS = (
    " Integers get uniform noise in training and evaluation and are rounded down in samples, so "
    "that likelihoods have a bound; no sample leaves the bounds of a column that has some. "
    "`column_kinds` says otherwise."
)


def columns_table(data: FlowData) -> Table:
    """Returns a row for each column of data that are a table."""
    header = ("column", "looks like", "is", "from", "to", "distinct", "commonest", "resolution")
    rows = [_cells(column, _use(data, column)) for column in data.look]
    note = _NOTE
    if data.domain.columns is not None:
        note += _KINDS
    return Table(header, rows, note=note, text_columns=3)


def _use(data: FlowData, column: ColumnLook) -> str:
    if column.is_condition:
        return "a condition"
    if (columns := data.domain.columns) is None:
        return "modelled"
    kind = columns.describe(data.feature_names.index(column.name))
    return "modelled" if kind == "continuous" else f"modelled, {kind}"


def _cells(column: ColumnLook, use: str) -> tuple[str, ...]:
    return (
        column.name,
        f"{column.kind}: {column.note}" if column.note else column.kind,
        use,
        f"{column.minimum:.4g}",
        f"{column.maximum:.4g}",
        f"{column.distinct:,}",
        f"{column.share:.2%}",
        f"{column.resolution:.1e}",
    )
