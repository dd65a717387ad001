"""Tests of what counts as an array of numbers."""

from __future__ import annotations

import keras
import ml_dtypes
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tfp_distill.arrays import as_numbers, check_finite, check_numbers

TABLE = np.array([[1.0, 2.0], [3.0, 4.0]])


@pytest.mark.parametrize(
    "values",
    [
        TABLE.tolist(),
        TABLE.astype(np.int8),
        TABLE.astype(object),
        TABLE.astype(np.longdouble),
        TABLE.astype(ml_dtypes.bfloat16),
        np.ma.masked_greater(TABLE, 9),
        pd.DataFrame(TABLE),
        pd.DataFrame(TABLE, dtype="Int64"),
        tf.constant(TABLE),
        tf.Variable(TABLE),
        tf.constant(TABLE, tf.uint8),
        keras.Variable(TABLE),
    ],
    ids=lambda values: f"{type(values).__name__} {getattr(values, 'dtype', '')}",
)
def test_numbers_of_any_kind_become_a_tensor(values):
    numbers = as_numbers("x", values, "float32")
    assert numbers.dtype == tf.float32
    np.testing.assert_array_equal(numbers, TABLE)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("abc", "real numbers, got 'abc' in an array of text"),
        (None, "real numbers, got None in an array of objects"),
        ([[1.0, None]], "real numbers, got None in an array of objects"),
        ([[1.0], [1.0, 2.0]], "be an array, got a list whose rows differ in shape"),
        (TABLE + 1j, "real numbers, got complex128"),
        (tf.constant(TABLE, tf.complex64), "real numbers, got complex64"),
        (tf.constant("a"), "real numbers, got string"),
        (np.array(["2020-01-01"], "datetime64[D]"), r"real numbers, got datetime64\[D\]"),
        (
            pd.DataFrame({"a": [1.0], "b": ["red"]}),
            "real numbers, got 'red' in an array of objects",
        ),
        (np.ma.masked_greater(TABLE, 3), "have no masked values, got 1 of 4"),
        (tf.ragged.constant([[1.0], [1.0, 2.0]]), "be a dense array, got a RaggedTensor"),
        (keras.Input([2]), "hold numbers, got a symbolic KerasTensor"),
    ],
    ids=str,
)
def test_what_is_no_number_is_refused(values, message):
    with pytest.raises(ValueError, match=f"^`x` must (hold )?{message}"):
        as_numbers("x", values, "float32")


def test_objects_are_no_type_of_numbers():
    check_numbers("x", TABLE)
    with pytest.raises(ValueError, match="`x` must hold real numbers, got 1.0 in an array of obj"):
        check_numbers("x", TABLE.astype(object))


def test_values_of_a_graph_are_converted_there():
    @tf.function
    def twice(values):
        return 2 * as_numbers("x", values, "float32")

    np.testing.assert_array_equal(twice(tf.constant(TABLE, tf.int32)), 2 * TABLE)


def test_rows_that_are_not_finite_are_counted():
    check_finite("x", np.full([2, 3], np.finfo(np.float64).max))  # Their sum is infinite.
    check_finite("x", np.zeros([0, 3]))
    check_finite("x", np.ones([2, 3], np.uint8))
    values = np.zeros([5, 2, 2], np.float32)
    values[1, 0, 0], values[3] = np.inf, (np.inf, -np.inf)
    with pytest.raises(ValueError, match="`x` must be finite, got 2 of 5 rows not so"):
        check_finite("x", values)
