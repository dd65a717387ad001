"""Tests of reading the user's own images."""

import gzip
import re
import struct
import zlib

import numpy as np
import published_images
import pytest
import tensorflow as tf
from published_images import draw, idx_bytes, write_image

from tfp_distill.data.images.image_sets import is_image_file, load_file


def rows(*parts):
    """The bytes of images, sorted."""
    return sorted(image.tobytes() for part in parts for image in part)


def sizes(parts):
    return [len(part) for part in parts]


def write_folder(folder, images, suffix=".png"):
    for i, image in enumerate(images):
        write_image(folder / f"{i:03d}{suffix}", image)
    return folder


def write_idx(path, images):
    content = idx_bytes(images)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write(kind, path, images):
    """Writes `[n, H, W, C]` in any of the formats that keep pixels."""
    if kind == "folder":
        return write_folder(path / "pictures", images)
    if kind.startswith("idx"):
        path = path / ("pictures.gz" if kind.endswith("gz") else "pictures")
        return write_idx(path, images[..., 0] if images.shape[-1] == 1 else images)
    path = path / f"pictures.{kind}"
    if kind == "npy":
        np.save(path, images)
    else:
        np.savez_compressed(path, images=images, labels=np.arange(len(images)))
    return path


@pytest.mark.parametrize("kind", ["npz", "npy", "idx", "idx.gz", "folder"])
class TestEveryFormat:
    @pytest.mark.parametrize("shape", [(8, 8, 1), (5, 7, 3)])
    def test_split(self, tmp_path, kind, shape):
        images = draw(30, *shape)
        path = write(kind, tmp_path, images)
        assert is_image_file(path) and is_image_file(str(path))
        parts = load_file(path, validation_fraction=0.2, test_fraction=0.1)
        assert sizes(parts) == [21, 6, 3]
        assert all(part.dtype == np.uint8 and part.shape[1:] == shape for part in parts)
        assert all(part.flags.c_contiguous and part.flags.writeable for part in parts)
        assert rows(*parts) == rows(images)

    def test_the_seed_decides(self, tmp_path, kind):
        path = write(kind, tmp_path, draw(30, 4, 4, 1))
        first, again, other = (load_file(path, seed=seed) for seed in (1, 1, 2))
        for part, part_again in zip(first, again, strict=True):
            np.testing.assert_array_equal(part, part_again)
        assert rows(first.test) != rows(other.test)

    def test_resized(self, tmp_path, kind):
        board = (np.indices([40, 60]).sum(axis=0) % 2 * 255).astype(np.uint8)
        path = write(kind, tmp_path, np.broadcast_to(board[..., None], [10, 40, 60, 1]).copy())
        with pytest.raises(ValueError, match="must be None or an integer from 1 to 1024, got 0"):
            load_file(path, image_size=0)
        parts = load_file(path, image_size=8)
        assert parts.train.shape == (6, 8, 8, 1)
        assert np.abs(parts.train.astype(int) - 127.5).max() < 20

    def test_too_few(self, tmp_path, kind):
        path = write(kind, tmp_path, draw(5, 4, 4, 1))
        with pytest.raises(ValueError, match="`source` must give at least 2 .* got 1/2/2 from"):
            load_file(path)

    def test_constant(self, tmp_path, kind):
        path = write(kind, tmp_path, np.full([10, 4, 4, 1], 7, np.uint8))
        with pytest.raises(ValueError, match="`source` must have images that vary, got 7 in all"):
            load_file(path)

    def test_more_than_one_batch(self, tmp_path, kind):
        images = draw(600, 2, 2, 1)
        assert rows(*load_file(write(kind, tmp_path, images))) == rows(images)


