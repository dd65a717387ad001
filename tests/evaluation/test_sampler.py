"""Tests of a student beside its teacher, on samples."""

import types

import numpy as np
import pytest
from scipy.stats import expon, multivariate_normal, norm

from tfp_distill.evaluation import compare_sampler, sampler_table


def rows(number, seed):
    """Two clusters, which no normal distribution is."""
    random = np.random.default_rng(seed)
    return random.normal(size=(number, 2)) + 3 * random.choice([-1, 1], size=(number, 1))


def log_probs(x):
    densities = [multivariate_normal([3 * sign] * 2).pdf(x) for sign in (-1, 1)]
    return np.log(np.mean(densities, axis=0))


def test_the_teacher_itself_has_lost_nothing():
    x = rows(4000, 0)
    found = compare_sampler(
        x, rows(4000, 1), teacher_log_probs=log_probs(x), student_log_probs=log_probs(x)
    )
    assert (found.kl.mean, found.lost) == (0, 0)
    assert abs(found.two_sample.auc - 0.5) < 3 * found.two_sample.standard_error
    # Two clusters 6 apart: log 2 is unknown of log sqrt(det(I + 9 11^T)), d for d columns.
    assert found.gain == pytest.approx(0.5 * np.log(19) - np.log(2), abs=0.05)


def test_a_normal_distribution_has_lost_all():
    x = rows(4000, 0)
    normal = multivariate_normal(x.mean(axis=0), np.cov(x.T, bias=True))
    found = compare_sampler(
        x,
        normal.rvs(4000, random_state=1),
        teacher_log_probs=log_probs(x),
        student_log_probs=normal.logpdf(x),
    )
    assert found.lost == pytest.approx(1)
    assert found.kl.mean == pytest.approx(found.gain)
    assert found.two_sample.auc > 0.6


@pytest.mark.parametrize(("far", "is_known"), [((), True), ((1.0,) * 4000, True), ((1e6,), False)])
def test_a_part_that_a_single_sample_decides_on_is_not_told(far, is_known):
    x = rows(4000, 0)
    behind = np.zeros(4000)
    behind[: len(far)] = far
    found = compare_sampler(
        x, rows(4000, 1), teacher_log_probs=log_probs(x), student_log_probs=log_probs(x) - behind
    )
    assert found.is_known == is_known
    result = types.SimpleNamespace(
        name="guided", speed=types.SimpleNamespace(to_data_seconds=1.0, batch_size=10)
    )
    teacher = types.SimpleNamespace(name="teacher", speed=result.speed)
    [row] = sampler_table([teacher, result], {"guided": found}).rows
    assert row[2] == (f"{found.lost:.1%}" if is_known else "—")


def test_one_column():
    x = np.random.default_rng(0).exponential(size=(4000, 1))
    normal = norm(x.mean(), x.std()).logpdf(x[:, 0])
    found = compare_sampler(
        x, x[::-1], teacher_log_probs=expon.logpdf(x[:, 0]), student_log_probs=normal
    )
    assert found.lost == pytest.approx(1)


def test_too_few_rows_are_refused():
    x = np.random.default_rng(0).normal(size=(9, 5))
    values = np.zeros(9)
    with pytest.raises(ValueError, match="`teacher_samples` must have at least 10 rows, .* got 9"):
        compare_sampler(x, x, teacher_log_probs=values, student_log_probs=values)
