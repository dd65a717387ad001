"""The table for the terminal, and the report as one HTML file."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from tfp_distill.evaluation.results import Result, gap_closed, write_text

__all__ = ["format_table", "write_report"]

_UNDEFINED = "—"
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
th:first-child, td:first-child { text-align: left; padding-left: 0; }
.settings th, .settings td { text-align: left; border-bottom: 0; vertical-align: top;
                             padding: .1rem 1.5rem .1rem 0; white-space: normal; }
.settings td { font-family: ui-monospace, monospace; font-size: .9em; overflow-wrap: anywhere; }
.note { color: #555; font-size: .9em; }
img { max-width: 100%; height: auto; display: block; }
"""

_EXPLANATION = (
    "Test nats are mean log-likelihoods of the test data, per example, ± two standard errors; "
    "higher is better. All models see the same test data, so that their differences are surer than "
    "each error by itself suggests. Gap closed is (distilled − student) / (teacher − student). "
    "Round trip is the largest error of data → latent → data, in units of the data’s scale. "
    "Skipped steps changed nothing because a loss or gradient was not finite."
)


def format_table(results: Sequence[Result]) -> str:
    """Returns the results as an aligned table of plain text.

    Args:
      results: one row each, in this order. The gap closed needs "teacher" and "student".
    """
    rows = _table(results)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        first, *rest = (
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *rest]).rstrip())
    lines.insert(1, "  ".join("─" * width for width in widths))
    return "\n".join([*lines, *_batch_sizes(results)])


def write_report(
    path: str | os.PathLike[str],
    results: Sequence[Result],
    *,
    title: str,
    settings: Mapping[str, Any],
    figures: Mapping[str, Figure],
) -> None:
    """Writes a report that is one HTML file: no script, and nothing that is loaded from elsewhere.

    Args:
      path: the file; it is replaced when the new one is complete.
      results: the rows of the table.
      title: the heading.
      settings: what was run, shown in this order: command, data set, rows, seed and so on.
      figures: the figures by heading, shown in this order.
    """
    header, *rows = _table(results)
    sections = [
        f"<h1>{_escape(title)}</h1>",
        "<h2>Results</h2>",
        '<div class="scroll"><table>',
        f"<thead>{_row(header, 'th')}</thead>",
        "<tbody>",
        *(_row(row, "td") for row in rows),
        "</tbody></table></div>",
        f'<p class="note">{_escape(" ".join([_EXPLANATION, *_batch_sizes(results)]))}</p>',
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


def _table(results: Sequence[Result]) -> list[list[str]]:
    """Returns the header and one row of cells per result."""
    columns = {
        "model": lambda r: r.name,
        "test nats": lambda r: _likelihood(r),
        "gap closed": lambda r: _percent(gap_closed(results, r.name)),
        "parameters": lambda r: f"{r.parameters:,}",
        "to latent": lambda r: _duration(r.speed.to_latent_seconds),
        "to data": lambda r: _duration(r.speed.to_data_seconds),
        "round trip": lambda r: f"{r.round_trip_error:.0e}",
        "steps": lambda r: f"{r.training_steps:,}",
        "training": lambda r: _duration(r.training_seconds),
        "skipped": lambda r: f"{r.skipped_steps:,}",
    }
    return [list(columns), *([cell(r) for cell in columns.values()] for r in results)]


def _batch_sizes(results: Sequence[Result]) -> list[str]:
    """Returns a sentence on the batches of the timings; no sentence where there are none."""
    sizes = sorted({result.speed.batch_size for result in results})
    rows = " or ".join(f"{size:,}" for size in sizes)
    return [f"Times to latent and to data are medians for a batch of {rows} rows."] if sizes else []


def _likelihood(result: Result) -> str:
    likelihood = result.likelihood
    text = f"{likelihood.mean:.3f} ± {2 * likelihood.standard_error:.3f}"
    if likelihood.num_non_finite:
        text += f" ({likelihood.num_non_finite:,} not finite)"
    return text


def _percent(part: float | None) -> str:
    return _UNDEFINED if part is None else f"{100 * part:.0f} %"


def _duration(seconds: float) -> str:
    """Returns a time with a unit that suits it."""
    if seconds < 1:
        return f"{1e3 * seconds:.3g} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _row(cells: Sequence[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{_escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _image(figure: Figure, description: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DOTS_PER_INCH)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    width = round(96 * figure.get_figwidth())
    return f'<img width="{width}" alt="{_escape(description)}" src="data:image/png;base64,{data}">'


def _escape(value: Any) -> str:
    return html.escape(str(value))
