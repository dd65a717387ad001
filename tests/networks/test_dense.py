"""Tests of the dense conditioner."""

import numpy as np
import pytest

from tfp_distill.networks import dense_conditioner


@pytest.mark.parametrize("hidden_layers", [1, 5])
def test_shape_size_and_zero_output(hidden_layers):
    network = dense_conditioner(3, 4, hidden_units=8, num_hidden_layers=hidden_layers)
    assert network.count_params() == 3 * 8 + 8 + (hidden_layers - 1) * (64 + 8) + 8 * 4 + 4
    np.testing.assert_array_equal(network(np.ones([2, 3], np.float32)), np.zeros([2, 4]))


def test_layers_differ_and_the_seed_decides():
    first, same, other = (
        dense_conditioner(8, 2, hidden_units=8, num_hidden_layers=3, seed=seed).get_weights()
        for seed in (0, 0, 7)
    )
    for a, b in zip(first, same, strict=True):
        np.testing.assert_array_equal(a, b)
    kernels = [*first[0:6:2], *other[0:6:2]]
    for i, a in enumerate(kernels):
        for b in kernels[:i]:
            assert np.max(np.abs(a - b)) > 0.1
