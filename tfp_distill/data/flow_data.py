"""Data of a flow: rows or images, split, and what is known about them."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterator

import numpy as np

from tfp_distill.data.tables.look import ColumnLook
from tfp_distill.domains import CONTINUOUS_ROWS, Domain, Examples

__all__ = ["FlowData", "Statistics"]

_PARTS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True, eq=False)
class Statistics:
    """The mean and scale of columns.

    Attributes:
      mean: float32 `[D]`.
      scale: float32 `[D]`, positive.
    """

    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def of_rows(cls, rows: np.ndarray) -> Statistics:
        """Returns the mean and standard deviation of each column of rows `[n, D]`."""
        # Sums in float64, of one column at a time: no second copy of all rows.
        moments = [(column.mean(), column.std()) for column in _float64_columns(rows)]
        mean, scale = np.array(moments, np.float32).T
        return cls(np.ascontiguousarray(mean), np.ascontiguousarray(scale))

    @classmethod
    def identity(cls, num_columns: int) -> Statistics:
        """Returns mean 0 and scale 1."""
        return cls(np.zeros(num_columns, np.float32), np.ones(num_columns, np.float32))

    def standardize(self, rows: np.ndarray) -> np.ndarray:
        """Returns `(rows - mean) / scale` of rows `[n, D]`."""
        return (rows - self.mean) / self.scale


@dataclasses.dataclass(frozen=True, eq=False)
class FlowData:
    """Rows or images to train, choose and report with, in the units of their source.

    Attributes:
      name: The source, or the name of the file without its suffix.
      train: float32 `[n, D]`, or images, uint8 `[n, h, w, C]`; as `validation` and `test` with
        numbers of rows of their own.
      validation: See `train`.
      test: See `train`.
      statistics: What brings the columns, or the channels of dequantised images, to mean 0 and
        scale 1, from the training rows. For
        `flow.adapt(sample, statistics=data.statistics)`.
      feature_names: The names of the D columns; none for images.
      domain: What the examples are: a `RowDomain` with the kinds of the columns, for
        `TabularGlowConfig(dims, columns=data.domain.columns)`; or an `ImageDomain` with the format
        of the pixels, for `GlowConfig(image_shape=data.event_shape, num_bits=..., padding=...)`.
      train_condition: float32 `[n, C]`, or None without `condition_columns`; not standardised.
      validation_condition: See `train_condition`.
      test_condition: See `train_condition`.
      condition_statistics: Those of the conditions, or None.
      condition_names: The names of the C columns.
      look: What each column of the training rows looks like; none for images.
      dropped_rows: Number of a file's rows that were left out because a value is missing.
    """

    name: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    statistics: Statistics
    feature_names: tuple[str, ...] = ()
    domain: Domain = CONTINUOUS_ROWS
    train_condition: np.ndarray | None = None
    validation_condition: np.ndarray | None = None
    test_condition: np.ndarray | None = None
    condition_statistics: Statistics | None = None
    condition_names: tuple[str, ...] = ()
    look: tuple[ColumnLook, ...] = ()
    dropped_rows: int = 0

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the training part: two flows with equal ones were trained on equal rows."""
        return self._digest("train")

    @functools.cached_property
    def held_out_fingerprint(self) -> str:
        """SHA-256 of the validation and test parts."""
        return self._digest("validation", "test")

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one example of a flow: `(D,)`, or `(H, W, C)` with the padding of images."""
        return self.domain.example_shape(self.train.shape[1:])

    @property
    def condition_dims(self) -> int:
        """Number C of columns of the conditions, 0 without them."""
        return len(self.condition_names)

    def examples(self, part: str, *, draw: int = 0) -> Examples:
        """Returns a part as a flow takes it: images and integers with noise, others as they are.

        Args:
          part: "train", "validation" or "test".
          draw: Which draw of the noise.

        Returns:
          What has a length, a shape `[n, ...]` and float32 slices; what has noise gets it slice by
          slice.
        """
        if part not in _PARTS:
            raise ValueError(f"`part` must be one of {', '.join(_PARTS)}, got {part!r}.")
        return self.domain.examples(getattr(self, part), draw=draw)

    def condition(self, part: str) -> np.ndarray | None:
        """Returns the conditions of a part, or None."""
        return getattr(self, f"{part}_condition")

    def _digest(self, *parts: str) -> str:
        digest = hashlib.sha256(repr((self.feature_names, self.condition_names)).encode())
        for part in parts:
            for values in (getattr(self, part), self.condition(part)):
                if values is not None:
                    digest.update(repr((values.shape, values.dtype.str)).encode())
                    digest.update(np.ascontiguousarray(values).data)
        return digest.hexdigest()


def _float64_columns(rows: np.ndarray) -> Iterator[np.ndarray]:
    return (column.astype(np.float64) for column in rows.T)
