"""Tests of how bytes become the numbers that flows of images model, and of bits per dimension."""

import numpy as np
import pytest
import tensorflow as tf

from tfp_distill import Flow, GlowConfig, PixelFormat
from tfp_distill.evaluation import bits_per_dim, evaluate_likelihood
from tfp_distill.pixels import DequantizedImages

EVERY_BYTE = np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1)


def random_images(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("num_bits", range(1, 9))
@pytest.mark.parametrize("padding", [0, 2])
def test_quantize_is_the_inverse(num_bits, padding):
    pixel_format = PixelFormat(num_bits, padding)
    values = EVERY_BYTE >> (8 - num_bits)
    expected = np.round(values * 255.0 / (2**num_bits - 1))
    for x in (pixel_format.midpoints(EVERY_BYTE), pixel_format.dequantize(EVERY_BYTE, seed=1)):
        assert x.shape == (4, *pixel_format.padded_shape((8, 8, 1)))
        np.testing.assert_array_equal(pixel_format.quantize(x), expected)
    again = pixel_format.quantize(pixel_format.midpoints(pixel_format.quantize(x)))
    np.testing.assert_array_equal(again, expected)


def test_no_noise_is_rounded_into_the_next_bin():
    x = PixelFormat().dequantize(np.full([2000, 32, 32, 1], 255, np.uint8), seed=0).numpy()
    assert x.max() < 1
    assert x.min() >= 255 / 256


def test_noise_is_uniform_and_of_all_places_different():
    pixel_format = PixelFormat(num_bits=3)
    x = pixel_format.dequantize(np.zeros([500, 5, 7, 3], np.uint8), seed=2).numpy()
    noise = x * 8
    counts = np.histogram(noise, bins=20, range=(0, 1))[0]
    expected = noise.size / 20
    assert np.sum((counts - expected) ** 2) / expected < 50  # 19 degrees of freedom.
    assert len(np.unique(noise[:100])) > 0.9 * noise[:100].size


@pytest.mark.parametrize("shape", [(23, 3, 5, 1), (11, 4, 4, 3)])
@pytest.mark.parametrize("batch_size", [1, 4, 7])
def test_noise_depends_on_place_and_seed_alone(shape, batch_size):
    pixel_format, images = PixelFormat(), random_images(*shape)
    whole = pixel_format.dequantize(images, seed=3)
    in_graph = tf.function(lambda x, first: pixel_format.dequantize(x, seed=3, first=first))
    for first in range(0, len(images), batch_size):
        part = slice(first, first + batch_size)
        found = in_graph(images[part], tf.constant(first, tf.int64))
        np.testing.assert_array_equal(found, whole[part])
    assert not np.any(whole == pixel_format.dequantize(images, seed=4))


def test_dequantized_images_are_an_array_that_is_made_slice_by_slice():
    images = random_images(10, 4, 4, 1)
    lazy = DequantizedImages(images, PixelFormat(padding=1), draw=5)
    assert (len(lazy), lazy.shape) == (10, (10, 6, 6, 1))
    expected = PixelFormat(padding=1).dequantize(images, seed=5)
    np.testing.assert_array_equal(lazy[:], expected)
    np.testing.assert_array_equal(lazy[3:5], expected[3:5])
    np.testing.assert_array_equal(lazy[-2:], expected[-2:])
    with pytest.raises(ValueError, match="step 1, got step 2"):
        lazy[::2]


def test_what_is_not_a_number_is_black_and_what_is_beyond_is_cut_off():
    x = np.array([np.nan, -0.5, 0.0, 0.999, 1.5, np.inf], np.float32).reshape(1, 1, 6, 1)
    assert PixelFormat().quantize(x).numpy().ravel().tolist() == [0, 0, 0, 255, 255, 255]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_bits": 0}, "`num_bits` must be an integer from 1 to 8, got 0"),
        ({"num_bits": 9}, "`num_bits` must be an integer from 1 to 8, got 9"),
        ({"num_bits": 2.5}, "`num_bits` must be an integer from 1 to 8, got 2.5"),
        ({"padding": -1}, "`padding` must be an integer from 0 to 1024, got -1"),
    ],
)
def test_errors_of_the_format(arguments, message):
    with pytest.raises(ValueError, match=message):
        PixelFormat(**arguments)


