"""Tests that files are whole, and that damage to them is found."""

from __future__ import annotations

import errno
import json
import math
import random
import zipfile

import pytest

from tfp_distill import files


def test_what_was_there_stays_until_the_new_file_is_complete(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "before")
    with pytest.raises(KeyError), files.written_whole(path) as unfinished:
        unfinished.write_text("half of wh")
        assert path.read_text() == "before"
        raise KeyError
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "before"
    files.write_text(path, "after")
    assert path.read_text() == "after"


def test_what_was_there_stays_until_the_new_directory_is_complete(tmp_path):
    path, beside = tmp_path / "model", tmp_path / ".unfinished.model"

    def write(text):
        with files.directory_written_whole(path) as unfinished:
            unfinished.mkdir()
            (unfinished / text).touch()
            if text == "half":
                raise KeyError

    write("before")
    with pytest.raises(KeyError):
        write("half")
    assert [file.name for file in tmp_path.rglob("*")] == ["model", "before"]
    # What a process leaves that is killed in the midst of it, and between two names.
    (beside / "new").mkdir(parents=True)
    path.rename(beside / "old")
    with pytest.raises(KeyError):
        write("half")
    assert [file.name for file in tmp_path.rglob("*")] == ["model", "before"]
    (beside / "new").mkdir(parents=True)
    write("after")
    assert [file.name for file in tmp_path.rglob("*")] == ["model", "after"]


def test_json_comes_back_and_is_readable(tmp_path):
    values = {"a": [1, 2.5, {"b": None}], "nan": math.inf, "c": "é"}
    files.write_json(tmp_path / "deep" / "a.json", values)
    assert files.read_json(tmp_path / "deep" / "a.json") == values
    written = json.loads((tmp_path / "deep" / "a.json").read_text())
    assert written.pop("sha256")
    assert written == values


def test_a_flipped_bit_of_json_is_found(tmp_path):
    values = {"steps": 250, "history": [{"nll": 1.25, "step": 250}], "checkpoint": "a"}
    path = tmp_path / "a.json"
    files.write_json(path, values)
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            read = files.read_json(path)
        except files.DamagedFileError as error:
            assert str(path) in str(error) and "\n" not in str(error)
        else:  # White space; or the name of the checksum, which is then a name that nobody knows.
            assert {name: read[name] for name in values} == values


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", "null", "\xff", "[" * 100_000])
def test_what_is_no_json_object_is_one_line(text, tmp_path):
    (tmp_path / "a.json").write_text(text, encoding="latin-1")
    with pytest.raises(files.DamagedFileError, match=r"^'.*a\.json' is damaged: .+\.$"):
        files.read_json(tmp_path / "a.json")


def test_a_reservation_that_does_not_fit_is_an_error(tmp_path, monkeypatch):
    files.reserve(tmp_path / "a", 1000)
    assert (tmp_path / "a").stat().st_size == 1000

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        files.reserve(tmp_path / "a", 1000)


def test_a_directory_that_cannot_be_written_is_found(tmp_path):
    files.check_writable(tmp_path / "new" / "newer")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        files.check_writable(tmp_path / "file")


def test_archives_are_compared_with_their_checksums(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("one", random.Random(0).randbytes(1000))
    files.check_archive(path)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[500] ^= 4
    for contents in (damaged, whole[:-1], whole[:700], b"", b"no archive"):
        path.write_bytes(contents)
        with pytest.raises(files.DamagedFileError, match="a.zip' is damaged"):
            files.check_archive(path)
