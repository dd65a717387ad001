"""Tests of the figures that warn before a flow cannot be inverted."""

import warnings

import numpy as np
import pytest
import tensorflow as tf

from tfp_distill import Flow, FlowDistiller, GlowConfig, LatentLoss, MAFConfig, TabularGlowConfig
from tfp_distill.bijectors import InvertibleLinear, named_visits
from tfp_distill.evaluation import Health

SMALL = dict(dims=3, num_steps=2, hidden_units=4, num_hidden_layers=1)
CONFIGS = {
    "glow": TabularGlowConfig(**SMALL),
    "maf": MAFConfig(condition_dims=2, **SMALL),
    "images": GlowConfig(image_shape=(4, 4, 2), num_levels=2, steps_per_level=1, hidden_channels=4),
}
FIGURES = {"round_trip", "latent_round_trip", "smallest_scale", "largest_scale", "largest_latent"}
PIVOTS = {"smallest_pivot", "largest_pivot"}


def make_flow(kind):
    flow = Flow(CONFIGS[kind])
    flow.adapt(*data(kind, 64))
    return flow


def data(kind, rows, seed=0):
    """Returns data and, for a conditional flow, conditions."""
    config, random = CONFIGS[kind], np.random.RandomState(seed)
    shapes = [config.event_shape, *([(config.condition_dims,)] if config.condition_dims else [])]
    return tuple(random.normal(size=(rows, *shape)).astype(np.float32) for shape in shapes)


def _fit(model, kind, *callbacks, epochs=1):
    x, *condition = data(kind, 32)
    rows = tf.data.Dataset.from_tensor_slices((x, *condition)).batch(16)
    return model.fit(rows, epochs=epochs, callbacks=list(callbacks), verbose=0).history


@pytest.mark.parametrize(
    ("kind", "names"), [("glow", FIGURES | PIVOTS), ("maf", FIGURES), ("images", FIGURES | PIVOTS)]
)
def test_figures_are_in_the_logs(kind, names):
    flow = make_flow(kind)
    flow.compile("adam", jit_compile=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        logs = _fit(flow, kind, Health(*data(kind, 20, seed=1), every=2), epochs=4)
    assert names <= logs.keys()
    assert all(len(logs[name]) == 2 for name in names)
    assert all(0 < value < 1e-3 for value in logs["round_trip"] + logs["latent_round_trip"])
    assert logs["smallest_scale"][-1] < logs["largest_scale"][-1]


def _linear(flow):
    x = tf.constant(data("glow", 4)[0])
    bijectors = (visit.bijector for _, visit in named_visits(flow.bijector, x))
    return [bijector for bijector in bijectors if isinstance(bijector, InvertibleLinear)]


def test_a_map_that_is_nearly_singular_is_named_and_told_of_once():
    flow, told = make_flow("glow"), []
    flow.compile("adam", jit_compile=False)
    health = Health(*data("glow", 20, seed=1), warn=told.append)
    _fit(flow, "glow", health)
    assert told == []
    linear = _linear(flow)[0]
    matrix = np.eye(len(linear.pivots))
    matrix[0, 1:], matrix[0, 0] = 1.0, 1e-6
    linear.set_matrix(matrix)
    np.testing.assert_allclose(np.sort(linear.pivots)[0], 1e-6, rtol=1e-5)
    flow.compile("sgd", jit_compile=False)
    flow.optimizer.learning_rate = 1e-12
    logs = _fit(flow, "glow", health, epochs=2)
    assert len(told) == 1 and "\n" not in told[0]
    assert f"smallest pivot 1.0e-06 in the InvertibleLinear '{linear.name}' of step 1" in told[0]
    assert logs["smallest_pivot"][-1] == pytest.approx(1e-6, rel=1e-3)
    assert max(logs["round_trip"][-1], logs["latent_round_trip"][-1]) > 1e-3


def test_a_warning_of_python_is_the_default():
    flow = make_flow("glow")
    flow.compile("adam", jit_compile=False)
    with pytest.warns(RuntimeWarning, match="at step 2, an inverse is wrong by up to"):
        _fit(flow, "glow", Health(*data("glow", 20), tolerance=1e-12))


def test_a_distiller_is_measured_by_its_student():
    student, teacher = make_flow("glow"), make_flow("glow")
    distiller = FlowDistiller(
        student=student,
        teacher=teacher,
        distillation_losses=[LatentLoss()],
        distillation_loss_weights=[1.0],
    )
    distiller.compile("adam", jit_compile=False)
    assert _fit(distiller, "glow", Health(*data("glow", 20)))["smallest_pivot"][0] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(x=np.zeros([0, 2])), "`x` must have at least one row"),
        (dict(x=np.zeros([2, 2]), every=0), "`every` must be"),
        (dict(x=np.zeros([2, 2]), tolerance=0.0), "`tolerance` must be positive, got 0.0"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        Health(**arguments)