def test_only_bytes_of_images_are_dequantized():
    with pytest.raises(ValueError, match="`pixels` must be uint8 .* got float32 of shape"):
        PixelFormat().midpoints(np.zeros([2, 4, 4, 1], np.float32))
    with pytest.raises(ValueError, match=r"`pixels` must be uint8 .* of shape \(2, 4\)"):
        PixelFormat().midpoints(np.zeros([2, 4], np.uint8))


@pytest.mark.parametrize(
    ("scaled", "what"),
    [
        (lambda x: x.astype(np.float32), "whole numbers"),
        (lambda x: x, "whole numbers"),
        (lambda x: (x / 255).astype(np.float32), "multiples of 1/255"),
        (lambda x: x / np.float32(256), "multiples of 1/256"),
        (lambda x: (x >> 3) / np.float32(32), "multiples of 1/256"),
        (lambda x: (x / 127.5 - 1).astype(np.float32), "multiples of 1/255"),
    ],
)
def test_images_without_noise_are_not_trained_on(scaled, what):
    pixels = random_images(20, 4, 4, 1)
    flow = Flow(GlowConfig((4, 4, 1), num_levels=1, steps_per_level=1, hidden_channels=4))
    flow.compile("adam")
    message = f"`x` must have noise on its pixels, as .*, got {what}"
    batches = tf.data.Dataset.from_tensor_slices(scaled(pixels)).batch(10)
    for data in (scaled(pixels), batches):
        with pytest.raises(ValueError, match=message):
            flow.fit(data, verbose=0)
    noisy = flow.config.domain.dequantize(pixels, seed=0).numpy()
    for validation in (scaled(pixels), (scaled(pixels),), batches):
        with pytest.raises(ValueError, match=message):
            flow.fit(noisy, validation_data=validation, verbose=0)
    assert not flow.adapted
    flow.adapt(pixels)  # Bytes get noise here.
    with pytest.raises(ValueError, match=message):
        flow.fit(batches, verbose=0)
    # What cannot be looked at twice is not.
    flow.fit(((x,) for x in [noisy]), verbose=0)
    assert flow.step == 1


def test_of_many_bytes_a_sample_gets_noise():
    pixels = np.random.default_rng(0).integers(0, 256, size=(130, 256, 128, 1)).astype(np.uint8)
    config = GlowConfig((256, 128, 1), num_levels=1, steps_per_level=1, hidden_channels=1)
    all_of_them, every_third = Flow(config), Flow(config)
    all_of_them.adapt(pixels)  # Two million values are in 61 of them.
    every_third.adapt(pixels[::3])
    for weight, other in zip(all_of_them.weights, every_third.weights, strict=True):
        np.testing.assert_array_equal(weight, other)


def test_bytes_are_no_numbers_to_a_flow():
    flow = Flow(GlowConfig((4, 4, 1), num_levels=1, steps_per_level=1, hidden_channels=4))
    pixels = random_images(3, 4, 4, 1)
    for given in (pixels, tf.constant(pixels), pixels.astype(np.int64)):
        with pytest.raises(ValueError, match=r"`x` must be numbers in \[0, 1\), as .* got u?int"):
            flow.log_prob(given)
    numbers = flow.config.domain.dequantize(pixels, seed=0)
    flow.adapt(pixels)
    of_bytes = flow.log_prob(numbers)
    flow.adapt(numbers)
    np.testing.assert_array_equal(flow.log_prob(numbers), of_bytes)


def test_config_refuses_padding_without_image():
    with pytest.raises(
        ValueError, match=r"`padding` must leave an image within \(8, 8, 1\), got 4"
    ):
        GlowConfig((8, 8, 1), num_levels=1, padding=4)


