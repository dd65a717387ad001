"""Makes the embedded images of digits from the published text.

Usage:
    python -m tfp_distill.data.embedded.make_digits --text=optdigits.tes \
        --output=tfp_distill/data/embedded/digits.npz

The text may be compressed with gzip, as scikit-learn's copy of it is (digits.csv.gz).
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Sequence

import numpy as np

from tfp_distill.data.embedded import make

__all__ = [
    "main",
    "read_text",
]

_SIZE = 8
_MAX_VALUE = 16


def read_text(path: pathlib.Path) -> np.ndarray:
    """Reads lines of 64 numbers of an image, row by row, and its label.

    Args:
      path: The text.

    Returns:
      uint8 `[n, 8, 8]`.

    Raises:
      ValueError: If the text is not of this format.
    """
    lines = np.loadtxt(path, delimiter=",", ndmin=2)
    pixels = lines[:, :-1]
    if pixels.shape[1] != _SIZE**2 or not np.isin(pixels, np.arange(_MAX_VALUE + 1)).all():
        raise ValueError(
            f"`text` must have lines of 64 integers from 0 to {_MAX_VALUE} and a label, got "
            f"{lines.shape[1]} numbers from {lines.min():g} to {lines.max():g} in {path}."
        )
    return pixels.astype(np.uint8).reshape(-1, _SIZE, _SIZE)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the script.

    Args:
      argv: The arguments, by default those of the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    arguments = parser.parse_args(argv)
    make.write(arguments.output, {"images": read_text(arguments.text)})
    print(f"{arguments.output}: {arguments.output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
