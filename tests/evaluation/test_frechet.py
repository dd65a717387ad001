"""Tests of the Fréchet distance, against closed forms of Gaussians."""

import dataclasses
import json

import numpy as np
import pytest
import scipy.linalg
from small_extractors import linear_model, random_images

from tfp_distill.evaluation import (
    FeatureExtractor,
    FeatureStatistics,
    FrechetDistance,
    check_comparable,
    frechet_distance,
    image_statistics,
)

MEAN = np.array([1.0, -2.0, 0.5])
DISTANCE = FrechetDistance(12.345, 10_000, 2000, "tiny_features", "ab" * 32, "cd" * 32)


def gaussian(mean, covariance, **changes):
    fields = dict(num_images=100, image_shape=(4, 4, 3), extractor="tiny_features")
    texts = dict(extractor_fingerprint="ab" * 32, images_fingerprint="cd" * 32)
    mean, covariance = np.asarray(mean, np.float64), np.asarray(covariance, np.float64)
    return FeatureStatistics(mean, covariance, **{**fields, **texts, **changes})


def value(mean_a, covariance_a, mean_b, covariance_b):
    return frechet_distance(gaussian(mean_a, covariance_a), gaussian(mean_b, covariance_b)).value


def random_covariance(dims, seed, *, rank=None):
    factor = np.random.default_rng(seed).normal(size=(dims, rank or 2 * dims))
    return factor @ factor.T / dims


def random_rotation(dims, seed):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(dims, dims)))[0]


def test_gaussians_of_one_dimension():
    # (m1 - m2)^2 + (s1 - s2)^2
    assert value([3], [[4]], [1], [[25]]) == pytest.approx(2**2 + 3**2, rel=1e-12)


def test_what_is_not_finite_has_no_distance():
    good, bad = gaussian([3], [[4]]), gaussian([1], [[25]], num_non_finite=2)
    for pair in ((good, bad), (bad, good)):
        distance = frechet_distance(*pair)
        assert np.isnan(distance.value) and distance.num_non_finite == 2
        assert str(distance).startswith("nan (100 samples, 2 not finite, ")


def test_independent_features():
    a, b = np.array([1.0, 4.0, 0.0]), np.array([9.0, 1.0, 2.0])
    expected = np.sum((np.sqrt(a) - np.sqrt(b)) ** 2) + 3 * 0.1**2
    assert value(MEAN, np.diag(a), MEAN + 0.1, np.diag(b)) == pytest.approx(expected, rel=1e-12)


def test_covariances_that_commute():
    rotation, a, b = random_rotation(7, 0), np.arange(1.0, 8.0), np.arange(7.0, 0.0, -1.0)
    result = value(np.zeros(7), rotation * a @ rotation.T, np.zeros(7), rotation * b @ rotation.T)
    assert result == pytest.approx(np.sum((np.sqrt(a) - np.sqrt(b)) ** 2), rel=1e-12)


@pytest.mark.parametrize("dims", [2, 3, 20])
def test_covariances_that_do_not_commute(dims):
    a, b = random_covariance(dims, 1), random_covariance(dims, 2)
    root = scipy.linalg.sqrtm(a @ b)
    assert np.max(np.abs(a @ b - b @ a)) > 0.1
    expected = dims * 0.5**2 + np.trace(a + b - 2 * root).real
    assert value(np.zeros(dims), a, np.full(dims, 0.5), b) == pytest.approx(expected, rel=1e-10)


def test_of_two_dimensions_in_closed_form():
    # tr M^(1/2) = (tr M + 2 det(M)^(1/2))^(1/2) for 2 by 2 matrices.
    a, b = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([[1.0, -0.5], [-0.5, 4.0]])
    trace = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a) * np.linalg.det(b)))
    expected = np.trace(a + b) - 2 * trace
    assert value([0, 0], a, [0, 0], b) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("rank", [1, 5, 30, 60])
def test_identical_statistics_have_distance_zero(rank):
    covariance = random_covariance(30, 0, rank=rank)
    result = value(np.ones(30), covariance, np.ones(30), covariance)
    assert 0 <= result < 1e-12 * np.trace(covariance)


@pytest.mark.parametrize("rank", [2, 10, 80])
def test_is_symmetric(rank):
    a, b = random_covariance(40, 1, rank=rank), random_covariance(40, 2)
    forth, back = (
        value(np.zeros(40), *pair, np.ones(40), *other)
        for pair, other in (((a,), (b,)), ((b,), (a,)))
    )
    assert forth == pytest.approx(back, rel=1e-12)


@pytest.mark.parametrize(("rank_a", "rank_b"), [(3, 7), (1, 1), (39, 20), (3, 80)])
def test_singular_covariances(rank_a, rank_b):
    # With C1 = A A^T and C2 = B B^T the trace of the root is the sum of A^T B's singular values.
    random = np.random.default_rng(0)
    a, b = (random.normal(size=(40, rank)) for rank in (rank_a, rank_b))
    trace = np.sum(scipy.linalg.svdvals(a.T @ b))
    expected = np.sum(a**2) + np.sum(b**2) - 2 * trace
    result = value(np.zeros(40), a @ a.T, np.zeros(40), b @ b.T)
    assert result == pytest.approx(expected, rel=1e-10)


