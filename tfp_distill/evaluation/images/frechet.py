"""The Fréchet distance between two sets of images."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import scipy.linalg

from tfp_distill.evaluation.images.feature_statistics import FeatureStatistics

__all__ = ["FrechetDistance", "check_comparable", "frechet_distance"]

_EXTRACTOR = "{0.extractor!r} ({0.extractor_fingerprint:.12})"
# What distances to be compared have in common: rule, attribute, and how a distance has it.
_COMMON = (
    ("one feature extractor", "extractor_fingerprint", _EXTRACTOR),
    (
        "the same reference images",
        "reference_fingerprint",
        "{0.num_reference:,} images ({0.reference_fingerprint:.12})",
    ),
    ("equally many samples", "num_samples", "{0.num_samples:,}"),
)


@dataclasses.dataclass(frozen=True)
class FrechetDistance:
    """A Fréchet distance, with what it must have in common with another to be compared with it.

    `a < b` is true where a is nearer to the reference, and `a - b` is the difference of the values;
    both refuse distances that measure different things. Fewer samples make the distance larger,
    whatever their quality (Chong and Forsyth, 2020, arXiv:1911.07023), and each extractor has a
    scale of its own.

    Attributes:
      value: the (squared) distance, 0 or more; in units of the features squared. nan where some
        images are not finite: their bytes are black, which is not what the model made.
      num_samples: number of samples.
      num_reference: number of reference images.
      extractor: name of the feature extractor.
      extractor_fingerprint: of its architecture, weights and preprocessing.
      reference_fingerprint: of the reference images.
      num_non_finite: number of images, of both sets, with a value that is not finite.
    """

    value: float
    num_samples: int
    num_reference: int
    extractor: str
    extractor_fingerprint: str
    reference_fingerprint: str
    num_non_finite: int = 0

    def __str__(self) -> str:
        """The value and what it depends on."""
        samples = f"{self.num_samples:,} samples"
        if self.num_non_finite:
            samples += f", {self.num_non_finite:,} not finite"
        return f"{self.value:.2f} ({samples}, {self.extractor})"

    def __lt__(self, other: FrechetDistance) -> bool:
        if not isinstance(other, FrechetDistance):
            return NotImplemented
        check_comparable(self, other)
        return self.value < other.value

    def __sub__(self, other: FrechetDistance) -> float:
        if not isinstance(other, FrechetDistance):
            return NotImplemented
        check_comparable(self, other)
        return self.value - other.value


def check_comparable(*distances: FrechetDistance) -> None:
    """Checks that distances measure the same thing, so that the smallest one is the best.

    Args:
      *distances: any number of them.

    Raises:
      ValueError: if extractors, reference images or numbers of samples differ.
    """
    for one, other in itertools.pairwise(distances):
        for rule, attribute, text in _COMMON:
            if getattr(one, attribute) != getattr(other, attribute):
                raise ValueError(
                    f"Fréchet distances must have {rule} to be compared, got {text.format(one)} "
                    f"and {text.format(other)}."
                )


def frechet_distance(reference: FeatureStatistics, samples: FeatureStatistics) -> FrechetDistance:
    """Computes the Fréchet distance between Gaussians with the moments of two sets of features.

        value = |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))

    (Dowson and Landau, 1982; for generative models Heusel et al., 2017, arXiv:1706.08500,
    equation 6). No root of the product, which is neither symmetric nor regular, is taken. With the
    symmetric roots R1 = C1^(1/2) and R2 = C2^(1/2),

        tr (C1 C2)^(1/2) = sum of the singular values of R1 R2,

    which is real, symmetric in its arguments, and as exact as the roots are where covariances are
    singular, as those of fewer images than features are.

    Args:
      reference: statistics of the data.
      samples: statistics of a model's samples.

    Returns:
      The `FrechetDistance`.

    Raises:
      ValueError: if the two are of different extractors or image shapes.
    """
    if reference.extractor_fingerprint != samples.extractor_fingerprint:
        raise ValueError(
            "`samples` must have the extractor of `reference`, "
            f"{_EXTRACTOR.format(reference)}, got {_EXTRACTOR.format(samples)}."
        )
    if reference.image_shape != samples.image_shape:
        raise ValueError(
            f"`samples` must be images of shape {reference.image_shape} as `reference`, got "
            f"{samples.image_shape}."
        )
    if reference.mean.shape != samples.mean.shape:
        raise ValueError(
            f"`samples` must have {len(reference.mean)} features as `reference`, got "
            f"{len(samples.mean)}."
        )
    num_non_finite = reference.num_non_finite + samples.num_non_finite
    value = (
        np.sum((reference.mean - samples.mean) ** 2)
        + np.trace(reference.covariance)
        + np.trace(samples.covariance)
        - 2 * _trace_of_root_of_product(reference.covariance, samples.covariance)
    )
    return FrechetDistance(
        # Rounding may leave -1e-15 of it.
        value=float("nan") if num_non_finite else max(0.0, float(value)),
        num_samples=samples.num_images,
        num_reference=reference.num_images,
        extractor=reference.extractor,
        extractor_fingerprint=reference.extractor_fingerprint,
        reference_fingerprint=reference.images_fingerprint,
        num_non_finite=num_non_finite,
    )


def _trace_of_root_of_product(a: np.ndarray, b: np.ndarray) -> float:
    (roots_a, vectors_a), (roots_b, vectors_b) = _root(a), _root(b)
    product = roots_a[:, np.newaxis] * (vectors_a.T @ vectors_b) * roots_b
    return float(np.sum(scipy.linalg.svdvals(product))) if product.size else 0.0


def _root(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns eigenvalues `[r]` and eigenvectors `[F, r]` of the root, in the covariance's range.

    Eigenvalues that rounding can make of a zero are left out: their roots would be far from zero.
    """
    values, vectors = scipy.linalg.eigh(covariance)
    kept = values > len(values) * np.finfo(np.float64).eps * np.max(np.abs(values))
    return np.sqrt(values[kept]), vectors[:, kept]
