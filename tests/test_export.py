"""Tests of the SavedModel."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfp_distill import Flow, GlowConfig, MAFConfig, TabularGlowConfig
from tfp_distill.data import Statistics
from tfp_distill.export import export_flow
from tfp_distill.flows import interpolate
from tfp_distill.pixels import DequantizedImages, PixelFormat

pytestmark = pytest.mark.slow

SMALL = dict(num_steps=2, hidden_units=8, num_hidden_layers=1)
SMALL_IMAGES = dict(num_levels=2, steps_per_level=1, hidden_channels=8)
CONFIGS = {
    "glow": TabularGlowConfig(dims=3, **SMALL),
    "maf": MAFConfig(dims=3, **SMALL),
    "iaf": MAFConfig(dims=4, inverse_autoregressive=True, **SMALL),
    "conditional_glow": TabularGlowConfig(dims=3, condition_dims=2, **SMALL),
    "conditional_maf": MAFConfig(dims=3, condition_dims=2, **SMALL),
    "glow_of_a_number": TabularGlowConfig(dims=1, coupling="spline", **SMALL),
    "conditional_maf_of_a_number": MAFConfig(dims=1, condition_dims=2, **SMALL),
    "images": GlowConfig((8, 4, 3), **SMALL_IMAGES),
    "padded_images": GlowConfig((12, 8, 1), num_bits=5, padding=2, **SMALL_IMAGES),
}
IMAGE_SHAPES = {"images": (8, 4, 3), "padded_images": (8, 4, 1)}
SIGNATURES = ["interpolate", "log_prob", "reconstruct", "sample", "to_data", "to_latent"]
ALPHAS = np.array([0.0, 0.3, 1.0], np.float32)

# Runs in a process in which nothing but TensorFlow can be imported (TensorFlow itself imports
# Keras where it finds it).
LOAD_AND_RUN = """
import json, sys
blocked = ("keras", "tf_keras", "tensorflow_probability", "tfp_distill")
sys.modules.update(dict.fromkeys(blocked))
import numpy as np
import tensorflow as tf

inputs = dict(np.load(sys.argv[2]))
signatures = tf.saved_model.load(sys.argv[1]).signatures
outputs = {}
for name, signature in signatures.items():
    arguments = signature.structured_input_signature[1]
    values = {key: tf.constant(inputs[key], spec.dtype) for key, spec in arguments.items()}
    for key, value in signature(**values).items():
        outputs[f"{name}/{key}"] = value.numpy()
