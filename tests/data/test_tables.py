"""Tests of reading tables of text as people have them, and of choosing and splitting their rows."""

import gzip

import numpy as np
import pandas as pd
import pytest

from tfp_distill.data import load


def values(n=60, dims=3):
    return np.random.default_rng(0).normal(size=[n, dims]).round(6)


def lines(rows, separator=",", end=""):
    return "".join(separator.join(map(str, row)) + end + "\n" for row in rows)


def write(path, header, rows, separator=",", end=""):
    text = header + "\n" + lines(rows, separator, end)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def in_order(data):
    return np.concatenate([data.train, data.validation, data.test])


@pytest.mark.parametrize("name", ["a.csv", "a.txt", "a.tsv", "a.csv.gz"])
@pytest.mark.parametrize(
    ("header", "separator", "end"),
    [
        ("a,b,c", ",", ""),
        ("a,b,c", ",", ","),  # A separator at the end of the lines,
        ("a;b;c;", ";", ";"),  # and of the header too.
        ("a;b;c", ";", ""),
        ("a\tb\tc", "\t", ""),
        ("a|b|c", "|", ""),
        ("a b   c", " ", ""),
        ("a, b, c", ", ", ""),
        ("# a,b,c", ",", ""),
        ("# a b c", " ", ""),
        ("\ufeff a,b,c", ",", "\r"),
        ('\n\n"a","b",c', ",", ""),
    ],
)
def test_separators(tmp_path, name, header, separator, end):
    path = write(tmp_path / name, header, values(), separator, end)
    data = load(path, split="by_order")
    assert (data.name, data.feature_names) == ("a", ("a", "b", "c"))
    np.testing.assert_array_equal(in_order(data), values().astype(np.float32))


@pytest.mark.parametrize(
    "head", ["# made by hand\n\n# a;b;c", "# made by hand\na;b;c", "#\n#a;b;c", "# 1;2;3\na;b;c"]
)
@pytest.mark.parametrize("point", [".", ","])
def test_comments_before_the_names(tmp_path, head, point):
    path = tmp_path / "a.csv"
    path.write_text(head + "\n" + lines(values(), ";").replace(".", point))
    data = load(path, split="by_order")
    assert data.feature_names == ("a", "b", "c")
    np.testing.assert_array_equal(in_order(data), values().astype(np.float32))


def test_a_file_of_comments_has_no_rows(tmp_path):
    (tmp_path / "a.csv").write_text("# a,b\n# 1,2\n")
    with pytest.raises(ValueError, match=r"a\.csv"):
        load(tmp_path / "a.csv")


