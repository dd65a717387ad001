"""Makes the embedded subset of POWER from the published archive.

Usage:
    python -m tfp_distill.data.embedded.make --archive=household_power_consumption.zip \
        --output=tfp_distill/data/embedded/power_100k.npz
"""

from __future__ import annotations

import argparse
import io
import pathlib
import zipfile
from collections.abc import Sequence

import numpy as np

from tfp_distill.data import embedded
from tfp_distill.data.tabular import power

__all__ = [
    "draw_subset",
    "main",
    "write",
]

_NUM_ROWS = 100_000
_SEED = 0


def draw_subset(measurements: np.ndarray, *, num_rows: int, seed: int) -> dict[str, np.ndarray]:
    """Draws rows without replacement and turns them into integers of the meters' resolution.

    Args:
      measurements: What `power.read_archive` returned, `[n, 6]`.
      num_rows: How many rows to draw.
      seed: The seed of the draw.

    Returns:
      One array a column, each in the smallest unsigned type that holds it. The rows are sorted
      (their order is random anyway, and sorted rows compress well).
    """
    chosen = np.random.default_rng(seed).choice(len(measurements), num_rows, replace=False)
    integers = np.rint(measurements[chosen] * list(embedded.UNITS.values())).astype(np.int64)
    integers = integers[np.lexsort(integers.T)]
    return {
        name: column.astype(np.min_scalar_type(column.max()))
        for name, column in zip(embedded.UNITS, integers.T, strict=True)
    }


def write(path: pathlib.Path, columns: dict[str, np.ndarray]) -> None:
    """Writes an LZMA-compressed .npz file whose bytes depend on the columns alone."""
    with zipfile.ZipFile(path, "w", compression=zipfile.ZIP_LZMA) as archive:
        for name, column in columns.items():
            buffer = io.BytesIO()
            np.save(buffer, column)
            # A ZipInfo of its own has a fixed date.
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.compress_type = zipfile.ZIP_LZMA
            archive.writestr(entry, buffer.getvalue())


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the script.

    Args:
      argv: The arguments, by default those of the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archive", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    arguments = parser.parse_args(argv)
    measurements = power.read_archive(arguments.archive)
    write(arguments.output, draw_subset(measurements, num_rows=_NUM_ROWS, seed=_SEED))
    print(f"{arguments.output}: {arguments.output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