def test_identity_flow_needs_all_bits_of_uniform_pixels():
    # A density of 1 on [0, 1)^D, which a flow of a standard normal is only in the limit: its
    # log-likelihood is 0, and a pixel of 2^b equally likely values needs b bits.
    for num_bits in (1, 5, 8):
        found = PixelFormat(num_bits).bits_per_dim(0.0, (28, 28, 1))
        assert found == pytest.approx(num_bits, abs=1e-12)


def test_gaussian_flow_needs_the_entropy_of_the_data():
    # Whole numbers with a normal distribution, sigma 9 of 256 values: far above the noise, so
    # that the entropy of the integers is that of the density up to 1e-6.
    deviation, dims = 9.0, 16
    values = np.random.default_rng(1).normal(128, deviation, [40_000, 4, 4, 1])
    images = np.clip(np.floor(values), 0, 255).astype(np.uint8)
    flow = Flow(GlowConfig((4, 4, 1), num_levels=1, steps_per_level=1, hidden_channels=2))
    flow.standardize.set_statistics(np.array([128 / 256]), np.array([deviation / 256]))
    found = evaluate_likelihood(flow, images)
    flow_bits = bits_per_dim(found.mean, dims)
    entropy = 0.5 * np.log2(2 * np.pi * np.e * deviation**2)
    error = 2 * found.standard_error / (dims * np.log(2))
    assert error < 5e-3
    assert flow_bits == pytest.approx(entropy, abs=error + 1e-3)  # Noise widens by 1/12 of 81.


def test_padding_does_not_flatter():
    # The padded flow spends no bit on padding only if it knows it for sure; then both are equal.
    nats = np.array([-100.0])
    plain = PixelFormat().bits_per_dim(nats, (28, 28, 1))
    certain = nats + (32 * 32 - 28 * 28) * np.log(256)  # Density 256 on the padding: certainty.
    padded = PixelFormat(padding=2).bits_per_dim(certain, (32, 32, 1))
    np.testing.assert_allclose(padded, plain, rtol=1e-12)
    # Of a flow that knows nothing of it, which models the padding as uniform, it is worse.
    assert PixelFormat(padding=2).bits_per_dim(nats, (32, 32, 1)) > plain
    with pytest.raises(
        ValueError, match="`modelled_dims` must be an integer of at least 10, got 9"
    ):
        bits_per_dim(0.0, 10, modelled_dims=9)


def test_draws_are_averaged_for_each_image():
    flow = Flow(
        GlowConfig((4, 4, 1), num_levels=1, steps_per_level=1, hidden_channels=2, padding=1)
    )
    images = random_images(50, 2, 2, 1)
    flow.adapt(PixelFormat(padding=1).dequantize(images, seed=9))
    each = [
        flow.log_prob(DequantizedImages(images, PixelFormat(padding=1), draw=draw)[:]).numpy()
        for draw in range(3)
    ]
    found = evaluate_likelihood(flow, images, draws=3, batch_size=7)
    assert found.mean == pytest.approx(np.mean(each), rel=1e-5)
    expected = np.std(np.mean(each, axis=0), ddof=1) / 50**0.5
    assert found.standard_error == pytest.approx(expected, rel=1e-4)
    assert evaluate_likelihood(flow, images) == evaluate_likelihood(flow, images)
    with pytest.raises(
        ValueError,
        match="`draws` must be 1 where `x` is no uint8 images and has no integers, got 2",
    ):
        evaluate_likelihood(flow, each[0], draws=2)


def test_fit_and_evaluate_log_bits_per_dim():
    flow = Flow(
        GlowConfig((4, 4, 1), num_levels=1, steps_per_level=1, hidden_channels=2, num_bits=5)
    )
    x = PixelFormat(5).dequantize(random_images(32, 4, 4, 1), seed=0)
    flow.compile("adam", jit_compile=False)
    history = flow.fit(x, batch_size=16, validation_data=(x,), verbose=0).history
    for prefix in ("", "val_"):
        expected = bits_per_dim(-history[f"{prefix}nll"][0], 16, bins=32)
        assert history[f"{prefix}bits_per_dim"][0] == pytest.approx(expected, rel=1e-5)
