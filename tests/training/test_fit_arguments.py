"""Tests that `fit` refuses data before any work, and leaves the weights as they were."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tfp_distill import Flow, TabularGlowConfig

X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
GAPS = np.where(X > 2, np.nan, X)
CONFIG = TabularGlowConfig(dims=3, num_steps=1, hidden_units=4, num_hidden_layers=1)


@pytest.fixture(params=[False, True], ids=["new", "adapted"])
def flow(request):
    flow = Flow(CONFIG)
    flow.compile("adam", run_eagerly=True)
    if request.param:
        flow.adapt(X)
    return flow


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(x=X.astype(object)), "`x` must hold real numbers"),
        (dict(x=pd.DataFrame(X).assign(c="a")), "`x` must hold real numbers, got 'a' in an array"),
        (dict(x=X[:0]), "`x` must have at least 1 row, got none"),
        (dict(x=np.float32(3)), "`x` must be an array of rows, got the number 3"),
        (dict(x=X, sample_weight=np.ones([])), "`sample_weight` must be an array of rows, got the"),
        (dict(x=GAPS), "`x` must be finite, got 1 of 40 rows not so"),
        (dict(x=X[None]), r"`x` of .* must have shape \(batch, 3\), got \(1, 40, 3\)"),
        (dict(x=X[:, :2]), r"`x` of .* must have shape \(batch, 3\), got \("),
        (dict(x=X[:, 0]), r"`x` of .* must have shape \(batch, 3\), got \("),
        (dict(x=X, y=X[:, :1]), r"`condition` of .* must be None, got shape \("),
        (dict(x=X, y=X[:9]), "`y` must have a row for each of the 40 of `x`, got 9"),
        (dict(x=X, sample_weight=np.ones(9)), "`sample_weight` must have a row for each of the 40"),
        (dict(x=X, sample_weight=np.ones([40, 3])), r"`sample_weight` .* got shape \(40, 3\)"),
        (dict(x=X, sample_weight=np.linspace(-1, 1, 40)), "`sample_weight` must be one .* got -1"),
        (dict(x=X, validation_data=(X, None, np.ones(9))), r"`validation_data\[2\]` must have a"),
        (dict(x=X, validation_data=GAPS), r"`validation_data\[0\]` must be finite, got 1 of 40"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_arrays_that_cannot_be_trained_on_are_refused(flow, arguments, message):
    before = flow.get_weights()
    with pytest.raises(ValueError, match=message):
        flow.fit(**arguments, verbose=0)
    for one, other in zip(before, flow.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_dataset_must_be_batched(flow):
    rows = tf.data.Dataset.from_tensor_slices(X)
    with pytest.raises(ValueError, match="`x` (must come in batches|of .* must have shape .batch)"):
        flow.fit(rows, verbose=0)
    assert len(flow.fit(rows.batch(8), verbose=0).history["loss"]) == 1


def test_what_is_evaluated_is_checked_too(flow):
    with pytest.raises(ValueError, match="`x` must be finite, got 1 of 40 rows not so"):
        flow.evaluate(GAPS, verbose=0)
