"""A flow as a SavedModel, for programs that have TensorFlow and nothing else."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from tfp_distill.domains import ImageDomain
from tfp_distill.files import directory_written_whole
from tfp_distill.flows import Flow, interpolate
from tfp_distill.pixels import PixelFormat

__all__ = ["check_adapted", "check_replaceable", "export_flow", "likelihoods"]

_PIXELS = ("float", "uint8")
_SAVED_MODEL_ENTRIES = {"assets", "assets.extra", "fingerprint.pb", "saved_model.pb", "variables"}


def export_flow(flow: Flow, path: str | os.PathLike[str], *, pixels: str = "float") -> None:
    """Writes a SavedModel that samples, inverts and evaluates the flow without this library.

    Its named signatures take and return, with any batch size,

        sample(n, temperature, seed)  -> x         [n, ...], int32, float32 and int32 scalars
        log_prob(x)                   -> log_prob  [batch], in nats
        to_latent(x)                  -> z         [batch, D]
        to_data(z)                    -> x         [batch, ...]
        reconstruct(x)                -> x         [batch, ...], of to_data(to_latent(x))
        interpolate(x_a, x_b, alphas) -> x         [batch, m, ...] for alphas [m] in [0, 1]

    and for a conditional flow also `condition`, `[batch, C]` (`[n, C]` for `sample`). Equal seeds
    give the samples of `flow.sample`. For a flow of images `log_prob` also returns `bits_per_dim`,
    `[batch]`. Example, with TensorFlow alone:

        model = tf.saved_model.load(path)
        one, half = tf.constant(1.0), tf.constant(0.5)
        x = model.signatures["sample"](n=tf.constant(5), temperature=one, seed=tf.constant(0))["x"]
        nats = model.signatures["log_prob"](x=x)["log_prob"]

    With `pixels="uint8"` every x is a picture, uint8 `[..., h, w, C]`, without padding. The numbers
    in between are made inside, as `flow.config.pixel_format` says:

        x = quantize(to_data(z))                 wherever a picture comes out
        z = to_latent(midpoints(x))              without noise: equal pictures, equal latents
        log_prob(x, seed) = log p(dequantize(x)) with noise, int32 scalar `seed`

    `reconstruct` thus returns the very bytes that it got, but for bits that are not modelled, as
    long as the flow inverts itself to half a step of the bytes; images unlike those it was trained
    on may be too far out for that. `log_prob` is that of the numbers in [0, 1), with the padding,
    and `bits_per_dim` that of the bytes. The noise is that of
    `flow.config.pixel_format.dequantize(x, seed=seed)`.

    For a flow whose `config.columns` have integers, integers come out of `sample`, `to_data`,
    `reconstruct` and `interpolate`, and what has bounds is within them; `to_latent` takes integers
    k as k + 1/2, and `log_prob(x, seed)` draws their noise, as for pictures.

    The model is written beside `path` first and moved there when it is complete. A SavedModel that
    is already there is replaced.

    Args:
      flow: a flow that was adapted to data.
      path: the directory to write.
      pixels: "float" for x as the flow takes it, "uint8" for pictures.

    Raises:
      ValueError: if the flow was not adapted to data, `pixels` is neither, or "uint8" for a flow
        that is not of images, or `path` holds something that is no SavedModel.
    """
    if pixels not in _PIXELS:
        raise ValueError(f"`pixels` must be one of {', '.join(_PIXELS)}, got {pixels!r}.")
    if pixels == "uint8" and not flow.config.domain.is_images:
        raise ValueError(
            f"`pixels` must be 'float' for {flow.name!r}, whose data of shape "
            f"{('batch', *flow.event_shape)} are no images, got {pixels!r}."
        )
    check_adapted(flow)
    path = pathlib.Path(path)
    check_replaceable(path)
    with directory_written_whole(path) as unfinished:
        module = tf.Module(name="flow")
        module.weights = list(flow.bijector.variables)  # a SavedModel keeps what it can reach
        tf.saved_model.save(module, str(unfinished), signatures=_signatures(flow, pixels))


class _DataFormat(NamedTuple):
    """The x of the signatures, and the way to the flow's x and back."""

    spec: tf.TensorSpec
    likelihood_inputs: dict[str, tf.TensorSpec]  # What `dequantize` takes besides x.
    encode: Callable[..., tf.Tensor]
    dequantize: Callable[..., tf.Tensor]
    decode: Callable[..., tf.Tensor]


