"""Tests of the kinds that columns of a table are taken for, by their look or as a person says."""

import numpy as np
import pytest

from tfp_distill.columns import Columns
from tfp_distill.data import evaluation_batches, load, training_batches
from tfp_distill.domains import RowDomain

ROWS = 3000
random = np.random.default_rng(0)
TABLE = {
    "plain": random.normal(size=ROWS),
    "count": random.poisson(9, ROWS),
    "angle": random.uniform(0, 360, ROWS),
    "rating": random.integers(1, 6, ROWS),
    "flag": random.uniform(size=ROWS) < 0.3,
    "rain": np.where(random.uniform(size=ROWS) < 0.5, 0, random.exponential(size=ROWS)),
    "time": random.integers(0, 2**22, ROWS),
    "bytes": np.round(1e8 * random.lognormal(size=ROWS)),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "mine.csv"
    values = np.column_stack(list(TABLE.values()))
    np.savetxt(path, values, delimiter=",", header=",".join(TABLE), comments="", fmt="%.9g")
    return path


def test_the_look_decides(path):
    data = load(path)
    pairs = zip(data.domain.columns.kinds, data.domain.columns.bounds, strict=True)
    kinds = dict(zip(data.feature_names, pairs, strict=True))
    assert kinds["plain"] == kinds["rain"] == kinds["bytes"] == ("continuous", None)
    assert kinds["time"] == ("bounded", (TABLE["time"].min(), TABLE["time"].max()))
    assert kinds["count"] == ("integer", None)
    assert kinds["rating"] == ("integer", (1, 5))
    assert kinds["flag"] == ("integer", (0, 1))
    assert kinds["angle"] == ("bounded", (0, 360))
    assert not data.domain.columns.outside(
        np.concatenate([data.train, data.validation, data.test])
    ).any()
    looks = {look.name: look for look in data.look}
    assert looks["rain"].kind == "atoms"
    # No value is common, and noise of one unit is less than float32 tells apart.
    assert looks["bytes"].note == "large integers"
    assert not looks["bytes"].is_discrete and not looks["time"].is_discrete


@pytest.mark.parametrize(
    ("low", "high", "bounds"),
    [(-1, 1, (-1, 1)), (0, 100, (0, 100)), (-np.pi, np.pi, (-np.pi, np.pi)), (20, 37, None)],
)
def test_natural_bounds_are_known(tmp_path, low, high, bounds):
    x = np.random.default_rng(1).uniform(low, high, ROWS)
    np.save(tmp_path / "a.npy", np.stack([TABLE["plain"], x], axis=1))
    expected = bounds or (x.astype(np.float32).min(), x.astype(np.float32).max())
    assert load(tmp_path / "a.npy").domain.columns.bounds[1] == pytest.approx(expected, abs=1e-6)


def test_what_is_asked_for_counts(path):
    assert load(path, column_kinds=["continuous"]).domain.columns is None
    data = load(path, column_kinds=["angle:bounded:0:360"])
    assert data.domain.columns.kinds == ("continuous",) * 2 + ("bounded",) + ("continuous",) * 5
    assert data.domain.columns.bounds[2] == (0, 360)
    data = load(path, column_kinds=["auto", "count:continuous", "rating:integer"])
    assert data.domain.columns.kinds[:2] == ("continuous", "continuous")
    assert data.domain.columns.bounds[3] is None


def test_conditions_have_no_kind(path):
    data = load(path, condition_columns=["angle", "flag", "time"])
    assert data.domain.columns.dims == 5 and "bounded" not in data.domain.columns.kinds
    with pytest.raises(ValueError, match="of columns that are modelled, .*; got flag"):
        load(path, condition_columns=["flag"], column_kinds=["flag:integer"])


def test_named_sources_stay_continuous():
    assert load("embedded").domain.columns is None
    with pytest.raises(ValueError, match="`column_kinds` must be auto where `source` holds images"):
        load("digits", column_kinds=["x0:integer"])


@pytest.mark.parametrize(
    ("item", "rule"),
    [
        ("angle", "must be auto, continuous, or NAME:KIND"),
        ("angle:round", "must be auto, continuous, or NAME:KIND"),
        ("angle:bounded:0:much", "whose bounds are no numbers"),
        ("other:integer", "; got other"),
        ("angle:integer", "must be continuous or bounded for 'angle', which holds other numbers"),
        ("time:integer", "must be continuous or bounded for 'time', which holds other numbers"),
        ("angle:bounded:10:360", "must have bounds of 'angle' that hold all its values, from 0"),
    ],
)
def test_wrong_kinds_are_refused(path, item, rule):
    with pytest.raises(ValueError, match=f"`column_kinds` {rule}|`column_kinds` must .*{rule}"):
        load(path, column_kinds=[item])


def test_batches_have_noise_that_is_a_function_of_the_step():
    x = np.arange(40, dtype=np.float32).reshape(20, 2)
    columns = Columns(("integer", "continuous"))
    batches = list(training_batches(x, 10, domain=RowDomain(columns)).take(4))
    later = next(iter(training_batches(x, 10, domain=RowDomain(columns), start_step=3)))
    np.testing.assert_array_equal(later, batches[3])
    values = np.concatenate(batches)
    assert np.mean(values[:, 0] != np.floor(values[:, 0])) > 0.9
    np.testing.assert_array_equal(values[:, 1], np.floor(values[:, 1]))
    noise = np.sort(values[:, 0])[::2] - np.sort(values[:, 0])[1::2]
    assert np.all(noise != 0)  # Another one in each epoch.
    first, again = (
        np.concatenate(list(evaluation_batches(x, n, domain=RowDomain(columns)))) for n in (7, 20)
    )
    np.testing.assert_array_equal(first, again)
    with pytest.raises(ValueError, match=r"`domain` must be of the columns of `x`, .* got 1"):
        training_batches(x, 10, domain=RowDomain(Columns(("integer",))))
