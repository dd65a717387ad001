"""What examples are, rows of a table or images, and all that follows from it."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import keras
import numpy as np
import tensorflow as tf

from tfp_distill.arrays import Array, rows_to_look_at
from tfp_distill.columns import Columns, DequantizedRows
from tfp_distill.pixels import DequantizedImages, PixelFormat

__all__ = ["CONTINUOUS_ROWS", "Domain", "Examples", "ImageDomain", "RowDomain"]

# An image has many more dimensions than a row: this many values are looked at instead.
_VALUES_AT_ONCE = 300_000


class Examples(Protocol):
    """Examples as a flow takes them, made slice by slice; an array is one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """`(n, ...)`."""

    def __len__(self) -> int:
        """Number n of examples."""

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        """Returns consecutive examples `[m, ...]`."""


class Domain(abc.ABC):
    """The kind of the examples of a data set or a flow.

    Attributes:
      is_images: whether they are images.
      figures: names of the likelihoods that are reported, the one that people read last.
      unit: its unit.
      batch_rows: how many rows a batch of a training usually has.
      timed_rows: how many rows a pass is timed with.
    """

    is_images: ClassVar[bool]
    figures: ClassVar[tuple[str, ...]]
    unit: ClassVar[str]
    batch_rows: ClassVar[int]
    timed_rows: ClassVar[int]

    @property
    def columns(self) -> Columns | None:
        """The kinds of the columns of rows; None where all are continuous, and of images."""
        return None

    @property
    @abc.abstractmethod
    def has_noise(self) -> bool:
        """Whether values are integers, which flows see with noise."""

    @abc.abstractmethod
    def example_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Returns the shape of an example, of data of a shape."""

    @abc.abstractmethod
    def check(self, x: Array) -> None:
        """Raises `ValueError` unless values `[n, ...]` are of this kind."""

    def check_numbers(self, x: Array) -> None:  # noqa: B027
        """Raises `ValueError` if examples that a flow is given are values without their noise."""

    @abc.abstractmethod
    def check_noise(self, x: np.ndarray) -> None:
        """Raises `ValueError` if examples `[n, ...]` that are to be trained on have no noise."""

    @abc.abstractmethod
    def dequantize(self, x: Array, *, seed: Any, first: Any = 0) -> tf.Tensor:
        """Returns examples of values `[n, ...]`, with the noise of a seed and their places."""

    @abc.abstractmethod
    def examples(self, values: Any, *, draw: int = 0) -> Examples:
        """Returns values `[n, ...]` as a flow takes them, with a draw of the noise."""

    @abc.abstractmethod
    def bits_per_dim(self, log_prob: Any, example_shape: Sequence[int]) -> Any:
        """Returns bits per dimension of nats per example; None where those are what people read."""

    def likelihoods(self, log_prob: Any, example_shape: Sequence[int]) -> dict[str, Any]:
        """Returns `figures` by name, of log-likelihoods in nats per example."""
        values = (-log_prob, self.bits_per_dim(log_prob, example_shape))
        return dict(zip(self.figures, values, strict=False))

    def units_per_nat(self, example_shape: Sequence[int]) -> float:
        """Returns how many of `unit` a nat per example is."""
        bits = [self.bits_per_dim(nats, example_shape) for nats in (0.0, 1.0)]
        return 1.0 if bits[0] is None else bits[0] - bits[1]

    @abc.abstractmethod
    def evaluation_rows(self, dims: int) -> int:
        """Returns how many examples of so many dimensions an evaluation computes at once."""

    def rows_to_begin_with(self, number: int, example_shape: Sequence[int]) -> int:
        """Returns how many of `number` examples a training is prepared with."""
        return number


@dataclasses.dataclass(frozen=True)
class RowDomain(Domain):
    """Rows of a table.

    Attributes:
      columns: the kinds of its columns; None where all are continuous.
    """

    columns: Columns | None = None

    is_images: ClassVar[bool] = False
    figures: ClassVar[tuple[str, ...]] = ("nll",)
    unit: ClassVar[str] = "nats per example"
    batch_rows: ClassVar[int] = 512
    timed_rows: ClassVar[int] = 1000

    @property
    def has_noise(self) -> bool:
        """Whether some columns hold integers."""
        return self.columns is not None and self.columns.num_integers > 0

    def example_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """That of a row."""
        return tuple(shape)

    def check(self, x: Array) -> None:
        """Checks the number of columns, and that these are no bytes."""
        if tf.as_dtype(x.dtype) == tf.uint8:
            raise ValueError(
                "`domain` must be an ImageDomain for uint8 images, as that of the data or of a "
                f"flow's configuration, got {self}."
            )
        if self.columns is not None and tuple(x.shape[1:]) != (self.columns.dims,):
            raise ValueError(
                f"`domain` must be of the columns of `x`, of shape {tuple(x.shape)}, got "
                f"{self.columns.dims}."
            )

    def check_noise(self, x: np.ndarray) -> None:
        """As `Columns.check_noise`."""
        if self.columns is not None:
            self.columns.check_noise(x)

    def dequantize(self, x: Array, *, seed: Any, first: Any = 0) -> tf.Tensor:
        """As `Columns.dequantize`."""
        if self.columns is None:
            return tf.convert_to_tensor(x)
        return self.columns.dequantize(x, seed=seed, first=first)

    def examples(self, values: Any, *, draw: int = 0) -> Examples:
        """Rows as they are, or with noise on integers."""
        return DequantizedRows(values, self.columns, draw=draw) if self.columns else values

    def bits_per_dim(self, log_prob: Any, example_shape: Sequence[int]) -> Any:
        """None: people read nats."""
        return None

    def evaluation_rows(self, dims: int) -> int:
        """5,000.

        XLA would compile each pass of each flow for 10,000 rows, a size that programs choose (see
        `CompiledPass`): that takes longer than it saves.
        """
        return 5_000


CONTINUOUS_ROWS = RowDomain()


@dataclasses.dataclass(frozen=True)
class ImageDomain(Domain):
    """Images.

    Attributes:
      pixel_format: how bytes become numbers.
    """

    pixel_format: PixelFormat = PixelFormat()

    is_images: ClassVar[bool] = True
    figures: ClassVar[tuple[str, ...]] = ("nll", "bits_per_dim")
    unit: ClassVar[str] = "bits per dimension"
    batch_rows: ClassVar[int] = 64
    timed_rows: ClassVar[int] = 64

    @property
    def has_noise(self) -> bool:
        """Yes."""
        return True

    def example_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """That of an image with its padding."""
        return self.pixel_format.padded_shape(shape)

    def check(self, x: Array) -> None:
        """Checks that these are bytes."""
        if tf.as_dtype(x.dtype) != tf.uint8:
            raise ValueError(
                "`domain` must be a RowDomain where `x` holds no bytes, got "
                f"{self} for `x` of {tf.as_dtype(x.dtype).name}."
            )

    def check_numbers(self, x: Array) -> None:
        """Checks that these are no bytes or other integers."""
        dtype = keras.backend.standardize_dtype(getattr(x, "dtype", "float32"))
        if "int" in dtype:
            raise ValueError(
                "`x` must be numbers in [0, 1), as `flow.config.domain.dequantize(x, seed=0)` "
                f"makes them of bytes, got {dtype}."
            )

    def check_noise(self, x: np.ndarray) -> None:
        """As `PixelFormat.check_noise`."""
        self.pixel_format.check_noise(x)

    def dequantize(self, x: Array, *, seed: Any, first: Any = 0) -> tf.Tensor:
        """As `PixelFormat.dequantize`."""
        return self.pixel_format.dequantize(x, seed=seed, first=first)

    def examples(self, values: Any, *, draw: int = 0) -> Examples:
        """Bytes with noise; numbers as they are."""
        if getattr(values, "dtype", None) != np.uint8:
            return values
        return DequantizedImages(values, self.pixel_format, draw=draw)

    def bits_per_dim(self, log_prob: Any, example_shape: Sequence[int]) -> Any:
        """As `PixelFormat.bits_per_dim`."""
        return self.pixel_format.bits_per_dim(log_prob, example_shape)

    def evaluation_rows(self, dims: int) -> int:
        """As many as 300,000 values, at least one."""
        return max(1, _VALUES_AT_ONCE // dims)

    def rows_to_begin_with(self, number: int, example_shape: Sequence[int]) -> int:
        """At most two million values, because each image takes longer than a row."""
        return min(number, rows_to_look_at(example_shape))
