"""Tests of loading the embedded data and the benchmark sets."""

import importlib.resources
import os
import pathlib

import numpy as np
import published_archives
import pytest
import requests
import tensorflow_datasets as tfds

from tfp_distill.data import embedded, load, sources
from tfp_distill.data.embedded import make
from tfp_distill.data.tabular import power
from tfp_distill.domains import ImageDomain
from tfp_distill.pixels import PixelFormat

_SHARED = os.environ.get("TFP_DISTILL_SHARED_DATA")
needs_shared_data = pytest.mark.skipif(
    not _SHARED, reason="TFP_DISTILL_SHARED_DATA does not name a directory with real archives."
)


def parts(data):
    return data.train, data.validation, data.test


def test_embedded():
    data = load("embedded")
    assert [part.shape for part in parts(data)] == [(80_000, 6), (10_000, 6), (10_000, 6)]
    assert all(part.dtype == np.float32 and np.isfinite(part).all() for part in parts(data))
    assert data.name == "embedded" and data.feature_names == power.FEATURE_NAMES
    np.testing.assert_array_equal(data.statistics.mean, np.zeros(6))
    np.testing.assert_array_equal(data.statistics.scale, np.ones(6))
    reference = np.concatenate(parts(data)[:2]).astype(np.float64)
    np.testing.assert_allclose(reference.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(reference.std(axis=0), 1, rtol=1e-6)


def test_embedded_is_the_same_every_time_and_for_every_seed():
    for part, again in zip(
        parts(load("embedded")), parts(load("embedded", split_seed=1)), strict=True
    ):
        np.testing.assert_array_equal(part, again)


def test_embedded_measurements():
    measurements = embedded.load_measurements()
    assert measurements.shape == (100_000, 6)
    active, voltage, *meters, time = measurements.T
    assert active.min() > 0 and active.max() < 12
    assert voltage.min() > 220 and voltage.max() < 260
    assert all((meter >= 0).all() and (meter == meter.round()).all() for meter in meters)
    assert set(time) == set(range(1440))


def test_embedded_with_conditions():
    whole, data = load("embedded"), load("embedded", condition_columns=("time",))
    assert data.feature_names == power.FEATURE_NAMES[:-1]
    np.testing.assert_array_equal(data.test, whole.test[:, :-1])
    np.testing.assert_array_equal(data.test_condition, whole.test[:, -1:])
    np.testing.assert_array_equal(data.condition_statistics.scale, [1])


def test_embedded_file_is_small_and_attributed():
    directory = importlib.resources.files(embedded)
    with importlib.resources.as_file(directory / embedded.FILE_NAME) as path:
        assert path.stat().st_size <= 2 * 2**20
    attribution = (directory / "ATTRIBUTION.md").read_text()
    assert "Hebrail" in attribution and "CC BY 4.0" in attribution


def test_the_subset_is_written_the_same_every_time(tmp_path):
    published_archives.write_power(tmp_path)
    archive = tmp_path / "household_power_consumption.zip"
    columns = make.draw_subset(power.read_archive(archive), num_rows=20, seed=0)
    for name in ("one", "two"):
        make.write(tmp_path / name, columns)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with np.load(tmp_path / "one") as stored:
        assert list(stored) == list(embedded.UNITS)
        assert all(len(stored[name]) == 20 for name in stored)


def test_sources_name_all_that_load_takes():
    assert sources() == (
        "embedded",
        *("power", "gas", "hepmass", "miniboone", "bsds300", "bsds300/small"),
        *("digits", "cifar10", "celeb_a", "fashion_mnist", "mnist"),
        *(f"imagenet_resized/{size}x{size}" for size in (8, 16, 32, 64)),
    )


def test_digits_come_with_their_four_bits():
    data = load("digits")
    assert data.domain == ImageDomain(PixelFormat(num_bits=4))
    assert (data.event_shape, data.condition_dims, data.feature_names) == ((8, 8, 1), 0, ())
    assert [len(part) for part in parts(data)] == [1437, 180, 180]
    assert load("digits", num_bits=2, padding=4).domain == ImageDomain(PixelFormat(2, 4))


def test_statistics_of_images_are_those_of_what_a_flow_sees():
    data = load("digits")
    x = data.examples("train")[:]
    assert data.statistics.mean == pytest.approx(x.mean(), abs=1e-3)
    assert data.statistics.scale == pytest.approx(x.std(), abs=1e-3)


def test_examples_are_rows_as_they_are_and_images_dequantised(tmp_path):
    rows = load("embedded")
    assert rows.examples("test") is rows.test
    data = load("digits", padding=2)
    x = data.examples("validation", draw=3)
    assert x.shape == (180, 12, 12, 1)
    np.testing.assert_array_equal(x[:], PixelFormat(4, 2).dequantize(data.validation, seed=3))
    with pytest.raises(ValueError, match="`part` must be one of train, validation, test, got 'x'"):
        data.examples("x")


def test_a_file_of_bytes_is_images_and_one_of_numbers_is_rows(tmp_path):
    random = np.random.default_rng(0)
    np.savez(tmp_path / "pixels.npz", images=random.integers(0, 256, [20, 6, 4], np.uint8))
    np.savez(tmp_path / "numbers.npz", random.normal(size=[20, 4]))
    images = load(tmp_path / "pixels.npz")
    assert (images.name, images.event_shape, images.train.dtype) == ("pixels", (6, 4, 1), np.uint8)
    assert load(tmp_path / "numbers.npz").event_shape == (4,)


def test_a_name_is_not_taken_for_a_directory(tmp_path, monkeypatch):
    (tmp_path / "embedded").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load("embedded").event_shape == (6,)


def test_a_constant_channel_still_has_a_scale(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, [20, 4, 4, 3], np.uint8)
    images[..., 2] = 7
    np.savez(tmp_path / "no_blue.npz", images)
    assert load(tmp_path / "no_blue.npz").statistics.scale[2] == pytest.approx(0.5 / 256)


@pytest.mark.parametrize(
    ("source", "arguments", "message"),
    [
        (
            "digits",
            {"condition_columns": ["a"]},
            "`condition_columns` must be empty where `source` hold",
        ),
        ("digits", {"num_bits": 9}, "`num_bits` must be an integer from 1 to 8, got 9"),
        (
            "digits",
            {"split": "by_order"},
            "`split` must be random where `source` holds images, got",
        ),
        (
            "embedded",
            {"columns": ["a"]},
            "`columns` must be empty where `source` is 'embedded', got",
        ),
        (
            "embedded",
            {"test_data": "a.csv"},
            "`test_data` must be None where `source` is 'embedded",
        ),
        ("embedded", {"num_bits": 8}, "`num_bits` must be None where `source` is no image, got 8"),
        ("embedded", {"padding": 1}, "`padding` must be 0 where `source` is no image, got 1"),
        ("embedded", {"image_size": 8}, "`image_size` must be None where `source` is no image"),
    ],
)
def test_errors_about_images(source, arguments, message):
    with pytest.raises(ValueError, match=message):
        load(source, **arguments)


def test_a_benchmark_is_prepared_once(tmp_path, capfd):
    rows = published_archives.write_power(tmp_path)
    first = load("power", data_dir=tmp_path / "prepared", manual_dir=tmp_path)
    assert "examples/s" not in capfd.readouterr().err  # No progress bars.
    assert sum(map(len, parts(first))) == len(rows)
    np.testing.assert_array_equal(first.statistics.scale, np.ones(6))
    (tmp_path / "household_power_consumption.zip").unlink()
    capfd.readouterr()
    again = load("power", data_dir=str(tmp_path / "prepared"), manual_dir=tmp_path / "absent")
    assert capfd.readouterr().out == ""
    for part, part_again in zip(parts(first), parts(again), strict=True):
        np.testing.assert_array_equal(part, part_again)


def test_many_blocks_keep_their_order(tmp_path, monkeypatch):
    published_archives.write_power(tmp_path)
    first = load("power", data_dir=tmp_path / "one", manual_dir=tmp_path)
    monkeypatch.setattr("tfp_distill.data.tabular.builder.ROWS_PER_EXAMPLE", 7)
    blocks = load("power", data_dir=tmp_path / "two", manual_dir=tmp_path)
    np.testing.assert_array_equal(first.train, blocks.train)


@pytest.mark.slow
def test_bsds300_has_statistics(tmp_path):
    published_archives.write_bsds300(tmp_path)
    data = load("bsds300/small", data_dir=tmp_path / "prepared", manual_dir=tmp_path)
    assert [part.shape for part in parts(data)] == [(200_000, 63), (20_000, 63), (50_000, 63)]
    train = data.train.astype(np.float64)
    np.testing.assert_allclose(data.statistics.mean, train.mean(axis=0), atol=1e-7)
    np.testing.assert_allclose(data.statistics.scale, train.std(axis=0), rtol=1e-5)


def test_without_archive_and_network(tmp_path, monkeypatch):
    def download(self, url):
        raise requests.ConnectionError(f"no route to {url}")

    monkeypatch.setattr(tfds.download.DownloadManager, "download", download)
    with pytest.raises(
        OSError, match="`gas` needs https.*data.zip or ethylene_CO.txt.*`manual_dir`"
    ):
        load("gas", data_dir=tmp_path / "prepared")
    (tmp_path / "empty").mkdir()
    with pytest.raises(OSError, match="`power` needs .*household_power_consumption.zip"):
        load("power", data_dir=tmp_path / "prepared", manual_dir=tmp_path / "empty")
    with pytest.raises(
        ValueError, match="`manual_dir` must be an existing directory, got .*absent"
    ):
        load("power", data_dir=tmp_path / "prepared", manual_dir=tmp_path / "absent")


@needs_shared_data
def test_real_power(tmp_path):
    data = load("power", data_dir=tmp_path, manual_dir=_SHARED)
    assert [part.shape for part in parts(data)] == [(1_659_900, 6), (184_433, 6), (204_925, 6)]
    reference = np.concatenate(parts(data)[:2])
    np.testing.assert_allclose(reference.mean(axis=0, dtype=np.float64), 0, atol=1e-6)
    np.testing.assert_allclose(reference.std(axis=0, dtype=np.float64), 1, rtol=1e-6)


@needs_shared_data
def test_the_embedded_file_is_what_make_writes(tmp_path):
    archive = pathlib.Path(_SHARED) / "household_power_consumption.zip"
    make.main([f"--archive={archive}", f"--output={tmp_path / 'made.npz'}"])
    stored = importlib.resources.files(embedded).joinpath(embedded.FILE_NAME).read_bytes()
    assert (tmp_path / "made.npz").read_bytes() == stored


@needs_shared_data
def test_real_photographs(tmp_path):
    data = load("bsds300/small", data_dir=tmp_path, manual_dir=_SHARED)
    assert [part.shape for part in parts(data)] == [(200_000, 63), (20_000, 63), (50_000, 63)]
    # Pixel 27 is amid the patch; pixels close to each other are alike, also without the mean.
    correlations = np.corrcoef(data.train[:, [27, 28, 29, 31]], rowvar=False)[0]
    assert correlations[1] > 0.5 and list(correlations) == sorted(correlations, reverse=True)
