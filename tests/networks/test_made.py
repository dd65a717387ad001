"""Tests of MADE: what depends on what, and that both ways to evaluate agree."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfp_distill.networks import MADE

CASES = {
    "plain": dict(dims=5, hidden_units=9),
    "reverse": dict(dims=5, hidden_units=9, reverse=True),
    "conditional": dict(dims=4, hidden_units=9, condition_dims=2),
    "conditional_reverse": dict(dims=4, hidden_units=9, condition_dims=2, reverse=True),
    "two_dims": dict(dims=2, hidden_units=3),
    "one_hidden_layer": dict(dims=4, hidden_units=6, num_hidden_layers=1),
    "three_hidden_layers": dict(dims=4, hidden_units=6, num_hidden_layers=3),
    "fewer_units_than_dims": dict(dims=9, hidden_units=3),
    "one_unit": dict(dims=3, hidden_units=1),
}


@pytest.fixture(params=CASES)
def made(request, randomize, float64):
    made = MADE(**{"activation": "tanh", **CASES[request.param]})
    randomize([made], size=0.7)
    return made


def _inputs(made, rows=3):
    config = made.get_config()
    random = np.random.RandomState(0)
    x = tf.constant(random.normal(size=(rows, config["dims"])))
    condition = tf.constant(random.normal(size=(rows, max(1, config["condition_dims"]))))
    return x, condition if config["condition_dims"] else None


def _jacobians(function, x):
    """Of shift and of raw log-scale, largest absolute value over the rows, `[D, inputs]`."""
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        outputs = tf.unstack(function(x), axis=-2)
    return [
        np.max(np.abs(tape.batch_jacobian(y, x, experimental_use_pfor=False)), axis=0)
        for y in outputs
    ]


def test_outputs_depend_on_exactly_the_dimensions_before(made):
    x, condition = _inputs(made)
    config = made.get_config()
    for jacobian in _jacobians(lambda x: made(x, condition), x):
        if config["reverse"]:
            jacobian = jacobian[::-1, ::-1]
        assert np.all(jacobian[np.triu_indices(config["dims"])] == 0)
        # With a unit for every degree nothing that may depend is left out.
        if config["hidden_units"] >= config["dims"]:
            assert np.all(jacobian[np.tril_indices(config["dims"], -1)] > 0)
        assert np.all(jacobian[-1, :1] > 0)


def test_all_outputs_depend_on_the_condition(made):
    x, condition = _inputs(made)
    if condition is None:
        pytest.skip("not conditional")
    for jacobian in _jacobians(lambda c: made(x, c), condition):
        assert np.all(jacobian > 0)


def test_every_hidden_unit_is_used(made):
    x, condition = _inputs(made, rows=8)
    biases = [w for w in made.trainable_weights if w.name.endswith("bias")]
    assert len(biases) == made.get_config()["num_hidden_layers"] + 1
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.sin(made(x, condition)))
    for bias, gradient in zip(biases, tape.gradient(loss, [b.value for b in biases]), strict=True):
        assert np.all(np.asarray(gradient) != 0), bias.path


def test_autoregress_agrees_with_one_pass(made):
    x, condition = _inputs(made)
    expected = made(x, condition)
    blocks = []

    def emit(block, parameters):
        np.testing.assert_allclose(parameters, expected[..., block], atol=1e-12)
        blocks.append(np.arange(*block.indices(x.shape[1])))
        return x[:, block]

    rebuilt = made.autoregress(emit, tf.shape(x)[0], condition)
    np.testing.assert_array_equal(rebuilt, x)
    # Each dimension once; in the order of the network.
    if made.get_config()["reverse"]:
        blocks = blocks[::-1]
    np.testing.assert_array_equal(np.concatenate(blocks), np.arange(x.shape[1]))


@pytest.mark.parametrize(
    ("dims", "hidden_units", "condition_dims", "blocks"),
    [(2, 8, 0, 2), (6, 32, 0, 6), (63, 32, 0, 33), (63, 200, 0, 63), (9, 1, 0, 2), (6, 32, 3, 6)],
)
def test_number_of_sequential_blocks(dims, hidden_units, condition_dims, blocks):
    made = MADE(dims, hidden_units=hidden_units, condition_dims=condition_dims)
    count = 0

    def emit(block, parameters):
        nonlocal count
        count += 1
        return parameters[:, 0]

    condition = tf.zeros([1, condition_dims]) if condition_dims else None
    made.autoregress(emit, tf.constant(1), condition)
    assert count == blocks


def test_starts_as_zero_and_has_dense_counts():
    made = MADE(6, hidden_units=32)
    np.testing.assert_array_equal(made(tf.ones([2, 6])), np.zeros([2, 2, 6]))
    assert made.count_params() == 6 * 32 + 32 + 32 * 32 + 32 + 32 * 12 + 12


def test_config_rebuilds_the_network():
    made = MADE(4, hidden_units=5, reverse=True, condition_dims=2, seed=3)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(made))
    assert again.get_config() == made.get_config()
    for a, b in zip(made.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(dims=1), "`dims` must be at least 2, got 1"),
        (dict(dims=2, num_parameters=0), "`num_parameters` must be at least 1, got 0"),
        (dict(dims=2, hidden_units=0), "`hidden_units` must be at least 1, got 0"),
        (dict(dims=2, num_hidden_layers=0), "`num_hidden_layers` must be at least 1, got 0"),
    ],
)
def test_errors_name_argument_rule_and_value(options, message):
    with pytest.raises(ValueError, match=message):
        MADE(**options)