class TestArrays:
    def test_parts(self, tmp_path):
        arrays = {
            "train": draw(9, 4, 4, 3),
            "validation": draw(3, 4, 4, 3),
            "test": draw(2, 4, 4, 3),
        }
        np.savez(tmp_path / "a.npz", **arrays)
        parts = load_file(tmp_path / "a.npz", seed=5)
        for name, images in arrays.items():
            np.testing.assert_array_equal(getattr(parts, name), images)

    def test_validation_comes_from_training_images(self, tmp_path):
        train, test = draw(20, 4, 4), draw(7, 4, 4, 1, seed=1)
        np.savez(tmp_path / "a.npz", train=train, test=test, labels=np.zeros([20, 10]))
        parts = load_file(tmp_path / "a.npz", validation_fraction=0.25)
        assert sizes(parts) == [15, 5, 7]
        assert rows(parts.train, parts.validation) == rows(train)
        np.testing.assert_array_equal(parts.test, test)

    @pytest.mark.parametrize("names", [("x_train", "x_test"), ("X_train", "X_test")])
    def test_parts_by_the_names_of_keras(self, tmp_path, names):
        train, test = draw(20, 4, 4), draw(7, 4, 4, seed=1)
        arrays = {names[0]: train, "y_train": np.zeros(20), names[1]: test, "y_test": np.zeros(7)}
        np.savez(tmp_path / "a.npz", **arrays)
        parts = load_file(tmp_path / "a.npz")
        assert rows(parts.train, parts.validation) == rows(train)
        np.testing.assert_array_equal(parts.test[..., 0], test)

    @pytest.mark.parametrize("channels", [2, 4])
    def test_transparency_is_kept_where_there_is_some(self, tmp_path, channels):
        images = draw(20, 4, 4, channels)
        images[..., -1] = 255
        np.save(tmp_path / "a.npy", images)
        assert rows(*load_file(tmp_path / "a.npy")) == rows(images[..., :-1])
        images[3, 0, 0, -1] = 254
        np.save(tmp_path / "a.npy", images)
        assert rows(*load_file(tmp_path / "a.npy")) == rows(images)

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"a": draw(9, 4, 4) % 2}, "pixels from 0 to 255, got 0 and 1 alone to train with"),
            ({"a": np.zeros([9, 4, 4], np.float32)}, "as uint8, 0 to 255, got float32 in 'a'"),
            ({"a": np.zeros([9, 4, 4], np.int64)}, "as uint8, 0 to 255, got int64 in 'a'"),
            ({"a": np.zeros([9, 3, 8, 8], np.uint8)}, r"1 to 4 channels, got \[9, 3, 8, 8\] in"),
            ({"a": np.zeros([9, 0, 8], np.uint8)}, r"1 to 4 channels, got \[9, 0, 8\] in"),
            ({"a": draw(9, 4, 4), "b": draw(9, 4, 4)}, r"one array .* got \['a', 'b'\] in"),
            (
                {"test": draw(9, 4, 4), "val": draw(9, 4, 4)},
                r"train and .*\['test', 'validation'\]",
            ),
            (
                {"train": draw(9, 4, 4), "test": draw(9, 5, 4)},
                r"of one size, got \[9, 4, 4\] in 'train' and \[9, 5, 4\] in 'test'",
            ),
        ],
    )
    def test_other_arrays(self, tmp_path, arrays, message):
        np.savez(tmp_path / "a.npz", **arrays)
        assert is_image_file(tmp_path / "a.npz")
        with pytest.raises(ValueError, match=f"`source` must h.*{message}.*a.npz"):
            load_file(tmp_path / "a.npz")

    def test_truncated(self, tmp_path):
        path = tmp_path / "a.npz"
        np.savez_compressed(path, draw(9, 8, 8))
        content = path.read_bytes()
        path.write_bytes(content[:-30])
        assert not is_image_file(path)
        path.write_bytes(content[:200] + bytes(10) + content[210:])
        with pytest.raises(ValueError, match="`source` must be a readable .npz file, got .*a.npz"):
            load_file(path)

    def test_tables_are_no_images(self, tmp_path):
        np.savez(tmp_path / "a.npz", np.zeros([9, 3]))
        np.save(tmp_path / "a.npy", np.zeros([9, 3]))
        np.save(tmp_path / "pickled.npy", np.array([{}]), allow_pickle=True)
        (tmp_path / "a.csv").write_text("a,b\n1,2\n")
        (tmp_path / "empty").write_bytes(b"")
        for path in tmp_path.iterdir():
            assert not is_image_file(path)
        assert not is_image_file(tmp_path / "absent.npz")