def test_tiny_negative_eigenvalues_are_zeros():
    a = random_covariance(50, 0, rank=5)
    noise = 1e-15 * np.random.default_rng(1).normal(size=(50, 50))
    noisy = a + (noise + noise.T)
    assert np.min(scipy.linalg.eigvalsh(noisy)) < 0
    assert value(np.zeros(50), noisy, np.zeros(50), a) < 1e-11 * np.trace(a)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_scales_with_the_square_of_the_features(scale):
    a, b = random_covariance(6, 0), random_covariance(6, 1)
    expected = scale**2 * value(np.zeros(6), a, np.ones(6), b)
    a, b = scale**2 * a, scale**2 * b
    assert value(np.zeros(6), a, np.full(6, scale), b) == pytest.approx(expected, rel=1e-10)


def test_features_that_never_change_have_the_distance_of_their_means():
    nothing = np.zeros([3, 3])
    assert value(MEAN, nothing, MEAN + 2, nothing) == pytest.approx(12, rel=1e-12)
    assert value(MEAN, nothing, MEAN, np.eye(3)) == pytest.approx(3, rel=1e-12)


def test_images_of_a_gaussian_approach_the_closed_form():
    random = np.random.default_rng(0)
    model = linear_model(3, size=1)
    weights = model.get_weights()[0]
    extractor = FeatureExtractor(model, name="linear")

    def images(mean, deviation):
        pixels = random.normal(mean, deviation, (20_000, 1, 1, 3))
        return np.round(pixels).astype(np.uint8)

    a, b = images(100, 10), images(120, 20)
    result = frechet_distance(image_statistics(a, extractor), image_statistics(b, extractor))
    covariance = weights.T @ weights
    expected = np.sum((20 * weights.sum(axis=0)) ** 2) + 10**2 * np.trace(covariance)
    assert result.value == pytest.approx(expected, rel=0.02)
    assert (result.num_reference, result.num_samples) == (20_000, 20_000)


def test_fewer_images_than_features():
    extractor = FeatureExtractor(linear_model(40), name="linear")
    a, b = random_images(12), random_images(7, seed=1)
    statistics = [image_statistics(images, extractor) for images in (a, b)]
    assert frechet_distance(statistics[0], statistics[0]).value < 1e-8
    result = frechet_distance(*statistics)
    x, y = (extractor(images).astype(np.float64) for images in (a, b))
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    x, y = (x - x_mean) / np.sqrt(11), (y - y_mean) / np.sqrt(6)
    trace = np.sum(scipy.linalg.svdvals(x @ y.T))
    expected = np.sum((x_mean - y_mean) ** 2) + np.sum(x**2) + np.sum(y**2) - 2 * trace
    assert result.value == pytest.approx(expected, rel=1e-9)


def test_says_what_was_compared():
    reference = gaussian(MEAN, np.eye(3), num_images=500, images_fingerprint="ef" * 32)
    result = frechet_distance(reference, gaussian(MEAN + 1, np.eye(3)))
    expected = FrechetDistance(result.value, 100, 500, "tiny_features", "ab" * 32, "ef" * 32)
    assert result == expected
    assert str(DISTANCE) == "12.35 (10,000 samples, tiny_features)"


def test_goes_through_json():
    result = frechet_distance(gaussian(MEAN, np.eye(3)), gaussian(MEAN + 1, np.eye(3)))
    again = FrechetDistance(**json.loads(json.dumps(dataclasses.asdict(result))))
    assert again == result


def test_the_smaller_distance_is_less():
    better = dataclasses.replace(DISTANCE, value=10.0, extractor="a renamed file")
    assert better < DISTANCE
    assert max([DISTANCE, better]) is DISTANCE
    assert min([DISTANCE, better]) is better
    assert sorted([DISTANCE, better]) == [better, DISTANCE]
    assert DISTANCE - better == pytest.approx(2.345)
    check_comparable()
    check_comparable(DISTANCE)
    check_comparable(DISTANCE, better, DISTANCE)
    with pytest.raises(TypeError):
        DISTANCE < 3.0  # noqa: B015
    with pytest.raises(TypeError):
        DISTANCE - 3.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"extractor": "other_features", "extractor_fingerprint": "12" * 32},
            r"one feature extractor .*'tiny_features' \(abababababab\) and 'other_features' \(1212",
        ),
        (
            {"reference_fingerprint": "12" * 32, "num_reference": 99},
            r"the same reference images .*2,000 images \(cdcdcdcdcdcd\) and 99 images \(1212",
        ),
        ({"num_samples": 5000}, "equally many samples to be compared, got 10,000 and 5,000"),
    ],
)
def test_refuses_to_compare_what_is_different(changes, message):
    other = dataclasses.replace(DISTANCE, **changes)
    for compare in (
        lambda: other < DISTANCE,
        lambda: DISTANCE - other,
        lambda: min(DISTANCE, DISTANCE, other),
        lambda: check_comparable(DISTANCE, DISTANCE, other),
    ):
        with pytest.raises(ValueError, match="Fréchet distances must have"):
            compare()
    with pytest.raises(ValueError, match=message):
        check_comparable(DISTANCE, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"extractor": "other", "extractor_fingerprint": "12" * 32},
            r"extractor of `reference`, 'tiny_features' \(abab.*\), got 'other' \(1212",
        ),
        (
            {"image_shape": (5, 5, 1)},
            r"shape \(4, 4, 3\) as `reference`, got \(5, 5, 1\)",
        ),
    ],
)
def test_refuses_statistics_of_different_things(changes, message):
    reference = gaussian(MEAN, np.eye(3))
    with pytest.raises(ValueError, match=f"`samples` must .*{message}"):
        frechet_distance(reference, gaussian(MEAN, np.eye(3), **changes))
    with pytest.raises(ValueError, match="`samples` must have 3 features as `reference`, got 2"):
        frechet_distance(reference, gaussian(MEAN[:2], np.eye(2)))
