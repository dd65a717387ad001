"""Tests of LiteRT models: they are the flow, on an interpreter that has no TensorFlow."""

import os

import numpy as np
import pytest
import tensorflow as tf

from tfp_distill import Flow, GlowConfig, MAFConfig, TabularGlowConfig, export_flow, export_litert
from tfp_distill.columns import Columns

interpreter = pytest.importorskip("ai_edge_litert.interpreter")
pytestmark = pytest.mark.slow

SMALL = dict(num_steps=2, hidden_units=8, num_hidden_layers=1)
IMAGES = dict(num_levels=2, steps_per_level=1, hidden_channels=8)
CONFIGS = {
    "glow": TabularGlowConfig(dims=3, **SMALL),
    "spline_glow": TabularGlowConfig(dims=4, coupling="spline", **SMALL),
    "maf": MAFConfig(dims=3, **SMALL),
    "wide_maf": MAFConfig(dims=40, **SMALL),
    "spline_maf": MAFConfig(dims=3, transform="spline", mixing=True, **SMALL),
    "iaf": MAFConfig(dims=4, inverse_autoregressive=True, **SMALL),
    "conditional_glow": TabularGlowConfig(dims=3, condition_dims=2, **SMALL),
    "glow_of_a_number": TabularGlowConfig(dims=1, coupling="spline", **SMALL),
    "conditional_glow_of_a_number": TabularGlowConfig(dims=1, condition_dims=2, **SMALL),
    "maf_of_a_number": MAFConfig(dims=1, **SMALL),
    "images": GlowConfig((8, 4, 3), **IMAGES),
    "padded_images": GlowConfig((12, 8, 1), num_bits=5, padding=2, **IMAGES),
}


def _flow(config, offset=0.0, rows=64):
    flow, random = Flow(config), np.random.RandomState(0)
    x, *condition = _inputs(flow, rows, offset)
    flow.adapt(x, *condition)
    for weight in flow.trainable_variables:  # A new conditioner's output is 0.
        weight.assign(weight + 0.1 * random.normal(size=weight.shape))
    return flow


def _inputs(flow, rows, offset=0.0):
    random, config = np.random.RandomState(1), flow.config
    x = random.uniform(size=(rows, *config.event_shape)) + offset
    inputs = (x, random.normal(size=(rows, config.condition_dims)))
    return [value.astype(np.float32) for value in inputs[: 1 + (config.condition_dims > 0)]]


def _model(flow, path, **options):
    export_litert(flow, path, **options)
    return interpreter.Interpreter(model_path=os.fspath(path))


def _run(model, name, value, *condition):
    key = "z" if name == "to_data" else "x"
    inputs = {key: value, **({"condition": condition[0]} if condition else {})}
    return model.get_signature_runner(name)(**inputs)


@pytest.mark.parametrize("name", CONFIGS)
def test_it_is_the_flow_and_the_saved_model(name, tmp_path):
    flow = _flow(CONFIGS[name])
    model = _model(flow, tmp_path / "flow.tflite")
    export_flow(flow, tmp_path / "saved_model")
    signatures = tf.saved_model.load(tmp_path / "saved_model").signatures
    assert sorted(model.get_signature_list()) == ["log_prob", "to_data", "to_latent"]
    for rows in (1, 7):
        x, *condition = _inputs(flow, rows)
        found = _run(model, "log_prob", x, *condition)
        np.testing.assert_allclose(found["log_prob"], flow.log_prob(x, *condition), rtol=1e-4)
        assert ("bits_per_dim" in found) == ("images" in name)
        z = _run(model, "to_latent", x, *condition)["z"]
        np.testing.assert_allclose(z, flow.to_latent(x, *condition), atol=1e-4)
        made = _run(model, "to_data", z, *condition)["x"]
        np.testing.assert_allclose(made, x, atol=1e-4)
        inputs = {"condition": tf.constant(condition[0])} if condition else {}
        for key, values in signatures["log_prob"](x=tf.constant(x), **inputs).items():
            np.testing.assert_allclose(found[key], values, rtol=1e-4)
        expected = signatures["to_data"](z=tf.constant(z), **inputs)["x"]
        np.testing.assert_allclose(made, expected, atol=1e-4)


def test_integers_come_out_of_it(tmp_path):
    columns = Columns(("integer", "continuous"))
    flow = Flow(TabularGlowConfig(dims=2, columns=columns, **SMALL))
    random = np.random.RandomState(0)
    x = np.stack([random.poisson(3.0, 64), random.normal(size=64)], axis=1).astype(np.float32)
    flow.adapt(x)
    model = _model(flow, tmp_path / "flow.tflite")
    z = _run(model, "to_latent", x)["z"]
    np.testing.assert_allclose(_run(model, "to_data", z)["x"], x, atol=1e-4)
    noisy = columns.dequantize(x, seed=0).numpy()
    found = _run(model, "log_prob", noisy)["log_prob"]
    np.testing.assert_allclose(found, flow.log_prob(noisy), rtol=1e-4)


@pytest.mark.parametrize("name", ["spline_glow", "conditional_glow"])
def test_weights_are_rounded_and_statistics_are_not(name, tmp_path):
    """With a mean of 10,000 and a scale of 0.3, which float16 knows to 4 only."""
    flow = _flow(CONFIGS[name], offset=10_000.0)
    inputs = _inputs(flow, 64, offset=10_000.0)
    expected = flow.log_prob(*inputs).numpy()
    for weights in ("float32", "float16", "int8"):
        path = tmp_path / weights
        found = _run(_model(flow, path, weights=weights), "log_prob", *inputs)["log_prob"]
        error = np.abs(found - expected).max()
        # No two of them round in the same way; small matrices stay as they are for "int8".
        assert error < (0.1 if weights == "float16" else 1e-3)
        assert weights != "float16" or error > 1e-5


def test_large_matrices_take_half_or_a_quarter(tmp_path):
    flow = _flow(MAFConfig(dims=6, num_steps=2, hidden_units=256, num_hidden_layers=2))
    inputs, sizes = _inputs(flow, 9), {}
    for weights in ("float32", "float16", "int8"):
        path = tmp_path / weights
        found = _run(_model(flow, path, weights=weights), "log_prob", *inputs)
        np.testing.assert_allclose(found["log_prob"], flow.log_prob(*inputs), atol=0.5)
        sizes[weights] = path.stat().st_size
    bytes_of_weights = 4 * flow.num_parameters
    assert sizes["float32"] - sizes["float16"] > 0.4 * bytes_of_weights
    assert sizes["float32"] - sizes["int8"] > 0.6 * bytes_of_weights


def test_a_flow_that_cannot_be_converted_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "flow.tflite"
    path.write_bytes(b"before")
    for flow, options, message in (
        (_flow(CONFIGS["glow"]), dict(weights="float8"), "`weights` must be one of .* 'float8'"),
        (Flow(CONFIGS["glow"]), {}, "`flow` must be adapted to data"),
    ):
        with pytest.raises(ValueError, match=message):
            export_litert(flow, path, **options)
    with pytest.raises(ValueError, match="`path` must be a file to write, got the directory"):
        export_litert(_flow(CONFIGS["glow"]), tmp_path)
    assert path.read_bytes() == b"before"