class TestIdx:
    @pytest.mark.parametrize("end", ["", ".gz"])
    @pytest.mark.parametrize("mark", ["-", "."])
    def test_a_directory(self, tmp_path, end, mark):
        train, test = draw(20, 6, 5), draw(4, 6, 5, seed=1)
        write_idx(tmp_path / f"train-images{mark}idx3-ubyte{end}", train)
        write_idx(tmp_path / f"t10k-images{mark}idx3-ubyte{end}", test)
        parts = load_file(tmp_path)
        assert sizes(parts) == [18, 2, 4]
        assert rows(parts.train, parts.validation) == rows(train)
        np.testing.assert_array_equal(parts.test[..., 0], test)

    def test_the_published_format(self, tmp_path):
        train, test = published_images.write_mnist(tmp_path, 20, 4)
        parts = load_file(tmp_path)
        assert rows(parts.train, parts.validation) == rows(train) and rows(parts.test) == rows(test)

    def test_one_of_two(self, tmp_path):
        write_idx(tmp_path / "train-images-idx3-ubyte", draw(20, 6, 5))
        with pytest.raises(ValueError, match="`source` must hold IDX files of both .* alone in"):
            load_file(tmp_path)

    def test_two_sizes(self, tmp_path):
        write_idx(tmp_path / "train-images-idx3-ubyte", draw(20, 6, 5))
        write_idx(tmp_path / "t10k-images-idx3-ubyte", draw(20, 6, 6))
        with pytest.raises(ValueError, match="images of one size, got .* in .*train.* in .*t10k"):
            load_file(tmp_path)

    @pytest.mark.parametrize("end", ["", ".gz"])
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "readable IDX file"),
            (b"\x89PNG1234", "readable IDX file.*none of IDX"),
            (idx_bytes(draw(9, 4, 4))[:9], "readable IDX file.*ends amid its header"),
            (idx_bytes(draw(9, 4, 4))[:-1], r"whole IDX file.*143 bytes.*\[9, 4, 4\].* 144"),
            (idx_bytes(draw(9, 4, 4)) + b"\0", "whole IDX file.*145 bytes"),
            (idx_bytes(draw(9)), r"images of shape .*, got \[9\]"),
            (b"\0\0\x0d\x03" + bytes(12), "images as uint8, 0 to 255, got float32"),
        ],
    )
    def test_damaged(self, tmp_path, end, content, message):
        path = tmp_path / f"train-images-idx3-ubyte{end}"
        path.write_bytes(gzip.compress(content) if end else content)
        assert is_image_file(path)
        with pytest.raises(ValueError, match=f"`source` must .*{message}") as error:
            load_file(path)
        assert str(path) in str(error.value)

    def test_truncated_gzip(self, tmp_path):
        path = write_idx(tmp_path / "a.idx.gz", draw(9, 4, 4))
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(
            ValueError, match="`source` must be a readable IDX file, got .*a.idx.gz"
        ):
            load_file(path)


