"""Images that a flow makes, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from tfp_distill.compiling import compiled, xla_pays
from tfp_distill.evaluation.figures.pictures import (
    check_images_of,
    check_temperature,
    pixel_format_of,
)
from tfp_distill.evaluation.likelihood import evaluation_batch_size
from tfp_distill.flows import Flow, interpolate_latents
from tfp_distill.flows.config import check_at_least
from tfp_distill.training import StepRandom

__all__ = ["ImageStream", "interpolated_images", "sampled_images"]

_LATENTS_A_DRAW = 64


class ImageStream(Iterator[np.ndarray]):
    """Images that a flow makes, uint8 `[b, h, w, C]`, and how many of them are none.

    What is not a number has no byte: it becomes black, and nothing that looks at bytes sees it.

    Args:
      batches: yields images, and which of them were made of finite numbers, bool `[b]`.
    """

    def __init__(self, batches: Iterator[tuple[np.ndarray, np.ndarray]]) -> None:
        self._batches = batches
        self._num_non_finite = 0

    @property
    def num_non_finite(self) -> int:
        """Number of images so far with a value that is not finite."""
        return self._num_non_finite

    def __next__(self) -> np.ndarray:
        images, finite = next(self._batches)
        self._num_non_finite += int(np.count_nonzero(~finite))
        return images


def sampled_images(
    flow: Flow, n: int, *, temperature: float = 1.0, seed: int = 0, batch_size: int | None = None
) -> ImageStream:
    """Yields samples of a flow as bytes.

    Sample i is a function of flow, temperature, seed and i: more samples start with the same ones,
    and batches of another size hold the same (but for rounding, which may move single bytes by 1).

    Args:
      flow: a flow of images.
      n: number of samples.
      temperature: standard deviation of the latents; 1 samples from the model.
      seed: equal seeds give equal samples.
      batch_size: number of samples computed at once; `evaluation_batch_size(flow)` by default.

    Returns:
      An iterator of uint8 `[b, h, w, C]`, without padding; `n` images in all. Its `num_non_finite`
      counts those with a value that is not finite.

    Raises:
      ValueError: if an argument breaks a rule; before the first batch is asked for.
    """
    pixel_format_of(flow)
    check_at_least(1, n=n)
    check_at_least(0, seed=seed)
    check_temperature(temperature=temperature)

    def decode(z: tf.Tensor) -> tf.Tensor:
        return flow.to_data(temperature * z)

    def arguments(start: int, stop: int) -> list[np.ndarray]:
        first = start - start % _LATENTS_A_DRAW
        draws = [
            StepRandom(seed, place // _LATENTS_A_DRAW, stream="samples in batches")
            .normal(_LATENTS_A_DRAW, flow.latent_dims, flow.compute_dtype)
            .numpy()
            for place in range(first, stop, _LATENTS_A_DRAW)
        ]
        return [np.concatenate(draws)[start - first : stop - first]]

    return _stream(flow, decode, arguments, n, batch_size)


def interpolated_images(
    flow: Flow,
    images: np.ndarray,
    n: int,
    *,
    alpha: float = 0.5,
    temperature: float = 1.0,
    seed: int = 0,
    batch_size: int | None = None,
) -> ImageStream:
    """Yields what is between two random images in the latent space of a flow, as bytes.

        x = to_data(temperature * interpolate_latents(to_latent(u), to_latent(v), alpha))

    for pairs of different images u and v, without noise. Their quality shows whether the latent
    space between data is in order, which samples and likelihood need not show (Walton et al., 2023,
    "Distilling Normalizing Flows", equation 16 and table 6; the paper does not say which alphas the
    table is of, nor where the temperature enters: here it scales the latents, as in sampling).

    Args:
      flow: a flow of images.
      images: uint8 `[m, h, w, C]`, at least 2, for instance all test images.
      n: number of pairs.
      alpha: place between u, 0, and v, 1.
      temperature: factor of the interpolated latents.
      seed: equal seeds give equal pairs, whatever the flow.
      batch_size: number of pairs computed at once; `evaluation_batch_size(flow)` by default.

    Returns:
      An iterator of uint8 `[b, h, w, C]`; `n` images in all, as of `sampled_images`.

    Raises:
      ValueError: if an argument breaks a rule; before the first batch is asked for.
    """
    pixel_format = pixel_format_of(flow)
    check_images_of(flow, images=images, minimum=2)
    check_at_least(1, n=n)
    check_at_least(0, seed=seed)
    check_temperature(temperature=temperature)
    if not 0 <= alpha <= 1:
        raise ValueError(f"`alpha` must be a number in [0, 1], got {alpha!r}.")
    random = np.random.default_rng(seed)
    first = random.integers(len(images), size=n)
    second = (first + random.integers(1, len(images), size=n)) % len(images)

    def interpolate(u: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
        z_u, z_v = (flow.to_latent(pixel_format.midpoints(pixels)) for pixels in (u, v))
        z = interpolate_latents(z_u, z_v, tf.constant([alpha], z_u.dtype))[:, 0]
        return flow.to_data(temperature * z)

    def arguments(start: int, stop: int) -> list[np.ndarray]:
        return [images[first[start:stop]], images[second[start:stop]]]

    return _stream(flow, interpolate, arguments, n, batch_size)


def _stream(
    flow: Flow,
    function: Callable[..., tf.Tensor],
    arguments: Callable[[int, int], list[np.ndarray]],
    n: int,
    batch_size: int | None,
) -> ImageStream:
    """Returns the images that `function` makes of the arguments of images `start` to `stop - 1`."""
    batch_size = evaluation_batch_size(flow) if batch_size is None else batch_size
    check_at_least(1, batch_size=batch_size)
    batch_size = min(batch_size, n)

    pixel_format = pixel_format_of(flow)

    def decode(*parts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        x = function(*parts)
        finite = tf.reduce_all(tf.math.is_finite(x), axis=[1, 2, 3])
        return pixel_format.quantize(x), finite

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        run = None
        for start in range(0, n, batch_size):
            # The last batch is filled up with images that are not asked for, and cut.
            rows = min(batch_size, n - start)
            parts = [_filled_up(part, batch_size) for part in arguments(start, start + rows)]
            run = run or compiled(decode, *parts, jit_compile=xla_pays(flow.suits_xla))
            images, finite = run(*parts)
            yield images.numpy()[:rows], finite.numpy()[:rows]

    return ImageStream(batches())


def _filled_up(array: np.ndarray, rows: int) -> tf.Tensor:
    missing = rows - len(array)
    return tf.constant(np.concatenate([array, array[:1].repeat(missing, axis=0)]))
