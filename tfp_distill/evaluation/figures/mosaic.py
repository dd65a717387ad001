"""Many small images as one."""

from __future__ import annotations

import numpy as np

from tfp_distill.arrays import Array
from tfp_distill.flows.config import check_at_least

__all__ = ["mosaic"]

_GAP_COLOUR = 230
_SIZE_PER_GAP = 32  # The gap between images is a pixel wide for each so many of an image.


def mosaic(images: Array, rows: int, columns: int) -> np.ndarray:
    """Returns images side by side, in the order of reading, with thin light gaps between them.

    Images of 1 channel are grey and of 3 channels RGB; the last one of 2 or 4 channels is their
    opacity, as in PNG, and white is behind them.

    Args:
      images: uint8 `[n, h, w, C]`, with 1 to 4 channels; n is at most `rows * columns`. Places that
        are left have the colour of the gaps.
      rows: number of images from top to bottom.
      columns: number of images from left to right.

    Returns:
      uint8 `[rows (h + gap) - gap, columns (w + gap) - gap, 3]`, RGB.

    Raises:
      ValueError: if an argument breaks a rule.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or not 1 <= images.shape[-1] <= 4:
        raise ValueError(
            "`images` must be uint8 of shape ('n', 'height', 'width', 1 to 4), got "
            f"{images.dtype} of shape {images.shape}."
        )
    check_at_least(1, rows=rows, columns=columns)
    number, height, width, _ = images.shape
    if number > rows * columns:
        raise ValueError(
            f"`images` must be at most {rows} x {columns}, for so many `rows` and `columns`, "
            f"got {number}."
        )
    gap = max(1, round(min(height, width) / _SIZE_PER_GAP))
    cell = (height + gap, width + gap)
    cells = np.full((rows * columns, *cell, 3), _GAP_COLOUR, np.uint8)
    cells[:number, :height, :width] = _rgb(images)
    cells = cells.reshape(rows, columns, *cell, 3).swapaxes(1, 2)
    return cells.reshape(rows * cell[0], columns * cell[1], 3)[:-gap, :-gap]


def _rgb(images: np.ndarray) -> np.ndarray:
    """Returns images of 1 to 4 channels as those of 3, or of 1 channel for three equal ones."""
    if images.shape[-1] in (1, 3):
        return images
    values = images.astype(np.uint32)
    colour, opacity = values[..., :-1], values[..., -1:]
    return ((colour * opacity + 255 * (255 - opacity) + 127) // 255).astype(np.uint8)
