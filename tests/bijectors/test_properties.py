"""What every bijector must satisfy: a table of constructors against a list of properties."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_distill.bijectors import (
    ActNorm,
    AdditiveTransform,
    AffineTransform,
    Coupling,
    FactorOut,
    InvertibleLinear,
    MaskedAutoregressive,
    MultiScaleChain,
    SplineTransform,
    Squeeze,
    Standardize,
    StandardizeBounded,
    TracedChain,
    forward_and_fldj,
    inverse_and_ildj,
)
from tfp_distill.networks import MADE, ConvConditioner, ZeroConv, dense_conditioner

tfb = tfp.bijectors

BATCH = 4


class Case(NamedTuple):
    make: Callable[[], tfb.Bijector]
    event_shape: tuple[int, ...]
    condition_dims: int = 0
    latent_shape: tuple[int, ...] | None = None  # where it differs from the event's


def _dense(inputs, outputs):
    return dense_conditioner(inputs, outputs, hidden_units=5, num_hidden_layers=2, seed=3)


def _convolution(inputs, outputs):
    return keras.Sequential(
        [
            keras.layers.Conv2D(4, 3, padding="same", activation="tanh"),
            keras.layers.Conv2D(outputs, 3, padding="same", kernel_initializer="zeros"),
        ]
    )


def _affine(dims, condition_dims=0, name="affine"):
    conditioner = _dense(max(1, dims // 2 + condition_dims), 2 * (dims - dims // 2))
    return Coupling(
        conditioner,
        dims,
        transform=AffineTransform(3.0),
        condition_dims=condition_dims,
        name=name,
    )


def _spline(dims, condition_dims=0, num_bins=4, tail_bound=2.0):
    transform = SplineTransform(num_bins, tail_bound)
    outputs = transform.num_parameters * (dims - dims // 2)
    conditioner = _dense(max(1, dims // 2 + condition_dims), outputs)
    return Coupling(conditioner, dims, transform=transform, condition_dims=condition_dims)


def _maf(dims, name="maf", bound=5.0, **kwargs):
    made = MADE(dims, **{"hidden_units": 7, "activation": "tanh", **kwargs})
    return MaskedAutoregressive(made, transform=AffineTransform(bound), name=name)


def _spline_maf(dims, **kwargs):
    transform = SplineTransform(5, 2.0)
    options = {"hidden_units": 7, "activation": "tanh", **kwargs}
    made = MADE(dims, num_parameters=transform.num_parameters, **options)
    return MaskedAutoregressive(made, transform=transform)


def _standardize(dims, event_ndims=1):
    bijector = Standardize(dims, event_ndims=event_ndims)
    bijector.set_statistics(np.linspace(-3, 7, dims), np.linspace(0.1, 4, dims))
    return bijector


def _standardize_bounded():
    bijector = StandardizeBounded([None, (-5.0, 6.0), (-4.0, 400.0), None])
    bijector.set_statistics(np.linspace(-3, 7, 4), np.linspace(0.1, 4, 4))
    return bijector


def _constant(*values):
    return tf.constant(values, keras.config.floatx())


def _step(dims, name):
    return TracedChain([ActNorm(dims), InvertibleLinear(dims, seed=5), _affine(dims)], name=name)


def _image_step(channels, name, *, additive=False, factor_out=False):
    half = channels // 2
    conditioner = ConvConditioner(half, half if additive else channels, hidden_channels=3, seed=2)
    transform = AdditiveTransform() if additive else AffineTransform(0.5)
    coupling = Coupling(conditioner, channels, transform=transform, event_ndims=3)
    members = [ActNorm(channels, event_ndims=3), InvertibleLinear(channels, event_ndims=3)]
    members.append(coupling)
    if factor_out:
        members.append(FactorOut(ZeroConv(half, channels), channels, log_scale_bound=0.5))
    return TracedChain(members, event_ndims=3, name=name)


def _multi_scale(*, additive):
    levels = [
        [
            _image_step(4, "step_0", additive=additive),
            _image_step(4, "step_1", additive=additive, factor_out=True),
        ],
        [_image_step(8, "step_2", additive=additive)],
    ]
    return MultiScaleChain(_standardize(1, event_ndims=3), levels, image_shape=(4, 4, 1))


CASES = {
    "actnorm": Case(lambda: ActNorm(3), (3,)),
    "actnorm_image": Case(lambda: ActNorm(3, event_ndims=3), (2, 1, 3)),
    "linear": Case(lambda: InvertibleLinear(4), (4,)),
    "linear_one_channel": Case(lambda: InvertibleLinear(1), (1,)),
    "linear_image": Case(lambda: InvertibleLinear(3, event_ndims=3), (2, 1, 3)),
    "affine": Case(lambda: _affine(4), (4,)),
    "affine_odd": Case(lambda: _affine(3), (3,)),
    "affine_conditional": Case(lambda: _affine(3, condition_dims=2), (3,), 2),
    "affine_image": Case(
        lambda: Coupling(
            _convolution(1, 4), 3, transform=AffineTransform(3.0), event_ndims=3, name="image"
        ),
        (2, 2, 3),
    ),
    "additive": Case(lambda: Coupling(_dense(2, 3), 5, transform=AdditiveTransform()), (5,)),
    "additive_conditional": Case(
        lambda: Coupling(_dense(3, 1), 2, transform=AdditiveTransform(), condition_dims=2), (2,), 2
    ),
    "additive_image": Case(
        lambda: Coupling(
            _convolution(1, 2), 3, transform=AdditiveTransform(), event_ndims=3, name="image"
        ),
        (2, 2, 3),
    ),
    "spline": Case(lambda: _spline(4), (4,)),
    "spline_odd_two_bins": Case(lambda: _spline(3, num_bins=2), (3,)),
    "spline_conditional": Case(lambda: _spline(3, condition_dims=2), (3,), 2),
    "spline_one_dim": Case(lambda: _spline(1), (1,)),
    "spline_one_dim_conditional": Case(lambda: _spline(1, condition_dims=2), (1,), 2),
    "step_one_dim": Case(lambda: _step(1, "step"), (1,)),
    "spline_wide": Case(lambda: _spline(3, num_bins=16, tail_bound=8.0), (3,)),
    "spline_image": Case(
        lambda: Coupling(
            _convolution(1, 22), 3, transform=SplineTransform(4, 2.0), event_ndims=3, name="image"
        ),
        (2, 2, 3),
    ),
    "spline_maf": Case(lambda: _spline_maf(4), (4,)),
    "spline_maf_reverse": Case(lambda: _spline_maf(4, reverse=True), (4,)),
    "spline_maf_conditional": Case(lambda: _spline_maf(3, condition_dims=2), (3,), 2),
    "spline_maf_in_turns": Case(lambda: _spline_maf(6), (6,)),
    "spline_iaf": Case(lambda: tfb.Invert(_spline_maf(3)), (3,)),
    "maf": Case(lambda: _maf(4), (4,)),
    "maf_reverse": Case(lambda: _maf(4, reverse=True), (4,)),
    "maf_one_dim": Case(lambda: _spline_maf(1, hidden_units=3), (1,)),
    "maf_one_dim_conditional": Case(lambda: _maf(1, condition_dims=2), (1,), 2),
    "maf_two_dims": Case(lambda: _maf(2, hidden_units=3), (2,)),
    "maf_few_units": Case(lambda: _maf(7, hidden_units=2, num_hidden_layers=1), (7,)),
    "maf_in_turns": Case(lambda: _maf(10, hidden_units=12), (10,)),
    "maf_conditional": Case(lambda: _maf(3, condition_dims=2), (3,), 2),
    "maf_conditional_reverse": Case(lambda: _maf(3, condition_dims=2, reverse=True), (3,), 2),
    "iaf": Case(lambda: tfb.Invert(_maf(4)), (4,)),
    "iaf_conditional": Case(lambda: TracedChain([tfb.Invert(_maf(3, condition_dims=2))]), (3,), 2),
    "standardize": Case(lambda: _standardize(3), (3,)),
    "standardize_image": Case(lambda: _standardize(3, event_ndims=3), (2, 1, 3)),
    "standardize_bounded": Case(_standardize_bounded, (4,)),
    "squeeze": Case(lambda: Squeeze(), (2, 4, 2), latent_shape=(1, 2, 8)),
    "squeeze_in_a_chain": Case(
        lambda: TracedChain(
            [ActNorm(1, event_ndims=3), Squeeze(), ActNorm(4, event_ndims=3)], event_ndims=3
        ),
        (2, 4, 1),
        latent_shape=(1, 2, 4),
    ),
    "unsqueeze": Case(lambda: tfb.Invert(Squeeze()), (1, 2, 4), latent_shape=(2, 4, 1)),
    "affine_convolution": Case(
        lambda: Coupling(
            ConvConditioner(1, 4, hidden_channels=3),
            3,
            transform=AffineTransform(3.0),
            event_ndims=3,
        ),
        (2, 3, 3),
    ),
    "factor_out": Case(lambda: FactorOut(ZeroConv(2, 4), 4), (2, 2, 4)),
    "multi_scale": Case(lambda: _multi_scale(additive=False), (4, 4, 1), latent_shape=(16,)),
    "multi_scale_additive": Case(
        lambda: _multi_scale(additive=True), (4, 4, 1), latent_shape=(16,)
    ),
    "chain_with_tfp": Case(
        lambda: TracedChain(
            [
                _standardize(3),
                tfb.Permute([2, 0, 1]),
                _maf(3, bound=2.0),
                tfb.Shift(_constant(1.0, -2.0, 0.5)),
                tfb.Scale(_constant(0.5, -2.0, 3.0)),
                _affine(3),
            ]
        ),
        (3,),
    ),
    "chain_nested": Case(
        lambda: TracedChain([_standardize(3), _step(3, "step_0"), _step(3, "step_1")]), (3,)
    ),
    "chain_inverted": Case(lambda: tfb.Invert(tfb.Invert(tfb.Invert(_step(3, "step")))), (3,)),
    "chain_conditional": Case(
        lambda: TracedChain(
            [
                TracedChain([ActNorm(3), _affine(3, condition_dims=2)]),
                _maf(3, condition_dims=2),
                tfb.Invert(_maf(3, condition_dims=2, reverse=True)),
            ]
        ),
        (3,),
        2,
    ),
    "chain_image": Case(
        lambda: TracedChain(
            [
                ActNorm(3, event_ndims=3),
                InvertibleLinear(3, event_ndims=3),
                Coupling(_convolution(1, 4), 3, transform=AffineTransform(3.0), event_ndims=3),
            ],
            event_ndims=3,
        ),
        (2, 1, 3),
    ),
}


def keras_layers(bijector):
    while not hasattr(bijector, "keras_layers"):
        bijector = bijector.bijector
    return bijector.keras_layers


class Built:
    """A bijector of the table with random weights, and inputs for it."""

    def __init__(self, case, randomize, dtype):
        self.bijector = case.make()
        self.event_shape = case.event_shape
        self.latent_shape = case.latent_shape or case.event_shape
        randomize(keras_layers(self.bijector))
        random = np.random.RandomState(1)
        self.x, self.z = (
            tf.constant(random.normal(size=(BATCH, *shape)), dtype)
            for shape in (self.event_shape, self.latent_shape)
        )
        self.condition = None
        if case.condition_dims:
            self.condition = tf.constant(random.normal(size=(BATCH, case.condition_dims)), dtype)

    def inverse(self, x, condition):
        ndims = len(self.event_shape)
        return inverse_and_ildj(self.bijector, x, condition, event_ndims=ndims)

    def forward(self, z, condition):
        ndims = len(self.latent_shape)
        return forward_and_fldj(self.bijector, z, condition, event_ndims=ndims)

    def both(self, x, z, condition):
        """(z, ildj, x, fldj) of both directions."""
        return (*self.inverse(x, condition), *self.forward(z, condition))

    def assert_round_trip(self, tolerance):
        z, ildj = self.inverse(self.x, self.condition)
        x, fldj = self.forward(tf.identity(z), self.condition)
        np.testing.assert_allclose(x, self.x, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(fldj, -ildj, rtol=tolerance, atol=tolerance)
        x, fldj = self.forward(self.z, self.condition)
        z, ildj = self.inverse(tf.identity(x), self.condition)
        np.testing.assert_allclose(z, self.z, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(ildj, -fldj, rtol=tolerance, atol=tolerance)


@pytest.fixture(params=CASES)
def double(request, randomize, float64):
    return Built(CASES[request.param], randomize, "float64")


@pytest.fixture(params=CASES)
def single(request, randomize):
    return Built(CASES[request.param], randomize, "float32")


def _log_abs_det(function, x):
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = function(x)
    jacobian = tape.batch_jacobian(y, x, experimental_use_pfor=False)
    dims = int(np.prod(x.shape[1:]))
    return np.linalg.slogdet(np.reshape(jacobian, (-1, dims, dims)))[1]


def test_round_trip(double):
    double.assert_round_trip(1e-9)


def test_round_trip_in_float32(single):
    single.assert_round_trip(2e-4)


def test_the_map_is_not_the_identity(double):
    z, _ = double.inverse(double.x, double.condition)
    assert np.max(np.abs(np.ravel(z) - np.ravel(double.x))) > 0.1


def test_log_dets_are_those_of_the_jacobians(double):
    expected = _log_abs_det(lambda x: double.inverse(x, double.condition)[0], double.x)
    ildj = double.inverse(double.x, double.condition)[1]
    assert ildj.shape == (BATCH,)
    np.testing.assert_allclose(ildj, expected, atol=1e-9)
    expected = _log_abs_det(lambda z: double.forward(z, double.condition)[0], double.z)
    fldj = double.forward(double.z, double.condition)[1]
    assert fldj.shape == (BATCH,)
    np.testing.assert_allclose(fldj, expected, atol=1e-9)


def test_public_methods_agree_with_the_one_pass_methods(double):
    bijector = double.bijector
    kwargs = {} if double.condition is None else {"condition": double.condition}
    z, ildj = double.inverse(double.x, double.condition)
    x, fldj = double.forward(double.z, double.condition)
    np.testing.assert_allclose(bijector.inverse(double.x, **kwargs), z)
    np.testing.assert_allclose(bijector.forward(double.z, **kwargs), x)
    ildj_of_tfp = bijector.inverse_log_det_jacobian(
        double.x, event_ndims=len(double.event_shape), **kwargs
    )
    fldj_of_tfp = bijector.forward_log_det_jacobian(
        double.z, event_ndims=len(double.latent_shape), **kwargs
    )
    np.testing.assert_allclose(tf.broadcast_to(ildj_of_tfp, [BATCH]), ildj)
    np.testing.assert_allclose(tf.broadcast_to(fldj_of_tfp, [BATCH]), fldj)
    for x_shape, z_shape in (
        (
            bijector.forward_event_shape(double.latent_shape),
            bijector.inverse_event_shape(double.event_shape),
        ),
        (
            bijector.forward_event_shape_tensor(double.latent_shape),
            bijector.inverse_event_shape_tensor(double.event_shape),
        ),
    ):
        assert tuple(np.asarray(x_shape)) == double.event_shape
        assert tuple(np.asarray(z_shape)) == double.latent_shape


@pytest.mark.slow
def test_eager_graph_and_xla_agree_with_unknown_batch_size(single):
    inputs = [single.x, single.z]
    if single.condition is not None:
        inputs.append(single.condition)

    weights = single.bijector.trainable_variables

    def both(x, z, condition=None):
        with tf.GradientTape() as tape:
            values = single.both(x, z, condition)
            loss = sum(tf.reduce_sum(tf.tanh(value)) for value in values)
        return values, tape.gradient(loss, weights)

    specs = [tf.TensorSpec((None, *value.shape[1:])) for value in inputs]
    graph = tf.function(both, input_signature=specs)
    xla = tf.function(both, jit_compile=True)
    for compiled in (graph, xla):
        (values, gradients), (expected, slopes) = compiled(*inputs), both(*inputs)
        for a, b in zip(values, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
        for a, b in zip(gradients, slopes, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


def test_rows_are_independent_and_a_batch_may_have_one(single):
    whole = single.both(single.x, single.z, single.condition)
    condition = None if single.condition is None else single.condition[1:2]
    row = single.both(single.x[1:2], single.z[1:2], condition)
    for value, expected in zip(row, whole, strict=True):
        np.testing.assert_allclose(value, expected[1:2], rtol=1e-4, atol=1e-4)


def test_the_condition_matters(double):
    if double.condition is None:
        pytest.skip("not conditional")
    here = double.both(double.x, double.z, double.condition)
    elsewhere = double.both(double.x, double.z, double.condition + 1)
    for a, b in zip(here[::2], elsewhere[::2], strict=True):
        assert np.max(np.abs(a - b)) > 1e-3
    # TFP caches results: the condition must be part of the key.
    kwargs = dict(condition=double.condition + 1)
    double.bijector.forward(double.z, condition=double.condition)
    np.testing.assert_allclose(double.bijector.forward(double.z, **kwargs), elsewhere[2])


def test_tf_module_and_keras_see_the_same_variables(single):
    layers = keras_layers(single.bijector)
    for of_tf, of_keras in (
        (single.bijector.variables, [w for layer in layers for w in layer.weights]),
        (
            single.bijector.trainable_variables,
            [w for layer in layers for w in layer.trainable_weights],
        ),
    ):
        assert {id(v) for v in of_tf} == {id(w.value) for w in of_keras}
        assert len(of_tf) == len(of_keras)


def test_gradients_reach_every_weight_in_both_directions(single):
    weights = single.bijector.trainable_variables
    if not weights:
        pytest.skip("nothing to train")
    with tf.GradientTape(persistent=True) as tape:
        z, ildj = single.inverse(single.x, single.condition)
        normalizing = tf.reduce_sum(tf.sin(z)) + tf.reduce_sum(ildj)
        x, fldj = single.forward(single.z, single.condition)
        generative = tf.reduce_sum(tf.sin(x)) + tf.reduce_sum(fldj)
    for loss in (normalizing, generative):
        for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
            assert gradient is not None, weight.name
            assert np.all(np.isfinite(gradient)), weight.name
            # One channel has no off-diagonal entries, and no other dimension that it depends on.
            nothing = not weight.shape.num_elements() or (
                single.event_shape == (1,) and "hidden_0_kernel" in weight.name
            )
            assert np.any(np.asarray(gradient) != 0) != nothing, weight.name