def _float_format(flow: Flow) -> _DataFormat:
    spec = tf.TensorSpec([None, *flow.event_shape], flow.compute_dtype)
    if (columns := flow.config.columns) is not None:
        inputs = {"seed": tf.TensorSpec([], tf.int32)} if columns.num_integers else {}

        def dequantize(x, seed=0):
            return columns.dequantize(x, seed=seed)

        return _DataFormat(spec, inputs, columns.midpoints, dequantize, columns.quantize)
    return _DataFormat(spec, {}, tf.identity, tf.identity, tf.identity)


def _uint8_format(flow: Flow, pixel_format: PixelFormat) -> _DataFormat:
    shape = pixel_format.image_shape(flow.event_shape)

    def dequantize(x, seed):
        return pixel_format.dequantize(x, seed=seed)

    def decode(x):
        leading = tf.shape(x)[:-3]
        images = pixel_format.quantize(tf.reshape(x, [-1, *flow.event_shape]))
        return tf.reshape(images, tf.concat([leading, shape], axis=0))

    inputs = {"seed": tf.TensorSpec([], tf.int32)}
    spec = tf.TensorSpec([None, *shape], tf.uint8)
    return _DataFormat(spec, inputs, pixel_format.midpoints, dequantize, decode)


def _signatures(flow: Flow, pixels: str) -> dict[str, Callable[..., dict[str, tf.Tensor]]]:
    """Returns the concrete functions by name, with unknown batch sizes."""
    dtype = tf.as_dtype(flow.compute_dtype)
    domain, data = flow.config.domain, _float_format(flow)
    if pixels == "uint8" and isinstance(domain, ImageDomain):
        data = _uint8_format(flow, domain.pixel_format)
    x, encode, decode = data.spec, data.encode, data.decode
    z = tf.TensorSpec([None, flow.latent_dims], dtype)
    vector, scalar = tf.TensorSpec([None], dtype), tf.TensorSpec([], dtype)
    integer = tf.TensorSpec([], tf.int32)
    dims = flow.config.condition_dims
    condition_spec = {"condition": tf.TensorSpec([None, dims], dtype)} if dims else {}

    def sample(n, temperature, seed, condition=None):
        return {"x": decode(flow.sample(n, condition, temperature=temperature, seed=seed))}

    def log_prob(x, condition=None, **inputs):
        return likelihoods(flow, data.dequantize(x, **inputs), condition)

    def to_latent(x, condition=None):
        return {"z": flow.to_latent(encode(x), condition)}

    def to_data(z, condition=None):
        return {"x": decode(flow.to_data(z, condition))}

    def reconstruct(x, condition=None):
        z = tf.identity(flow.to_latent(encode(x), condition))  # TFP would remember x.
        return {"x": decode(flow.to_data(z, condition))}

    def between(x_a, x_b, alphas, condition=None):
        return {"x": decode(interpolate(flow, encode(x_a), encode(x_b), alphas, condition))}

    def concrete(function, **specs):
        return tf.function(function, autograph=False).get_concrete_function(
            **specs, **condition_spec
        )

    return {
        "sample": concrete(sample, n=integer, temperature=scalar, seed=integer),
        "log_prob": concrete(log_prob, x=x, **data.likelihood_inputs),
        "to_latent": concrete(to_latent, x=x),
        "to_data": concrete(to_data, z=z),
        "reconstruct": concrete(reconstruct, x=x),
        "interpolate": concrete(between, x_a=x, x_b=x, alphas=vector),
    }


def likelihoods(flow: Flow, x: tf.Tensor, condition: tf.Tensor | None) -> dict[str, tf.Tensor]:
    """Returns `log_prob`, and for images `bits_per_dim`, as signatures name them."""
    nats = flow.log_prob(x, condition)
    bits = flow.config.domain.bits_per_dim(nats, flow.event_shape)
    return {"log_prob": nats, **({} if bits is None else {"bits_per_dim": bits})}


def check_adapted(flow: Flow) -> None:
    """Raises `ValueError` if a flow was not adapted to data."""
    if not flow.adapted:
        raise ValueError(
            f"`flow` must be adapted to data, by `fit` or `adapt`, got the new {flow.name!r}."
        )


def check_replaceable(path: pathlib.Path) -> None:
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
