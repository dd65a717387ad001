"""Tests of differences on the same rows, against closed forms and repeated draws."""

import json
import math

import numpy as np
import pytest

from tfp_distill.evaluation import (
    Likelihood,
    Result,
    Speed,
    ahead_of_student,
    error_of_gap_closed,
    format_table,
    gap_closed,
    gap_closed_error,
    paired_difference,
    read_results_json,
    write_report,
    write_results_json,
)


def draw(rows, seed=0, closed=0.25):
    """Log-likelihoods of student, teacher and a distilled student that share most of their spread.

    The teacher is ahead by 0.4 in the mean, the distilled student by `closed` of that.
    """
    rng = np.random.default_rng(seed)
    difficulty = 5 * rng.normal(size=rows)
    teacher = difficulty + 0.4 + 0.5 * rng.normal(size=rows)
    distilled = difficulty + 0.4 * closed + 0.3 * rng.normal(size=rows)
    return {"teacher": teacher, "student": difficulty, "ilkd": distilled}


def result(name, values, **changes):
    return Result(
        name,
        likelihood=Likelihood.of_values(values),
        parameters=10,
        speed=Speed(0.1, 0.2, 10, 3),
        round_trip_error=1e-6,
        training_steps=10,
        training_seconds=1.0,
        **changes,
    )


def results_of(values, **changes):
    return [result(name, rows, **changes) for name, rows in values.items()]


def test_difference_is_that_of_the_rows():
    values = draw(1000)
    found = paired_difference(values["teacher"], values["student"])
    d = values["teacher"] - values["student"]
    assert found.mean == pytest.approx(d.mean(), rel=1e-12)
    assert found.standard_error == pytest.approx(d.std(ddof=1) / 1000**0.5, rel=1e-12)
    assert (found.num_examples, found.num_non_finite) == (1000, 0)
    back = paired_difference(values["student"], values["teacher"])
    assert (back.mean, back.standard_error) == (-found.mean, found.standard_error)
    same = paired_difference(values["student"], values["student"])
    assert (same.mean, same.standard_error) == (0, 0)


def test_errors_are_the_spread_over_draws_of_the_rows():
    differences, parts = [], []
    for seed in range(400):
        values = draw(400, seed)
        differences.append(paired_difference(values["teacher"], values["student"]).mean)
        parts.append(gap_closed(results_of(values), "ilkd"))
    values = draw(400)
    found = paired_difference(values["teacher"], values["student"])
    assert found.standard_error == pytest.approx(np.std(differences), rel=0.15)
    # A tenth of what the errors of the two means by themselves would say.
    assert found.standard_error < Likelihood.of_values(values["student"]).standard_error / 5
    error = error_of_gap_closed(values["ilkd"], values["student"], values["teacher"])
    assert error == pytest.approx(np.std(parts), rel=0.15)
    assert gap_closed_error(results_of(values), "ilkd") == error


def test_subtracts_in_float64():
    a = np.full(4, 1e7, np.float32)
    assert paired_difference(a.astype(np.float64) + 0.25, a).mean == 0.25


@pytest.mark.parametrize(
    ("a", "b", "mean", "number"),
    [
        ([0.0, -np.inf, 1.0], [0.0, 0.0, 0.0], -math.inf, 1),
        ([0.0, 0.0, 1.0], [-np.inf, 0.0, -np.inf], math.inf, 2),
        ([0.0, -np.inf, 1.0], [0.0, -np.inf, 0.0], math.nan, 1),
        ([0.0, np.nan, 1.0], [0.0, 0.0, 0.0], math.nan, 1),
    ],
)
def test_what_is_not_finite_is_not_hidden(a, b, mean, number):
    found = paired_difference(a, b)
    assert found.mean == mean or (math.isnan(found.mean) and math.isnan(mean))
    assert math.isnan(found.standard_error)
    assert (found.num_examples, found.num_non_finite) == (3, number)
    assert f"({number} of 3 rows not finite)" in str(found)


def test_rejects_what_are_not_the_same_rows():
    with pytest.raises(ValueError, match="`log_probs_b` must have 5 rows as `log_probs_a`.*got 4"):
        paired_difference(np.zeros(5), np.zeros(4))
    with pytest.raises(ValueError, match=r"`log_probs_a` must have shape \('n',\).*got \(5, 1\)"):
        paired_difference(np.zeros((5, 1)), np.zeros(5))
    with pytest.raises(ValueError, match="`log_probs_a` .* at least 2 rows"):
        paired_difference([1.0], [1.0])
    with pytest.raises(ValueError, match="`teacher` must have 5 rows as `distilled`"):
        error_of_gap_closed(np.zeros(5), np.zeros(5), np.zeros(6))


