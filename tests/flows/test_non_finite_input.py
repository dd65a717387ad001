"""Tests that data that are not finite, or none, are refused and leave a flow as it was."""

import numpy as np
import pytest
import tensorflow as tf

from tfp_distill import Flow, TabularGlowConfig, align_with_teacher
from tfp_distill.distillation import copy_matching_steps

CONFIG = TabularGlowConfig(3, num_steps=1, hidden_units=4, num_hidden_layers=1)
X = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)


def with_one(value):
    x = X.copy()
    x[3, 1] = value
    return x


BAD = {
    "nan": (with_one(np.nan), "`x` must be finite, got 1 of"),
    "inf": (with_one(np.inf), "`x` must be finite, got 1 of"),
    "empty": (X[:0], "`x` must have at least"),
}
WAYS = {
    "adapt": lambda flow, x: flow.adapt(x),
    "fit": lambda flow, x: flow.fit(x, batch_size=50, verbose=0),
    "fit_dataset": lambda flow, x: flow.fit(tf.data.Dataset.from_tensors(x), verbose=0),
    "align": lambda flow, x: align_with_teacher(flow, adapted(), x),
    "copy": lambda flow, x: copy_matching_steps(flow, adapted(), x),
}


def adapted():
    flow = Flow(CONFIG)
    flow.adapt(X)
    return flow


def assert_refused(flow, run, rule):
    before = flow.get_weights()
    with pytest.raises(ValueError, match=rule):
        run()
    for weight, value in zip(flow.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)
    assert not flow.adapted


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", BAD)
def test_bad_data_are_refused(way, kind):
    x, rule = BAD[kind]
    flow = Flow(CONFIG)
    flow.compile("adam", jit_compile=False)
    assert_refused(flow, lambda: WAYS[way](flow, x), rule)


def test_statistics_that_give_no_finite_weights_are_refused():
    class Statistics:
        mean, scale = np.full(3, 3e38), np.ones(3)

    flow = Flow(CONFIG)
    run = lambda: flow.adapt(X, statistics=Statistics())  # noqa: E731
    assert_refused(flow, run, "`x` and its statistics must give finite weights|finite latents")


def test_a_bad_batch_after_the_flow_was_adapted_is_skipped():
    flow = adapted()
    flow.compile("adam", jit_compile=False)
    before = flow.get_weights()
    for x in (with_one(np.nan), X[:0]):
        flow.fit(tf.data.Dataset.from_tensors(x), verbose=0)
    assert flow.skipped_steps == 2
    is_counter = [weight.dtype == np.int32 for weight in before]
    for weight, value, counts in zip(flow.get_weights(), before, is_counter, strict=True):
        assert counts or np.array_equal(weight, value)


def test_a_teacher_that_is_not_finite_is_refused():
    teacher = adapted()
    teacher.trainable_variables[0].assign(np.full(teacher.trainable_variables[0].shape, np.nan))
    student = Flow(CONFIG)
    with pytest.raises(ValueError, match="`teacher` must have finite latents of `x`"):
        align_with_teacher(student, teacher, X)
    assert all(np.isfinite(weight).all() for weight in student.get_weights())
    student = Flow(CONFIG)
    run = lambda: copy_matching_steps(student, teacher, X)  # noqa: E731
    assert_refused(student, run, "`teacher` must have finite weights")
