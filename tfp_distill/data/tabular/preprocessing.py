"""What the five benchmark sets share: splits from the end, and the units of the training part."""

from __future__ import annotations

import dataclasses

import numpy as np

__all__ = [
    "Splits",
    "repeats_its_smallest_value",
    "split_from_the_end",
    "standardize",
]


@dataclasses.dataclass(frozen=True)
class Splits:
    """The three parts of a data set, each `[n, D]` and with the same columns.

    Attributes:
      train: Rows to train on.
      validation: Rows to choose by.
      test: Rows to report on.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    def as_float32(self) -> Splits:
        """Returns the same splits as contiguous float32 arrays."""
        return Splits(
            *(
                np.ascontiguousarray(part, dtype=np.float32)
                for part in (self.train, self.validation, self.test)
            )
        )


def split_from_the_end(
    values: np.ndarray, *, num_validation: int | None = None, num_test: int | None = None
) -> Splits:
    """Cuts the test rows off the end, then the validation rows off the end of the rest.

    Source: Papamakarios, Pavlakou and Murray, 2017, "Masked Autoregressive Flow for Density
    Estimation", arXiv:1705.07057, appendix D: a tenth for testing, a tenth of the rest for
    validation.

    Args:
      values: The rows, `[n, D]`, in the order in which they are to be cut.
      num_validation: How many validation rows; by default a tenth of what the test rows leave,
        rounded down.
      num_test: How many test rows; by default a tenth of all, rounded down.

    Returns:
      The splits, as views of `values`.

    Raises:
      ValueError: If a split would have no row.
    """
    num_test = len(values) // 10 if num_test is None else num_test
    rest = len(values) - num_test
    num_validation = rest // 10 if num_validation is None else num_validation
    num_train = rest - num_validation
    if min(num_train, num_validation, num_test) < 1:
        raise ValueError(
            "every split must have at least 1 row, got "
            f"{num_train}/{num_validation}/{num_test} from {len(values)} rows."
        )
    return Splits(values[:num_train], values[num_train:rest], values[rest:])


def standardize(splits: Splits, *, reference: np.ndarray, ddof: int = 0) -> Splits:
    """Brings every column to mean 0 and deviation 1 over the reference rows.

        x' = (x - mean(reference)) / std(reference)

    Args:
      splits: The splits, in any units.
      reference: The rows that give the units, `[m, D]`. The papers disagree with each other about
        which rows these are, so each builder says.
      ddof: The deviation divides by `m - ddof`.

    Returns:
      The splits in the new units.
    """
    mean, std = reference.mean(axis=0), reference.std(axis=0, ddof=ddof)
    return Splits(*((part - mean) / std for part in (splits.train, splits.validation, splits.test)))


def repeats_its_smallest_value(values: np.ndarray, *, more_than: int = 5) -> np.ndarray:
    """Finds columns whose smallest value occurs too often for a density to exist.

    Source: the rule by which Papamakarios, Pavlakou and Murray, 2017, arXiv:1705.07057, dropped
    the discrete columns of HEPMASS and MINIBOONE. (It looks at the smallest value, not at the most
    frequent one, and the published numbers of dimensions follow from that.)

    Args:
      values: The rows, `[n, D]`.
      more_than: How many occurrences are still allowed.

    Returns:
      A mask, bool `[D]`.
    """
    return (values == values.min(axis=0)).sum(axis=0) > more_than
