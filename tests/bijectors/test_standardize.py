"""Tests of the statistics of Standardize."""

import numpy as np
import pytest
import tensorflow as tf

from tfp_distill.bijectors import Standardize


def test_standardises_with_its_statistics_and_trains_nothing():
    bijector = Standardize(2)
    bijector.set_statistics([1.0, -4.0], [2.0, 0.5])
    np.testing.assert_array_equal(bijector.mean, [1, -4])
    np.testing.assert_array_equal(bijector.scale, [2, 0.5])
    z, ildj = bijector.inverse_and_ildj(tf.constant([[3.0, -5.0]]))
    np.testing.assert_allclose(z, [[1.0, -2.0]])
    np.testing.assert_allclose(ildj, [0.0], atol=1e-6)  # 2 * 0.5 = 1
    np.testing.assert_allclose(bijector.in_units_of_scale(tf.constant([[2.0, 2.0]])), [[1, 4]])
    assert not bijector.trainable_variables
    assert len(bijector.variables) == 2


@pytest.mark.parametrize(
    ("mean", "scale", "message"),
    [
        ([0, 0, 0], [1, 1], r"`mean` must have shape \(2,\), got \(3,\)"),
        ([0, 0], 1.0, r"`scale` must have shape \(2,\), got \(\)"),
        ([0, np.nan], [1, 1], "`mean` must be finite, got"),
        ([0, 0], [1, np.inf], "`scale` must be finite, got"),
        ([0, 0], [1, 0], r"`scale` must be positive, got \[1 0\]"),
    ],
)
def test_errors_name_argument_rule_and_value(mean, scale, message):
    bijector = Standardize(2)
    with pytest.raises(ValueError, match=message):
        bijector.set_statistics(mean, scale)
    np.testing.assert_array_equal(bijector.mean, [0, 0])
    np.testing.assert_array_equal(bijector.scale, [1, 1])
