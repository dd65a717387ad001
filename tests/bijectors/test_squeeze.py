"""Tests of the arrangement of pixels in Squeeze, and of its errors."""

import numpy as np
import pytest
import tensorflow as tf

from tfp_distill.bijectors import Squeeze


@pytest.mark.parametrize("channels", [1, 3])
def test_each_square_of_pixels_becomes_the_channels_of_one(channels):
    x = np.random.RandomState(0).normal(size=(2, 6, 4, channels))
    z, ildj = Squeeze().inverse_and_ildj(tf.constant(x))
    assert z.shape == (2, 3, 2, 4 * channels)
    for i in range(3):
        for j in range(2):
            square = x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            np.testing.assert_array_equal(z[:, i, j], square.reshape(2, -1))
    np.testing.assert_array_equal(ildj, [0, 0])


@pytest.mark.parametrize("batch", [(), (3, 2)], ids=["one image", "two batch axes"])
def test_any_number_of_batch_axes(batch):
    x = tf.constant(np.random.RandomState(0).normal(size=(*batch, 2, 4, 3)))
    z, ildj = Squeeze().inverse_and_ildj(x)
    assert z.shape == (*batch, 1, 2, 12)
    assert ildj.shape == batch
    np.testing.assert_array_equal(Squeeze().forward_and_fldj(z)[0], x)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(
        ValueError, match=r"`x` of 'squeeze' .* even height and width, got \(1, 3, 4, 1\)"
    ):
        Squeeze().inverse(tf.zeros([1, 3, 4, 1]))
    with pytest.raises(ValueError, match=r"`z` of 'squeeze' .* multiple of 4 channels, got"):
        Squeeze().forward(tf.zeros([1, 3, 4, 6]))
