"""A chain over several resolutions, whose latent is one flat vector."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfp_distill.bijectors.chains.trace import State, Trace
from tfp_distill.bijectors.chains.traced_chain import TracedChain
from tfp_distill.bijectors.keras_bijector import KerasBijector
from tfp_distill.bijectors.squeeze import depth_to_space, space_to_depth

__all__ = ["MultiScaleChain"]


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
        image = self._as_image(latent)
        for end in (0, *self._level_ends[:-1]):
            if index <= end:
                break
            if end:
                image = tf.split(image, 2, axis=-1)[0]
            image = space_to_depth(image)
        return image

    def map_condition(self, condition: tf.Tensor | None) -> None:
        """Image flows take no condition.

        Raises:
          ValueError: if there is one.
        """
        if condition is not None:
            raise ValueError(
                "`condition` must be None: image flows take no condition, got one of shape "
                f"{condition.shape}."
            )

    def generative_trace(
        self, z: tf.Tensor, condition: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, Trace]:
        """See `TracedChain`."""
        (z,), rows = _one_row_at_least(z)
        return _first(rows, super().generative_trace(z, condition))

    def _walk(self, state, condition, **options):
        (value, *out), rows = _one_row_at_least(state.value, *state.factored_out)
        for end in super()._walk(State(value, tuple(out)), condition, **options):
            yield _first(rows, end)

    def _arrive(self, index, value):
        return space_to_depth(value) if index - 1 in (0, *self._level_ends) else value

    def _depart(self, index, state):
        if index not in self._level_ends[:-1]:
            return state
        value, out = tf.split(state.value, 2, axis=-1)
        return state._replace(value=value, factored_out=(*state.factored_out, out))

    def _return(self, index, state):
        if index not in (0, *self._level_ends[:-1]):
            return state
        value = depth_to_space(state.value)
        if index == 0:
            return state._replace(value=value)
        *factored_out, out = state.factored_out
        value = tf.concat([value, out], axis=-1)
        return state._replace(value=value, factored_out=tuple(factored_out))

    def _arrange(self, state):
        """Arranges the state of the flow as a vector in the order of pixels."""
        image = state.value
        for out in reversed(state.factored_out):
            image = tf.concat([depth_to_space(image), out], axis=-1)
        if image.shape[-1] != self._image_shape[-1]:  # After the first squeeze.
            image = depth_to_space(image)
        dims = math.prod(self._image_shape)
        return tf.reshape(image, tf.concat([tf.shape(image)[:-3], [dims]], axis=0))

    def _disarrange(self, z):
        image = self._as_image(z)
        factored_out: list[tf.Tensor] = []
        for _ in self._level_ends[:-1]:
            image, out = tf.split(space_to_depth(image), 2, axis=-1)
            factored_out.append(out)
        return State(space_to_depth(image), tuple(factored_out))

    def _as_image(self, latent):
        shape = tf.concat([tf.shape(latent)[:-1], self._image_shape], axis=0)
        return tf.ensure_shape(tf.reshape(latent, shape), latent.shape[:-1] + self._image_shape)

    def _forward_event_shape(self, shape):
        return tf.TensorShape(self._image_shape)

    def _forward_event_shape_tensor(self, shape):
        return tf.constant(self._image_shape)

    def _inverse_event_shape(self, shape):
        return tf.TensorShape([math.prod(self._image_shape)])

    def _inverse_event_shape_tensor(self, shape):
        return tf.constant([math.prod(self._image_shape)])


def _one_row_at_least(*values: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor | None]:
    """Returns a batch with a row of zeros if it has none, and how many it has; None for "all".

    With oneDNN, in a graph, convolutions of no rows have the shape of the input (TensorFlow 2.21).
    """
    if values[0].shape[0]:
        return list(values), None
    rows = tf.shape(values[0])[0]

    def padded(value):
        row = tf.zeros([1, *value.shape[1:]], value.dtype)
        return tf.concat([value, row[tf.minimum(rows, 1) :]], axis=0)

    return list(map(padded, values)), rows


def _first(rows: tf.Tensor | None, results: Any) -> Any:
    """Returns the first rows of all tensors of a structure; all where `rows` is None."""
    if rows is None:
        return results
    return tf.nest.map_structure(lambda v: v[:rows] if tf.is_tensor(v) else v, results)
