"""Tests of loading the user's own files."""

import re

import numpy as np
import pandas as pd
import pytest

from tfp_distill.data import load

NAMES = ("a", "b", "c")


def values(n: int = 50, dims: int = 3) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal([5.0, -3.0, 0.0][:dims], [1.0, 10.0, 0.1][:dims], [n, dims])


def write(path, table):
    """Writes an array or a table in the format that the path's suffix says."""
    if path.suffix == ".npy":
        np.save(path, np.asarray(table))
    elif path.suffix == ".npz":
        np.savez(path, rows=np.asarray(table))
    else:
        table = (
            pd.DataFrame(table)
            if isinstance(table, pd.DataFrame | dict)
            else pd.DataFrame(table, columns=NAMES[: table.shape[1]])
        )
        if path.suffix == ".csv":
            table.to_csv(path, index=False)
        else:
            table.to_parquet(path)
    return path


def sorted_rows(*parts):
    rows = np.concatenate(parts)
    return rows[np.lexsort(rows.T)]


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv", ".parquet"])
class TestEveryFormat:
    def test_values(self, tmp_path, suffix):
        data = load(write(tmp_path / f"mine{suffix}", values()))
        assert data.name == "mine"
        assert data.feature_names == (
            NAMES if suffix in (".csv", ".parquet") else ("x0", "x1", "x2")
        )
        assert [len(part) for part in (data.train, data.validation, data.test)] == [40, 5, 5]
        assert all(
            part.dtype == np.float32 and part.flags.c_contiguous
            for part in (data.train, data.validation, data.test)
        )
        np.testing.assert_allclose(
            sorted_rows(data.train, data.validation, data.test),
            sorted_rows(values().astype(np.float32)),
            rtol=1e-6,
        )
        assert data.train_condition is None and data.condition_statistics is None

    def test_statistics_are_those_of_training_rows(self, tmp_path, suffix):
        data = load(write(tmp_path / f"mine{suffix}", values()))
        train = data.train.astype(np.float64)
        np.testing.assert_allclose(data.statistics.mean, train.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(data.statistics.scale, train.std(axis=0), rtol=1e-6)
        assert data.statistics.mean.dtype == data.statistics.scale.dtype == np.float32
        standardized = data.statistics.standardize(data.train)
        np.testing.assert_allclose(standardized.mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(standardized.std(axis=0), 1, rtol=1e-5)

    def test_split_depends_on_the_seed_alone(self, tmp_path, suffix):
        path = write(tmp_path / f"mine{suffix}", values())
        first, again, other = (
            load(file, split_seed=seed) for file, seed in ((path, 1), (str(path), 1), (path, 2))
        )
        for part in ("train", "validation", "test"):
            np.testing.assert_array_equal(getattr(first, part), getattr(again, part))
            assert not np.array_equal(getattr(first, part), getattr(other, part))

    def test_unreadable(self, tmp_path, suffix):
        path = tmp_path / f"mine{suffix}"
        for content in (b"", b"PK\x03\x04 not an archive", b"\x93NUMPY but not really"):
            path.write_bytes(content)
            with pytest.raises(ValueError, match="`source`.*mine"):
                load(path)

    def test_bad_numbers(self, tmp_path, suffix):
        table = values()
        table[:, 0] = 7
        table[[3, 4, 9], 1] = np.nan, np.inf, -np.inf
        with pytest.raises(ValueError, match="`source` must have finite numbers") as error:
            load(write(tmp_path / f"mine{suffix}", table))
        assert "is constant (7) in the training rows" in str(error.value)
        assert "is missing or not finite in 3 of 50 rows" in str(error.value)
        assert len(re.findall("'(a|x0|b|x1)' is", str(error.value))) == 2

    def test_one_column(self, tmp_path, suffix):
        data = load(write(tmp_path / f"one{suffix}", values(dims=1)))
        assert data.train.shape == (40, 1)

    @pytest.mark.parametrize(("rows", "found"), [(3, "0/2/1"), (5, "1/2/2")])
    def test_too_few_rows(self, tmp_path, suffix, rows, found):
        rule = "at least 2 rows to train with, to validate and to test with"
        with pytest.raises(ValueError, match=f"{rule}, got {found} from the {rows} rows"):
            load(write(tmp_path / f"few{suffix}", values(rows)))


def test_fractions(tmp_path):
    path = write(tmp_path / "mine.npy", values(100))
    data = load(path, validation_fraction=0.05, test_fraction=0.3)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [65, 5, 30]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split_seed": -1}, "`split_seed` must be at least 0, got -1"),
        ({"validation_fraction": 0.0}, "`validation_fraction` must be between 0 and 1, got 0.0"),
        ({"test_fraction": 1.5}, "`test_fraction` must be between 0 and 1, got 1.5"),
        ({"test_fraction": 0.95}, "must leave rows to train with, got 0.1 and 0.95"),
        ({"condition_columns": ["x9"]}, r"`condition_columns` .* got \['x9'\]"),
        ({"condition_columns": ["x0", "x0"]}, "`condition_columns` must be different"),
        (
            {"condition_columns": ["x0", "x1", "x2"]},
            "at least 1 column besides `condition_columns`",
        ),
    ],
)
def test_wrong_arguments(tmp_path, arguments, message):
    path = write(tmp_path / "mine.npy", values())
    with pytest.raises(ValueError, match=message):
        load(path, **arguments)


def test_unknown_sources(tmp_path):
    for source in ("powr", tmp_path / "mine.xls", "", "bsds300/tiny"):
        with pytest.raises(ValueError, match="one of embedded, power, gas, .*npy, .npz"):
            load(source)
    with pytest.raises(ValueError, match="`source` must be an existing file, got .*absent.csv"):
        load(tmp_path / "absent.csv")