def test_a_gap_that_is_noise_is_not_closed():
    values = draw(100)
    rng = np.random.default_rng(1)
    noise = rng.normal(size=100)
    values["teacher"] = values["student"] + 0.15 + noise - noise.mean()  # 1.5 errors ahead.
    assert gap_closed(results_of(values), "ilkd") is None
    assert gap_closed_error(results_of(values), "ilkd") is None
    values["teacher"] += 0.1
    assert gap_closed(results_of(values), "ilkd") is not None


def test_the_student_is_not_ahead_of_itself_and_nothing_is_without_values():
    results = results_of(draw(100))
    assert ahead_of_student(results, "student") is None
    assert ahead_of_student(results, "absent") is None
    assert ahead_of_student(results[:1], "teacher") is None
    plain = Result("ilkd", Likelihood(0.1, 0.01, 100), 10, Speed(1, 1, 1, 1), 1e-6, 1, 1.0)
    assert ahead_of_student([*results[:2], plain], "ilkd") is None
    assert gap_closed_error([*results[:2], plain], "ilkd") is None


def test_table_and_report_show_differences_with_their_errors(tmp_path):
    results = results_of(draw(1000))
    ahead = ahead_of_student(results, "ilkd")
    part, error = gap_closed(results, "ilkd"), gap_closed_error(results, "ilkd")
    header, _, teacher, student, ilkd, *text = format_table(results).splitlines()
    assert header.index("test nats") < header.index("ahead of student") < header.index("gap")
    assert f"{ahead.mean:.3f} ± {2 * ahead.standard_error:.3f}" in ilkd
    assert f"{100 * part:.0f} ± {200 * error:.0f} %" in ilkd
    assert teacher.count("±") == 2 and student.count("±") == 1
    notes = " ".join(text)
    assert "not that of a difference" in notes and "ahead of student" in notes
    assert "differences of one seed also contain the luck of the training" in notes
    write_report(tmp_path / "report.html", results, title="t", settings={}, figures={})
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    for words in ("ahead of student", "not that of a difference", "luck of the training"):
        assert words in report
    assert f"{ahead.mean:.3f} ± {2 * ahead.standard_error:.3f}" in report


def test_differences_of_images_are_in_bits_and_positive_where_better(tmp_path):
    images = dict(bits_per_dim=3.0, bits_per_dim_error=0.1, bits_per_nat=0.01)
    results = results_of({k: 100 * v for k, v in draw(1000).items()}, **images)
    ahead = ahead_of_student(results, "teacher")
    teacher = format_table(results).splitlines()[2]
    assert ahead.mean > 30
    assert f"{0.01 * ahead.mean:.3f} ± {0.02 * ahead.standard_error:.3f}" in teacher
    assert "positive is better" in format_table(results)
    write_results_json(tmp_path / "results.json", results)
    first = json.loads((tmp_path / "results.json").read_text())["results"][0]["ahead_of_student"]
    assert first["bits_per_dim"] == pytest.approx(0.01 * ahead.mean)
    assert first["bits_per_dim_error"] == pytest.approx(0.01 * ahead.standard_error)


def test_values_are_kept_beside_the_results(tmp_path):
    values = draw(50)
    path = tmp_path / "run" / "results.json"
    write_results_json(path, results_of(values))
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["results.json", "results.npz"]
    text = path.read_text()
    assert "values" not in text
    of_ilkd = json.loads(text)["results"][2]
    assert of_ilkd["gap_closed"] == pytest.approx(gap_closed(results_of(values), "ilkd"))
    assert of_ilkd["gap_closed_error"] > 0
    assert of_ilkd["ahead_of_student"]["num_examples"] == 50
    with np.load(path.with_suffix(".npz")) as arrays:
        assert {*arrays} == {"teacher", "student", "ilkd"}
        np.testing.assert_array_equal(arrays["ilkd"], values["ilkd"])
    read, _ = read_results_json(path)
    assert read == results_of(values)
    assert format_table(read) == format_table(results_of(values))


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99])
def test_damaged_values_are_refused(kept, tmp_path):
    path = tmp_path / "results.json"
    write_results_json(path, results_of(draw(50)))
    whole = path.with_suffix(".npz").read_bytes()
    length = kept if isinstance(kept, int) else int(kept * len(whole))
    path.with_suffix(".npz").write_bytes(whole[:length])
    with pytest.raises(ValueError, match="`path` must hold results.*results.json"):
        read_results_json(path)


def test_values_of_other_results_are_not_used(tmp_path):
    path = tmp_path / "results.json"
    write_results_json(path, results_of(draw(50)))
    text = path.read_text()
    write_results_json(path, results_of(draw(50, seed=1)))
    path.write_text(text)
    assert all(r.likelihood.values is None for r in read_results_json(path)[0])
    write_results_json(path, [])
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.json"]
