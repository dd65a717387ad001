"""Tests of means and covariances of features, and of the files that keep them."""

import dataclasses

import numpy as np
import pytest
from small_extractors import CountingExtractor, linear_model, random_images

from tfp_distill.evaluation import (
    FeatureExtractor,
    FeatureStatistics,
    image_statistics,
    reference_statistics,
)


def test_is_what_numpy_computes_at_once():
    images = random_images(103)
    extractor = FeatureExtractor(linear_model(), name="linear", batch_size=8)
    statistics = image_statistics(images, extractor)
    features = extractor(images).astype(np.float64)
    np.testing.assert_allclose(statistics.mean, features.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(statistics.covariance, np.cov(features.T), rtol=1e-11)
    assert statistics.num_images == 103
    assert statistics.image_shape == (4, 4, 3)
    assert statistics.extractor == "linear"
    assert statistics.extractor_fingerprint == extractor.fingerprint


@pytest.mark.parametrize("batch_size", [1, 2, 50])
def test_batches_of_the_extractor_do_not_matter(batch_size):
    images = random_images(21)
    expected = image_statistics(images, CountingExtractor(linear_model()))
    result = image_statistics(images, CountingExtractor(linear_model(), batch_size=batch_size))
    np.testing.assert_allclose(result.mean, expected.mean, rtol=1e-5)
    np.testing.assert_allclose(result.covariance, expected.covariance, rtol=1e-5)
    assert result.images_fingerprint == expected.images_fingerprint


@pytest.mark.parametrize("cuts", [[], [1], [0, 3, 4, 15], [10, 20]])
def test_how_a_stream_is_cut_does_not_change_a_bit(cuts):
    images = random_images(21)
    extractor = CountingExtractor(linear_model())
    expected = image_statistics(images, extractor)
    result = image_statistics(iter(np.split(images, cuts)), extractor)
    for name, value in dataclasses.asdict(expected).items():
        np.testing.assert_array_equal(getattr(result, name), value)


def test_never_asks_for_more_than_a_batch_of_features():
    extractor = CountingExtractor(linear_model())
    image_statistics((random_images(10, seed=seed) for seed in range(3)), extractor)
    assert extractor.calls == [4, 4, 4, 4, 4, 4, 4, 2]


def test_a_large_mean_costs_no_accuracy():
    model = linear_model()
    model.layers[-1].set_weights([1e-2 * model.get_weights()[0], np.full(5, 3e4)])
    extractor = FeatureExtractor(model, name="shifted", batch_size=8)
    images = random_images(500)
    features = extractor(images).astype(np.float64)
    result = image_statistics(images, extractor)
    np.testing.assert_allclose(result.covariance, np.cov(features.T), rtol=1e-9)


def test_fingerprints_are_of_bytes_shape_and_order():
    images = random_images(8)
    extractor = CountingExtractor(linear_model())
    changed = images.copy()
    changed[7, 3, 3, 2] ^= 1
    others = [changed, images[::-1], images[:7], images.transpose(0, 2, 1, 3), images[..., :1]]
    others.append(images.reshape(8, 2, 8, 3))
    found = {image_statistics(x, extractor).images_fingerprint for x in [images, *others]}
    assert len(found) == 7
    copy = image_statistics(np.asfortranarray(images), extractor)
    assert copy.images_fingerprint in found


def test_refuses_features_that_are_not_finite_and_counts_them():
    class Broken(CountingExtractor):
        def __call__(self, images):
            features = super().__call__(images)
            features[images[:, 0, 0, 0] == 0, 1:3] = np.nan
            return features

    images = random_images(11) | np.uint8(1)
    images[[5, 7], 0, 0, 0] = 0
    with pytest.raises(ValueError, match="'linear' must be finite, got 2 of 4 .*after 4 good ones"):
        image_statistics(images, Broken(linear_model()))


def test_rejects_wrong_images():
    extractor = CountingExtractor(linear_model())
    for images in (random_images(1), iter([random_images(1)])):
        with pytest.raises(ValueError, match="`images` must hold at least 2 images, got 1"):
            image_statistics(images, extractor)
    with pytest.raises(ValueError, match="`images` must hold at least 2 images, got 0"):
        image_statistics([], extractor)
    with pytest.raises(ValueError, match=r"one shape, got \(4, 4, 3\) and \(5, 5, 3\)"):
        image_statistics([random_images(1), random_images(9, size=5)], extractor)
    with pytest.raises(ValueError, match="`images` must be uint8 .* got float64"):
        image_statistics(random_images(5) / 255, extractor)
    with pytest.raises(ValueError, match="`images` must be uint8 .* got float64"):
        image_statistics([random_images(5), random_images(5) / 255], extractor)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"covariance": np.eye(3)}, r"shapes \(F,\) and \(F, F\), got \(2,\) and \(3, 3\)"),
        ({"mean": np.array([0.0, np.inf])}, "`mean` must be finite, got 1 values"),
        ({"covariance": np.full([2, 2], np.nan)}, "`covariance` must be finite, got 4 values"),
        ({"num_images": 1}, "`num_images` must be at least 2, got 1"),
    ],
)
def test_rejects_statistics_that_are_none(changes, message):
    fields = dict(mean=np.zeros(2), covariance=np.eye(2), num_images=2, image_shape=(4, 4, 3))
    texts = dict(extractor="e", extractor_fingerprint="1", images_fingerprint="2")
    with pytest.raises(ValueError, match=message):
        FeatureStatistics(**{**fields, **texts, **changes})