np.savez(sys.argv[3], **outputs)
assert not any(sys.modules.get(name) for name in blocked)
print(json.dumps(sorted(signatures)))
"""


@pytest.fixture
def make_flow():
    def make(config, initialize=True):
        flow = Flow(config)
        shape = config.event_shape
        rng = np.random.RandomState(0)
        for weight in flow.trainable_variables:  # a new conditioner's output is 0
            weight.assign(weight + 0.1 * rng.normal(size=weight.shape))
        statistics = Statistics(rng.normal(size=shape[-1]), rng.uniform(1, 2, size=shape[-1]))
        condition = rng.normal(size=(64, config.condition_dims)) if config.condition_dims else None
        if initialize:
            rows = rng.uniform(-1, 1, size=(64, *shape))
            flow.adapt(rows, condition, statistics=statistics)
        return flow

    return make


def run_with_tensorflow_only(path, inputs, tmp_path):
    np.savez(tmp_path / "inputs.npz", **inputs)
    arguments = [str(path), str(tmp_path / "inputs.npz"), str(tmp_path / "outputs.npz")]
    process = subprocess.run(
        [sys.executable, "-c", LOAD_AND_RUN, *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert process.returncode == 0, process.stderr
    names = json.loads(process.stdout.splitlines()[-1])
    return names, dict(np.load(tmp_path / "outputs.npz"))


def inputs_and_expected(flow):
    rng = np.random.RandomState(1)
    inputs = {
        "x": rng.normal(size=(5, *flow.event_shape)),
        "z": rng.normal(size=(5, flow.latent_dims)),
        "x_a": rng.normal(size=(5, *flow.event_shape)),
        "x_b": rng.normal(size=(5, *flow.event_shape)),
        "alphas": ALPHAS,
        "n": 5,
        "temperature": 0.7,
        "seed": 3,
    }
    condition = []
    if flow.config.condition_dims:
        inputs["condition"] = rng.normal(size=(5, flow.config.condition_dims))
        condition = [inputs["condition"]]
    expected = {
        "sample/x": flow.sample(5, *condition, temperature=0.7, seed=3),
        "log_prob/log_prob": flow.log_prob(inputs["x"], *condition),
        "to_latent/z": flow.to_latent(inputs["x"], *condition),
        "to_data/x": flow.to_data(inputs["z"], *condition),
        "reconstruct/x": inputs["x"],
        "interpolate/x": interpolate(flow, inputs["x_a"], inputs["x_b"], ALPHAS, *condition),
    }
    if pixel_format := flow.config.pixel_format:
        bits = pixel_format.bits_per_dim(expected["log_prob/log_prob"], flow.event_shape)
        expected["log_prob/bits_per_dim"] = bits
    return inputs, expected


def pictures_and_expected(flow, shape):
    inputs, _ = inputs_and_expected(flow)
    rng = np.random.RandomState(2)
    x, x_a, x_b = (rng.randint(0, 256, size=(5, *shape)).astype(np.uint8) for _ in range(3))
    inputs |= {"x": x, "x_a": x_a, "x_b": x_b}
    pixel_format = flow.config.pixel_format
    midpoints, quantize = pixel_format.midpoints, pixel_format.quantize
    noisy = pixel_format.dequantize(x, seed=3)
    log_prob = flow.log_prob(noisy)
    between = interpolate(flow, midpoints(x_a), midpoints(x_b), ALPHAS)
    between = quantize(tf.reshape(between, [-1, *flow.event_shape]))
    expected = {
        "sample/x": quantize(flow.sample(5, temperature=0.7, seed=3)),
        "log_prob/log_prob": log_prob,
        "log_prob/bits_per_dim": pixel_format.bits_per_dim(log_prob, flow.event_shape),
        "to_latent/z": flow.to_latent(midpoints(x)),
        "to_data/x": quantize(flow.to_data(inputs["z"])),
        "reconstruct/x": quantize(midpoints(x)),
        "interpolate/x": tf.reshape(between, [5, len(ALPHAS), *shape]),
    }
    return inputs, expected


def call(path, inputs):
    signatures = tf.saved_model.load(str(path)).signatures
    outputs = {}
    for name, signature in signatures.items():
        specs = signature.structured_input_signature[1]
        values = {key: tf.constant(inputs[key], spec.dtype) for key, spec in specs.items()}
        outputs.update({f"{name}/{key}": v.numpy() for key, v in signature(**values).items()})
    return outputs


def assert_equal(actual, expected):
    assert sorted(actual) == sorted(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, atol=1e-5, rtol=1e-5, err_msg=name)


def assert_equal_pictures(actual, expected, step):
    """Values on the edge between two bytes may come out as either, but for what is exact."""
    expected = {name: np.asarray(value) for name, value in expected.items()}
    bytes_of = {name for name, value in expected.items() if value.dtype == np.uint8}
    assert bytes_of == {"sample/x", "to_data/x", "reconstruct/x", "interpolate/x"}
    assert_equal(*({n: v for n, v in d.items() if n not in bytes_of} for d in (actual, expected)))
    for name in bytes_of:
        assert actual[name].dtype == np.uint8
        assert actual[name].shape == expected[name].shape
        difference = np.abs(actual[name].astype(int) - expected[name])
        assert difference.max() <= step, name
        assert np.mean(difference > 0) < 0.02, name
        assert len(np.unique(actual[name])) > 10, name
    np.testing.assert_array_equal(actual["reconstruct/x"], expected["reconstruct/x"])


@pytest.mark.parametrize("name", CONFIGS)
def test_agrees_with_the_flow(name, make_flow, tmp_path):
    flow = make_flow(CONFIGS[name])
    export_flow(flow, tmp_path / "model")
    inputs, expected = inputs_and_expected(flow)
    assert_equal(call(tmp_path / "model", inputs), expected)


@pytest.mark.parametrize(("name", "step"), [("images", 1), ("padded_images", 9)])
def test_takes_and_returns_pictures(name, step, make_flow, tmp_path):
    flow = make_flow(CONFIGS[name])
    export_flow(flow, tmp_path / "model", pixels="uint8")
    inputs, expected = pictures_and_expected(flow, IMAGE_SHAPES[name])
    assert_equal_pictures(call(tmp_path / "model", inputs), expected, step)


def test_the_noise_of_pictures_depends_on_the_seed_alone(make_flow, tmp_path):
    flow = make_flow(CONFIGS["padded_images"])
    export_flow(flow, tmp_path / "model", pixels="uint8")
    model = tf.saved_model.load(str(tmp_path / "model"))
    x = np.random.RandomState(0).randint(0, 256, size=(5, 8, 4, 1)).astype(np.uint8)

    def log_prob(seed):
        return model.signatures["log_prob"](x=x, seed=tf.constant(seed))["log_prob"].numpy()

    evaluated = flow.log_prob(DequantizedImages(x, PixelFormat(num_bits=5, padding=2))[:])
    np.testing.assert_allclose(log_prob(0), evaluated, rtol=1e-4)
    np.testing.assert_array_equal(log_prob(7), log_prob(7))
    seeds = np.stack([log_prob(seed) for seed in (-1, 0, 1, 2**31 - 1)])
    assert len(np.unique(seeds[:, 0])) == len(seeds)


@pytest.mark.parametrize("name", ["glow", "conditional_maf"])
def test_runs_where_there_is_only_tensorflow(name, make_flow, tmp_path):
    flow = make_flow(CONFIGS[name])
    export_flow(flow, tmp_path / "model")
    inputs, expected = inputs_and_expected(flow)
    names, actual = run_with_tensorflow_only(tmp_path / "model", inputs, tmp_path)
    assert names == SIGNATURES
    assert_equal(actual, expected)


def test_pictures_need_only_tensorflow(make_flow, tmp_path):
    flow = make_flow(CONFIGS["padded_images"])
    export_flow(flow, tmp_path / "model", pixels="uint8")
    inputs, expected = pictures_and_expected(flow, IMAGE_SHAPES["padded_images"])
    names, actual = run_with_tensorflow_only(tmp_path / "model", inputs, tmp_path)
    assert names == SIGNATURES
    assert_equal_pictures(actual, expected, step=9)


def test_batch_size_is_unknown(make_flow, tmp_path):
    flow = make_flow(CONFIGS["maf"])
    export_flow(flow, tmp_path / "model")
    signatures = tf.saved_model.load(str(tmp_path / "model")).signatures
    for rows in (1, 7):
        z = tf.random.stateless_normal([rows, 3], [0, 0])
        x = signatures["to_data"](z=z)["x"]
        np.testing.assert_allclose(x, flow.to_data(z), atol=1e-5)
        assert signatures["to_data"].structured_outputs["x"].shape.as_list() == [None, 3]


def test_number_of_pictures_is_unknown(make_flow, tmp_path):
    flow = make_flow(CONFIGS["padded_images"])
    export_flow(flow, tmp_path / "model", pixels="uint8")
    signatures = tf.saved_model.load(str(tmp_path / "model")).signatures
    for name in ("sample", "to_data", "reconstruct"):
        spec = signatures[name].structured_outputs["x"]
        assert (spec.dtype, spec.shape.as_list()) == (tf.uint8, [None, 8, 4, 1])
    spec = signatures["interpolate"].structured_outputs["x"]
    assert (spec.dtype, spec.shape.as_list()) == (tf.uint8, [None, None, 8, 4, 1])
    for rows in (1, 7):
        x = tf.zeros([rows, 8, 4, 1], tf.uint8)
        assert signatures["reconstruct"](x=x)["x"].shape == x.shape
        assert signatures["log_prob"](x=x, seed=tf.constant(0))["bits_per_dim"].shape == [rows]


def test_holds_the_flow_and_no_optimizer(make_flow, tmp_path):
    flow = make_flow(CONFIGS["glow"])
    flow.compile("adam")
    flow.fit(np.random.RandomState(0).normal(size=(8, 3)), batch_size=4, verbose=0)
    export_flow(flow, tmp_path / "model")
    reader = tf.train.load_checkpoint(str(tmp_path / "model" / "variables" / "variables"))
    names = [
        name
        for name in reader.get_variable_to_shape_map()
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH"
    ]
    assert len(names) == len(flow.bijector.variables)


def test_later_training_leaves_the_export_alone(make_flow, tmp_path):
    flow = make_flow(CONFIGS["glow"])
    export_flow(flow, tmp_path / "model")
    inputs, before = inputs_and_expected(flow)
    before = {name: np.asarray(value) for name, value in before.items()}
    for weight in flow.trainable_variables:
        weight.assign(weight * 1.1)
    assert_equal(call(tmp_path / "model", inputs), before)


def test_replaces_a_saved_model_and_leaves_nothing_beside(make_flow, tmp_path):
    first, second = make_flow(CONFIGS["maf"]), make_flow(CONFIGS["glow"])
    export_flow(first, tmp_path / "deep" / "model")
    export_flow(second, tmp_path / "deep" / "model")
    assert [entry.name for entry in (tmp_path / "deep").iterdir()] == ["model"]
    inputs, expected = inputs_and_expected(second)
    assert_equal(call(tmp_path / "deep" / "model", inputs), expected)


def test_a_failure_leaves_the_old_export(make_flow, tmp_path, monkeypatch):
    flow = make_flow(CONFIGS["maf"])
    export_flow(flow, tmp_path / "model")

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        export_flow(flow, tmp_path / "model")
    monkeypatch.undo()
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]
    inputs, expected = inputs_and_expected(flow)
    assert_equal(call(tmp_path / "model", inputs), expected)


def test_rejects_an_uninitialized_flow(make_flow, tmp_path):
    with pytest.raises(ValueError, match="`flow` must be adapted to data.*got the new 'flow"):
        export_flow(make_flow(CONFIGS["glow"], initialize=False), tmp_path / "model")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "pixels", "message"),
    [
        ("images", "bytes", "`pixels` must be one of float, uint8, got 'bytes'"),
        (
            "glow",
            "uint8",
            "`pixels` must be 'float' for 'flow.*'batch', 3.* no images, got 'uint8'",
        ),
    ],
)
def test_rejects_pixels_that_do_not_fit(name, pixels, message, make_flow, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_flow(make_flow(CONFIGS[name]), tmp_path / "model", pixels=pixels)
    assert not list(tmp_path.iterdir())


def test_rejects_a_path_that_holds_something_else(make_flow, tmp_path):
    flow = make_flow(CONFIGS["glow"])
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="`path` must be new, empty or a SavedModel.*notes.txt"):
        export_flow(flow, tmp_path)
    with pytest.raises(ValueError, match="`path` must be a directory.*notes.txt"):
        export_flow(flow, tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "mine"
    export_flow(flow, tmp_path / "model")
    (tmp_path / "model" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="`path` must be new, empty or a SavedModel"):
        export_flow(flow, tmp_path / "model")
