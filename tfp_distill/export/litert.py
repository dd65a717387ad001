"""A flow as a LiteRT model, for devices that have no TensorFlow."""

from __future__ import annotations

import os
import pathlib
import tempfile
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from tfp_distill.export.saved_model import check_adapted, likelihoods
from tfp_distill.files import check_writable, written_whole
from tfp_distill.flows import Flow

__all__ = ["WEIGHTS", "export_litert"]

WEIGHTS = ("float32", "float16", "int8")


def export_litert(flow: Flow, path: str | os.PathLike[str], *, weights: str = "float32") -> None:
    """Writes a LiteRT (TensorFlow Lite) model that evaluates, inverts and samples the flow.

    It needs no operations but LiteRT's own. Its named signatures take and return, with any batch
    size,

        log_prob(x)  -> log_prob  [batch], in nats; for images also bits_per_dim, [batch]
        to_latent(x) -> z         [batch, D]
        to_data(z)   -> x         [batch, ...]

    and for a conditional flow also `condition`, `[batch, C]`. A sample at temperature T is
    `to_data` of latents z ~ N(0, T^2 I), which the device draws. x is float32, as the flow takes
    it: images are numbers in [0, 1). Where `config.columns` have integers, `to_data` returns
    integers, `to_latent` takes integers k as k + 1/2, and `log_prob` takes them with their noise.
    Example, on a device that has `ai-edge-litert` alone:

        from ai_edge_litert.interpreter import Interpreter

        model = Interpreter(model_path="flow.tflite")
        z = np.random.normal(size=[8, 6]).astype(np.float32)
        x = model.get_signature_runner("to_data")(z=z)["x"]
        nats = model.get_signature_runner("log_prob")(x=x)["log_prob"]

    "float16" stores every weight in half of the bytes, with a relative error of 5e-4; "int8" the
    large matrices and kernels in a quarter, each with a scale of its own (dynamic range). What both
    cost in likelihood is to be measured: they round the function itself, so that a rounded flow is
    still invertible. The statistics of data and conditions are never rounded.

    Args:
      flow: a flow of float32 that was adapted to data.
      path: the file to write, as a rule of the suffix .tflite.
      weights: "float32", "float16" or "int8".

    Raises:
      ValueError: if `weights` is none of these, or the flow has another type or was not adapted to
        data.
      OSError: if the file cannot be written there; before the flow is converted.
    """
    if weights not in WEIGHTS:
        raise ValueError(f"`weights` must be one of {', '.join(WEIGHTS)}, got {weights!r}.")
    if flow.compute_dtype != "float32":
        raise ValueError(f"`flow` must be of float32, got {flow.name!r} of {flow.compute_dtype}.")
    check_adapted(flow)
    path = pathlib.Path(path)
    if path.is_dir():
        raise ValueError(f"`path` must be a file to write, got the directory {str(path)!r}.")
    check_writable(path.parent)
    with tempfile.TemporaryDirectory() as directory:
        module = tf.Module(name="flow")
        module.weights = list(flow.bijector.variables)
        signatures = _signatures(flow)
        tf.saved_model.save(module, directory, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            directory, signature_keys=list(signatures)
        )
        if weights != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if weights == "float16":
            converter.target_spec.supported_types = [tf.float16]
        model = converter.convert()
    with written_whole(path) as unfinished:
        unfinished.write_bytes(model)


def _signatures(flow: Flow) -> dict[str, Callable[..., dict[str, tf.Tensor]]]:
    """Returns the concrete functions by name, with unknown batch sizes."""
    columns = flow.config.columns
    dims = flow.config.condition_dims
    condition = {"condition": tf.TensorSpec([None, dims], tf.float32)} if dims else {}
    x = tf.TensorSpec([None, *flow.event_shape], tf.float32)
    z = tf.TensorSpec([None, flow.latent_dims], tf.float32)

    def log_prob(x, condition=None):
        return likelihoods(flow, x, condition)

    def to_latent(x, condition=None):
        if columns is not None:  # `columns.midpoints`, for integers that are not huge.
            x = tf.where(columns.is_integer, tf.floor(x) + 0.5, x)
        return {"z": flow.to_latent(x, condition)}

    def to_data(z, condition=None):
        made = flow.to_data(z, condition)
        return {"x": made if columns is None else columns.quantize(made)}

    statistics = _statistics(flow)

    def concrete(function, **specs):
        def with_statistics(**inputs):
            (first, *_) = inputs.values()
            # 0, but no constant, which the converter would round.
            zero = tf.minimum(tf.shape(first)[0], 0)
            values = [(v, tf.bitcast(bits + zero, tf.float32)) for v, bits in statistics]
            with keras.StatelessScope(values):
                return function(**inputs)

        run = tf.function(with_statistics, autograph=False)
        return run.get_concrete_function(**specs, **condition)

    return {
        "log_prob": concrete(log_prob, x=x),
        "to_latent": concrete(to_latent, x=x),
        "to_data": concrete(to_data, z=z),
    }


def _statistics(flow: Flow) -> list[tuple[keras.Variable, np.ndarray]]:
    """Returns what standardises data and conditions, with the bits of the values as integers.

    Integers are not rounded. In float16 a mean of 1,000 would be off by half a scale of 1.
    """
    found = (flow.bijector.bijectors[0], flow.bijector.condition_bijector)
    layers = (layer for own in found if own is not None for layer in own.keras_layers)
    variables = (variable for layer in layers for variable in layer.weights)
    return [(v, v.numpy().view(np.int32)) for v in variables if v.dtype == "float32"]
