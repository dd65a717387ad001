"""Tests of the multi-scale chain: its levels, traces, the order of its latents, its graph."""

import numpy as np
import pytest
import tensorflow as tf

from tfp_distill.bijectors import (
    ActNorm,
    AffineTransform,
    Coupling,
    FactorOut,
    InvertibleLinear,
    MultiScaleChain,
    Squeeze,
    Standardize,
    State,
    TracedChain,
    standard_normal_log_prob,
)
from tfp_distill.networks import ConvConditioner, ZeroConv

SHAPE = (8, 4, 1)
X = tf.constant(np.random.RandomState(0).normal(size=(3, *SHAPE)), tf.float32)


def _step(channels, index, *, convolutions, factor_out):
    members = [
        ActNorm(channels, event_ndims=3, name=f"actnorm_{index}"),
        InvertibleLinear(channels, event_ndims=3, seed=index, name=f"linear_{index}"),
    ]
    if convolutions:
        conditioner = ConvConditioner(channels // 2, channels, hidden_channels=3, seed=index)
        transform = AffineTransform(0.5)
        members.append(Coupling(conditioner, channels, transform=transform, event_ndims=3))
        if factor_out:
            members.append(FactorOut(ZeroConv(channels // 2, channels), channels))
    return TracedChain(members, event_ndims=3, name=f"step_{index}")


def _chain(randomize, *, convolutions=True, shape=SHAPE, num_levels=2):
    levels, channels = [], shape[-1]
    for level in range(num_levels):
        channels *= 4
        levels.append(
            [
                _step(
                    channels,
                    2 * level + i,
                    convolutions=convolutions,
                    factor_out=i == 1 and level < num_levels - 1,
                )
                for i in range(2)
            ]
        )
        channels //= 2
    chain = MultiScaleChain(Standardize(shape[-1], event_ndims=3), levels, image_shape=shape)
    randomize(chain.keras_layers, size=0.1)
    return chain


@pytest.fixture
def chain(randomize):
    return _chain(randomize)


def _squeezed(latent, times=1):
    images = tf.reshape(latent, [-1, *SHAPE])
    for _ in range(times):
        images = Squeeze().inverse_and_ildj(images)[0]
    return np.asarray(images)


@pytest.mark.parametrize("boundaries", [(0,), (1,), (2,), (3,), (1, 2, 3), (0, 1, 2, 3)])
def test_segments_hand_on_what_is_in_the_flow_and_make_up_the_likelihood(chain, boundaries):
    state, total, trace = State(X), 0.0, chain.trace(X)
    ends = (*boundaries, 4)
    for begin, end in zip((0, *(b + 1 for b in boundaries)), ends, strict=True):
        segment = chain.segment(begin, end, state, shown=[end])
        np.testing.assert_array_equal(segment.latents[end], trace.latents[end])
        # What has left the flow is of use for latents only.
        alone = chain.segment(begin, end, State(state.value))
        np.testing.assert_array_equal(alone.log_prob, segment.log_prob)
        state, total = segment.state, total + segment.log_prob
        # Level 1 ends with step 2.
        assert np.prod(state.value.shape[1:]) == (32 if end < 2 else 16)
        assert len(state.factored_out) == (end >= 2)
    total += standard_normal_log_prob(tf.reshape(state.value, [len(X), -1]))
    np.testing.assert_allclose(total, trace.log_prob(), rtol=1e-5)


def test_a_pass_is_that_of_its_parts_written_out(chain):
    squeeze = Squeeze()
    first, *steps = chain.bijectors
    x, ildj = first.inverse_and_ildj(X)
    expected, ildjs = [x], [ildj]
    x, _ = squeeze.inverse_and_ildj(x)
    for step in steps[:2]:
        x, ildj = step.inverse_and_ildj(x)
        expected.append(squeeze.forward_and_fldj(x)[0])
        ildjs.append(ildj)
    kept, out = x[..., :2], x[..., 2:]
    x, _ = squeeze.inverse_and_ildj(kept)
    for step in steps[2:]:
        x, ildj = step.inverse_and_ildj(x)
        whole = tf.concat([squeeze.forward_and_fldj(x)[0], out], axis=-1)
        expected.append(squeeze.forward_and_fldj(whole)[0])
        ildjs.append(ildj)
    trace = chain.trace(X)
    assert len(trace.latents) == len(trace.ildjs) == 5
    for latent, image in zip(trace.latents, expected, strict=True):
        np.testing.assert_array_equal(latent, np.reshape(image, [3, -1]))
    for ildj, alone in zip(trace.ildjs, ildjs, strict=True):
        np.testing.assert_array_equal(ildj, alone)
    z, ildj = chain.inverse_and_ildj(X)
    np.testing.assert_array_equal(z, trace.latents[-1])
    np.testing.assert_array_equal(ildj, trace.ildj)


def test_what_was_factored_out_is_not_touched_again(chain):
    assert chain.level_ends == (2, 4)
    latents = chain.trace(X).latents
    at_end, *later = (_squeezed(latent) for latent in latents[2:])
    before = _squeezed(latents[1])
    assert np.min(np.abs(at_end - before).max(axis=(0, 1, 2))) > 1e-3  # whitening changed all
    for after in later:
        np.testing.assert_array_equal(after[..., 2:], at_end[..., 2:])
        assert np.max(np.abs(after[..., :2] - at_end[..., :2])) > 1e-2


def test_a_latent_is_where_its_pixels_are(randomize):
    # Without convolutions, a pixel reaches the square of pixels that ends in one place only.
    chain = _chain(randomize, convolutions=False)
    changed = X.numpy()
    changed[:, 5, 2] += 1
    for k, (a, b) in enumerate(
        zip(chain.trace(X).latents, chain.trace(tf.constant(changed)).latents, strict=True)
    ):
        difference = np.abs(np.reshape(a - b, [3, *SHAPE])).max(axis=(0, 3))
        size = {0: 1, 1: 2, 2: 2, 3: 4, 4: 4}[k]
        row, column = 5 // size * size, 2 // size * size
        square = difference[row : row + size, column : column + size].copy()
        # In the last level, what the other squares of two factored out stays as it was.
        assert np.count_nonzero(square) == {1: 1, 2: 4, 4: 4 + 3 * 2}[size]
        difference[row : row + size, column : column + size] = 0
        np.testing.assert_array_equal(difference, 0)


def test_three_levels_and_one_map_there_and_back(randomize, float64):
    for num_levels in (1, 3):
        chain = _chain(randomize, shape=(16, 8, 3), num_levels=num_levels)
        x = tf.constant(np.random.RandomState(1).normal(size=(2, 16, 8, 3)))
        z, ildj = chain.inverse_and_ildj(x)
        again, fldj = chain.forward_and_fldj(tf.identity(z))
        np.testing.assert_allclose(again, x, atol=1e-9)
        np.testing.assert_allclose(fldj, -ildj)
        there, back = chain.trace(x), chain.generative_trace(tf.identity(z))[1]
        for a, b in zip(there.latents + there.ildjs, back.latents + back.ildjs, strict=True):
            np.testing.assert_allclose(b, a, atol=1e-9)
        assert chain.level_ends == tuple(range(2, 2 * num_levels + 1, 2))


def test_several_batch_axes_are_those_of_one(chain):
    z, ildj = chain.inverse_and_ildj(X)
    x = tf.reshape(X, [3, 1, *SHAPE])
    z_of_two, ildj_of_two = chain.inverse_and_ildj(x)
    np.testing.assert_allclose(z_of_two[:, 0], z, atol=1e-6)
    np.testing.assert_allclose(ildj_of_two[:, 0], ildj, atol=1e-5)
    np.testing.assert_allclose(chain.forward_and_fldj(z_of_two)[0], x, atol=1e-5)


def test_initialisation_normalises_every_step_and_every_network(randomize):
    chain = _chain(randomize, shape=(8, 8, 1))
    x = tf.constant(5 + 3 * np.random.RandomState(1).normal(size=(64, 8, 8, 1)), tf.float32)
    z = chain.initialize(x)
    np.testing.assert_allclose(z, chain.inverse_and_ildj(x)[0], atol=1e-4)
    image = chain.bijectors[0].inverse_and_ildj(x)[0]
    image = Squeeze().inverse_and_ildj(image)[0]
    for index, step in enumerate(chain.bijectors[1:]):
        if index == 2:
            image = Squeeze().inverse_and_ildj(image[..., :2])[0]
        for member in step.bijectors:
            if isinstance(member, Coupling) and not isinstance(member, FactorOut):
                conditioner, *_ = member.keras_layers
                before = conditioner.get_weights()
                conditioner.initialize(image[..., : image.shape[-1] // 2])
                for a, b in zip(conditioner.get_weights(), before, strict=True):
                    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
            image = member.inverse_and_ildj(image)[0]
            if isinstance(member, ActNorm):
                np.testing.assert_allclose(np.mean(image, (0, 1, 2)), 0, atol=1e-3)
                np.testing.assert_allclose(np.std(image, (0, 1, 2)), 1, atol=1e-3)


def test_shapes_are_those_that_arrive(chain, monkeypatch):
    arrived = []
    for bijector in chain.bijectors:
        run = bijector.inverse_and_ildj

        def note(x, condition=None, run=run):
            arrived.append(tuple(x.shape[1:]))
            return run(x, condition)

        monkeypatch.setattr(bijector, "inverse_and_ildj", note)
    chain.trace(X)
    assert chain.arriving_shapes(SHAPE) == tuple(arrived)


@pytest.mark.slow
def test_latents_that_nobody_asks_for_cost_nothing(chain):
    def rearrangements(function):
        graph = tf.function(function).get_concrete_function(tf.TensorSpec([None, *SHAPE])).graph
        outputs = [tensor.op.name for tensor in graph.outputs]
        used = tf.compat.v1.graph_util.extract_sub_graph(graph.as_graph_def(), outputs)
        return sum(node.op == "DepthToSpace" for node in used.node)

    # The final latent takes two rearrangements; so does the latent after step 3, and one after 2.
    assert rearrangements(lambda x: chain.inverse_and_ildj(x)) == 2
    assert rearrangements(lambda x: chain.trace(x).log_prob()) == 2
    assert rearrangements(lambda x: [chain.trace(x).latents[i] for i in (2, 4)]) == 3
    assert rearrangements(lambda x: chain.trace(x).latents) == 6


def _linear(channels, event_ndims=3):
    return InvertibleLinear(channels, event_ndims=event_ndims)


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ([], "`levels` must hold at least one level"),
        ([[_linear(4)], []], r"at least one step each, got \[1, 0\] steps"),
        ([[_linear(4, 1)]], "bijectors of images without condition, got 'invertible_linear'"),
        ([[_linear(4)]] * 3, r"divisible by 8 for 3 levels, got \(8, 4, 1\)"),
    ],
)
def test_errors_name_argument_rule_and_value(levels, message):
    with pytest.raises(ValueError, match=message):
        MultiScaleChain(Standardize(1, event_ndims=3), levels, image_shape=SHAPE)


def test_a_condition_is_refused(chain):
    for call in (
        lambda c: chain.trace(X, c),
        lambda c: chain.inverse(X, condition=c),
        lambda c: chain.forward(tf.zeros([3, 32]), condition=c),
        lambda c: chain.initialize(X, c),
    ):
        with pytest.raises(ValueError, match=r"`condition` must be None: image flows .* \(3, 2\)"):
            call(tf.zeros([3, 2]))
