"""A flow as a SavedModel, for programs that have TensorFlow and nothing else."""

from __future__ import annotations

import os
import pathlib
import tempfile
from collections.abc import Callable

import tensorflow as tf

from tfp_distill.flows import Flow, interpolate

__all__ = ["export_flow"]

_SAVED_MODEL_ENTRIES = {"assets", "assets.extra", "fingerprint.pb", "saved_model.pb", "variables"}


def export_flow(flow: Flow, path: str | os.PathLike[str]) -> None:
    """Writes a SavedModel that samples, inverts and evaluates the flow without this library.

    Its named signatures take and return, with any batch size,

        sample(n, temperature, seed)  -> x         [n, ...], int32, float32 and int32 scalars
        log_prob(x)                   -> log_prob  [batch], in nats
        to_latent(x)                  -> z         [batch, D]
        to_data(z)                    -> x         [batch, ...]
        interpolate(x_a, x_b, alphas) -> x         [batch, m, ...] for alphas [m] in [0, 1]

    and for a conditional flow also `condition`, `[batch, C]` (`[n, C]` for `sample`). Equal seeds
    give the samples of `flow.sample`. Example, with TensorFlow alone:

        model = tf.saved_model.load(path)
        one, half = tf.constant(1.0), tf.constant(0.5)
        x = model.signatures["sample"](n=tf.constant(5), temperature=one, seed=tf.constant(0))["x"]
        nats = model.signatures["log_prob"](x=x)["log_prob"]

    The model is written beside `path` first and moved there when it is complete. A SavedModel that
    is already there is replaced.

    Args:
      flow: an initialised flow.
      path: the directory to write.

    Raises:
      ValueError: if the flow is not initialised, or `path` holds something that is no SavedModel.
    """
    if not flow.initialized:
        raise ValueError(
            f"`flow` must be initialised, by `fit` or `initialize`, got the new {flow.name!r}."
        )
    path = pathlib.Path(path)
    _check_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as directory:
        new, old = pathlib.Path(directory, "new"), pathlib.Path(directory, "old")
        module = tf.Module(name="flow")
        module.weights = list(flow.bijector.variables)  # a SavedModel keeps what it can reach
        tf.saved_model.save(module, str(new), signatures=_signatures(flow))
        if path.exists():
            path.rename(old)
        try:
            new.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise


def _signatures(flow: Flow) -> dict[str, Callable[..., dict[str, tf.Tensor]]]:
    """Returns the concrete functions by name, with unknown batch sizes."""
    dtype = tf.as_dtype(flow.compute_dtype)
    x = tf.TensorSpec([None, *flow.event_shape], dtype)
    z = tf.TensorSpec([None, flow.latent_dims], dtype)
    vector, scalar = tf.TensorSpec([None], dtype), tf.TensorSpec([], dtype)
    integer = tf.TensorSpec([], tf.int32)
    dims = flow.config.condition_dims
    condition_spec = {"condition": tf.TensorSpec([None, dims], dtype)} if dims else {}

    def sample(n, temperature, seed, condition=None):
        return {"x": flow.sample(n, condition, temperature=temperature, seed=seed)}

    def log_prob(x, condition=None):
        return {"log_prob": flow.log_prob(x, condition)}

    def to_latent(x, condition=None):
        return {"z": flow.to_latent(x, condition)}

    def to_data(z, condition=None):
        return {"x": flow.to_data(z, condition)}

    def between(x_a, x_b, alphas, condition=None):
        return {"x": interpolate(flow, x_a, x_b, alphas, condition)}

    def concrete(function, **specs):
        return tf.function(function).get_concrete_function(**specs, **condition_spec)

    return {
        "sample": concrete(sample, n=integer, temperature=scalar, seed=integer),
        "log_prob": concrete(log_prob, x=x),
        "to_latent": concrete(to_latent, x=x),
        "to_data": concrete(to_data, z=z),
        "interpolate": concrete(between, x_a=x, x_b=x, alphas=vector),
    }


def _check_replaceable(path: pathlib.Path) -> None:
    """Raises `ValueError` unless `path` is free, an empty directory or a SavedModel and no more."""
    if not path.exists():
        return
    if not path.is_dir():
        raise ValueError(f"`path` must be a directory to write, got the file {str(path)!r}.")
    entries = {entry.name for entry in path.iterdir()}
    if entries and ("saved_model.pb" not in entries or entries - _SAVED_MODEL_ENTRIES):
        raise ValueError(
            f"`path` must be new, empty or a SavedModel to replace, got {str(path)!r}, which holds "
            f"{', '.join(sorted(entries)[:5])}."
        )
