"""Tests of the five benchmark builders on small files of the published formats."""

from __future__ import annotations

import pathlib
import tempfile

import numpy as np
import published_archives
import pytest
import tensorflow_datasets as tfds

from tfp_distill.data import benchmarks, tabular
from tfp_distill.data.tabular import bsds300

_TINY = bsds300.Bsds300Config(
    name="tiny", description="For tests.", num_train=90, num_validation=20, num_test=30
)


class _OnPublishedArchives:
    """Mixed into TFDS's test case, which brings the tests."""

    SPLITS = {"train": 1, "validation": 1, "test": 1}  # Blocks of rows.
    SKIP_CHECKSUMS = True

    @classmethod
    def setUpClass(cls):
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.EXAMPLE_DIR = directory.name
        cls.write(pathlib.Path(directory.name))
        super().setUpClass()


class PowerTest(_OnPublishedArchives, tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = tabular.Power
    write = staticmethod(published_archives.write_power)


class GasTest(_OnPublishedArchives, tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = tabular.Gas
    # Not a name that is looked for in `manual_dir`: this one is downloaded.
    DL_DOWNLOAD_RESULT = "downloaded"

    @staticmethod
    def write(directory):
        published_archives.write_gas(directory / "downloaded")


class HepmassTest(_OnPublishedArchives, tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = tabular.Hepmass
    write = staticmethod(published_archives.write_hepmass)


class MinibooneTest(_OnPublishedArchives, tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = tabular.Miniboone
    write = staticmethod(published_archives.write_miniboone)


class Bsds300Test(_OnPublishedArchives, tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = tabular.Bsds300
    BUILDER_CONFIG_NAMES_TO_TEST = [_TINY]
    write = staticmethod(published_archives.write_bsds300)


def prepared(builder_class, tmp_path, **arguments):
    """Prepares from `tmp_path` and returns the three parts."""
    builder = builder_class(data_dir=tmp_path / "prepared", **arguments)
    config = tfds.download.DownloadConfig(manual_dir=tmp_path, try_download_gcs=False)
    builder.download_and_prepare(download_config=config)
    parts = builder.as_dataset()
    return [
        np.concatenate([block["features"] for block in parts[part].as_numpy_iterator()])
        for part in ("train", "validation", "test")
    ]


def assert_parts_equal(parts, expected):
    for part, expected_part in zip(parts, expected, strict=True):
        assert part.dtype == np.float32
        np.testing.assert_allclose(part, expected_part, rtol=1e-5, atol=1e-5)


def test_power_values(tmp_path):
    rows = published_archives.write_power(tmp_path)
    num_rows = len(rows)
    rng = np.random.RandomState(42)
    rng.shuffle(rows)
    rows[:, 1] += 0.01 * rng.rand(num_rows)
    rows[:, 0] += 0.001 * rng.rand(num_rows)
    rows[:, 2:5] += rng.rand(num_rows, 3)
    num_test = num_rows // 10
    num_validation = (num_rows - num_test) // 10
    rows = (rows - rows[:-num_test].mean(axis=0)) / rows[:-num_test].std(axis=0)
    first_test = num_rows - num_test
    expected = np.split(rows, [first_test - num_validation, first_test])
    assert_parts_equal(prepared(tabular.Power, tmp_path), expected)


@pytest.mark.parametrize("zipped", [True, False])
def test_gas_values(tmp_path, zipped):
    name = "data.zip" if zipped else "ethylene_CO.txt"
    readings = published_archives.write_gas(tmp_path / name, zipped=zipped)
    parts = prepared(tabular.Gas, tmp_path)
    assert [part.shape for part in parts] == [(81, 8), (9, 8), (10, 8)]
    rows = np.concatenate(parts).astype(np.float64)
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(rows.std(axis=0, ddof=1), 1, rtol=1e-6)
    # Each of the first eight columns has a near copy, which is what remains.
    chosen = readings[np.random.RandomState(42).permutation(400)[:100], 8:]
    expected = (chosen - chosen.mean(axis=0)) / chosen.std(axis=0, ddof=1)
    np.testing.assert_allclose(rows, expected, rtol=1e-4, atol=1e-4)


def test_hepmass_values(tmp_path):
    tables = published_archives.write_hepmass(tmp_path)
    train, test = (tables[part][tables[part][:, 0] == 1, 1:] for part in ("train", "test"))
    continuous = [i for i in range(27) if i not in range(4, 22, 3)]
    train, test = train[:, continuous], test[:, continuous]
    mean, std = train.mean(axis=0), train.std(axis=0, ddof=1)
    expected = [(part - mean) / std for part in (train[:27], train[27:], test)]
    assert_parts_equal(prepared(tabular.Hepmass, tmp_path), expected)


def test_miniboone_values(tmp_path):
    events = published_archives.write_miniboone(tmp_path)
    events = events[:, [i for i in range(50) if i not in range(3, 45, 6)]]
    assert len(events) == 48
    mean, std = events[:44].mean(axis=0), events[:44].std(axis=0)
    expected = [(part - mean) / std for part in (events[:40], events[40:44], events[44:])]
    assert_parts_equal(prepared(tabular.Miniboone, tmp_path), expected)


def test_bsds300_sizes(tmp_path):
    published_archives.write_bsds300(tmp_path)
    parts = prepared(tabular.Bsds300, tmp_path, config=_TINY)
    assert [part.shape for part in parts] == [(90, 63), (20, 63), (30, 63)]
    assert np.abs(np.concatenate(parts)).max() < 1


def test_bsds300_patches_are_windows_without_their_mean():
    # In this photograph a pixel says its row, in steps of 10 grey levels.
    photograph = np.broadcast_to(10 * np.arange(20, dtype=np.uint8)[:, None], [20, 15])
    patches = bsds300.draw_patches([photograph], 50, rng=np.random.RandomState(0))
    last = -patches.sum(axis=1, keepdims=True, dtype=np.float64)
    pixels = 256 * np.hstack([patches, last]).reshape(50, 8, 8)
    down, right = np.diff(pixels, axis=1), np.diff(pixels, axis=2)
    assert np.abs(down - 10).max() <= 1 + 1e-4 and np.abs(right).max() <= 1 + 1e-4
    assert np.abs(right).max() > 0.5  # There is noise.


def test_bsds300_needs_photographs(tmp_path):
    published_archives.write_bsds300(tmp_path, num_train=1)
    with pytest.raises(ValueError, match="at least 2 training and 1 test photographs, got 1 and 3"):
        bsds300.read_photographs(tmp_path / "BSDS300-images.tgz")


def test_an_archive_that_is_not_the_published_one(tmp_path):
    events = np.random.default_rng(0).normal(size=[30, 50])  # No column is discrete.
    np.savetxt(tmp_path / "MiniBooNE_PID.txt", events, header="30 0", comments="")
    with pytest.raises(ValueError, match="`miniboone` must have 43 dimensions .*, got 50"):
        prepared(tabular.Miniboone, tmp_path)


def test_names_are_those_of_the_builders():
    builders = (tabular.Power, tabular.Gas, tabular.Hepmass, tabular.Miniboone, tabular.Bsds300)
    configs = {f"bsds300/{config.name}" for config in tabular.Bsds300.BUILDER_CONFIGS}
    assert set(benchmarks.NAMES) | {"bsds300/full"} == {b.name for b in builders} | configs
    sizes = tabular.Bsds300.builder_configs["small"]
    assert (sizes.num_train, sizes.num_validation, sizes.num_test) == (200_000, 20_000, 50_000)
