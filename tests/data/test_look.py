"""Tests of the look at data: what columns are taken for, and what no flow can model."""

import re
import time

import numpy as np
import pytest

from tfp_distill.data import load
from tfp_distill.data.tables.look import look_at

ROWS = 2000
random = np.random.default_rng(0)
NORMAL = random.normal(size=[ROWS, 3])


def save(path, *columns, dtype=np.float64):
    np.save(path / "a.npy", np.column_stack(columns).astype(dtype))
    return path / "a.npy"


def kind_of(column, **arguments):
    look, _ = look_at(("a", "b"), np.column_stack([column, NORMAL[:, 0]]), **arguments)
    assert not look.problem
    return look


@pytest.mark.parametrize(
    ("column", "kind", "is_discrete"),
    [
        (NORMAL[:, 1], "continuous", False),
        (NORMAL[:, 1].round(), "integers", True),
        (NORMAL[:, 1] > 0, "two values", True),
        (np.where(NORMAL[:, 1] > 2, NORMAL[:, 2], 0), "atoms", True),
        (NORMAL[:, 1].round(1), "steps", True),
        (random.uniform(-3, 5, ROWS), "bounded", False),
        (random.uniform(0, 2 * np.pi, ROWS), "bounded", False),
        (random.standard_cauchy(ROWS), "extreme values", False),
        (random.exponential(size=ROWS), "continuous", False),
    ],
)
def test_kinds(column, kind, is_discrete):
    look = kind_of(column)
    assert (look.kind, look.is_discrete) == (kind, is_discrete)