def test_conditions(tmp_path):
    path = write(tmp_path / "mine.csv", values())
    whole, data = load(path), load(path, condition_columns=["b"])
    assert data.feature_names == ("a", "c") and data.condition_names == ("b",)
    for part in ("train", "validation", "test"):
        rows = getattr(whole, part)
        np.testing.assert_array_equal(getattr(data, part), rows[:, [0, 2]])
        np.testing.assert_array_equal(getattr(data, f"{part}_condition"), rows[:, [1]])
    np.testing.assert_array_equal(data.statistics.mean, whole.statistics.mean[[0, 2]])
    np.testing.assert_array_equal(data.condition_statistics.scale, whole.statistics.scale[[1]])


def test_npz_with_parts_keeps_them(tmp_path):
    parts = {"train": values()[:30], "validation": values()[30:34], "test": values()[34:]}
    np.savez(tmp_path / "mine.npz", **parts)
    data = load(tmp_path / "mine.npz", split_seed=3)
    for name, rows in parts.items():
        np.testing.assert_array_equal(getattr(data, name), rows.astype(np.float32))
    np.testing.assert_allclose(data.statistics.mean, parts["train"].mean(axis=0), rtol=1e-5)


def test_npz_by_the_names_of_keras_with_labels(tmp_path):
    parts = {"x_train": values()[:30], "x_val": values()[30:34], "x_test": values()[34:]}
    np.savez(tmp_path / "mine.npz", y_train=np.arange(30), y_test=np.arange(16), **parts)
    data = load(tmp_path / "mine.npz")
    for name, rows in zip(("train", "validation", "test"), parts.values(), strict=True):
        np.testing.assert_array_equal(getattr(data, name), rows.astype(np.float32))


@pytest.mark.parametrize(("held_out", "missing"), [("val", "test"), ("test", "validation")])
def test_what_an_npz_has_not_is_split_off(tmp_path, held_out, missing):
    parts = {"train": values()[:40], held_out: values()[40:]}
    np.savez(tmp_path / "mine.npz", **parts)
    data = load(tmp_path / "mine.npz")
    kept = data.validation if held_out == "val" else data.test
    np.testing.assert_array_equal(kept, parts[held_out].astype(np.float32))
    drawn = np.concatenate([data.train, getattr(data, missing)])
    assert data.train.shape == (36, 3) and getattr(data, missing).shape == (4, 3)
    assert {*map(tuple, drawn)} == {*map(tuple, parts["train"].astype(np.float32))}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"train": values(), "x_train": values()}, r"got \['train', 'x_train'\]"),
        ({"validation": values(), "test": values()}, r"got \['test', 'validation'\]"),
        ({"train": values(), "more": values()}, r"got \['more', 'train'\]"),
        (
            {"train": values(), "validation": values(), "test": values(dims=2)},
            r"same columns, got \(50, 3\) and \(50, 3\) and \(50, 2\)",
        ),
        ({"rows": values()[0]}, r"shape \[rows, columns\].*, got \(3,\)"),
        (
            {"train": values(), "validation": values()[:0], "test": values()},
            "at least 2 rows.* got 50/0/50 from the 100 rows",
        ),
        ({}, r"got \[\]"),
    ],
)
def test_wrong_npz(tmp_path, arrays, message):
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "mine.npz")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_columns_that_are_not_numbers_are_named_with_all_others(tmp_path, suffix):
    table = pd.DataFrame(values(), columns=NAMES)
    table["text"] = ["1.5"] * 12 + ["low"] + ["2"] * 37
    table["day"] = pd.Timestamp("2020-01-01")
    table["same"] = 0
    table["gaps"] = [None if i % 2 else i for i in range(50)]
    with pytest.raises(ValueError, match="`source` must have finite numbers") as error:
        load(write(tmp_path / f"mine{suffix}", table))
    message = str(error.value)
    where = "row 12 holds 'low'" if suffix == ".csv" else "it is of type"
    assert f"'text' is not numeric ({where}" in message
    assert "'day' is not numeric" in message
    assert "'same' is constant (0) in the training rows" in message
    assert "'gaps' is missing or not finite in 25 of 50 rows" in message
    assert "'a'" not in message


def test_arrays_that_are_not_numbers(tmp_path):
    for array in (np.full([9, 2], "x"), np.ones([9, 2], complex)):
        np.save(tmp_path / "mine.npy", array)
        with pytest.raises(ValueError, match="'x0' is not numeric .*; 'x1' is not numeric"):
            load(tmp_path / "mine.npy")
    np.save(tmp_path / "mine.npy", np.array([[1, "a"]], object), allow_pickle=True)
    with pytest.raises(ValueError, match="`source` must be a readable .npy file"):
        load(tmp_path / "mine.npy")


def test_numbers_beyond_float32_are_named(tmp_path):
    table = values()
    table[5, 2] = 1e300
    with pytest.raises(ValueError, match="'x2' is missing or not finite in 1 of 50 rows"):
        load(write(tmp_path / "mine.npy", table))


def test_integers_and_booleans_are_numbers(tmp_path):
    random = np.random.default_rng(0)
    table = pd.DataFrame(random.integers(0, 99, [50, 2]), columns=["i", "u"])
    table["u"] = table["u"].astype(np.uint8)
    table["b"] = [True, False] * 25
    table["n"] = pd.array(random.integers(-9, 9, 50), dtype="Int64")
    assert load(write(tmp_path / "mine.parquet", table)).train.shape == (40, 4)


def test_csv_without_names(tmp_path):
    np.savetxt(tmp_path / "mine.csv", values(), delimiter=",")
    with pytest.raises(ValueError, match="must start with a line of column names"):
        load(tmp_path / "mine.csv")
