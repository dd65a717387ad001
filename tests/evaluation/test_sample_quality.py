"""Tests of what is said about samples of rows."""

import math

import numpy as np
import pytest

from tfp_distill.evaluation import DataRange, SampleQuality, sample_quality

TRAIN = np.array([[0.0, -1.0, 5.0], [2.0, 1.0, 5.0]])
INSIDE = [1.0, 0.0, 5.0]


def quality(samples, held_out=TRAIN):
    return sample_quality(np.asarray(samples, np.float32), DataRange.of_rows(TRAIN), held_out)


def test_the_ends_of_the_range_are_inside():
    assert quality(TRAIN) == SampleQuality(2, 0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("value", [[-0.1, 0.0, 5.0], [1.0, 1.1, 5.0], [1.0, 0.0, 5.1]])
def test_one_column_is_enough_to_be_outside(value):
    found = quality([INSIDE, value, INSIDE, INSIDE])
    assert (found.num_samples, found.num_non_finite, found.outside) == (4, 0, 0.25)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_counted_and_outside(value):
    found = quality([INSIDE, [1.0, value, value], [3.0, 0.0, 5.0], INSIDE])
    assert (found.num_non_finite, found.outside) == (1, 0.5)
    assert found.largest_z == pytest.approx(2.0)  # Of the first column: (3 - 1) / 1.
    assert math.isnan(quality([[value] * 3]).largest_z)


def test_the_largest_z_is_in_units_of_the_scale():
    rows = np.random.default_rng(0).normal([10.0, -3.0], [0.1, 100.0], size=(1000, 2))
    data_range = DataRange.of_rows(rows)
    far = np.array([[10.0, -3.0 + 700.0], [10.0 - 0.9, -3.0]])
    assert sample_quality(far, data_range, rows).largest_z == pytest.approx(9.0, rel=0.05)


def test_a_little_beyond_a_hard_edge_is_not_outside():
    rows = np.random.default_rng(0).uniform([0.0, -1.0], [360.0, 1.0], size=(5000, 2))
    data_range = DataRange.of_rows(rows)
    np.testing.assert_allclose(data_range.tolerance, [3.6, 0.02], rtol=0.01)
    near, far = [[363.5, 0.0], [-3.4, 1.018]], [[364.0, 0.0], [0.0, 1.03]]
    assert not data_range.outside(np.float32(near)).any()
    assert data_range.outside(np.float32(far)).all()
    # One outlier does not make the tolerance wide.
    rows[0] = [1e9, 0.0]
    np.testing.assert_allclose(DataRange.of_rows(rows).tolerance, [3.6, 0.02], rtol=0.01)


def test_held_out_data_are_outside_too():
    assert quality([INSIDE], held_out=[INSIDE, [9.0, 0.0, 5.0]]).held_out_outside == 0.5


def test_rejects_wrong_arguments():
    with pytest.raises(ValueError, match=r"`samples` must have shape \('n', 3\), got \(2, 2\)"):
        quality(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="`samples` must have at least 1 row, got 0"):
        quality(np.zeros((0, 3)))
    with pytest.raises(ValueError, match=r"`rows` must have shape \('n', D\), got \(3,\)"):
        DataRange.of_rows(np.zeros(3))
    with pytest.raises(ValueError, match="`rows` must have at least 1 row, got 0"):
        DataRange.of_rows(np.zeros((0, 3)))
    with pytest.raises(ValueError, match="`rows` must be finite, got"):
        DataRange.of_rows(np.array([[0.0, np.nan]]))
