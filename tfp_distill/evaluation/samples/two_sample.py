"""Whether a classifier can tell samples from data."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from tfp_distill.arrays import Array

__all__ = ["TwoSampleTest", "two_sample_auc"]

_HIDDEN_UNITS = 64
_EPOCHS = 10
_BATCH_SIZE = 200
_LARGEST_Z = 10.0


@dataclasses.dataclass(frozen=True)
class TwoSampleTest:
    """How well a classifier tells two sets of rows apart that it was not trained on.

    Attributes:
      auc: the area under its ROC curve: the probability that it ranks a row of b above one of a.
        0.5 where it cannot tell them apart, which need not mean that nothing could, 1 where it
        always can; less than 0.5 by chance alone.
      standard_error: of the area, for the classifier as it is.
      num_a: number of rows of a that it was tested on.
      num_b: number of rows of b.
    """

    auc: float
    standard_error: float
    num_a: int
    num_b: int


def two_sample_auc(a: Array, b: Array, *, seed: int = 0) -> TwoSampleTest:
    """Trains a small network to tell rows of a from rows of b, and tests it on other rows.

    Half of the rows of each, drawn at random, train a network of two hidden layers, and the other
    half test it (Lopez-Paz and Oquab, 2017, arXiv:1610.06545). With q1 = A / (2 - A) and
    q2 = 2 A^2 / (1 + A) the variance of the area A is

        (A (1 - A) + (n_b - 1) (q1 - A^2) + (n_a - 1) (q2 - A^2)) / (n_a n_b)

    (Hanley and McNeil, 1982). Values count up to 10 standard deviations of a; what is not a number
    counts as if it lay there.

    Args:
      a: rows `[n, D]`, for instance test data; at least 4, finite.
      b: rows `[m, D]`, for instance samples; at least 4.
      seed: equal seeds give equal halves and networks.

    Returns:
      The `TwoSampleTest`.

    Raises:
      ValueError: if a shape or value breaks these rules.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    for name, rows in (("a", a), ("b", b)):
        if rows.ndim != 2 or len(rows) < 4 or rows.shape[1:] != a.shape[1:]:
            dims = a.shape[1] if a.ndim == 2 else "D"
            raise ValueError(
                f"`{name}` must have shape ('n', {dims}) with at least 4 rows, got {rows.shape}."
            )
    if not np.all(np.isfinite(a)):
        raise ValueError("`a` must be finite, got values that are not.")
    if seed < 0:
        raise ValueError(f"`seed` must be at least 0, got {seed}.")
    generator = np.random.default_rng(seed)
    mean, scale = a.mean(axis=0), a.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    train, test = zip(*(_halves((rows - mean) / scale, generator) for rows in (a, b)), strict=True)
    network = _trained(train[0], train[1], seed)
    of_a, of_b = (network.predict(rows, batch_size=10_000, verbose=0)[:, 0] for rows in test)
    return _area(of_a, of_b)


def _halves(z: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    z = np.nan_to_num(z, nan=_LARGEST_Z, posinf=_LARGEST_Z, neginf=-_LARGEST_Z)
    z = np.clip(z, -_LARGEST_Z, _LARGEST_Z).astype(np.float32)
    z = z[generator.permutation(len(z))]
    return z[: len(z) // 2], z[len(z) // 2 :]


def _trained(a: np.ndarray, b: np.ndarray, seed: int) -> keras.Model:
    def dense(units: int, place: int, activation: str | None = "relu") -> keras.layers.Dense:
        initializer = keras.initializers.GlorotUniform(seed=3 * seed + place)
        return keras.layers.Dense(units, activation, kernel_initializer=initializer)

    network = keras.Sequential(
        [
            keras.Input([a.shape[1]]),
            dense(_HIDDEN_UNITS, 0),
            dense(_HIDDEN_UNITS, 1),
            dense(1, 2, activation=None),
        ]
    )
    x = np.concatenate([a, b])
    labels = np.concatenate([np.zeros(len(a)), np.ones(len(b))]).astype(np.float32)[:, np.newaxis]
    # So that neither side weighs more, whatever their numbers.
    weights = np.where(labels == 0, 0.5 / len(a), 0.5 / len(b)) * len(x)
    rows = tf.data.Dataset.from_tensor_slices((x, labels, weights.astype(np.float32)))
    batches = rows.shuffle(len(x), seed=seed).batch(_BATCH_SIZE)
    network.compile(
        keras.optimizers.Adam(2e-3),
        keras.losses.BinaryCrossentropy(from_logits=True),
        steps_per_execution=10,
        jit_compile=False,  # It would take longer to compile than to train.
    )
    network.fit(batches, epochs=_EPOCHS, shuffle=False, verbose=0)
    return network


def _area(a: np.ndarray, b: np.ndarray) -> TwoSampleTest:
    """Returns the area of scores, ties counting half, with its error."""
    num_a, num_b = len(a), len(b)
    _, places, counts = np.unique(np.concatenate([a, b]), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    area = (ranks[num_a:].sum() - num_b * (num_b + 1) / 2) / (num_a * num_b)
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (num_b - 1) * (q1 - area**2) + (num_a - 1) * (q2 - area**2)
    return TwoSampleTest(
        float(area), float(np.sqrt(max(variance, 0.0) / (num_a * num_b))), num_a, num_b
    )
