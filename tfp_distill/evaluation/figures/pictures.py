"""Pictures that flows of images make, with a strip of images for each model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from tfp_distill.domains import ImageDomain
from tfp_distill.evaluation.figures.strips import Section, Strip, draw_strips
from tfp_distill.evaluation.figures.style import model_colours
from tfp_distill.flows import Flow, interpolate
from tfp_distill.flows.config import check_at_least
from tfp_distill.pixels import PixelFormat
from tfp_distill.training import sample_latents

__all__ = [
    "interpolations",
    "nearest_training_images",
    "reconstructions",
    "sample_grid",
    "temperature_sweep",
]

_ROWS_PER_BLOCK = 1024


def sample_grid(
    flows: Mapping[str, Flow],
    *,
    temperatures: Sequence[float] = (0.7, 1.0),
    num_samples: int = 16,
    seed: int = 0,
) -> Figure:
    """Draws samples of each model, from the same latents, at each temperature.

    Args:
      flows: flows of images, all of one shape and pixel format, by name.
      temperatures: standard deviations of the latents.
      num_samples: number of samples of each model at each temperature.
      seed: equal seeds give equal latents; those of `flow.sample(num_samples, seed=seed)`.

    Raises:
      ValueError: if an argument breaks a rule.
    """
    _check_flows(flows)
    _check_temperatures(temperatures)
    z = _latents(flows, num_samples, seed)
    sections = [
        Section(
            f"T = {temperature:g}, the same latents in each column",
            [_strip(name, flow, temperature * z) for name, flow in flows.items()],
        )
        for temperature in temperatures
    ]
    return draw_strips(sections, model_colours(flows))


def temperature_sweep(
    flows: Mapping[str, Flow],
    *,
    temperatures: Sequence[float] = (0, 0.25, 0.5, 0.7, 0.85, 1.0),
    num_samples: int = 2,
    seed: int = 0,
) -> Figure:
    """Draws what each model makes of the same latents as their temperature changes.

    Args:
      flows: flows of images, all of one shape and pixel format, by name.
      temperatures: standard deviations of the latents.
      num_samples: number of latents.
      seed: equal seeds give equal latents; those of `flow.sample(num_samples, seed=seed)`.

    Raises:
      ValueError: if an argument breaks a rule.
    """
    _check_flows(flows)
    _check_temperatures(temperatures)
    z = _latents(flows, num_samples, seed)
    scaled = np.concatenate([t * latent for latent in z[:, None] for t in temperatures])
    section = Section(
        "The same latents at several temperatures",
        [_strip(name, flow, scaled) for name, flow in flows.items()],
        group=len(temperatures),
        column_titles=[f"T = {t:g}" for t in temperatures],
    )
    return draw_strips([section], model_colours(flows))


def reconstructions(flows: Mapping[str, Flow], images: np.ndarray) -> Figure:
    """Draws images, and what each model makes of its own and of the teacher's latents of them.

        flow.to_data(flow.to_latent(x))        shows how exact the arithmetic is
        flow.to_data(teacher.to_latent(x))     shows whether a student shares the teacher's latents

    Errors are of x, which is in [0, 1).

    Args:
      flows: flows of images, all of one shape and pixel format, by name; the teacher is the first.
      images: uint8 `[n, h, w, C]`, for instance some test images.

    Raises:
      ValueError: if an argument breaks a rule.
    """
    pixel_format = _check_flows(flows)
    check_images_of(next(iter(flows.values())), images=images)
    x = pixel_format.midpoints(images)
    latents = {name: flow.to_latent(x).numpy() for name, flow in flows.items()}
    teacher, *students = flows
    own, shared = ([Strip("data", pixel_format.quantize(x).numpy())] for _ in range(2))
    for name, flow in flows.items():
        y = flow.to_data(latents[name])
        error = f"largest error {np.max(np.abs(y - x)):.1g}"
        own.append(Strip(name, pixel_format.quantize(y).numpy(), _note(y, error)))
    for name in students:
        y = flows[name].to_data(latents[teacher])
        error = f"mean error {np.mean(np.abs(y - x)):.2g}"
        shared.append(Strip(name, pixel_format.quantize(y).numpy(), _note(y, error)))
    sections = [Section("To latents and back by the same model", own)]
    if students:
        sections.append(Section(f"To latents by the {teacher}, back by each of the others", shared))
    return draw_strips(sections, model_colours(flows))


def interpolations(
    flows: Mapping[str, Flow], images_a: np.ndarray, images_b: np.ndarray, *, num: int = 8
) -> Figure:
    """Draws the way from an image to another through all latents of each model, of several pairs.

    See `tfp_distill.flows.interpolate_latents` for the formula.

    Args:
      flows: flows of images, all of one shape and pixel format, by name.
      images_a: uint8 `[n, h, w, C]`, where each way starts.
      images_b: uint8 `[n, h, w, C]`, where it ends.
      num: number of images of a way, with start and end.

    Raises:
      ValueError: if an argument breaks a rule.
    """
    pixel_format = _check_flows(flows)
    check_images_of(next(iter(flows.values())), images_a=images_a, images_b=images_b)
    if len(images_a) != len(images_b):
        raise ValueError(
            f"`images_b` must hold {len(images_a)} images as `images_a`, got {len(images_b)}."
        )
    check_at_least(2, num=num)
    x_a, x_b = pixel_format.midpoints(images_a), pixel_format.midpoints(images_b)
    strips = []
    for name, flow in flows.items():
        x = interpolate(flow, x_a, x_b, np.linspace(0, 1, num))
        x = tf.reshape(x, [-1, *flow.event_shape])
        strips.append(Strip(name, pixel_format.quantize(x).numpy(), _note(x)))
    title = "From one image of the data to another, through all latents"
    return draw_strips([Section(title, strips, group=num)], model_colours(flows))


def nearest_training_images(
    flows: Mapping[str, Flow],
    images_train: np.ndarray,
    *,
    temperature: float = 0.7,
    num_samples: int = 16,
    seed: int = 0,
) -> Figure:
    """Draws samples of each model above the training images that are nearest to them.

    Nearest is by the root mean square of the differences of bytes, which the notes give too. A
    model that repeats its training data has distances near 0.

    Args:
      flows: flows of images, all of one shape and pixel format, by name.
      images_train: uint8 `[n, h, w, C]`; a memory-mapped array is read block by block.
      temperature: standard deviation of the latents.
      num_samples: number of samples of each model.
      seed: equal seeds give equal latents, the same for all models.

    Raises:
      ValueError: if an argument breaks a rule.
    """
    pixel_format = _check_flows(flows)
    check_images_of(next(iter(flows.values())), images_train=images_train)
    check_temperature(temperature=temperature)
    z = temperature * _latents(flows, num_samples, seed)
    samples = [_strip(name, flow, z) for name, flow in flows.items()]
    images = np.concatenate([strip.images for strip in samples])
    nearest, distances = _nearest(images, images_train, pixel_format)
    title = (
        f"T = {temperature:g}, each above the nearest of {len(images_train):,} training images "
        "(distance: root mean square, of 255)"
    )
    sections = []
    for index, strip in enumerate(samples):
        rows = slice(index * num_samples, (index + 1) * num_samples)
        note = f"median distance {np.median(distances[rows]):.3g}"
        strips = [strip, Strip("nearest", nearest[rows], note)]
        sections.append(Section("" if index else title, strips))
    return draw_strips(sections, model_colours(flows))


def _nearest(
    images: np.ndarray, images_train: np.ndarray, pixel_format: PixelFormat
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the training images nearest to images, as models see them, and the distances."""
    queries = images.reshape(len(images), -1).astype(np.float64)  # Exact: sums are below 2^53.
    squares = np.sum(queries**2, axis=1)
    best = np.full(len(images), np.inf)
    nearest = np.zeros_like(images)
    for start in range(0, len(images_train), _ROWS_PER_BLOCK):
        block = np.asarray(images_train[start : start + _ROWS_PER_BLOCK])
        block = pixel_format.quantize(pixel_format.midpoints(block)).numpy()
        rows = block.reshape(len(block), -1).astype(np.float64)
        distances = squares[:, None] - 2 * queries @ rows.T + np.sum(rows**2, axis=1)
        winners = np.argmin(distances, axis=1)
        values = distances[np.arange(len(images)), winners]
        closer = values < best
        best[closer], nearest[closer] = values[closer], block[winners[closer]]
    return nearest, np.sqrt(best / queries.shape[1])


