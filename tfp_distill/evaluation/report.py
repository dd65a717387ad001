"""The report as one HTML file."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from tfp_distill.evaluation.flow_result import Result
from tfp_distill.evaluation.table import results_table
from tfp_distill.evaluation.text_table import Table
from tfp_distill.files import write_text

__all__ = ["write_report"]

_DOTS_PER_INCH = 144

_CSS = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
       max-width: 70rem; margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.7rem; margin-bottom: 0; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .75rem; }
p { max-width: 45rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .9rem; text-align: right; border-bottom: 1px solid #ddd;
         white-space: nowrap; }
th { font-weight: 600; vertical-align: bottom; border-bottom-color: #888; }
th.words, td.words { text-align: left; }
th:first-child, td:first-child { padding-left: 0; }
.settings th, .settings td { text-align: left; border-bottom: 0; vertical-align: top;
                             padding: .1rem 1.5rem .1rem 0; white-space: normal; }
.settings td { font-family: ui-monospace, monospace; font-size: .9em; overflow-wrap: anywhere;
               white-space: pre-wrap; }
.note { color: #555; font-size: .9em; }
img { max-width: 100%; height: auto; display: block; }
"""


def write_report(
    path: str | os.PathLike[str],
    results: Sequence[Result],
    *,
    title: str,
    settings: Mapping[str, Any],
    figures: Mapping[str, Figure],
    tables: Mapping[str, Table] | None = None,
) -> None:
    """Writes a report that is one HTML file: no script, and nothing that is loaded from elsewhere.

    Args:
      path: the file; it is replaced when the new one is complete.
      results: the rows of the table of results; there is none where they are empty.
      title: the heading.
      settings: what was run, shown in this order: command, data set, rows, seed and so on.
      figures: the figures by heading, shown in this order.
      tables: further tables by heading, shown in this order behind the results.
    """
    tables = {**({"Results": results_table(results)} if results else {}), **(tables or {})}
    sections = [
        f"<h1>{_escape(title)}</h1>",
        *(line for heading, table in tables.items() for line in _table(heading, table)),
        "<h2>What was run</h2>",
        '<table class="settings">',
        *(
            f"<tr><th>{_escape(name)}</th><td>{_escape(value)}</td></tr>"
            for name, value in settings.items()
        ),
        "</table>",
    ]
    for heading, figure in figures.items():
        sections += [f"<h2>{_escape(heading)}</h2>", _image(figure, heading)]
    body = "\n".join(sections)
    write_text(
        path,
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_escape(title)}</title>\n<style>{_CSS}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n",
    )


def _table(heading: str, table: Table) -> list[str]:
    return [
        f"<h2>{_escape(heading)}</h2>",
        '<div class="scroll"><table>',
        f"<thead>{_row(table.header, 'th', table.text_columns)}</thead>",
        "<tbody>",
        *(_row(row, "td", table.text_columns) for row in table.rows),
        "</tbody></table></div>",
        f'<p class="note">{_escape(table.note)}</p>',
    ]


def _row(cells: Sequence[str], tag: str, text_columns: int) -> str:
    classes = [' class="words"' if index < text_columns else "" for index in range(len(cells))]
    pairs = zip(cells, classes, strict=True)
    return (
        "<tr>" + "".join(f"<{tag}{kind}>{_escape(cell)}</{tag}>" for cell, kind in pairs) + "</tr>"
    )


def _image(figure: Figure, description: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DOTS_PER_INCH)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    width = round(96 * figure.get_figwidth())
    return f'<img width="{width}" alt="{_escape(description)}" src="data:image/png;base64,{data}">'


def _escape(value: Any) -> str:
    return html.escape(str(value))
