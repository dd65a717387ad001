"""Tests of the images that come with the library and of published sets."""

import gzip
import hashlib
import importlib.resources

import numpy as np
import published_images
import pytest
import requests
import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums
from tensorflow_datasets.image_classification import mnist

from tfp_distill.data import embedded
from tfp_distill.data.embedded import make_digits
from tfp_distill.data.images import image_arrays, image_builders, image_sets
from tfp_distill.pixels import PixelFormat


def rows(*parts):
    """The bytes of images, sorted."""
    return sorted(image.tobytes() for part in parts for image in part)


def trust_archives(monkeypatch, name, directory):
    """Lets TFDS take the archives in a directory for the published ones."""
    builder = tfds.builder(name, data_dir=directory)
    for url, info in builder.url_infos.items():
        if (directory / info.filename).exists():
            found = checksums.compute_url_info(directory / info.filename)
            monkeypatch.setitem(builder.url_infos, url, found)


def load(name, tmp_path, **arguments):
    directories = {"data_dir": tmp_path / "prepared", "manual_dir": tmp_path}
    return image_sets.load(name, **directories | arguments)


class TestDigits:
    def test_parts(self):
        parts = image_sets.load("digits")
        assert [part.shape for part in parts] == [(n, 8, 8, 1) for n in (1437, 180, 180)]
        assert all(part.dtype == np.uint8 for part in parts)
        for part, again in zip(parts, image_sets.load("digits", seed=3), strict=True):
            np.testing.assert_array_equal(part, again)

    def test_levels_are_those_of_four_bits(self):
        parts = image_sets.load("digits")
        stored = embedded.load_digits()
        assert stored.shape == (1797, 8, 8) and stored.max() == 16
        expected = np.minimum(16 * stored.astype(int), 255).astype(np.uint8)
        assert rows(*parts) == rows(expected)
        levels = 16 * PixelFormat(num_bits=4).midpoints(parts.train) - 0.5
        np.testing.assert_array_equal(np.unique(levels), np.arange(16))

    def test_parts_look_alike(self):
        means = [part.mean() for part in image_sets.load("digits")]
        assert max(means) - min(means) < 5

    def test_resized(self):
        assert image_sets.load("digits", image_size=4).test.shape == (180, 4, 4, 1)

    def test_file_is_small_and_attributed(self):
        directory = importlib.resources.files(embedded)
        with importlib.resources.as_file(directory / embedded.DIGITS_FILE_NAME) as path:
            assert path.stat().st_size < 50_000
        attribution = (directory / "ATTRIBUTION.md").read_text()
        assert "Alpaydin" in attribution and "10.24432/C50P49" in attribution

    def test_the_file_is_what_make_digits_writes(self, tmp_path):
        text = tmp_path / "optdigits.tes"
        pixels = embedded.load_digits().reshape(1797, 64)
        np.savetxt(text, np.insert(pixels, 64, 3, axis=1), fmt="%d", delimiter=",")
        make_digits.main([f"--text={text}", f"--output={tmp_path / 'made.npz'}"])
        directory = importlib.resources.files(embedded)
        stored = directory.joinpath(embedded.DIGITS_FILE_NAME).read_bytes()
        assert (tmp_path / "made.npz").read_bytes() == stored

    @pytest.mark.parametrize("line", ["1,2,3", ",".join(["17"] * 65), ",".join(["1.5"] * 65)])
    def test_another_text(self, tmp_path, line):
        (tmp_path / "other").write_text(line + "\n")
        with pytest.raises(ValueError, match="`text` must have lines of 64 integers from 0 to 16"):
            make_digits.read_text(tmp_path / "other")


class TestFashionMnist:
    @pytest.fixture
    def published(self, tmp_path, monkeypatch):
        """Small files in `tmp_path` that count as the published ones."""
        parts = published_images.write_mnist(tmp_path, 40, 6)
        monkeypatch.setattr(mnist, "_TRAIN_EXAMPLES", 40)
        monkeypatch.setattr(mnist, "_TEST_EXAMPLES", 6)
        contents = {
            path.name: hashlib.md5(gzip.decompress(path.read_bytes())).hexdigest()
            for path in tmp_path.glob("*.gz")
        }
        monkeypatch.setitem(image_builders._MD5_OF_CONTENTS, "fashion_mnist", contents)
        return parts

    def test_archives_that_were_compressed_anew(self, tmp_path, published):
        infos = dict(tfds.builder("fashion_mnist", data_dir=tmp_path).url_infos)
        parts = load("fashion_mnist", tmp_path)
        assert [part.shape for part in parts] == [(n, 28, 28, 1) for n in (36, 4, 6)]
        assert rows(parts.train, parts.validation) == rows(published[0])
        assert rows(parts.test) == rows(published[1])
        assert tfds.builder("fashion_mnist", data_dir=tmp_path).url_infos == infos

    def test_prepared_once_and_split_by_the_seed(self, tmp_path, published):
        first = load("fashion_mnist", tmp_path)
        for path in tmp_path.glob("*.gz"):
            path.unlink()
        again = load("fashion_mnist", tmp_path, manual_dir=None)
        other = load("fashion_mnist", tmp_path, seed=1)
        for part, part_again in zip(first, again, strict=True):
            np.testing.assert_array_equal(part, part_again)
        assert rows(first.validation) != rows(other.validation)
        assert rows(first.train, first.validation) == rows(other.train, other.validation)
        np.testing.assert_array_equal(first.test, other.test)

    def test_size_and_fraction(self, tmp_path, published):
        parts = load("fashion_mnist", tmp_path, image_size=16, validation_fraction=0.5)
        assert [part.shape for part in parts] == [(n, 16, 16, 1) for n in (20, 20, 6)]

    def test_archives_of_another_set(self, tmp_path, published):
        message = "`mnist` needs t10k-images-.*wrong checksum.*`manual_dir`"
        with pytest.raises(OSError, match=message) as error:
            load("mnist", tmp_path)
        assert "\n" not in str(error.value)

    def test_a_damaged_archive(self, tmp_path, published):
        path = tmp_path / "train-images-idx3-ubyte.gz"
        path.write_bytes(path.read_bytes()[:-50])
        with pytest.raises(OSError, match="`fashion_mnist` needs .*wrong checksum"):
            load("fashion_mnist", tmp_path)


