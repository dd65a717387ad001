"""Tests of what is reported of trainings in parts: phases, tables, curves, report."""

import io
import json
import math
import re
from dataclasses import asdict

import matplotlib.image
import pytest

from tfp_distill.evaluation import (
    EpochRecord,
    PartHistory,
    Table,
    part_curves,
    phase_summaries,
    phase_table,
    training_table,
    write_report,
)

NATS = "nats per example"


def history(phases, seconds, boundary_bytes=(), validation=None, **changes):
    """A training with one epoch for each phase; its first one compiles."""
    values = validation or [5.0 - 0.1 * index for index in range(len(phases))]
    epochs = [
        EpochRecord(parts, 10, took, value - 0.5, value, **changes)
        for parts, took, value in zip(phases, seconds, values, strict=True)
    ]
    return PartHistory(epochs, boundary_bytes)


HISTORIES = {
    "end_to_end": history([None] * 3, [9.0, 4.0, 6.0], peak_bytes=2_000_000),
    "by_block_3": history(
        [(0,), (1,), (2,), (0,), (1,), (2,), None],
        [9.0, 9.0, 9.0, 2.0, 2.5, 3.0, 5.0],
        (4000, 1000),
    ),
    "together": history([(0, 1), (0, 1), None], [8.0, 4.0, 5.0], (4000,)),
}


def pixels(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=40)
    buffer.seek(0)
    return matplotlib.image.imread(buffer)


def cells(table):
    return [re.split(r"\s{2,}", line) for line in str(table).splitlines()]


def test_epochs_are_grouped_by_who_trained():
    found = phase_summaries(HISTORIES)
    assert [(s.training, s.phase, s.epochs, s.steps) for s in found] == [
        ("end_to_end", "end to end", 3, 30),
        ("by_block_3", "part 0", 2, 20),
        ("by_block_3", "part 1", 2, 20),
        ("by_block_3", "part 2", 2, 20),
        ("by_block_3", "end to end", 1, 10),
        ("together", "parts 0+1", 2, 20),
        ("together", "end to end", 1, 10),
    ]
    # The last epochs of the parts are the fourth to the sixth.
    assert [s.validation for s in found[1:4]] == pytest.approx([4.7, 4.6, 4.5])
    assert [s.train for s in found[1:4]] == pytest.approx([4.2, 4.1, 4.0])


def test_times_are_without_the_first_epoch_and_relative_to_the_training_end_to_end():
    found = phase_summaries(HISTORIES)
    assert [s.seconds_per_epoch for s in found] == [5.0, 2.0, 2.5, 3.0, 5.0, 4.0, 5.0]
    assert [s.ratio for s in found] == [1.0, 0.4, 0.5, 0.6, 1.0, 0.8, 1.0]


def test_without_the_training_end_to_end_the_phase_of_that_name_is_compared_with():
    alone = {name: HISTORIES[name] for name in ("by_block_3", "together")}
    assert [s.ratio for s in phase_summaries(alone)] == [0.4, 0.5, 0.6, 1.0, 0.8, 1.0]
    in_parts_only = {"a": history([(0,)], [2.0], (8,))}
    (only,) = phase_summaries(in_parts_only)
    assert (only.seconds_per_epoch, only.ratio) == (2.0, None)
    assert [row[4] for row in cells(training_table(in_parts_only))[2:]] == ["—"]


def test_bytes_cross_the_boundaries_before_who_trains_and_return_end_to_end_only():
    found = phase_summaries(HISTORIES)
    assert [s.forward_bytes for s in found] == [None, 0, 4000, 5000, 5000, 4000, 4000]
    assert [s.backward_bytes for s in found] == [None, 0, 0, 0, 5000, 0, 4000]


def test_memory_is_the_highest_that_is_known():
    peaks = [3, None, 7]
    epochs = [EpochRecord(None, 1, 1.0, 1.0, 1.0, peak) for peak in peaks]
    assert phase_summaries({"a": PartHistory(epochs)})[0].peak_bytes == 7
    assert phase_summaries({"a": PartHistory(epochs[1:2])})[0].peak_bytes is None


def test_phase_table():
    header, _, *rows = cells(phase_table(HISTORIES))
    assert header == [
        *("training", "phase", "epochs", "steps", "time per epoch", "of end to end"),
        *("train", "validation", "peak memory", "forward per step", "backward per step"),
    ]
    assert rows[0] == [
        *("end_to_end", "end to end", "3", "30", "5.0 s", "1.00"),
        *("4.300", "4.800", "2 MB", "—", "—"),
    ]
    assert rows[2] == [
        *("by_block_3", "part 1", "2", "20", "2.5 s", "0.50"),
        *("4.100", "4.600", "—", "4 kB", "0 B"),
    ]
    assert "bits per dimension" in phase_table(HISTORIES).note
    note = phase_table(HISTORIES, unit=NATS).note
    assert NATS in note and "bits" not in note