def check_temperature(**values: float) -> None:
    """Raises `ValueError` unless every value is a finite number that is not negative."""
    for name, value in values.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"`{name}` must be finite and not negative, got {value!r}.")


def _latents(flows: Mapping[str, Flow], num_samples: int, seed: int) -> np.ndarray:
    """Returns standard normal latents `[num_samples, D]`, drawn as `Flow.sample` does."""
    check_at_least(1, num_samples=num_samples)
    check_at_least(0, seed=seed)
    dims = next(iter(flows.values())).latent_dims
    return sample_latents(num_samples, dims, seed).numpy()


def _strip(name: str, flow: Flow, z: np.ndarray) -> Strip:
    """Returns the images of latents `[n, D]`, and says how many of them are not finite."""
    x = flow.to_data(z)
    return Strip(name, pixel_format_of(flow).quantize(x).numpy(), _note(x))


def _note(x: tf.Tensor, note: str = "") -> str:
    """Adds to a note how many images `[n, H, W, C]` have black pixels that are not finite."""
    number = np.count_nonzero(~np.isfinite(x).all(axis=(1, 2, 3)))
    return ", ".join(filter(None, (note, f"{number:,} not finite" if number else "")))


def _check_flows(flows: Mapping[str, Flow]) -> PixelFormat:
    """Checks that flows can be compared, and returns the pixel format that they have in common."""
    if not flows:
        raise ValueError("`flows` must hold at least one flow, got none.")
    first = next(iter(flows))
    expected = flows[first].config
    for name, flow in flows.items():
        config = flow.config
        if not config.domain.is_images:
            raise ValueError(
                f"`flows` must be flows of images, got {name!r} of shape {config.event_shape}."
            )
        for what in ("event_shape", "pixel_format"):
            if getattr(config, what) != getattr(expected, what):
                raise ValueError(
                    f"`flows` must have the `{what}` of {first!r}, {getattr(expected, what)}, "
                    f"got {getattr(config, what)} of {name!r}."
                )
    return pixel_format_of(flows[first])


def pixel_format_of(flow: Flow) -> PixelFormat:
    """Returns the pixel format of a flow of images, and raises `ValueError` for another flow."""
    domain = flow.config.domain
    if not isinstance(domain, ImageDomain):
        raise ValueError(f"`flow` must be a flow of images, got shape {flow.event_shape}.")
    return domain.pixel_format


def check_images_of(flow: Flow, *, minimum: int = 1, **arrays: np.ndarray) -> None:
    """Raises `ValueError` unless every array holds images of a flow, and that many."""
    shape = pixel_format_of(flow).image_shape(flow.event_shape)
    for name, images in arrays.items():
        if images.dtype != np.uint8 or tuple(images.shape[1:]) != shape or len(images) < minimum:
            raise ValueError(
                f"`{name}` must be uint8 of shape {('n', *shape)}, n at least {minimum}, got "
                f"{images.dtype} of shape {tuple(images.shape)}."
            )


def _check_temperatures(temperatures: Sequence[float]) -> None:
    if len(temperatures) < 1:
        raise ValueError("`temperatures` must hold at least one number, got none.")
    for temperature in temperatures:
        check_temperature(temperatures=temperature)
