"""Tests of the local objectives: what they are, whose gradients they have, when they suffice."""

import numpy as np
import pytest
import tensorflow as tf
from part_flows import CONFIGS, data, make_flow

from tfp_distill import Flow, Partition
from tfp_distill.bijectors import State, standard_normal_log_prob
from tfp_distill.training import StepRandom

pytestmark = pytest.mark.slow

KINDS = tuple(CONFIGS)
RANDOM = StepRandom(0, 0)


def _compiled(kind, boundaries=(1, 3), **kwargs):
    flow = make_flow(kind, **kwargs)
    flow.compile("sgd", partition=Partition.at_steps(flow, boundaries))
    return flow


def _inputs(kind):
    x, *condition = data(kind, 8)
    return tf.constant(x), tf.constant(condition[0]) if condition else None


def _local(flow, part, inputs, parts=None):
    """Returns a function of nothing: the loss of a part, computed alone or together with others."""
    parts = (part,) if parts is None else parts
    return lambda: flow.part_objectives(*inputs, parts)[part]["loss"]


def _gradients(loss, weights):
    """Gradients of a function's mean with respect to weights; None where there is none."""
    values = [weight.value for weight in weights]
    with tf.GradientTape() as tape:
        value = tf.reduce_mean(loss())
    return tape.gradient(value, values)


