"""Tests of the images that a flow makes batch by batch."""

import numpy as np
import pytest

from tfp_distill import Flow, GlowConfig, MAFConfig, PixelFormat
from tfp_distill.evaluation import interpolated_images, sampled_images
from tfp_distill.flows import interpolate
from tfp_distill.training import StepRandom

pytestmark = pytest.mark.slow

SHAPE = (4, 4, 1)


@pytest.fixture(scope="module")
def flow(randomize):
    result = Flow(
        GlowConfig(
            image_shape=(8, 8, 1), num_levels=2, steps_per_level=1, hidden_channels=4, padding=2
        )
    )
    randomize(result.bijector.keras_layers, size=0.1)
    result.standardize.set_statistics(np.full(1, 0.5), np.full(1, 0.2))
    return result


def all_of(batches):
    return np.concatenate(list(batches))


def data_images(num, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (num, *SHAPE), np.uint8)


def assert_same_images(a, b):
    """But for rounding at the border of two bytes."""
    difference = np.abs(a.astype(int) - b.astype(int))
    assert difference.max() <= 1
    assert np.mean(difference) < 1e-3


def test_samples_are_images_of_the_flow(flow):
    images = all_of(sampled_images(flow, 10, seed=3))
    assert images.shape == (10, *SHAPE)
    assert images.dtype == np.uint8
    z = StepRandom(3, 0, stream="samples in batches").normal(64, flow.latent_dims)[:10]
    expected = PixelFormat(padding=2).quantize(flow.to_data(z)).numpy()
    assert_same_images(images, expected)
    assert images.std() > 10


@pytest.mark.parametrize("batch_size", [1, 7, 64, 100, 1000])
def test_samples_do_not_depend_on_batches(flow, batch_size):
    batches = list(sampled_images(flow, 130, seed=1, batch_size=batch_size))
    full, last = divmod(130, batch_size)
    assert [len(batch) for batch in batches] == [batch_size] * full + [last] * (last > 0)
    assert_same_images(np.concatenate(batches), all_of(sampled_images(flow, 130, seed=1)))


def test_more_samples_start_with_the_same(flow):
    many = all_of(sampled_images(flow, 100))
    assert_same_images(all_of(sampled_images(flow, 70)), many[:70])
    assert len(np.unique(many.reshape(100, -1), axis=0)) == 100


def test_seed_and_temperature(flow):
    images = all_of(sampled_images(flow, 20, seed=0))
    assert_same_images(images, all_of(sampled_images(flow, 20, seed=0)))
    assert np.mean(images != all_of(sampled_images(flow, 20, seed=1))) > 0.5
    cold = all_of(sampled_images(flow, 20, temperature=0.0))
    assert_same_images(cold, np.broadcast_to(cold[:1], cold.shape))
    warm = all_of(sampled_images(flow, 20, temperature=0.5))
    assert cold.std(axis=0).mean() < warm.std(axis=0).mean() < images.std(axis=0).mean()


def pairs_of(flow, images, n, **options):
    """Which images are next to each place, as the ends of the ways show."""
    ends = [
        all_of(interpolated_images(flow, images, n, alpha=alpha, **options)) for alpha in (0, 1)
    ]
    return [
        np.argmin(np.abs(end[:, None].astype(int) - images.astype(int)).sum((2, 3, 4)), axis=1)
        for end in ends
    ]


def test_interpolations_go_from_an_image_to_another(flow):
    images = data_images(6)
    first, second = pairs_of(flow, images, 50)
    assert_same_images(all_of(interpolated_images(flow, images, 50, alpha=0)), images[first])
    assert_same_images(all_of(interpolated_images(flow, images, 50, alpha=1)), images[second])
    assert np.all(first != second)
    assert set(first) == set(second) == set(range(6))


@pytest.mark.parametrize("alpha", [0.5, 0.2])
def test_interpolations_are_those_of_the_flow(flow, alpha):
    images = data_images(6)
    first, second = pairs_of(flow, images, 20, seed=2)
    pixel_format = PixelFormat(padding=2)
    ends = (pixel_format.midpoints(images[places]) for places in (first, second))
    expected = pixel_format.quantize(interpolate(flow, *ends, [alpha])[:, 0]).numpy()
    result = all_of(interpolated_images(flow, images, 20, alpha=alpha, seed=2))
    assert_same_images(result, expected)


@pytest.mark.parametrize("batch_size", [1, 8, 30])
def test_interpolations_do_not_depend_on_batches(flow, batch_size):
    images = data_images(5)
    batches = interpolated_images(flow, images, 20, batch_size=batch_size)
    assert_same_images(all_of(batches), all_of(interpolated_images(flow, images, 20)))


def test_temperature_scales_interpolated_latents(flow):
    images = data_images(5)
    cold = all_of(interpolated_images(flow, images, 8, temperature=0.0))
    assert_same_images(cold, np.broadcast_to(cold[:1], cold.shape))
    expected = all_of(sampled_images(flow, 1, temperature=0.0))
    assert_same_images(cold[:1], expected)


def test_rejects_wrong_arguments_at_once(flow):
    table = Flow(MAFConfig(dims=3, num_steps=1, hidden_units=4))
    images = data_images(3)
    with pytest.raises(ValueError, match=r"`flow` must be a flow of images, got shape \(3,\)"):
        sampled_images(table, 5)
    with pytest.raises(ValueError, match="`flow` must be a flow of images"):
        interpolated_images(table, images, 5)
    with pytest.raises(ValueError, match="`n` must be an integer of at least 1, got 0"):
        sampled_images(flow, 0)
    with pytest.raises(ValueError, match="`temperature` must be finite and not negative, got -1"):
        sampled_images(flow, 5, temperature=-1.0)
    with pytest.raises(ValueError, match="`seed` must be an integer of at least 0, got -1"):
        interpolated_images(flow, images, 5, seed=-1)
    with pytest.raises(ValueError, match="`batch_size` must be an integer of at least 1, got 0"):
        sampled_images(flow, 5, batch_size=0)
    with pytest.raises(ValueError, match=r"`alpha` must be a number in \[0, 1\], got 1.5"):
        interpolated_images(flow, images, 5, alpha=1.5)
    for wrong in (images[:1], images / 255, np.zeros([5, 8, 8, 1], np.uint8)):
        with pytest.raises(ValueError, match=r"`images` must be uint8 of shape \('n', 4, 4, 1\)"):
            interpolated_images(flow, wrong, 5)


def test_images_that_are_not_finite_are_counted(flow):
    broken = Flow(flow.config)
    broken.set_weights(flow.get_weights())
    broken.standardize.set_statistics(np.full(1, 0.5), np.full(1, 3e38))
    images = sampled_images(broken, 20, batch_size=8)
    number = 0
    for batch in images:
        assert batch.dtype == np.uint8
        assert images.num_non_finite >= number
        number = images.num_non_finite
    assert 0 < number <= 20
    whole = sampled_images(flow, 20)
    list(whole)
    assert whole.num_non_finite == 0
