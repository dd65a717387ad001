"""Features of images, by a Keras model that is good at seeing."""

from __future__ import annotations

import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_distill.arrays import Array
from tfp_distill.compiling import compiled
from tfp_distill.evaluation.images.fingerprints import model_fingerprint
from tfp_distill.flows.config import check_at_least

__all__ = ["FeatureExtractor", "check_images"]

# Part of every fingerprint. Whoever changes `FeatureExtractor._features` changes this too.
_PREPROCESSING = "uint8 to float32, bilinear antialiased resize, grey repeated to RGB; version 1"


class FeatureExtractor:
    """Turns images into vectors whose distances mean more than those of pixels.

    Images are resized to the size that the model takes, once: from bytes, antialiased, bilinear,
    and not rounded. Resizing without antialiasing, or twice, or through files, shifts Fréchet
    distances by more than models differ (Parmar, Zhang and Zhu, 2022, arXiv:2104.11222).

    Example:
        extractor = FeatureExtractor.load("features.keras")
        extractor(images)                          # float32 [n, extractor.num_features]

    Args:
      model: takes RGB images of numbers in 0 ... 255, shape `[n, H, W, 3]` with fixed H and W, and
        returns features `[n, F]`. A model that wants another scale starts with a `Rescaling`.
      name: what results call it.
      batch_size: number of images computed at once.

    Raises:
      ValueError: if the model takes or returns something else, or `batch_size` is less than 1.
    """

    def __init__(self, model: keras.Model, *, name: str, batch_size: int = 32) -> None:
        check_at_least(1, batch_size=batch_size)
        _check_model(model, name)
        self.name = name
        self.batch_size = batch_size
        self._model = model
        self._functions: dict[tuple[int, ...], Callable[[tf.Tensor], tf.Tensor]] = {}

    @classmethod
    def inception(cls, *, batch_size: int = 32) -> FeatureExtractor:
        """Returns the 2048 pooled features of InceptionV3, with the ImageNet weights of Keras.

        Keras downloads the weights when they are first asked for, and keeps them. They are not
        those that published Fréchet Inception distances use (a network of TensorFlow from 2015):
        distances under the two differ, so compare only what this library measured.

        Args:
          batch_size: number of images computed at once.

        Raises:
          OSError: if the weights cannot be downloaded or read.
        """
        shape = (299, 299, 3)
        try:
            network = keras.applications.InceptionV3(
                include_top=False, weights="imagenet", input_shape=shape, pooling="avg"
            )
        except Exception as error:  # Keras raises this very class where a download fails.
            raise OSError(
                "The ImageNet weights of InceptionV3 must be downloaded once, which failed "
                f"({error}). Without a network use a model file: FeatureExtractor.load(path)."
            ) from error
        images = keras.Input(shape)
        scaled = keras.layers.Rescaling(1 / 127.5, offset=-1)(images)
        model = keras.Model(images, network(scaled))
        return cls(model, name="keras_inception_v3", batch_size=batch_size)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, batch_size: int = 32) -> FeatureExtractor:
        """Returns the extractor of a model that was saved with `model.save("NAME.keras")`.

        Args:
          path: the `.keras` file; its name is the extractor's.
          batch_size: number of images computed at once.

        Raises:
          ValueError: if the file holds no model, or one that is no feature extractor.
        """
        path = pathlib.Path(path)
        if path.suffix != ".keras" or not path.is_file():
            raise ValueError(f"`path` must be an existing .keras file, got {str(path)!r}.")
        try:
            model = keras.saving.load_model(path, compile=False)
        except Exception as error:  # of many kinds: of zip files, JSON, HDF5, layers
            raise ValueError(
                f"`path` must hold a model that Keras can load, got {str(path)!r} "
                f"({type(error).__name__}: {error})."
            ) from error
        return cls(model, name=path.stem, batch_size=batch_size)

    @property
    def num_features(self) -> int:
        """Number F of features of an image."""
        return self._model.output_shape[-1]

    @functools.cached_property
    def fingerprint(self) -> str:
        """64 hexadecimal digits, others where features may be others.

        They depend on architecture and weights of the model and on what is done to the images
        before, and not on names or on `batch_size`.
        """
        return model_fingerprint(self._model, salt=_PREPROCESSING)

    def __call__(self, images: Array) -> np.ndarray:
        """Computes the features of images.

        Args:
          images: uint8 `[n, h, w, C]`, n at least 1, with C = 3 for RGB or 1 for grey.

        Returns:
          float32 `[n, F]`.

        Raises:
          ValueError: if `images` are something else.
        """
        check_images(images=images)
        parts = []
        for start in range(0, len(images), self.batch_size):
            batch = np.asarray(images[start : start + self.batch_size])
            missing = self.batch_size - len(batch)  # batches of one shape: compiled once
            batch = tf.constant(np.pad(batch, [(0, missing), (0, 0), (0, 0), (0, 0)]))
            if batch.shape not in self._functions:
                # XLA slows convolutions on a CPU down.
                function = compiled(self._features, batch, jit_compile=False)
                self._functions[tuple(batch.shape)] = function
            features = self._functions[tuple(batch.shape)](batch)
            parts.append(features.numpy()[: self.batch_size - missing])
        return np.concatenate(parts)

    def _features(self, images: tf.Tensor) -> tf.Tensor:
        size = self._model.input_shape[1:3]
        x = tf.image.resize(tf.cast(images, tf.float32), size, method="bilinear", antialias=True)
        x = tf.repeat(x, 3, axis=-1) if images.shape[-1] == 1 else x
        return tf.cast(self._model(x, training=False), tf.float32)


def check_images(*, minimum: int = 1, **arrays: Array) -> None:
    """Raises `ValueError` unless every array holds RGB or grey images as bytes.

    Args:
      minimum: least number of images.
      **arrays: the arrays, by the name that the error gives them.
    """
    for name, images in arrays.items():
        shape, dtype = tuple(np.shape(images)), getattr(images, "dtype", type(images).__name__)
        if dtype != np.uint8 or len(shape) != 4 or shape[-1] not in (1, 3) or 0 in shape[1:]:
            raise ValueError(
                f"`{name}` must be uint8 of shape ('n', 'height', 'width', 1 or 3), got {dtype} "
                f"of shape {shape}."
            )
        if len(images) < minimum:
            raise ValueError(
                f"`{name}` must hold at least {minimum} image{'s' * (minimum > 1)}, got "
                f"{len(images)}."
            )


def _check_model(model: keras.Model, name: str) -> None:
    taken: Any = getattr(model, "input_shape", None)
    returned: Any = getattr(model, "output_shape", None)
    is_image = isinstance(taken, tuple) and len(taken) == 4 and taken[0] is None
    if not (is_image and taken[3] == 3 and all(isinstance(size, int) for size in taken[1:3])):
        raise ValueError(
            "`model` must take RGB images of one size, of shape (None, height, width, 3), got "
            f"{taken} of {name!r}."
        )
    is_vector = isinstance(returned, tuple) and len(returned) == 2
    if not (is_vector and isinstance(returned[1], int)):
        raise ValueError(
            "`model` must return a vector of features for each image, of shape (None, features), "
            f"got {returned} of {name!r}."
        )
