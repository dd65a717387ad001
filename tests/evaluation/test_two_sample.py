"""Tests of the classifier that tells samples from data."""

import numpy as np
import pytest
from scipy.stats import norm

from tfp_distill.evaluation import two_sample_auc


def rows(number, seed, dims=2):
    return np.random.default_rng(seed).normal(size=(number, dims))


def test_rows_of_one_distribution_cannot_be_told_apart():
    found = two_sample_auc(rows(2000, 0), rows(3000, 1))
    assert abs(found.auc - 0.5) < 3 * found.standard_error
    assert (found.num_a, found.num_b) == (1000, 1500)
    # Without any difference the variance is (n + m + 1) / (12 n m).
    expected = (2501 / (12 * 1000 * 1500)) ** 0.5
    assert found.standard_error == pytest.approx(expected, rel=0.05)


def test_a_shift_gives_the_area_of_the_best_classifier():
    a, b = rows(4000, 0), rows(4000, 1)
    b[:, 0] += 1.0
    found = two_sample_auc(100 * a + 7, 100 * b + 7)
    assert abs(found.auc - norm.cdf(2**-0.5)) < 3 * found.standard_error


def test_a_dependence_that_no_moment_of_a_column_shows_is_found():
    a, b = rows(3000, 0), rows(3000, 1)
    b[:, 1] = np.abs(b[:, 1]) * np.sign(b[:, 0])
    found = two_sample_auc(a, b)
    assert found.auc > 0.5 + 10 * found.standard_error


def test_what_is_not_finite_can_be_told_apart():
    broken = np.full((200, 2), np.nan)
    broken[::2] = np.inf
    found = two_sample_auc(rows(200, 0), broken)
    assert (found.auc, found.standard_error) == (1.0, 0.0)


@pytest.mark.slow
def test_equal_seeds_give_equal_tests():
    a, b = rows(200, 0), rows(200, 1) + 0.3
    first, again, other = (two_sample_auc(a, b, seed=seed) for seed in (3, 3, 4))
    assert first == again != other


def test_rejects_wrong_arguments():
    with pytest.raises(ValueError, match=r"`b` must have shape \('n', 2\) with .*, got \(9, 3\)"):
        two_sample_auc(rows(9, 0), rows(9, 0, dims=3))
    with pytest.raises(ValueError, match=r"`a` must have shape .* at least 4 rows, got \(3, 2\)"):
        two_sample_auc(rows(3, 0), rows(9, 0))
    with pytest.raises(ValueError, match="`a` must be finite"):
        two_sample_auc(np.full((9, 2), np.nan), rows(9, 0))
    with pytest.raises(ValueError, match="`seed` must be at least 0, got -1"):
        two_sample_auc(rows(9, 0), rows(9, 1), seed=-1)
