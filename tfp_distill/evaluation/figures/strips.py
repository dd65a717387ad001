"""A figure of labelled strips of images, one below the other."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tfp_distill.evaluation.figures.mosaic import mosaic
from tfp_distill.evaluation.figures.style import FAINT, new_figure

__all__ = ["Section", "Strip", "draw_strips"]

_LARGEST_LINE = 16  # Images.
# Lengths are in dots, 144 an inch as in a report.
_DOTS_PER_INCH = 144
_WIDTH = 1620
_LARGEST_IMAGE = 116
_SMALLEST_STRIP = 46  # Two lines of text.
_SMALLEST_LABEL = 180  # So that figures have their images at one place.
_TITLE, _COLUMN_TITLES = 40, 24
_AFTER_STRIP, _AFTER_LINE, _AFTER_GROUP = 8, 24, 20
_MARGIN, _AFTER_LABEL = 8, 16
_NAME_WIDTH, _NOTE_WIDTH = 11.5, 9.0  # Of a character.


@dataclasses.dataclass(frozen=True, eq=False)
class Strip:
    """Images side by side.

    Attributes:
      name: the label; names of models have their colours.
      images: uint8 `[n, h, w, C]`.
      note: a small text below the name.
    """

    name: str
    images: np.ndarray
    note: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Section:
    """Strips to compare, of equal numbers of images.

    Attributes:
      title: the text above them.
      strips: one or more.
      group: number of images that belong together, where that is more than one. Wider gaps divide
        groups, and long strips are broken between groups, all of them at the same place.
      column_titles: texts above the images of each group, or none.
    """

    title: str
    strips: Sequence[Strip]
    group: int = 1
    column_titles: Sequence[str] = ()

    def lines(self) -> Iterator[Section]:
        """Yields sections that fit into a line each; the first has the title."""
        length = max(1, _LARGEST_LINE // self.group) * self.group
        for start in range(0, len(self.strips[0].images), length):
            part = slice(start, start + length)
            strips = [dataclasses.replace(s, images=s.images[part]) for s in self.strips]
            yield dataclasses.replace(self, title="" if start else self.title, strips=strips)


def draw_strips(sections: Sequence[Section], colours: Mapping[str, str]) -> Figure:
    """Draws sections below each other, with all images in one size.

    Args:
      sections: one or more.
      colours: colours of labels by name; other labels are faint.
    """
    lines = [line for section in sections for line in section.lines()]
    left = _label_width([strip for line in lines for strip in line.strips])
    scale = _scale(lines, _WIDTH - left - _MARGIN)
    height = sum(_line_height(line, scale) for line in lines) - _AFTER_LINE + _MARGIN
    page = _Page(height, left)
    for line in lines:
        _draw_line(page, line, scale, colours)
    return page.figure


class _Page:
    """A figure that is filled from the top; places are dots from its left and from `top`."""

    def __init__(self, height: float, left: float) -> None:
        self.figure = new_figure(_WIDTH / _DOTS_PER_INCH, height / _DOTS_PER_INCH)
        self.figure.set_layout_engine("none")
        self.left = left
        self.top = 0.0
        self._height = height

    def write(self, x: float, y: float, text: str, size: float, **style: Any) -> None:
        """Writes a text whose middle is at height `y`."""
        defaults: dict[str, Any] = {"va": "center", "color": FAINT, "fontsize": size}
        self.figure.text(x / _WIDTH, 1 - (self.top + y) / self._height, text, **defaults | style)

    def show(self, x: float, y: float, image: np.ndarray, scale: float) -> None:
        """Draws an RGB image `[h, w, 3]` whose top is at height `y`."""
        height, width = (scale * size for size in image.shape[:2])
        bottom = self._height - self.top - y - height
        place = (x / _WIDTH, bottom / self._height, width / _WIDTH, height / self._height)
        axes = self.figure.add_axes(place)
        axes.set_axis_off()
        # Repeated, then made smaller unless the scale is whole: sharp pixels, all of one size.
        times = math.ceil(scale)
        image = image.repeat(times, axis=0).repeat(times, axis=1)
        axes.imshow(image, interpolation="antialiased", aspect="auto")


def _draw_line(page: _Page, line: Section, scale: float, colours: Mapping[str, str]) -> None:
    if line.title:
        page.write(page.left, _TITLE / 2, line.title, 11, color="black")
        page.top += _TITLE
    if line.column_titles:
        for x, block in _blocks(line, line.strips[0], scale):
            cell = scale * block.shape[1] / len(line.column_titles)
            for index, text in enumerate(line.column_titles):
                centre = page.left + x + (index + 0.5) * cell
                page.write(centre, _COLUMN_TITLES / 2, text, 8, ha="center")
        page.top += _COLUMN_TITLES
    for strip in line.strips:
        height, shift = _strip_height(strip, scale), 11 if strip.note else 0
        colour = colours.get(strip.name, FAINT)
        right = page.left - _AFTER_LABEL
        page.write(right, height / 2 - shift, strip.name, 10, ha="right", color=colour)
        page.write(right, height / 2 + shift, strip.note, 8, ha="right")
        for x, block in _blocks(line, strip, scale):
            page.show(page.left + x, (height - scale * block.shape[0]) / 2, block, scale)
        page.top += height + _AFTER_STRIP
    page.top += _AFTER_LINE - _AFTER_STRIP


def _blocks(line: Section, strip: Strip, scale: float) -> Iterator[tuple[float, np.ndarray]]:
    """Yields the mosaic of each group, or of all images where groups are of one, with its x."""
    size = line.group if line.group > 1 else len(strip.images)
    x = 0.0
    for start in range(0, len(strip.images), size):
        images = strip.images[start : start + size]
        block = mosaic(images, 1, len(images))
        yield x, block
        x += scale * block.shape[1] + _AFTER_GROUP


def _scale(lines: Sequence[Section], width: float) -> float:
    """Returns how many dots wide a pixel is, such that every line fits into a width."""
    scale = _LARGEST_IMAGE / max(lines[0].strips[0].images.shape[1:3])
    for line in lines:
        blocks = [block for _, block in _blocks(line, line.strips[0], 1.0)]
        gaps = _AFTER_GROUP * (len(blocks) - 1)
        scale = min(scale, (width - gaps) / sum(block.shape[1] for block in blocks))
    whole = math.floor(scale)
    return whole if whole > 0.9 * scale else scale


def _strip_height(strip: Strip, scale: float) -> float:
    return max(scale * strip.images.shape[1], _SMALLEST_STRIP)


def _line_height(line: Section, scale: float) -> float:
    titles = _TITLE * bool(line.title) + _COLUMN_TITLES * bool(line.column_titles)
    strips = sum(_strip_height(strip, scale) + _AFTER_STRIP for strip in line.strips)
    return titles + strips - _AFTER_STRIP + _AFTER_LINE


def _label_width(strips: Sequence[Strip]) -> float:
    text = max(max(_NAME_WIDTH * len(s.name), _NOTE_WIDTH * len(s.note)) for s in strips)
    return _MARGIN + max(text, _SMALLEST_LABEL) + _AFTER_LABEL
