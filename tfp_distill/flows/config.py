"""What every flow configuration has in common."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow_probability as tfp

from tfp_distill.bijectors import Standardize, StandardizeBounded, TracedChain
from tfp_distill.columns import Columns
from tfp_distill.domains import Domain, ImageDomain, RowDomain
from tfp_distill.pixels import PixelFormat

__all__ = ["FlowConfig", "check_at_least", "check_integer", "weight_seed"]

_LARGEST_SEED = 2**31 - 1  # A prime: seeds that are multiples of 1,000 still differ.


@dataclasses.dataclass(frozen=True)
class FlowConfig(abc.ABC):
    """An architecture: immutable, comparable, serialisable; it validates itself when it is made."""

    @property
    @abc.abstractmethod
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one data point."""

    @property
    @abc.abstractmethod
    def condition_dims(self) -> int:
        """Size of the condition, 0 for none."""

    @property
    def level_ends(self) -> tuple[int, ...]:
        """The last step of each level of a multi-scale flow, counted from 1; () for others."""
        return ()

    @property
    def pixel_format(self) -> PixelFormat | None:
        """How bytes become examples of a flow of images; None for others."""
        return None

    @property
    def columns(self) -> Columns | None:
        """The kinds of the columns of a flow of rows; None where all are continuous."""
        return None

    @property
    def domain(self) -> Domain:
        """What the examples are."""
        return ImageDomain(self.pixel_format) if self.pixel_format else RowDomain(self.columns)

    @property
    def suits_xla(self) -> bool:
        """Whether XLA makes passes faster on CPUs, see `tfp_distill.compiling.xla_pays`."""
        return True

    @property
    def fewest_weights(self) -> int:
        """A number of weights that the flow has at least, most of them, known before it is built.

        What is loaded from a file must have them there; 0 where that is not known.
        """
        return 0

    def rows_at_once(self, *, generative: bool) -> int | None:
        """Returns how many rows a pass is quickest with, see `rows_in_cache`; None for any number.

        Args:
          generative: whether the pass is from latents to data.
        """
        return None

    @abc.abstractmethod
    def build_bijector(self) -> TracedChain:
        """Builds the flow: `bijectors[0]` standardises the data, then one bijector a step."""

    def _standardized(
        self, steps: Sequence[tfp.bijectors.Bijector], *, dims: int, name: str
    ) -> TracedChain:
        """Returns the chain of `Standardize` and the steps, which standardises conditions too."""
        condition = None
        if self.condition_dims:
            condition = Standardize(self.condition_dims, name="standardize_condition")
        columns = self.columns
        first = (
            Standardize(dims)
            if columns is None or not any(columns.bounds)
            else StandardizeBounded(columns.intervals)
        )
        return TracedChain([first, *steps], condition_bijector=condition, name=name)

    def _check_columns(self, dims: int) -> None:
        """Checks `columns`, which a saved file has as a mapping."""
        columns = self.columns
        if isinstance(columns, Mapping):
            columns = Columns(**columns)
            object.__setattr__(self, "columns", columns)
        if columns is not None and not (isinstance(columns, Columns) and columns.dims == dims):
            got = columns.dims if isinstance(columns, Columns) else type(columns).__name__
            raise ValueError(f"`columns` must be the Columns of {dims} columns, got {got}.")

    def get_config(self) -> dict[str, Any]:
        """Returns the fields, for Keras serialisation."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FlowConfig:
        """Makes the configuration from `get_config`'s result."""
        return cls(**config)


def check_at_least(minimum: int, **values: int) -> None:
    """Raises `ValueError` unless every value is an integer of at least `minimum`."""
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise ValueError(f"`{name}` must be an integer of at least {minimum}, got {value!r}.")


def check_integer(**values: int) -> None:
    """Raises `ValueError` unless every value is an integer, of any size and sign."""
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"`{name}` must be an integer, got {value!r}.")


def weight_seed(seed: int) -> int:
    """Returns a seed that NumPy and Keras take, which is from 0 to 2^31 - 2, of any integer."""
    return seed % _LARGEST_SEED