@pytest.mark.parametrize("name", ["a.tsv", "a.csv.gz"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_of_unicode(tmp_path, name, encoding):
    content = ("Größe\tx\n" + lines(values(dims=2), "\t")).encode(encoding)
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    data = load(path, split="by_order")
    assert data.feature_names == ("Größe", "x")
    np.testing.assert_array_equal(in_order(data), values(dims=2).astype(np.float32))


def test_other_text_is_refused_by_its_byte(tmp_path):
    (tmp_path / "a.csv").write_bytes(("Größe,x\n" + lines(values(dims=2))).encode("latin-1"))
    with pytest.raises(ValueError, match=r"in UTF-8, got .*a\.csv, which holds the byte 0xf6: "):
        load(tmp_path / "a.csv")


@pytest.mark.parametrize("separator", [";", "\t", " "])
def test_commas_for_points(tmp_path, separator):
    rows = [[str(x).replace(".", ",") for x in row] for row in values()]
    rows[1][1], rows[2][1], rows[4][0] = "1,5e-2", "-,25", "3"
    rows[55][2] = "?"  # Behind the lines that say how the file is laid out.
    path = write(tmp_path / "a.csv", separator.join("abc"), rows, separator)
    data = load(path, split="by_order", drop_missing=True)
    expected = values()
    expected[[1, 2, 4], [1, 1, 0]] = 0.015, -0.25, 3
    np.testing.assert_allclose(in_order(data), np.delete(expected, 55, axis=0), rtol=1e-6)


@pytest.mark.parametrize(
    ("row", "value", "shown"),
    [
        (3, "1,234", "0 holds '1,234'"),  # No other value says what the comma is.
        (3, "1,234.5", "3 holds '1,234.5'"),
        (3, "1,234,567", "3 holds '1,234,567'"),
        (55, "0,5", "55 holds '0,5'"),  # All before it have points.
    ],
)
def test_commas_that_may_be_of_thousands_are_refused(tmp_path, row, value, shown):
    rows = values().astype(object)
    if shown.startswith("0"):
        rows[:, 1] = "1,234"
    rows[row, 1] = value
    path = write(tmp_path / "a.csv", "a;b;c", rows, ";")
    with pytest.raises(ValueError, match=f"'b' is not numeric .row {shown}"):
        load(path)


def test_a_point_among_commas_is_refused(tmp_path):
    rows = [[str(x).replace(".", ",") for x in row] for row in values()]
    rows[55][0] = "1.234"  # A thousand and more?
    path = write(tmp_path / "a.csv", "a;b;c", rows, ";")
    with pytest.raises(ValueError, match=r"'a' is not numeric .row 55 holds '1\.234'"):
        load(path)


def test_blanks_and_commas_within_names(tmp_path):
    path = write(tmp_path / "a.csv", '"speed (m, s)";x y', values(dims=2), ";")
    assert load(path).feature_names == ("speed (m, s)", "x y")


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("separator", [",", ";", "\t", " "])
@pytest.mark.parametrize("first", [0, 40])
def test_lines_with_more_values_than_names_are_refused(tmp_path, number, separator, first):
    """pandas takes the first value as the row's name, and shifts all others by a column."""
    rows = [[*row, *([7] * number if i >= first else [])] for i, row in enumerate(values())]
    path = write(tmp_path / "a.csv", separator.join("abc"), rows, separator)
    with pytest.raises(ValueError, match="`source` must be a readable .csv file, got .*a.csv:"):
        load(path)


def test_lines_with_fewer_values_are_missing(tmp_path):
    path = write(tmp_path / "a.csv", "a,b,c", [*values().tolist(), [1, 2]])
    with pytest.raises(ValueError, match="'c' is missing or not finite in 1 of 61 rows"):
        load(path)


def test_an_index_of_pandas_is_refused(tmp_path):
    table = pd.DataFrame(values(), columns=["a", "b", "c"])
    table.to_csv(tmp_path / "a.csv")
    with pytest.raises(ValueError, match="'Unnamed: 0' numbers the rows; name it in `columns`"):
        load(tmp_path / "a.csv")
    table[table["a"] > 0].to_csv(tmp_path / "a.csv")
    with pytest.raises(ValueError, match="'Unnamed: 0' numbers the rows"):
        load(tmp_path / "a.csv")
    data = load(tmp_path / "a.csv", drop_columns=["Unnamed: 0"])
    assert data.feature_names == ("a", "b", "c")
    data = load(tmp_path / "a.csv", columns=["b", "Unnamed: 0"])  # If that is what is wanted.
    assert data.feature_names == ("b", "Unnamed: 0")


def test_a_column_that_counts_is_refused_in_any_format(tmp_path):
    np.save(tmp_path / "a.npy", np.column_stack([values(), np.arange(60)]))
    with pytest.raises(ValueError, match="'x3' numbers the rows"):
        load(tmp_path / "a.npy")
    assert load(tmp_path / "a.npy", drop_columns=["x3"]).feature_names == ("x0", "x1", "x2")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_name_that_is_there_twice(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    if suffix == ".csv":
        write(path, "a,b,a", values())
    else:
        pyarrow = pytest.importorskip("pyarrow")
        table = pyarrow.table([pyarrow.array(x) for x in values().T], names=["a", "b", "a"])
        pytest.importorskip("pyarrow.parquet").write_table(table, path)
    with pytest.raises(ValueError, match=r"different names of columns, got \['a'\] more than once"):
        load(path)


def test_columns(tmp_path):
    rows = [[f"2020-01-{i % 30 + 1}", *row] for i, row in enumerate(values())]
    path = write(tmp_path / "a.csv", "day,a,b,c", rows)
    dropped = load(path, drop_columns=["day"])
    assert dropped.feature_names == ("a", "b", "c")
    chosen = load(path, columns=["c", "a"])
    assert chosen.feature_names == ("c", "a")
    np.testing.assert_array_equal(chosen.train, dropped.train[:, [2, 0]])
    for argument in ("columns", "drop_columns"):
        with pytest.raises(ValueError, match=f"`{argument}` must be different names of .*'d'"):
            load(path, **{argument: ["d"]})
    with pytest.raises(ValueError, match="`drop_columns` must be empty where `columns` are given"):
        load(path, columns=["a", "b"], drop_columns=["day"])


def test_missing_values(tmp_path):
    rows = values().astype(object)
    rows[[3, 7, 9], [0, 1, 2]] = "?", "", "NA"
    path = write(tmp_path / "a.csv", "a,b,c", rows)
    with pytest.raises(ValueError, match="'b' is missing or not finite in 1 of 60 rows"):
        load(path)
    data = load(path, drop_missing=True, split="by_order")
    assert data.dropped_rows == 3
    kept = np.delete(values(), [3, 7, 9], axis=0)
    np.testing.assert_array_equal(in_order(data), kept.astype(np.float32))
    # What is missing in a column that is not used is not missed.
    assert load(path, drop_missing=True, drop_columns=["a"]).dropped_rows == 2


def test_split_by_order(tmp_path):
    path = write(tmp_path / "a.csv", "a,b,c", values())
    data = load(path, split="by_order", validation_fraction=0.2)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [42, 12, 6]
    np.testing.assert_array_equal(in_order(data), values().astype(np.float32))
    with pytest.raises(ValueError, match="`split` must be one of random, by_order, got 'last'"):
        load(path, split="last")


def test_files_of_their_own_to_validate_and_test_with(tmp_path):
    path = write(tmp_path / "a.csv", "a,b,c", values())
    test = pd.DataFrame(values(7)[:, ::-1] + 1, columns=["c", "b", "a"])
    test.to_parquet(tmp_path / "test.parquet")
    data = load(path, test_data=tmp_path / "test.parquet")
    np.testing.assert_array_equal(data.test, (values(7) + 1).astype(np.float32))
    assert [len(part) for part in (data.train, data.validation)] == [54, 6]
    both = load(path, test_data=tmp_path / "test.parquet", validation_data=path)
    np.testing.assert_array_equal(both.train, values().astype(np.float32))
    np.testing.assert_array_equal(both.validation, both.train)
    test.drop(columns="b").to_parquet(tmp_path / "test.parquet")
    for argument in ("validation_data", "test_data"):
        with pytest.raises(
            ValueError, match=f"`{argument}` must have the columns .*'b'.*test.parq"
        ):
            load(path, **{argument: tmp_path / "test.parquet"})
        with pytest.raises(
            ValueError, match=f"`{argument}` must be an existing file, got .*absent"
        ):
            load(path, **{argument: tmp_path / "absent.csv"})
        damaged = tmp_path / "damaged.npy"
        damaged.write_bytes(b"\x93NUMPY")
        with pytest.raises(ValueError, match=f"`{argument}` must be a readable .npy file"):
            load(path, **{argument: damaged})


def test_parts_leave_nothing_to_split(tmp_path):
    np.savez(tmp_path / "a.npz", train=values(), validation=values(9), test=values(8))
    with pytest.raises(
        ValueError, match="`test_data` must not be given where `source` holds parts"
    ):
        load(tmp_path / "a.npz", test_data=tmp_path / "a.npz")
    with pytest.raises(ValueError, match="`split` must be random where `source` holds parts"):
        load(tmp_path / "a.npz", split="by_order")


def test_statistics_are_those_of_the_rows_that_are_used(tmp_path):
    rows = np.sort(values(), axis=0)
    path = write(tmp_path / "a.csv", "a,b,c", rows)
    data = load(path, split="by_order", train_rows=20)
    used = rows[:20].astype(np.float32)
    np.testing.assert_array_equal(data.train, used)
    np.testing.assert_allclose(data.statistics.mean, used.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(data.statistics.scale, used.std(axis=0), rtol=1e-5)
    with pytest.raises(
        ValueError, match="`train_rows` must be at most the 48 training rows, got 49"
    ):
        load(path, train_rows=49)


def test_statistics_of_the_images_that_are_used(tmp_path):
    images = np.repeat(np.arange(40, dtype=np.uint8) * 6, 16).reshape(40, 4, 4)
    images[:, 0, 0] += 1
    np.savez(tmp_path / "a.npz", train=images, test=images)
    data = load(tmp_path / "a.npz", train_rows=10)
    x = data.examples("train")[:]
    assert len(x) == 10
    assert data.statistics.mean == pytest.approx(x.mean(), abs=2e-3)


class TestFingerprint:
    def test_it_is_of_the_training_rows(self, tmp_path):
        path = write(tmp_path / "a.csv", "a,b,c", values())
        first, again, other = load(path), load(path), load(path, split_seed=1)
        assert first.fingerprint == again.fingerprint != other.fingerprint
        assert first.held_out_fingerprint == again.held_out_fingerprint
        assert load(path, train_rows=40).fingerprint != first.fingerprint
        assert load(path, train_rows=40).held_out_fingerprint == first.held_out_fingerprint

    def test_one_value_names_and_conditions_count(self, tmp_path):
        rows = values()
        before = load(write(tmp_path / "a.csv", "a,b,c", rows), split="by_order")
        conditions = load(tmp_path / "a.csv", split="by_order", condition_columns=["c"])
        renamed = load(write(tmp_path / "a.csv", "a,b,d", rows), split="by_order")
        rows[5, 1] += 1e-3
        changed = load(write(tmp_path / "a.csv", "a,b,c", rows), split="by_order")
        digests = {data.fingerprint for data in (before, conditions, renamed, changed)}
        assert len(digests) == 4 and all(len(digest) == 64 for digest in digests)

    def test_images_have_one(self):
        assert load("digits").fingerprint != load("digits", train_rows=100).fingerprint
