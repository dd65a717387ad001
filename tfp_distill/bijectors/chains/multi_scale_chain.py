"""A chain over several resolutions, whose latent is one flat vector."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import tensorflow as tf

from tfp_distill.bijectors.chains.trace import (
    Segment,
    Trace,
    Visit,
    standard_normal_log_prob,
)
from tfp_distill.bijectors.chains.traced_chain import (
    Initializer,
    TracedChain,
    initialize_bijector,
)
from tfp_distill.bijectors.keras_bijector import KerasBijector
from tfp_distill.bijectors.squeeze import depth_to_space, space_to_depth

__all__ = ["MultiScaleChain"]


def _normalize(bijector: KerasBijector, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return bijector.inverse_and_ildj(x)


class MultiScaleChain(TracedChain):
    """Levels of steps over images; each but the last factors out half of its channels.

        x -> first -> squeeze -> steps -> split -> squeeze -> steps -> ... -> h
                                          split -> out_1

    In the normalizing direction, a level squeezes `[H, W, C]` to `[H/2, W/2, 4C]`, runs its steps
    and splits the channels: the first half goes on, the second half is finished (Dinh,
    Sohl-Dickstein and Bengio, 2017, arXiv:1605.08803, section 3.6). What is split off should be
    whitened by a `FactorOut`, as the last bijector of the level's last step.

    A latent, the final z as well as those of a trace, is *one* vector of all H*W*C dimensions, what
    was factored out included, in the order of pixels: `reshape(z, [H, W, C])` shows every latent at
    the place in the image that it comes from. Latents of flows with different numbers of levels
    therefore match in space. To arrange a latent so,

        z = h;  for out in (out_l, ..., out_1):  z = concat(unsqueeze(z), out);  z = unsqueeze(z)

    is a copy, but no part of the computation: the steps see only what is still in the flow, and
    values that left it are not touched again. `inverse_and_ildj` arranges the final latent only;
    `trace` arranges one latent a step, which in a compiled function is dead code, and is removed,
    unless something uses it.

    Args:
      first: bijector of the images before the first level, such as `Standardize`.
      levels: for each level its steps, from the data's end on.
      image_shape: `(H, W, C)`; H and W are divisible by 2^levels.
      name: name of the bijector.

    Raises:
      ValueError: if a level is empty, a bijector is no image's or conditional, or the image cannot
        be halved that often.
    """

    def __init__(
        self,
        first: KerasBijector,
        levels: Sequence[Sequence[KerasBijector]],
        *,
        image_shape: tuple[int, int, int],
        name: str = "multi_scale_chain",
    ) -> None:
        if not levels or not all(levels):
            raise ValueError(
                "`levels` must hold at least one level with at least one step each, got "
                f"{[len(level) for level in levels]} steps."
            )
        bijectors = [first, *itertools.chain.from_iterable(levels)]
        for bijector in bijectors:
            if bijector.event_ndims != 3 or bijector.conditional:
                raise ValueError(
                    f"`levels` must hold bijectors of images without condition, got "
                    f"{bijector.name!r}."
                )
        if any(size % 2 ** len(levels) for size in image_shape[:2]):
            raise ValueError(
                f"`image_shape` must have a height and width divisible by {2 ** len(levels)} for "
                f"{len(levels)} levels, got {tuple(image_shape)}."
            )
        self._image_shape = tuple(image_shape)
        self._level_ends = tuple(itertools.accumulate(len(level) for level in levels))
        super().__init__(bijectors, event_ndims=3, latent_ndims=1, name=name)

    @property
    def reversible(self) -> bool:
        """No: its bijectors are, each by itself."""
        return False

    @property
    def level_ends(self) -> tuple[int, ...]:
        """Indices of the bijectors that are the last of their level."""
        return self._level_ends

    def trace(
        self,
        x: tf.Tensor,
        condition: tf.Tensor | None = None,
        *,
        stop_gradient_after: Collection[int] = (),
        until: int | None = None,
    ) -> Trace:
        """Runs the normalizing direction once and keeps every intermediate latent.

        Args:
          x: images `[batch, H, W, C]`.
          condition: None; an image flow takes no condition.
          stop_gradient_after: as for `TracedChain`. A stop holds for the whole state: for the image
            that goes on and for everything that was factored out up to there.
          until: index of the last bijector that runs; by default all do.

        Returns:
          A `Trace` with one latent `[batch, H*W*C]` and one log-determinant per bijector that ran.
        """
        latents, ildjs = [], []
        walk = self._walk(x, condition, stop_gradient_after, last=until)
        for image, factored_out, ildj in walk:
            latents.append(self._arrange(image, factored_out))
            ildjs.append(ildj)
        return Trace(tuple(latents), tuple(ildjs))

    def generative_trace(
        self, z: tf.Tensor, condition: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, Trace]:
        """Runs the generative direction once, as `TracedChain`; latents are as those of `trace`."""
        _check_no_condition(condition)
        x = tf.reshape(z, tf.concat([tf.shape(z)[:-1], self._image_shape], axis=0))
        x = tf.ensure_shape(x, z.shape[:-1] + self._image_shape)
        factored_out: list[tf.Tensor] = []
        for _ in self._level_ends[:-1]:
            x, out = tf.split(space_to_depth(x), 2, axis=-1)
            factored_out.append(out)
        x = space_to_depth(x)
        latents, ildjs = [], []
        for index in range(len(self._bijectors) - 1, -1, -1):
            if index in (0, *self._level_ends[:-1]):
                x = depth_to_space(x)
                if index > 0:
                    x = tf.concat([x, factored_out.pop()], axis=-1)
            latents.append(self._arrange(x, factored_out))
            x, fldj = self._bijectors[index].forward_and_fldj(x)
            ildjs.append(-fldj)
        return x, Trace(tuple(reversed(latents)), tuple(reversed(ildjs)))

    def walk(self, x: tf.Tensor, condition: tf.Tensor | None = None) -> Iterator[Visit]:
        """Visits every bijector once, as `TracedChain`; what arrives are squeezed images."""

        def run(bijector: KerasBijector, image: tf.Tensor) -> tuple[tf.Tensor, Visit]:
            z, ildj = bijector.inverse_and_ildj(image)
            return z, Visit(bijector, image, z, ildj)

        for *_, visit in self._walk(x, condition, run=run):
            yield visit

    def segment(
        self, first: int, last: int, state: tf.Tensor, condition: tf.Tensor | None = None
    ) -> Segment:
        """Runs the bijectors first to last only, as `TracedChain`; states are images."""
        walked = list(self._walk(state, condition, first=first, last=last))
        state, factored_out, _ = walked[-1]
        if last in self._level_ends[:-1]:
            state, out = tf.split(state, 2, axis=-1)
            factored_out += (out,)
        log_probs = [standard_normal_log_prob(_flat(out)) for out in factored_out]
        return Segment(state, tf.add_n([*(ildj for *_, ildj in walked), *log_probs]))

    def arriving_shapes(self, event_shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """Returns the shape of the image as it arrives, squeezed, at each bijector."""
        height, width, channels = event_shape
        shapes = [(height, width, channels)]
        for index in range(len(self._bijectors) - 1):
            if index in self._level_ends[:-1]:
                channels = channels // 2
            if index in (0, *self._level_ends[:-1]):
                height, width, channels = height // 2, width // 2, 4 * channels
            shapes.append((height, width, channels))
        return tuple(shapes)

    def initialize(
        self,
        x: tf.Tensor,
        condition: tf.Tensor | None = None,
        *,
        initialize: Initializer = initialize_bijector,
    ) -> tf.Tensor:
        """Initialises every bijector from the images as they arrive there, as `TracedChain`."""

        def run(bijector: KerasBijector, image: tf.Tensor) -> tuple[tf.Tensor, None]:
            return initialize(bijector, image, None), None

        for image, factored_out, _ in self._walk(x, condition, run=run):  # noqa: B007
            pass
        return self._arrange(image, factored_out)

    def image_at(self, index: int, latent: tf.Tensor) -> tf.Tensor:
        """Returns the part of a latent that is in the flow after the bijector of an index.

        The inverse of the arrangement in a trace, for the image that goes on: for the latents of
        other flows too, which it makes comparable with what the steps of this one see.

        Args:
          index: index of a bijector.
          latent: `[batch, H*W*C]`, in the order of pixels.

        Returns:
          The image `[batch, h, w, c]`, of the level of that bijector.
        """
        image = tf.reshape(latent, tf.concat([tf.shape(latent)[:-1], self._image_shape], axis=0))
        for end in (0, *self._level_ends[:-1]):
            if index <= end:
                break
            if end:
                image = tf.split(image, 2, axis=-1)[0]
            image = space_to_depth(image)
        return image

    def _inverse_and_ildj(self, x, condition):
        ildjs = []
        for image, factored_out, ildj in self._walk(x, condition):  # noqa: B007
            ildjs.append(ildj)
        return self._arrange(image, factored_out), tf.add_n(ildjs)

    def _walk(
        self,
        x: tf.Tensor,
        condition: tf.Tensor | None,
        stop_gradient_after: Collection[int] = (),
        run: Callable[[KerasBijector, tf.Tensor], tuple[tf.Tensor, Any]] = _normalize,
        first: int = 0,
        last: int | None = None,
    ) -> Iterator[tuple[tf.Tensor, tuple[tf.Tensor, ...], Any]]:
        """Yields (image that goes on, what was factored out before, ildj) of each bijector."""
        _check_no_condition(condition)
        factored_out: tuple[tf.Tensor, ...] = ()
        indices = range(len(self._bijectors))
        for index in indices[first : None if last is None else last + 1]:
            bijector = self._bijectors[index]
            if index > 0 and index - 1 in (0, *self._level_ends):
                x = space_to_depth(x)
            x, ildj = run(bijector, x)
            yield x, factored_out, ildj
            if index in stop_gradient_after:
                x, *stopped = map(tf.stop_gradient, (x, *factored_out))
                factored_out = tuple(stopped)
            if index in self._level_ends[:-1]:
                x, out = tf.split(x, 2, axis=-1)
                factored_out += (out,)

    def _arrange(self, image: tf.Tensor, factored_out: Sequence[tf.Tensor]) -> tf.Tensor:
        """Arranges the state of the flow as a vector in the order of pixels."""
        for out in reversed(factored_out):
            image = tf.concat([depth_to_space(image), out], axis=-1)
        if image.shape[-1] != self._image_shape[-1]:  # After the first squeeze.
            image = depth_to_space(image)
        dims = math.prod(self._image_shape)
        return tf.reshape(image, tf.concat([tf.shape(image)[:-3], [dims]], axis=0))

    def _forward_event_shape(self, shape):
        return tf.TensorShape(self._image_shape)

    def _forward_event_shape_tensor(self, shape):
        return tf.constant(self._image_shape)

    def _inverse_event_shape(self, shape):
        return tf.TensorShape([math.prod(self._image_shape)])

    def _inverse_event_shape_tensor(self, shape):
        return tf.constant([math.prod(self._image_shape)])


def _flat(image: tf.Tensor) -> tf.Tensor:
    return tf.reshape(image, [tf.shape(image)[0], math.prod(image.shape[1:])])


def _check_no_condition(condition: tf.Tensor | None) -> None:
    if condition is not None:
        raise ValueError(
            "`condition` must be None: image flows take no condition, got one of shape "
            f"{condition.shape}."
        )