def assert_same(a, b):
    for name, value in dataclasses.asdict(a).items():
        np.testing.assert_array_equal(getattr(b, name), value)


def test_reference_is_computed_once(tmp_path):
    images = random_images(10)
    first = reference_statistics(images, CountingExtractor(linear_model()), cache_dir=tmp_path)
    assert_same(first, image_statistics(images, CountingExtractor(linear_model())))
    extractor = CountingExtractor(linear_model())
    assert_same(first, reference_statistics(images, extractor, cache_dir=str(tmp_path)))
    assert extractor.calls == []
    assert len(list(tmp_path.iterdir())) == 1


def test_other_images_and_other_extractors_have_files_of_their_own(tmp_path):
    images = random_images(10)
    for model, data in [
        (linear_model(), images),
        (linear_model(), images[:9]),
        (linear_model(), images[..., :1]),
        (linear_model(seed=1), images),
        (linear_model(activation="tanh"), images),
    ]:
        extractor = CountingExtractor(model)
        result = reference_statistics(data, extractor, cache_dir=tmp_path)
        assert sum(extractor.calls) == len(data)
        assert_same(image_statistics(data, extractor), result)
    assert len(list(tmp_path.iterdir())) == 5


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-50])


def _flip_a_bit(path):
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 1
    path.write_bytes(contents)


@pytest.mark.parametrize(
    "damage",
    [
        _truncate,
        _flip_a_bit,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("no archive"),
        lambda path: np.savez(path, mean=np.zeros(5)),
        lambda path: np.savez(path, mean=np.zeros(5), covariance=np.full([5, 5], np.nan)),
        lambda path: np.savez(path, mean=np.zeros(4), covariance=np.eye(4)),
        lambda path: np.savez(path, mean=np.array([{}]), covariance=np.eye(4)),
        lambda path: np.save(path.open("wb"), np.zeros(5)),
    ],
)
def test_a_damaged_file_is_replaced(tmp_path, damage):
    images = random_images(10)
    expected = reference_statistics(images, CountingExtractor(linear_model()), cache_dir=tmp_path)
    [path] = tmp_path.iterdir()
    good = path.read_bytes()
    damage(path)
    extractor = CountingExtractor(linear_model())
    assert_same(expected, reference_statistics(images, extractor, cache_dir=tmp_path))
    assert sum(extractor.calls) == 10
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [good]


def test_a_failure_leaves_no_file(tmp_path, monkeypatch):
    def savez(file, **_):
        file.write(b"half of it")
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", savez)
    with pytest.raises(OSError, match="no space left"):
        reference_statistics(
            random_images(10), CountingExtractor(linear_model()), cache_dir=tmp_path / "new"
        )
    assert list((tmp_path / "new").iterdir()) == []


def test_the_folder_is_that_of_the_users_caches(tmp_path, monkeypatch):
    images, extractor = random_images(10), CountingExtractor(linear_model())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    reference_statistics(images, extractor)
    assert len(list((tmp_path / "caches" / "tfp_distill").iterdir())) == 1
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    reference_statistics(images, extractor)
    assert len(list((tmp_path / "home" / ".cache" / "tfp_distill").iterdir())) == 1


def test_a_reference_is_an_array_of_at_least_two_images(tmp_path):
    extractor = CountingExtractor(linear_model())
    with pytest.raises(ValueError, match="`images` must hold at least 2 images, got 1"):
        reference_statistics(random_images(1), extractor, cache_dir=tmp_path)
    with pytest.raises(ValueError, match="`images` must be uint8 .*got list_iterator"):
        reference_statistics(iter([random_images(3)]), extractor, cache_dir=tmp_path)