def test_names_of_archives_are_those_of_tfds(tmp_path):
    for name, contents in image_builders._MD5_OF_CONTENTS.items():
        infos = tfds.builder(name, data_dir=tmp_path).url_infos
        assert {info.filename for info in infos.values()} == set(contents)


def test_cifar10(tmp_path, monkeypatch):
    train, test = published_images.write_cifar10(tmp_path, 4)
    trust_archives(monkeypatch, "cifar10", tmp_path)
    parts = load("cifar10", tmp_path)
    assert [part.shape for part in parts] == [(n, 32, 32, 3) for n in (18, 2, 4)]
    assert rows(parts.train, parts.validation) == rows(train) and rows(parts.test) == rows(test)


def test_imagenet(tmp_path, monkeypatch):
    train, validation = published_images.write_imagenet(tmp_path, 8)
    trust_archives(monkeypatch, "imagenet_resized/8x8", tmp_path)
    parts = load("imagenet_resized/8x8", tmp_path)
    assert [part.shape for part in parts] == [(n, 8, 8, 3) for n in (27, 3, 6)]
    assert rows(parts.train, parts.validation) == rows(train)
    assert rows(parts.test) == rows(validation)


def test_celeb_a(tmp_path, monkeypatch):
    published_images.write_celeb_a(tmp_path, (5, 3, 2))
    trust_archives(monkeypatch, "celeb_a", tmp_path)
    parts = load("celeb_a", tmp_path)
    assert [part.shape for part in parts] == [(n, 64, 64, 3) for n in (5, 3, 2)]
    assert all(part.min() >= 250 for part in parts)  # The crop is the white square.
    assert load("celeb_a", tmp_path, image_size=32).test.shape == (2, 32, 32, 3)


def test_without_network(tmp_path, monkeypatch):
    def download(self, url):
        raise requests.ConnectionError("no route\nto host")

    for method in ("download", "download_and_extract"):
        monkeypatch.setattr(tfds.download.DownloadManager, method, download)
    with pytest.raises(
        OSError, match="`cifar10` needs cifar-10-binary.tar.gz, .*no route"
    ) as error:
        load("cifar10", tmp_path)
    assert "\n" not in str(error.value)
    with pytest.raises(OSError, match="needs Imagenet8_train_npz.zip, Imagenet8_val_npz.zip, w"):
        load("imagenet_resized/8x8", tmp_path)
    with pytest.raises(ValueError, match="`manual_dir` must be an existing directory, got .*none"):
        load("celeb_a", tmp_path, manual_dir=tmp_path / "none")


@pytest.mark.parametrize("size", [0, -1, 1025, 2.0, "8", True])
def test_image_size(size):
    with pytest.raises(ValueError, match=f"`image_size` must be .* 1 to 1024, got {size!r}"):
        image_sets.load("cifar10", image_size=size)


def test_unknown_name():
    with pytest.raises(ValueError, match="`source` must be one of digits, .*, got 'svhn'"):
        image_sets.load("svhn")


class TestArrays:
    def test_a_checkerboard_shrinks_to_grey(self):
        board = (np.indices([64, 64]).sum(axis=0) % 2 * 255).astype(np.uint8)
        small = image_arrays.crop_and_resize(tf.constant(board[..., None]), 16)
        assert small.shape == (16, 16, 1) and small.dtype == tf.uint8
        assert np.abs(small.numpy().astype(int) - 127.5).max() < 20

    def test_the_centre_square_is_cut(self):
        image = np.zeros([2, 10, 30, 3], np.uint8)
        image[:, :, 10:20] = 200
        small = image_arrays.crop_and_resize(tf.constant(image), 5)
        np.testing.assert_array_equal(small, np.full([2, 5, 5, 3], 200))

    def test_the_same_size_changes_nothing(self):
        image = published_images.draw(3, 9, 9, 2)
        np.testing.assert_array_equal(image_arrays.crop_and_resize(image, 9), image)
        np.testing.assert_array_equal(image_arrays.crop_and_resize(image, None), image)

    def test_extremes_stay_bytes(self):
        image = np.zeros([8, 8, 1], np.uint8)
        image[:4] = 255
        large = image_arrays.crop_and_resize(tf.constant(image), 31).numpy()
        assert large.min() == 0 and large.max() == 255

    def test_parts_keep_their_order(self):
        x = np.arange(600, dtype=np.uint16).astype(">u2").view(np.uint8).reshape(600, 1, 1, 2)
        part_of = image_arrays.draw_parts(600, [0.1, 0.2], seed=0)
        batches = image_arrays.batches_of(x, None)
        parts = image_arrays.collect(batches, part_of, 3)
        assert [len(part) for part in parts] == [420, 60, 120]
        places = [part.reshape(-1, 2) @ [256, 1] for part in parts]
        assert all((np.diff(place) > 0).all() for place in places)
        assert sorted(np.concatenate(places)) == list(range(600))

    def test_a_wrong_number_of_images(self):
        with pytest.raises(ValueError, match="`batches` must hold 3 images, got 4"):
            image_arrays.collect([np.zeros([4, 1, 1, 1])], np.zeros(3, np.int8), 1)
