"""Tests of what a race says at its end."""

import types

import numpy as np
import pytest

from tfp_distill.evaluation import Likelihood, Result, Speed
from tfp_distill.runs.racing.candidates import Candidate
from tfp_distill.runs.racing.race import Entry, Outcome
from tfp_distill.runs.racing.race_report import race_summary
from tfp_distill.runs.recipe import Recipe


def _last_line(gap):
    """Returns what is said of few rows, where the teacher is so many nats ahead without them."""
    noise = np.random.default_rng(0).normal(size=(3, 400))
    entry = Entry(Candidate.parse("spline_2x16"), 100)
    few = ("spline_2x16_rows_50/student", "spline_2x16_rows_50/mixture")
    means = {"teacher": gap, entry.name: 0.0, few[0]: 0.0, few[1]: 0.75 * gap}
    results = [
        Result(
            name,
            likelihood=Likelihood.of_values(mean + noise[i % 3]),
            parameters=100,
            speed=Speed(0.1, 0.2, 10, 3),
            round_trip_error=1e-6,
            training_steps=10,
            training_seconds=1.0,
        )
        for i, (name, mean) in enumerate(means.items())
    ]
    outcome = Outcome(entry, True, (entry,), {}, {}, few)
    run = types.SimpleNamespace(
        recipe=Recipe(within=0.1, few_rows=50), data=types.SimpleNamespace(train=range(400))
    )
    return race_summary(results, outcome, run)[-1]


def test_the_part_of_the_gap_is_told_where_there_is_one():
    line = _last_line(gap=4.0)
    assert line.startswith("from 50 rows: ") and "which saw 400" in line
    part = float(line.split(", ")[-1].split("%")[0])
    assert part == pytest.approx(75, abs=4) and line.endswith("of the gap")


@pytest.mark.parametrize("gap", [0.0, 0.01, -4.0])
def test_no_part_is_told_of_a_gap_that_is_noise_or_none(gap):
    assert "of the gap" not in _last_line(gap)
