"""Feature extractors that are small enough for tests."""

from __future__ import annotations

import keras
import numpy as np

from tfp_distill.evaluation import FeatureExtractor


def pixels_model(size: int) -> keras.Model:
    """A model whose features are the pixels of an image."""
    images = keras.Input([size, size, 3])
    return keras.Model(images, keras.layers.Flatten()(images))


def linear_model(
    num_features: int = 5, *, size: int = 4, seed: int = 0, activation: str = "linear"
) -> keras.Model:
    """A model whose features are random weighted sums of pixels."""
    images = keras.Input([size, size, 3])
    random = np.random.default_rng(seed)
    layer = keras.layers.Dense(num_features, activation=activation)
    model = keras.Model(images, layer(keras.layers.Flatten()(images)))
    layer.set_weights([random.normal(size=weight.shape) for weight in layer.weights])
    return model


class CountingExtractor(FeatureExtractor):
    """Notes how many images each call is for."""

    def __init__(self, model: keras.Model, *, name: str = "linear", batch_size: int = 4) -> None:
        super().__init__(model, name=name, batch_size=batch_size)
        self.calls: list[int] = []

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Computes the features of images."""
        self.calls.append(len(images))
        return super().__call__(images)


def random_images(num: int, *, size: int = 4, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Images of noise."""
    shape = (num, size, size, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
