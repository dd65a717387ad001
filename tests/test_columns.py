"""Tests of the kinds of columns: noise, rounding and bounds."""

import numpy as np
import pytest

from tfp_distill.columns import LARGEST_INTEGER, Columns, DequantizedRows

COLUMNS = Columns(
    ("continuous", "integer", "bounded", "integer"), (None, None, (0.0, 360.0), (1, 5))
)


def rows(number=2000, seed=0, largest=9):
    random = np.random.default_rng(seed)
    columns = (
        random.normal(size=number),
        random.integers(-largest, largest, number),
        random.uniform(0, 360, number),
        random.integers(1, 6, number),
    )
    return np.stack(columns, axis=1).astype(np.float32)


def test_noise_is_uniform_and_on_integers_only():
    x = rows()
    noisy = COLUMNS.dequantize(x, seed=1).numpy()
    np.testing.assert_array_equal(noisy[:, [0, 2]], x[:, [0, 2]])
    noise = noisy[:, [1, 3]] - x[:, [1, 3]]
    assert noise.min() >= 0 and noise.max() < 1
    np.testing.assert_allclose(np.quantile(noise, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.03)


def test_noise_depends_on_seed_and_place_alone():
    x = rows(20)
    noisy = COLUMNS.dequantize(x, seed=1).numpy()
    np.testing.assert_array_equal(COLUMNS.dequantize(x[7:], seed=1, first=7), noisy[7:])
    np.testing.assert_array_equal(DequantizedRows(x, COLUMNS, draw=1)[7:12], noisy[7:12])
    # Noise that is there is replaced.
    np.testing.assert_array_equal(COLUMNS.dequantize(noisy, seed=1), noisy)
    assert not np.array_equal(COLUMNS.dequantize(x, seed=2), noisy)


@pytest.mark.parametrize("largest", [9, 300, LARGEST_INTEGER])
def test_rounding_undoes_noise_at_every_size(largest):
    x = rows(largest=largest)
    for seed in range(5):
        np.testing.assert_array_equal(COLUMNS.quantize(COLUMNS.dequantize(x, seed=seed)), x)
    np.testing.assert_array_equal(COLUMNS.quantize(COLUMNS.midpoints(x)), x)


def test_what_leaves_bounds_is_moved_into_them():
    far = [[-1e9, -7.5, -0.1, 0.9], [1e9, 7.5, 361.0, 6.1], [np.nan, np.nan, np.nan, np.nan]]
    expected = [[-1e9, -8, 0, 1], [1e9, 7, 360, 5], [np.nan] * 4]
    np.testing.assert_array_equal(COLUMNS.quantize(np.float32(far)), np.float32(expected))


def test_intervals_hold_the_bounds_with_a_margin():
    none, also_none, (low, high), of_integers = COLUMNS.intervals
    assert none is None and also_none is None
    assert (low, high) == pytest.approx((-0.36, 360.36))
    assert of_integers == pytest.approx((1 - 0.005, 6.005))
    inside = np.float32([[0, 0, 0, 1], [9e9, -9e9, 360, 5]])
    assert not COLUMNS.outside(inside).any()
    outside = np.float32([[0, 0, -1, 1], [0, 0, 361, 6]])
    np.testing.assert_array_equal(COLUMNS.outside(outside), [0, 0, 2, 1])


def test_continuous_rows_stay_as_they_are():
    x = rows()
    plain = Columns(("continuous",) * 4)
    for function in (plain.midpoints, plain.quantize, lambda x: plain.dequantize(x, seed=0)):
        np.testing.assert_array_equal(function(x), x)


def test_wrong_values_are_refused():
    with pytest.raises(ValueError, match="`kinds` must be of continuous, integer, bounded, got"):
        Columns(("real",))
    with pytest.raises(ValueError, match="`bounds` must be 2 as `kinds`, got 1"):
        Columns(("integer", "integer"), (None,))
    with pytest.raises(ValueError, match="of a column that is bounded must be given, got None"):
        Columns(("bounded",))
    with pytest.raises(ValueError, match="of a column that is continuous must be None, got"):
        Columns(("continuous",), ((0, 1),))
    with pytest.raises(ValueError, match="must be finite numbers low < high, got"):
        Columns(("bounded",), ((1, 1),))
    with pytest.raises(ValueError, match="of integers must be integers, got"):
        Columns(("integer",), ((0.5, 3),))
