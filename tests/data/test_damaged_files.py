"""Tests that a damaged file gives data or an error of one line, and that none takes all memory."""

import gzip
import io
import resource
import struct
import sys
import time
import zipfile
import zlib

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from damage import FILES_A_KIND, damage
from published_images import draw, idx_bytes

from tfp_distill.data import load

MIB = 2**20


def _rows():
    return np.random.default_rng(0).normal(size=[40, 3]).round(4)


def _text():
    return pd.DataFrame(_rows(), columns=["a", "b", "c"]).to_csv(index=False).encode()


def _saved(write, *arguments, **more):
    buffer = io.BytesIO()
    write(buffer, *arguments, **more)
    return buffer.getvalue()


def _zipped(content):
    """An archive whose checksum is right, whatever its member is."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rows.npy", content)
    return buffer.getvalue()


def _same(content):
    return content


# The content that is damaged, and what is made of it afterwards.
KINDS = {
    "csv": (_text, _same),
    "csv.gz": (lambda: gzip.compress(_text(), mtime=0), _same),
    "txt.gz": (_text, lambda content: gzip.compress(content, mtime=0)),
    "npy": (lambda: _saved(np.save, _rows()), _same),
    "npz": (lambda: _saved(np.savez_compressed, _rows()), _same),
    "member.npz": (lambda: _saved(np.save, _rows()), _zipped),
    "images.npz": (lambda: _saved(np.save, draw(20, 4, 4)), _zipped),
    "parquet": (lambda: _saved(pd.DataFrame(_rows(), columns=["a", "b", "c"]).to_parquet), _same),
    "idx": (lambda: idx_bytes(draw(20, 4, 4)), _same),
    "idx.gz": (lambda: gzip.compress(idx_bytes(draw(20, 4, 4)), mtime=0), _same),
    "folder": (lambda: tf.io.encode_png(draw(1, 6, 6, 3)[0]).numpy(), _same),
}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind == "folder")) for kind in KINDS]
)
def test_damaged_files_give_data_or_an_error_of_one_line(tmp_path, kind):
    make, finish = KINDS[kind]
    whole = make()
    path = tmp_path / (f"mine.{kind}" if kind != "folder" else kind)
    if kind == "folder":
        path.mkdir()
        for i, image in enumerate(draw(9, 6, 6, 3)):
            (path / f"{i}.png").write_bytes(tf.io.encode_png(image).numpy())
    damaged = path / "damaged.png" if kind == "folder" else path
    damaged.write_bytes(finish(whole))
    load(path)  # Undamaged, it is read.
    num_read = 0
    for i in range(FILES_A_KIND):
        damaged.write_bytes(finish(damage(whole, np.random.default_rng([i, len(kind)]))))
        try:
            data = load(path)
        except ValueError as error:
            message = str(error)
            assert "\n" not in message and "mine" in message or str(path) in message, (i, message)
            assert len(message) < 4000
        except Exception as error:
            raise AssertionError(f"file {i} raises {error!r}") from error
        else:
            num_read += 1
            assert all(np.isfinite(part).all() for part in (data.train, data.validation, data.test))
    assert num_read < FILES_A_KIND


def _npy_header(shape, dtype="|u1"):
    header = dict(descr=dtype, fortran_order=False, shape=shape)
    return _saved(np.lib.format.write_array_header_1_0, header)


def _write_zeros(file, start, num_bytes):
    file.write(start)
    for _ in range(num_bytes // MIB):
        file.write(bytes(MIB))


def _zip_bomb(path, shape):
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.npy", "w", force_zip64=True) as file,
    ):
        _write_zeros(file, _npy_header(shape), 300 * MIB)


def _idx_bomb(path, shape):
    with gzip.open(path, "wb") as file:
        _write_zeros(file, b"\0\0\x08\x03" + struct.pack(">III", *shape), 300 * MIB)


def _png_bomb(folder, side):
    folder.mkdir()
    pixels = zlib.compressobj(9)
    lines = pixels.compress(bytes(MIB)) + pixels.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = {b"IHDR": header, b"IDAT": lines, b"IEND": b""}
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c)) + kind + c + struct.pack(">I", zlib.crc32(kind + c))
        for kind, c in chunks.items()
    )
    for i in range(40):
        (folder / f"{i}.png").write_bytes(content)


def _parquet_bomb(path):
    import pyarrow
    import pyarrow.parquet

    column = pyarrow.array(np.zeros(20_000_000, np.float32))
    table = pyarrow.table({"a": column, "b": column})
    pyarrow.parquet.write_table(table, path, compression="zstd")


def _text_bomb(path, line, num_bytes=300 * MIB):
    with gzip.open(path, "wb", 6) as file:
        file.write(b"a,b\n")
        for _ in range(num_bytes // MIB):
            file.write(line * (MIB // len(line)))


BOMBS = {
    "rows.npz": lambda path: _zip_bomb(path, (300 * MIB // 100, 100)),
    "images.npz": lambda path: _zip_bomb(path, (300, 1024, 1024)),
    "more_than_it_says.npz": lambda path: _zip_bomb(path, (10, 10)),
    "a.npy": lambda path: path.write_bytes(_npy_header((10**12, 3), "<f8") + bytes(240)),
    "no_bytes.npy": lambda path: path.write_bytes(_npy_header((10**12, 0), "<f8")),
    "numbers.csv.gz": lambda path: _text_bomb(path, b"0,0\n"),
    "texts.csv.gz": lambda path: _text_bomb(path, b"x,y\n", 60 * MIB),
    "one_line.csv.gz": lambda path: _text_bomb(path, b"0,00"),
    "commas.csv": lambda path: path.write_bytes(b"a,b\n" + b"," * 2 * MIB),
    "names.csv": lambda path: path.write_bytes(b",".join(b"n%d" % i for i in range(250_000))),
    "a.parquet": _parquet_bomb,
    "a.idx.gz": lambda path: _idx_bomb(path, (300, 1024, 1024)),
    "more_than_it_says.idx.gz": lambda path: _idx_bomb(path, (20, 4, 4)),
    "huge": lambda path: _png_bomb(path, 30_000),
    "many": lambda path: _png_bomb(path, 4000),
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Peaks of memory are in KiB on Linux.")
@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_takes_no_more_memory_and_time_than_it_should(tmp_path, name):
    path = tmp_path / name
    BOMBS[name](path)
    files = list(path.iterdir()) if path.is_dir() else [path]
    assert sum(file.stat().st_size for file in files) < 3 * MIB
    peak, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(ValueError, match=r"`source` must .*") as error:
        load(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    assert time.process_time() - began < 10
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024 < 1024


def test_a_compressible_file_is_no_bomb(tmp_path):
    rows = np.random.default_rng(0).integers(0, 2, [100_000, 20], np.uint8)
    rows[:, :18] *= np.random.default_rng(1).random([100_000, 18]) < 0.01
    np.savez_compressed(tmp_path / "a.npz", rows)
    pd.DataFrame(rows).add_prefix("c").to_csv(tmp_path / "a.csv.gz", index=False)
    for name in ("a.npz", "a.csv.gz"):
        assert load(tmp_path / name).train.shape == (80_000, 20)


def test_many_large_pictures_are_resized_one_by_one(tmp_path):
    for i in range(6):
        picture = np.repeat(draw(1, 300, 400, 3, seed=i)[0], 5, axis=0).repeat(5, axis=1)
        (tmp_path / f"{i}.png").write_bytes(tf.io.encode_png(picture).numpy())
    assert load(tmp_path, image_size=16).train.shape == (2, 16, 16, 3)
