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


def _scaled(values, parameters):
    """A transform that shows all of its parameters, P >= 1."""
    weights = tf.range(1, parameters.shape[0] + 1, dtype=values.dtype)
    sums = tf.linalg.matvec(parameters, weights, transpose_a=True)
    return values + sums, sums


def _agrees_with_one_pass(made, z, condition):
    x, sums = made.autoregress(_scaled, z, condition)
    parameters = made(x, condition)
    weights = np.arange(1, parameters.shape[1] + 1)
    expected = np.einsum("npd,p->nd", parameters, weights)
    np.testing.assert_allclose(sums, expected, atol=1e-9)
    np.testing.assert_allclose(x - z, expected, atol=1e-9)


def test_autoregress_agrees_with_one_pass(made):
    _agrees_with_one_pass(made, *_inputs(made))


@pytest.mark.parametrize("condition_dims", [0, 2])
@pytest.mark.parametrize("dims", [9, 14])  # Blocks that fill whole turns, and some that do not.
@pytest.mark.parametrize("hidden_units", [1, 7, 40])
def test_autoregress_in_turns_agrees_with_one_pass(
    dims, hidden_units, condition_dims, randomize, float64
):
    made = MADE(
        dims,
        hidden_units=hidden_units,
        num_parameters=3,
        num_hidden_layers=2,
        reverse=True,
        condition_dims=condition_dims,
    )
    randomize([made], size=0.3)
    random = np.random.RandomState(0)
    z = tf.constant(random.normal(size=(5, dims)))
    condition = tf.constant(random.normal(size=(5, 2))) if condition_dims else None
    _agrees_with_one_pass(made, z, condition)

    # The gradient of the turns is that of x = z + sums(x), written out by fixed-point steps.
    weights = [variable.value for variable in made.trainable_variables]
    with tf.GradientTape() as turns:
        x, _ = made.autoregress(_scaled, z, condition)
        loss = tf.reduce_sum(tf.sin(x))
    with tf.GradientTape() as steps:
        x = z
        for _ in range(dims):
            sums = tf.einsum("npd,p->nd", made(x, condition), tf.constant([1.0, 2.0, 3.0], x.dtype))
            x = z + sums
        expected = tf.reduce_sum(tf.sin(x))
    for a, b in zip(turns.gradient(loss, weights), steps.gradient(expected, weights), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    ("dims", "hidden_units", "condition_dims", "blocks"),
    [(2, 8, 0, 2), (6, 32, 0, 6), (63, 32, 0, 33), (63, 200, 0, 63), (9, 1, 0, 2), (6, 32, 3, 7)],
)
def test_number_of_sequential_blocks(dims, hidden_units, condition_dims, blocks):
    made = MADE(dims, hidden_units=hidden_units, condition_dims=condition_dims)
    count = 0

    def transform(values, parameters):
        nonlocal count
        count += 1
        return values, values

    condition = tf.zeros([1, condition_dims]) if condition_dims else None
    made.autoregress(transform, tf.zeros([1, dims]), condition)
    assert count in (blocks, blocks + 1)  # The last of an odd number fills up its turn.


def test_the_code_of_a_loop_does_not_grow_with_the_dimensions():
    def operations(dims):
        made = MADE(dims, hidden_units=32, num_parameters=2)
        z = tf.TensorSpec([None, dims], tf.float32)
        function = tf.function(lambda z: made.autoregress(_scaled, z), autograph=False)
        graph = function.get_concrete_function(z).graph.as_graph_def()
        return sum(len(f.node_def) for f in graph.library.function) + len(graph.node)

    assert operations(63) == operations(20)


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
        (dict(dims=0), "`dims` must be at least 1, got 0"),
        (dict(dims=2, num_parameters=0), "`num_parameters` must be at least 1, got 0"),
        (dict(dims=2, hidden_units=0), "`hidden_units` must be at least 1, got 0"),
        (dict(dims=2, num_hidden_layers=0), "`num_hidden_layers` must be at least 1, got 0"),
    ],
)
def test_errors_name_argument_rule_and_value(options, message):
    with pytest.raises(ValueError, match=message):
        MADE(**options)