class TestFolder:
    def test_jpeg_is_read_like_png(self, tmp_path):
        smooth = np.stack([np.full([16, 24, 3], 10 * i, np.uint8) for i in range(1, 21)])
        for suffix in (".jpg", ".JPEG"):
            folder = write_folder(tmp_path / suffix, smooth, suffix)
            parts = load_file(folder)
            assert sizes(parts) == [16, 2, 2] and parts.train.shape[1:] == (16, 24, 3)
            means = sorted(np.concatenate(parts).mean(axis=(1, 2, 3)))
            np.testing.assert_allclose(means, 10 * np.arange(1, 21), atol=1.5)

    @pytest.mark.parametrize("validation", ["validation", "val", None])
    def test_parts(self, tmp_path, validation):
        train, held_out, test = (
            draw(20, 4, 4, 3),
            draw(3, 4, 4, 3, seed=1),
            draw(2, 4, 4, 3, seed=2),
        )
        write_folder(tmp_path / "train" / "cats", train[:10])
        write_folder(tmp_path / "train" / "dogs", train[10:])
        write_folder(tmp_path / "test", test)
        if validation:
            write_folder(tmp_path / validation, held_out)
        parts = load_file(tmp_path)
        np.testing.assert_array_equal(parts.test, test)
        if validation:
            np.testing.assert_array_equal(parts.train, train)
            np.testing.assert_array_equal(parts.validation, held_out)
        else:
            assert sizes(parts) == [18, 2, 2]
            assert rows(parts.train, parts.validation) == rows(train)

    def test_a_test_part_is_drawn_where_there_is_none(self, tmp_path):
        images = draw(20, 4, 4, 3)
        write_folder(tmp_path / "train", images)
        parts = load_file(tmp_path)
        assert sizes(parts) == [16, 2, 2] and rows(*parts) == rows(images)

    def test_other_files_may_lie_beside(self, tmp_path):
        images = draw(10, 4, 4, 1)
        write_folder(tmp_path / "deep" / "er", images)
        (tmp_path / "labels.csv").write_text("a,b")
        (tmp_path / "._000.png").write_bytes(b"not an image")
        write_image(tmp_path / ".thumbnails" / "a.png", images[0])
        assert rows(*load_file(tmp_path)) == rows(images)

    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_channels_are_kept(self, tmp_path, channels):
        images = draw(10, 4, 6, channels)
        assert rows(*load_file(write_folder(tmp_path, images))) == rows(images)

    def test_mixed_channels_become_rgb(self, tmp_path):
        grey, colours = draw(10, 4, 4, 1), draw(10, 4, 4, 4, seed=1)
        write_folder(tmp_path / "a", grey)
        write_folder(tmp_path / "b", colours)
        parts = load_file(tmp_path)
        assert rows(*parts) == rows(np.tile(grey, 3), np.ascontiguousarray(colours[..., :3]))

    def test_a_palette_holds_colours(self, tmp_path):
        def chunk(kind, content):
            check = struct.pack(">I", zlib.crc32(kind + content))
            return struct.pack(">I", len(content)) + kind + content + check

        for i in range(10):
            palette, places = draw(1, 4, 3, seed=i)[0], np.arange(4, dtype=np.uint8).reshape(2, 2)
            lines = zlib.compress(b"".join(b"\0" + bytes(line) for line in places))
            header = struct.pack(">IIBBBBB", 2, 2, 8, 3, 0, 0, 0)
            chunks = {b"IHDR": header, b"PLTE": palette.tobytes(), b"IDAT": lines, b"IEND": b""}
            content = b"".join(chunk(kind, content) for kind, content in chunks.items())
            (tmp_path / f"{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
        parts = load_file(tmp_path)
        assert rows(*parts) == rows(np.stack([draw(1, 2, 2, 3, seed=i)[0] for i in range(10)]))

    def test_sizes_differ(self, tmp_path):
        write_folder(tmp_path / "a", draw(10, 6, 4, 3))
        write_folder(tmp_path / "b", draw(10, 5, 8, 3), ".jpg")
        message = "`image_size` must be given .*a/000.png has 6x4 pixels and .*b/000.jpg has 5x8"
        with pytest.raises(ValueError, match=message):
            load_file(tmp_path)
        assert load_file(tmp_path, image_size=4).train.shape == (16, 4, 4, 3)

    def test_pixels_of_16_bits_are_refused(self, tmp_path):
        write_folder(tmp_path, draw(10, 4, 4, 3))
        twelve_bits = np.full([4, 4, 3], 4095, np.uint16)
        (tmp_path / "005.png").write_bytes(tf.io.encode_png(twelve_bits).numpy())
        with pytest.raises(ValueError, match=r"at most 8 bits .*, got 16 in .*005\.png: scale"):
            load_file(tmp_path)

    @pytest.mark.parametrize("suffix", [".png", ".jpg"])
    def test_damaged(self, tmp_path, suffix):
        write_folder(tmp_path, draw(300, 16, 16, 3), suffix)
        path = tmp_path / f"270{suffix}"
        content = path.read_bytes()
        for damaged in (content[: len(content) // 2], content[:20], b"", b"GIF89a" + content):
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match=f"`source` must hold .*{re.escape(str(path))}"):
                load_file(tmp_path)

    def test_the_content_decides_about_the_format(self, tmp_path):
        images = draw(10, 4, 4, 3)
        for path in write_folder(tmp_path, images).iterdir():
            path.rename(path.with_suffix(".jpg"))
        assert rows(*load_file(tmp_path)) == rows(images)

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            ([], "must hold PNG or JPEG files, got none in"),
            (["a.txt"], "must hold PNG or JPEG files, got none in"),
            (["a.png", "b.webp"], "must hold PNG and JPEG files only, got .*b.webp"),
            (["test/a.png"], "must have images to train with .*, got test in"),
            (
                ["train/a.png", "val/a.png", "validation/a.png"],
                "must have .* no more than one of validation and val, got",
            ),
            (["train/a.png", "a.png"], "must have all images in train, got .*a.png"),
            (["train/a.png", "test/a.txt"], "must hold images for test, got none"),
        ],
    )
    def test_other_folders(self, tmp_path, names, message):
        encoded = tf.io.encode_png(draw(1, 4, 4, 3)[0]).numpy()
        for name in names:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(encoded)
        assert is_image_file(tmp_path)
        with pytest.raises(ValueError, match=f"`source` {message}"):
            load_file(tmp_path)


def test_what_is_neither(tmp_path):
    with pytest.raises(ValueError, match="`source` must be an existing file or directory, got .*x"):
        load_file(tmp_path / "x")
    (tmp_path / "x.txt").write_text("text")
    with pytest.raises(ValueError, match="`source` must be a directory, an IDX file, .*x.txt"):
        load_file(tmp_path / "x.txt")