def _assert_close(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("alone", [True, False])
def test_a_part_has_no_gradient_in_another_one(kind, part, alone):
    flow = _compiled(kind)
    loss = _local(flow, part, _inputs(kind), (part,) if alone else flow.all_parts)
    gradients = _gradients(loss, flow.trainable_variables)
    own = {id(weight) for weight in flow.part_weights(part)}
    for weight, gradient in zip(flow.trainable_variables, gradients, strict=True):
        assert (gradient is not None) == (id(weight) in own), weight.path
        assert gradient is None or np.any(gradient.numpy() != 0), weight.path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", range(3))
def test_a_part_is_trained_as_a_flow_of_its_own_on_a_constant(kind, part):
    """PARTS, eq. 3, right side: all that the part yields, and its own log-determinants."""
    flow = _compiled(kind)
    x, condition = _inputs(kind)
    mapped = flow.bijector.map_condition(condition)
    steps = flow.partition.parts[part]
    shape = flow.bijector.arriving_shapes(flow.event_shape)[steps.first_step]
    arriving = _state(flow, flow.trace(x, condition).latents[steps.first_step - 1], shape)
    assert arriving[0].shape.num_elements() == steps.dims_in

    def local_nll():
        h, log_prob = arriving, 0.0
        for step in range(steps.first_step, steps.last_step + 1):
            h, ildj = flow.bijector.bijectors[step].inverse_and_ildj(h, mapped)
            log_prob += ildj
            if step in flow.level_ends[:-1] and step < steps.last_step:
                h, out = tf.split(h, 2, axis=-1)
                log_prob += standard_normal_log_prob(tf.reshape(out, [8, -1]))
                h = tf.nn.space_to_depth(h, 2)
        return -standard_normal_log_prob(tf.reshape(h, [8, -1])) - log_prob

    weights = flow.part_weights(part)
    expected = _gradients(local_nll, weights)
    _assert_close(_gradients(_local(flow, part, (x, condition)), weights), expected)


def _state(flow, latent, shape):
    """Undoes the arrangement of a latent: the image that is still in the flow."""
    if len(shape) == 1:
        return latent
    height, width, channels = flow.event_shape
    image = tf.reshape(latent, [-1, height, width, channels])
    while tuple(image.shape[1:]) != tuple(shape):
        image = tf.nn.space_to_depth(image, 2)
        if image.shape[1] != shape[1]:
            image = image[..., : image.shape[-1] // 2]
    return image


@pytest.mark.parametrize("kind", KINDS)
def test_the_losses_are_likelihoods_of_the_flow_as_far_as_the_part(kind):
    flow = _compiled(kind)
    x, condition = _inputs(kind)
    losses = flow.part_objectives(x, condition, flow.all_parts)
    trace = flow.trace(x, condition)
    for part, end in enumerate(flow.partition.ends):
        expected = standard_normal_log_prob(trace.latents[end]) + sum(trace.ildjs[: end + 1])
        np.testing.assert_allclose(losses[part]["nll"], -expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(losses[part]["loss"], losses[part]["nll"])
    np.testing.assert_allclose(losses[2]["nll"], -flow.log_prob(x, condition), rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_part_has_the_end_to_end_gradient(kind):
    """Nothing behind it depends on it: L - L_n is a constant to it."""
    flow = _compiled(kind)
    inputs = _inputs(kind)
    weights = flow.part_weights(2)
    expected = _gradients(lambda: -flow.log_prob(*inputs), weights)
    _assert_close(_gradients(_local(flow, 2, inputs), weights), expected)


@pytest.mark.parametrize("kind", ["glow", "images"])
@pytest.mark.parametrize("part", range(3))
def test_before_isometries_a_part_has_the_end_to_end_gradient(kind, part):
    """L - L_k = log N(h_k) - log p(h_k), with p the density of the parts behind part k.

    It vanishes where those keep volume and length: in a new Glow, a rotation each, whose couplings
    and priors of what is factored out are the identity. In a trained one it does not.
    """
    inputs = _inputs(kind)
    new = Flow(CONFIGS[kind])
    new.compile("sgd", partition=Partition.at_steps(new, [1, 3]))
    for flow, same in ((new, True), (_compiled(kind), part == 2)):
        weights = flow.part_weights(part)
        whole = _gradients(lambda: -flow.log_prob(*inputs), weights)  # noqa: B023
        local = _gradients(_local(flow, part, inputs), weights)
        pairs = zip(whole, local, strict=True)
        assert all(np.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in pairs) == same


@pytest.mark.parametrize("kind", ["glow", "images"])
def test_a_step_computes_only_what_it_needs(kind):
    """Counted in the graph: no step behind the part, and no backward pass before it."""
    flow = _compiled(kind, boundaries=(1, 2))
    x, condition = _inputs(kind)

    def count(function, *inputs):
        graph = tf.function(function).get_concrete_function(*inputs).graph
        names = [operation.type for operation in graph.get_operations()]
        return sum(name.startswith(("Conv2D", "MatMul")) for name in names)

    def operations(parts):
        flow._active_parts = parts
        return count(flow._loss_and_gradients, x, condition, None, RANDOM)

    alone = [operations((part,)) for part in flow.all_parts]
    # In front of part k, forward passes alone; behind it, nothing.
    before = [
        count(lambda step=step: flow.bijector.segment(0, step, State(x)).ended())
        for step in range(3)
    ]
    own = [steps - passed for steps, passed in zip(alone, before, strict=True)]
    assert before[0] == 0 < before[1] < before[2]
    assert own[0] < 0.75 * own[2]  # The last part has two steps, the others one.
    # Together they cost what the whole does: isolation saves memory and waiting, not operations.
    assert operations(flow.all_parts) == operations(None) == sum(own)


def test_models_that_do_not_fit_the_partition_are_refused():
    flow, other = make_flow("glow"), make_flow("images")
    with pytest.raises(ValueError, match=r"`partition` must be one of 'glow', with 4 steps and .*"):
        flow.compile("sgd", partition=Partition.end_to_end(other))
    assert flow.partition is None
    with pytest.raises(ValueError, match="`glow` must be compiled with a partition of several"):
        flow.train_parts((0,))
    flow = _compiled("glow")
    for parts in ((), (2, 1), (3,)):
        with pytest.raises(ValueError, match=r"`parts` must be rising, from 0 to 2, got \("):
            flow.train_parts(parts)
