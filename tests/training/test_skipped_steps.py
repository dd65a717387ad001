"""Tests of the end of trainings that take no step any more."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from part_flows import data, make_flow
from toy_model import make_toy

from tfp_distill import FlowDistiller, LatentLoss, Partition, StopOnSkippedSteps

STEPS_OF_EPOCH = 20


def _rows(*bad_batches, kind="glow", size=8, value=np.inf):
    """Batches for an epoch; those of some numbers, and all after the last one, are not finite."""
    x = data(kind, STEPS_OF_EPOCH * size)[0]
    for number in bad_batches:
        x[number * size : (number + 1) * size] = value
    return tf.data.Dataset.from_tensor_slices(x).batch(size)


def _fit(model, rows, *, patience=5, kind="glow", **options):
    stop = StopOnSkippedSteps(*data(kind, 16, seed=2), patience=patience)
    model.fit(rows, callbacks=[stop], verbose=0, epochs=3, **options)


class _Copies(keras.callbacks.Callback):
    """The weights after each step."""

    def __init__(self):
        super().__init__()
        self.after = {}

    def on_train_begin(self, logs=None):
        self.on_train_batch_end(0)

    def on_train_batch_end(self, batch, logs=None):
        self.after[self.model.step] = [w.numpy() for w in self.model.trainable_variables]


def _equal(model, weights):
    own = [w.numpy() for w in model.trainable_variables]
    return all(np.array_equal(a, b) for a, b in zip(own, weights, strict=True))


def test_bad_data_end_the_training_and_leave_the_weights():
    flow, copies = make_flow("glow"), _Copies()
    flow.compile("adam", jit_compile=False)
    with pytest.raises(FloatingPointError, match="the data of these steps are at fault") as caught:
        stop = StopOnSkippedSteps(*data("glow", 16, seed=2), patience=5)
        flow.fit(_rows(*range(7, 20)), callbacks=[copies, stop], verbose=0)
    text = str(caught.value)
    assert "stopped at step 12: 5 steps in a row, from step 8 on" in text
    assert "\n" not in text
    assert (flow.step, flow.skipped_steps) == (12, 5)
    assert _equal(flow, copies.after[7])


def test_fewer_skipped_steps_do_not():
    flow = make_flow("glow")
    flow.compile("adam", jit_compile=False)
    _fit(flow, _rows(2, 3, 4, 5, 9, 10, 11, 12))
    assert (flow.step, flow.skipped_steps) == (60, 24)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["glow", "images"])
def test_an_absurd_learning_rate_is_told_by_the_first_step_that_it_spoils(kind):
    flow = make_flow(kind)
    rows = _rows(kind=kind)
    flow.compile(keras.optimizers.SGD(0.0), jit_compile=False)
    flow.fit(rows.take(3), verbose=0)
    before = [w.numpy() for w in flow.trainable_variables]
    flow.compile(keras.optimizers.Adam(1e30), jit_compile=False)
    with pytest.raises(
        FloatingPointError, match=r"of the \w+ 'step_\d.*' of step \d of 4"
    ) as caught:
        _fit(flow, rows, kind=kind)
    assert "the weights are those after step 3 again" in str(caught.value)
    assert _equal(flow, before)
    assert np.isfinite(flow.log_prob(data(kind, 16, seed=2)[0])).all()


@pytest.mark.parametrize("bad", [2, 4])
def test_the_first_step_is_named(bad):
    flow = make_flow("glow")
    flow.compile(keras.optimizers.SGD(0.0), jit_compile=False)
    flow.step_weights(bad, bad)[0].assign_add([np.nan] * 3)
    with pytest.raises(FloatingPointError, match=f"weights of the ActNorm .* of step {bad} of 4"):
        _fit(flow, _rows())


def test_a_part_that_skips_ends_the_training():
    flow = make_flow("glow")
    optimizers = [keras.optimizers.SGD(1e-3), keras.optimizers.Adam(1e30)]
    flow.compile(optimizers, partition=Partition.at_steps(flow, [2]), jit_compile=False)
    with pytest.raises(FloatingPointError, match="of step [34] of 4"):
        _fit(flow, _rows())
    assert np.isfinite(flow.log_prob(data("glow", 16, seed=2)[0])).all()


def test_a_distiller_is_ended_too():
    student, teacher = make_flow("glow"), make_flow("glow")
    distiller = FlowDistiller(student=student, teacher=teacher, distillation_losses=LatentLoss())
    distiller.compile(keras.optimizers.Adam(1e30), jit_compile=False)
    with pytest.raises(FloatingPointError, match="'step_.*' of step . of 4"):
        _fit(distiller, _rows())


def test_gradients_are_named_where_the_losses_are_finite():
    model = make_toy("sgd", active=("norm",), run_eagerly=True)
    zeros = np.zeros((8, 3), np.float32)
    rows = tf.data.Dataset.from_tensors(zeros).repeat(20)
    with pytest.raises(FloatingPointError, match="the gradient of .*w is not finite"):
        model.fit(rows, callbacks=[StopOnSkippedSteps(zeros, patience=3)], verbose=0)
    assert model.step == 3


def test_errors_name_argument_rule_and_value():
    with pytest.raises(ValueError, match="`x` must have at least one row, got none"):
        StopOnSkippedSteps(np.zeros((0, 3)))
    with pytest.raises(ValueError, match="`patience` must be at least 1, got 0"):
        StopOnSkippedSteps(np.zeros((1, 3)), patience=0)
    model = keras.Sequential([keras.Input([3]), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="a Flow or a FlowDistiller, got Sequential"):
        model.fit(
            np.zeros((4, 3)),
            np.zeros(4),
            verbose=0,
            callbacks=[StopOnSkippedSteps(np.zeros((1, 3)))],
        )
