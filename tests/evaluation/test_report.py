"""Tests of results, table and report."""

import base64
import dataclasses
import html.parser
import json
import math
import re

import numpy as np
import pytest

from tfp_distill import Flow, TabularGlowConfig
from tfp_distill.evaluation import (
    Likelihood,
    Result,
    SampleQuality,
    Speed,
    evaluate_flow,
    format_table,
    gap_closed,
    marginals,
    read_results_json,
    write_report,
    write_results_json,
)


def result(name, mean, **changes):
    fields = dict(
        likelihood=Likelihood(mean, 0.01, 1000),
        parameters=12_345,
        speed=Speed(0.00123, 0.2, 1000, 3),
        round_trip_error=1.5e-6,
        training_steps=3000,
        training_seconds=150.0,
    )
    return Result(name, **{**fields, **changes})


RESULTS = [
    result("teacher", 0.1, parameters=86_670),
    result("student", -0.4),
    result("lkd", -0.3, skipped_steps=2),
    result("skd", -0.5),
]


class Page(html.parser.HTMLParser):
    """Collects what a test wants to know about a page."""

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.links, self.cells = [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.links += [attributes[key] for key in ("src", "href", "srcset") if key in attributes]
        if tag == "img":
            self.images.append(attributes)
        if tag not in ("img", "meta"):
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def test_gap_closed():
    assert gap_closed(RESULTS, "lkd") == pytest.approx(0.2)
    assert gap_closed(RESULTS, "skd") == pytest.approx(-0.2)
    assert gap_closed([*RESULTS, result("best", 0.1)], "best") == pytest.approx(1.0)


def test_gap_closed_is_undefined():
    assert gap_closed(RESULTS, "teacher") is None
    assert gap_closed(RESULTS, "student") is None
    assert gap_closed(RESULTS, "absent") is None
    assert gap_closed(RESULTS[1:], "lkd") is None
    assert gap_closed([result("teacher", -0.4), *RESULTS[1:]], "lkd") is None
    assert gap_closed([*RESULTS, result("bad", math.nan)], "bad") is None


def test_table():
    lines = format_table(RESULTS).splitlines()
    assert lines[0].split("  ")[0] == "model"
    assert re.split(r"\s{2,}", lines[2]) == [
        *("teacher", "0.100 ± 0.020", "—", "86,670", "1.23 ms", "200 ms"),
        *("2e-06", "3,000", "2.5 min", "0"),
    ]
    assert re.split(r"\s{2,}", lines[4])[:4] == ["lkd", "-0.300 ± 0.020", "20 %", "12,345"]
    assert re.split(r"\s{2,}", lines[5])[2] == "-20 %"
    assert lines[6] == "Times to latent and to data are medians for a batch of 1,000 rows."
    assert "not that of a difference" in lines[7] and "ahead of student" not in lines[7]
    assert "luck of the training" in lines[8]
    assert len({len(line) for line in lines[:6]}) == 1


def test_table_shows_the_worse_round_trip_and_samples_outside():
    def cells(**changes):
        (line,) = format_table([result("skd", 0.0, **changes)]).splitlines()[2:3]
        return re.split(r"\s{2,}", line)

    assert "2e-06" in cells(latent_round_trip_error=1e-7)
    assert "3e-03" in cells(latent_round_trip_error=3e-3)
    assert "nan" in cells(latent_round_trip_error=math.nan)
    samples = SampleQuality(1000, 0, 0.034, 0.001, 9.0)
    assert "3.4 %" in cells(samples=samples)
    assert "100.0 % (7 not finite)" in cells(
        samples=dataclasses.replace(samples, num_non_finite=7, outside=1.0)
    )
    assert "0.05 %" in cells(samples=dataclasses.replace(samples, outside=0.0005))
    assert "outside" not in format_table(RESULTS)


def test_report_says_how_much_of_the_test_data_is_outside(tmp_path):
    quality = SampleQuality(1000, 0, 0.034, 0.002, 9.0)
    results = [result("skd", 0.0, samples=quality), RESULTS[0]]
    write_report(tmp_path / "report.html", results, title="t", settings={}, figures={})
    assert "of the test data it is 0.2 %" in (tmp_path / "report.html").read_text(encoding="utf-8")
    write_results_json(tmp_path / "results.json", results)
    assert read_results_json(tmp_path / "results.json")[0] == results


def test_table_without_a_teacher_and_with_numbers_that_are_not_finite():
    broken = result("skd", -math.inf, likelihood=Likelihood(-math.inf, math.nan, 9, 2))
    lines = format_table([broken]).splitlines()
    assert "-inf ± nan (2 not finite)" in lines[2]
    assert "—" in lines[2]


@pytest.mark.parametrize("results", [[], RESULTS])
def test_json_round_trip(results, tmp_path):
    path = tmp_path / "run" / "results.json"
    settings = {"command": "tfp-distill --seed=1", "seed": 1, "weights": [0.9, 0.1], "none": None}
    write_results_json(path, results, settings=settings)
    assert read_results_json(path) == (results, settings)
    assert [entry.name for entry in path.parent.iterdir()] == ["results.json"]


def test_json_is_valid_where_numbers_are_not_finite(tmp_path):
    path = tmp_path / "results.json"
    likelihood = Likelihood(-math.inf, math.nan, 9, 2)
    write_results_json(path, [result("skd", 0, likelihood=likelihood, round_trip_error=math.nan)])

    def fail(constant):
        raise AssertionError(constant)

    json.loads(path.read_text(), parse_constant=fail)
    (read,), _ = read_results_json(path)
    assert read.likelihood.mean == -math.inf
    assert math.isnan(read.likelihood.standard_error)
    assert math.isnan(read.round_trip_error)


@pytest.mark.parametrize("text", ["", "[]", '{"results": [{"name": "x"}], "settings": {}}', "null"])
def test_json_of_something_else_is_rejected(text, tmp_path):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="`path` must hold results.*results.json"):
        read_results_json(path)