def test_figures():
    look = kind_of(np.repeat([-1.0, 0.5, 2.0, 2.25], [ROWS // 2, ROWS // 4, ROWS // 8, ROWS // 8]))
    assert (look.minimum, look.maximum, look.distinct) == (-1.0, 2.25, 4)
    assert (look.commonest, look.share) == (-1.0, 0.5)
    deviation = np.repeat([-1.0, 0.5, 2.0, 2.25], [4, 2, 1, 1]).std()
    assert look.resolution == pytest.approx(0.25 / deviation)


def test_an_angle_and_zeros_have_notes():
    assert "an angle" in kind_of(random.uniform(0, 360, ROWS)).note
    assert kind_of(np.where(NORMAL[:, 1] > 2.3, NORMAL[:, 2], 0)).note == "99% are 0"


def test_what_conditions_may_be_discrete():
    look = kind_of(NORMAL[:, 1] > 0, conditions=["a"])
    assert look.is_condition and not look.is_discrete


@pytest.mark.parametrize(
    ("column", "problem"),
    [
        (np.full(ROWS, 7.0), r"is constant \(7\) in the training rows"),
        (NORMAL[:, 0], "is the same as 'x0'"),
        (3 - 2 * NORMAL[:, 1], "is a linear function of 'x1'"),
        (NORMAL[:, 0] + NORMAL[:, 1], "is a sum of multiples of 'x[01]', 'x[01]'$"),
        (
            1.7e9 + random.integers(0, 86_400, ROWS),
            "holds numbers as large as 17000.*subtract their minimum, or leave the column out if",
        ),
        (
            random.permutation(np.arange(4e8, 4e8 + 50).repeat(40)),
            "holds numbers as large as 40000",
        ),
        (np.append(1e12, NORMAL[1:, 2]), r"has outliers as far as 1e\+12, beside which float32"),
    ],
)
def test_what_no_flow_can_model_is_refused(tmp_path, column, problem):
    path = save(tmp_path, NORMAL, column)
    looks = look_at(("x0", "x1", "x2", "x3"), np.load(path))
    assert [bool(look.problem) for look in looks] == [False, False, False, True]
    with pytest.raises(ValueError, match="`source` must have finite numbers, and columns") as error:
        # So that the outlier is among the training rows.
        load(path, split="by_order")
    message = str(error.value)
    assert re.search(f"'x3' {problem.rstrip('$')}", message) and "\n" not in message
    assert "`drop_columns` leaves columns out" in message
    assert re.search(problem, looks[3].problem)
    assert load(path, drop_columns=["x3"]).train.shape[1] == 3


@pytest.mark.parametrize(
    "column",
    [5.4e6 + 3000 * NORMAL[:, 1], 101_325 + 50 * NORMAL[:, 1]],
    ids=["metres north of the equator", "pascals of the air"],
)
def test_what_float32_rounds_to_little_is_modelled(tmp_path, column):
    data = load(save(tmp_path, NORMAL[:, 0], column))
    look = data.look[1]
    assert re.fullmatch(r"float32 makes [0-9,]+ values of [0-9,]+", look.note), look
    assert look.kind == "continuous" and not look.problem
    kept = np.unique(column.astype(np.float32))
    assert np.isin(data.train[:, 1], kept).all()


def test_outliers_that_are_held_out_are_found(tmp_path):
    rows = NORMAL.copy()
    rows[-1, 1] = 1e12
    with pytest.raises(ValueError, match=r"'x1' has outliers as far as 1e\+12 among the rows that"):
        load(save(tmp_path, rows), split="by_order")


def test_ids_of_64_bits_are_not_called_constant(tmp_path):
    ids = 10**18 + random.permutation(ROWS)
    np.savez(tmp_path / "a.npz", np.column_stack([ids, random.integers(0, 99, ROWS), ids % 7]))
    with pytest.raises(
        ValueError, match="'x0' holds numbers as large as 1e.18.* float32 makes 1 v"
    ):
        load(tmp_path / "a.npz")
    lines = "".join(f"{number},{x},{y}\n" for number, (x, y, _) in zip(ids, NORMAL, strict=True))
    (tmp_path / "a.csv").write_text("id,a,b\n" + lines)
    with pytest.raises(ValueError, match="'id' holds integers up to 10000.*too many digits"):
        load(tmp_path / "a.csv")


def test_what_follows_from_conditions_is_refused(tmp_path):
    path = save(tmp_path, NORMAL, NORMAL[:, 0] - NORMAL[:, 2])
    with pytest.raises(ValueError, match="'x2' is a sum of multiples of 'x[03]', 'x[03]'"):
        load(path, condition_columns=["x0", "x3"])
    # A condition may follow from other ones: nothing models its density.
    path = save(tmp_path, NORMAL, 2 * NORMAL[:, 0])
    assert load(path, condition_columns=["x0", "x3"]).feature_names == ("x1", "x2")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dependence_is_found_at_any_precision_and_only_where_it_holds(dtype):
    total = NORMAL.sum(axis=1, keepdims=True)
    names = ("a", "b", "c", "total")
    looks = look_at(names, np.hstack([NORMAL, total]).astype(dtype))
    assert looks[3].problem.startswith("is a sum of multiples of")
    total[17] += 0.1  # One row that does not follow.
    assert not any(look.problem for look in look_at(names, np.hstack([NORMAL, total])))


def test_nearly_dependent_columns_are_none():
    near = NORMAL[:, 0] + 1e-3 * NORMAL[:, 1]
    rows = np.column_stack([NORMAL[:, 0], NORMAL[:, 2], near])
    assert not any(look.problem for look in look_at("abc", rows))


def test_few_rows_of_many_columns_are_no_dependence(tmp_path):
    assert load(save(tmp_path, random.normal(size=[30, 40]))).train.shape == (24, 40)


def test_a_rising_column_is_noted(tmp_path):
    hours = np.cumsum(random.uniform(0.5, 1, ROWS))
    data = load(save(tmp_path, NORMAL, hours))
    assert "rises from row to row" in data.look[3].note


def test_every_source_of_rows_is_looked_at():
    data = load("embedded", condition_columns=["time"])
    assert [look.name for look in data.look] == [*data.feature_names, "time"]
    assert not any(look.problem for look in data.look)
    assert load("digits").look == ()


def test_a_million_rows_take_seconds():
    rows = random.normal(size=[1_000_000, 8]).astype(np.float32)
    began = time.perf_counter()
    look_at("abcdefgh", rows)
    assert time.perf_counter() - began < 20