def test_training_table():
    table = training_table(HISTORIES, {"end_to_end": 4.75}, unit=NATS)
    assert cells(table)[2:] == [
        ["end_to_end", "1", "3", "19.0 s", "1.00", "4.800", "4.750"],
        ["by_block_3", "3", "7", "39.5 s", "2.08", "4.400", "—"],
        ["together", "2", "3", "17.0 s", "0.89", "4.800", "—"],
    ]
    assert NATS in table.note and "bits" not in table.note
    assert cells(training_table({"a": PartHistory([])}))[2] == [
        *("a", "1", "0", "0 ms", "—", "—", "—")
    ]


def test_the_validation_figure_beside_the_test_figure_is_that_of_the_flow_that_is_kept():
    later_worse = history([None] * 4, [1.0] * 4, validation=[math.nan, 4.0, 3.5, 3.9])
    assert later_worse.best == later_worse.epochs[2]
    assert cells(training_table({"a": later_worse}, {"a": 3.6}))[2][-2:] == ["3.500", "3.600"]
    assert "best validation figure" in training_table({"a": later_worse}).note
    assert PartHistory([]).best is None


def test_curves_by_epoch_and_by_time_with_a_tick_where_end_to_end_begins():
    figure = part_curves(HISTORIES)
    pixels(figure)
    by_epoch, by_time = figure.axes
    assert (by_epoch.get_xlabel(), by_time.get_xlabel()) == ("epoch", "training time, seconds")
    assert "validation, bits per dimension" in by_epoch.get_ylabel()
    labels = [text.get_text() for text in by_epoch.texts]
    assert labels == ["end_to_end 4.800", "by_block_3 4.400", "together 4.800"]
    for axes, positions in ((by_epoch, [6, 2]), (by_time, [34.5, 12.0])):
        ticks = [line for line in axes.lines if line.get_marker() == "|"]
        assert [float(tick.get_xdata()[0]) for tick in ticks] == pytest.approx(positions)
        assert [float(tick.get_ydata()[0]) for tick in ticks] == pytest.approx([4.5, 4.9])
        colours = {line.get_color() for line in axes.lines}
        assert len(colours) == 3
    assert "end to end begins" in by_epoch.get_legend().get_texts()[0].get_text()


def test_curves_of_one_epoch_without_a_tick_in_another_unit():
    figure = part_curves({"a": history([None], [4000.0])}, unit=NATS)
    pixels(figure)
    assert NATS in figure.axes[0].get_ylabel()
    assert figure.axes[0].get_legend() is None
    pixels(part_curves({}))
    pixels(part_curves({"a": PartHistory([])}))


@pytest.mark.parametrize("broken", [math.nan, math.inf, 1e9])
def test_curves_survive_what_is_not_finite_and_what_diverged(broken):
    plan, seconds = [(0,), (0,), None, None], [1.0] * 4
    histories = {
        "good": history(plan, seconds, (8,)),
        "other": history(plan, seconds, (8,)),
        "bad": history(plan, seconds, (8,), [5.0, broken, broken, 4.8]),
        "lost": history(plan, seconds, (8,), [math.nan] * 4),
    }
    figure = part_curves(histories)
    pixels(figure)
    low, high = figure.axes[0].get_ylim()
    assert 4 < low < 4.7 and 4.9 < high < 8
    ticks = [line for line in figure.axes[0].lines if line.get_marker() == "|"]
    assert [float(tick.get_ydata()[0]) for tick in ticks] == pytest.approx([4.9, 4.9, high])
    last = cells(training_table(histories))[-1]
    assert (last[0], last[5]) == ("lost", "nan")


def test_histories_survive_a_file():
    epochs = json.loads(json.dumps([asdict(epoch) for epoch in HISTORIES["together"].epochs]))
    assert [EpochRecord(**epoch) for epoch in epochs] == HISTORIES["together"].epochs


@pytest.mark.parametrize("parts", [(), (1, 0), (0, 0), (-1,)])
def test_parts_must_be_rising(parts):
    with pytest.raises(ValueError, match="`parts` must be None or rising, from 0, got"):
        EpochRecord(parts, 1, 1.0, 1.0, 1.0)


def test_a_part_must_be_behind_a_boundary():
    with pytest.raises(ValueError, match="each boundary before part 2, .* got \\(8,\\)"):
        history([(0,), (2,)], [1.0, 1.0], (8,))


def test_the_report_shows_tables_without_results(tmp_path):
    tables = {
        "Phases": phase_table(HISTORIES),
        "Trainings": training_table(HISTORIES),
        "Other": Table(["<a>"], [["<b>"]], note="<c>"),
    }
    settings = {"parts": "part  steps\n   0    1-3"}
    path = tmp_path / "report.html"
    write_report(path, [], title="t", settings=settings, figures={}, tables=tables)
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"<h2>(.*?)</h2>", text) == [*tables, "What was run"]
    assert '<td class="words">part 1</td>' in text and "<td>2.5 s</td>" in text
    assert settings["parts"] in text and "white-space: pre-wrap" in text
    assert all(f"&lt;{letter}&gt;" in text for letter in "abc")


def test_a_row_must_be_as_long_as_the_header():
    with pytest.raises(ValueError, match="`rows` must have 2 cells each.*, got 1 in \\['c'\\]"):
        Table(["a", "b"], [["c"]])