def test_report_is_one_file_that_loads_nothing(tmp_path):
    path = tmp_path / "report.html"
    rows = np.random.RandomState(0).normal(size=(100, 2))
    figures = {"Marginals": marginals(rows, {"teacher": rows})}
    settings = {"command": "tfp-distill --seed=1", "rows": 100}
    write_report(path, RESULTS, title="POWER", settings=settings, figures=figures)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    (image,) = page.images
    assert image["alt"] == "Marginals"
    kind, data = image["src"].split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data, validate=True).startswith(b"\x89PNG\r\n\x1a\n")
    assert page.links == [image["src"]]
    without_images = text.replace(data, "")
    assert not re.search(r"https?:|//|url\(|@import|<script|<link|<iframe", without_images)
    assert {"POWER", "What was run", "Marginals"} <= set(re.findall(r"<h\d>(.*?)</h\d>", text))
    assert {"teacher", "0.100 ± 0.020", "20 %", "—", "tfp-distill --seed=1"} <= set(page.cells)


def test_report_escapes_html(tmp_path):
    evil = "<script>alert('&\"')</script>"
    path = tmp_path / "report.html"
    rows = np.zeros((9, 2))
    write_report(
        path,
        [result(evil, 0.0)],
        title=evil,
        settings={evil: evil},
        figures={evil: marginals(rows, {})},
    )
    text = path.read_text(encoding="utf-8")
    assert "<script" not in text
    page = Page(text)
    assert page.cells.count(evil) == 3
    assert page.images[0]["alt"] == evil


def test_evaluate_flow():
    flow = Flow(TabularGlowConfig(dims=3, num_steps=1, hidden_units=4))
    test = np.random.RandomState(0).normal(size=(20, 3))
    evaluated = evaluate_flow(
        flow, "student", test, training_steps=5, training_seconds=1.5, skipped_steps=1
    )
    assert evaluated.name == "student"
    assert evaluated.likelihood.mean == pytest.approx(np.mean(flow.log_prob(test)), abs=1e-5)
    assert evaluated.parameters == flow.count_params()
    assert 0 <= evaluated.round_trip_error < 1e-5
    assert 0 < evaluated.latent_round_trip_error < 1e-4
    np.testing.assert_allclose(evaluated.likelihood.values, flow.log_prob(test), rtol=1e-5)
    assert evaluated.speed.batch_size == 1000
    assert (evaluated.training_steps, evaluated.skipped_steps) == (5, 1)
    assert dataclasses.is_dataclass(evaluated)
