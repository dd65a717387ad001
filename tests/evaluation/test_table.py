"""Tests of what table, results file and report say of images."""

import dataclasses

import numpy as np
import pytest

from tfp_distill import Flow, GlowConfig
from tfp_distill.evaluation import (
    FrechetDistance,
    Likelihood,
    Result,
    Speed,
    evaluate_flow,
    format_table,
    gap_closed,
    measure_speed,
    read_results_json,
    write_report,
    write_results_json,
)


def distance(value, **changes):
    fields = dict(
        num_samples=500,
        num_reference=400,
        extractor="tiny",
        extractor_fingerprint="a",
        reference_fingerprint="b",
    )
    return FrechetDistance(value, **{**fields, **changes})


def result(name, nats, bits, samples, **changes):
    return Result(
        name,
        likelihood=Likelihood(nats, 0.5, 1000),
        parameters=100,
        speed=Speed(0.001, 0.002, 64, 3),
        round_trip_error=1e-6,
        training_steps=10,
        training_seconds=1.0,
        bits_per_dim=bits,
        bits_per_dim_error=0.01,
        frechet={"samples": distance(samples, **changes)},
    )


RESULTS = [
    result("teacher", -100.0, 3.0, 10.0),
    result("student", -200.0, 4.0, 50.0),
    result("ilkd", -175.0, 3.75, 30.0),
]


def test_gaps_of_likelihood_and_of_distances():
    assert gap_closed(RESULTS, "ilkd") == pytest.approx(0.25)
    assert gap_closed(RESULTS, "ilkd", frechet="samples") == pytest.approx(0.5)
    assert gap_closed(RESULTS, "ilkd", frechet="other") is None
    assert gap_closed(RESULTS, "student", frechet="samples") is None


@pytest.mark.parametrize("changes", [{"num_samples": 499}, {"extractor_fingerprint": "c"}])
def test_distances_that_cannot_be_compared_close_no_gap(changes):
    results = [*RESULTS, result("skd", -150.0, 3.5, 20.0, **changes)]
    with pytest.raises(ValueError, match="499|tiny"):
        gap_closed(results, "skd", frechet="samples")


def test_the_table_is_in_bits():
    header, _, *rows = format_table(RESULTS).splitlines()
    assert "test bits/dim" in header and "FD samples" in header and "nats" not in header
    rows = rows[:3]
    assert "3.750 ± 0.020" in rows[2]
    assert "30.00 (50 %)" in rows[2]
    assert "10.00" in rows[0] and "(" not in rows[0]


def test_the_report_says_what_was_compared(tmp_path):
    write_report(tmp_path / "report.html", RESULTS, title="t", settings={}, figures={})
    report = (tmp_path / "report.html").read_text()
    assert "from 400 test images, of 500 samples" in report
    assert "features of tiny" in report
    assert "bits per dimension" in report and "Test nats" not in report


def test_results_are_read_as_they_were_written(tmp_path):
    write_results_json(tmp_path / "results.json", RESULTS)
    results, _ = read_results_json(tmp_path / "results.json")
    assert results == RESULTS
    unbounded = dataclasses.replace(RESULTS[0], bits_per_dim=float("inf"))
    write_results_json(tmp_path / "results.json", [unbounded])
    assert read_results_json(tmp_path / "results.json")[0] == [unbounded]


def test_a_flow_of_bytes_is_evaluated_in_bits():
    images = np.random.default_rng(0).integers(0, 256, [30, 4, 4, 1], np.uint8)
    flow = Flow(
        GlowConfig((4, 4, 1), num_levels=1, steps_per_level=1, hidden_channels=2, num_bits=3)
    )
    flow.adapt(flow.config.pixel_format.dequantize(images, seed=1))
    speed = measure_speed(flow, batch_size=2, repeats=1)
    found = evaluate_flow(
        flow, "glow", images, training_steps=1, training_seconds=1.0, draws=2, speed=speed
    )
    assert found.speed == speed
    expected = -found.likelihood.mean / (16 * np.log(2)) + 3
    assert found.bits_per_dim == pytest.approx(expected)
    error = found.likelihood.standard_error / (16 * np.log(2))
    assert found.bits_per_dim_error == pytest.approx(error)
    assert found.bits_per_nat == pytest.approx(1 / (16 * np.log(2)))
    assert found.round_trip_error < 1e-4
