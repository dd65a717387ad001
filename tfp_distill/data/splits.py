"""Parts of a data set: how large they are, and those of a table: random, or first and last rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = [
    "SPLITS",
    "check_fractions",
    "check_sizes",
    "draw_missing",
    "drawn_size",
    "first_rows",
]

SPLITS = ("random", "by_order")

_FEWEST = 2


def check_fractions(validation_fraction: float, test_fraction: float) -> None:
    """Raises `ValueError` unless both are fractions that leave rows to train with."""
    fractions = {"validation_fraction": validation_fraction, "test_fraction": test_fraction}
    for name, fraction in fractions.items():
        if not 0 < fraction < 1:
            raise ValueError(f"`{name}` must be between 0 and 1, got {fraction}.")
    if sum(fractions.values()) >= 1:
        raise ValueError(
            "`validation_fraction` and `test_fraction` must leave rows to train with, got "
            f"{validation_fraction} and {test_fraction}."
        )


def draw_missing(
    parts: Sequence[np.ndarray | None], fractions: Sequence[float], *, seed: int | None
) -> list[np.ndarray]:
    """Splits training rows into themselves and the parts that are missing.

    Args:
      parts: The rows to train, to validate and to test with; None for what is to be drawn from the
        ones to train with.
      fractions: Of the rows, to validate and to test with.
      seed: Equal seeds draw equal rows. With None the last rows, of a time series the latest, are
        the test part and those before them the validation part.

    Returns:
      Three parts; those that were there are as they were.

    Raises:
      ValueError: If there are no rows to train with.
    """
    rows, *held_out = parts
    if rows is None:
        raise ValueError("`parts` must begin with the rows to train with, got None.")
    sizes = [
        drawn_size(fraction, len(rows)) if part is None else 0
        for part, fraction in zip(held_out, fractions, strict=True)
    ]
    if not sum(sizes):
        return [part for part in parts if part is not None]
    order = np.arange(len(rows))
    if seed is not None:
        order = np.random.default_rng(seed).permutation(len(rows))
    num_train = max(0, len(rows) - sum(sizes))
    train, *drawn = (rows[some] for some in np.split(order, [num_train, num_train + sizes[0]]))
    pairs = zip(held_out, drawn, strict=True)
    return [train, *(new if part is None else part for part, new in pairs)]


def drawn_size(fraction: float, num_examples: int) -> int:
    """Returns how many of the examples a part gets that is drawn from them: 2 at least."""
    return max(_FEWEST, round(fraction * num_examples))


def check_sizes(sizes: Sequence[int], examples: str, origin: str) -> None:
    """Checks that all parts have enough examples: of a single one there is no standard error.

    Args:
      sizes: Of the examples to train, to validate and to test with.
      examples: What messages call them.
      origin: Where they are from.

    Raises:
      ValueError: If there are too few.
    """
    if min(sizes) < _FEWEST:
        raise ValueError(
            f"`source` must give at least {_FEWEST} {examples} to train with, to validate and to "
            f"test with, got {'/'.join(map(str, sizes))} from {origin}."
        )


def first_rows(rows: np.ndarray, train_rows: int) -> np.ndarray:
    """Returns only so many training rows, or all of them for 0.

    Raises:
      ValueError: If there are fewer.
    """
    if train_rows > len(rows):
        raise ValueError(
            f"`train_rows` must be at most the {len(rows):,} training rows, got {train_rows:,}."
        )
    return rows[: train_rows or None]
