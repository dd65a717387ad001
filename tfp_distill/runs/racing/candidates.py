"""The architectures that a race compares, by names such as `spline_3x32`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import NamedTuple

from tfp_distill.runs.recipe import Recipe

__all__ = ["Candidate", "candidates_of", "few_rows_folder", "is_folder"]

_KINDS = {
    "affine": ("glow", "affine"),
    "additive": ("glow", "additive"),
    "spline": ("glow", "spline"),
    "maf": ("maf", "affine"),
    "maf_spline": ("maf", "spline"),
    "iaf": ("iaf", "affine"),
    "iaf_spline": ("iaf", "spline"),
}
_PATTERN = rf"(?P<kind>{'|'.join(_KINDS)})_(?P<depth>[1-9]\d*)x(?P<width>[1-9]\d*)"
_OF_ROWS = (
    *("spline_2x16", "spline_3x24", "spline_4x24", "spline_5x48", "spline_8x64"),
    *("maf_spline_2x16", "maf_spline_3x16", "maf_spline_4x24"),
    *("affine_3x32", "affine_5x64"),
)


class Candidate(NamedTuple):
    """An architecture of a student.

    Attributes:
      kind: "affine", "additive" or "spline" for Glows of such couplings; "maf", "maf_spline",
        "iaf" or "iaf_spline".
      depth: number of steps, for images of each level.
      width: hidden units or channels of the conditioners.
    """

    kind: str
    depth: int
    width: int

    @classmethod
    def parse(cls, name: str) -> Candidate | None:
        """Returns what a name says; None if it is not the name of a candidate."""
        found = re.fullmatch(_PATTERN, name)
        return found and cls(found["kind"], int(found["depth"]), int(found["width"]))

    @property
    def name(self) -> str:
        """The name, which is also that of the folder of its students."""
        return f"{self.kind}_{self.depth}x{self.width}"

    def of(self, recipe: Recipe) -> Recipe:
        """Returns the recipe with this architecture for its student, and a plain one to train."""
        architecture, coupling = _KINDS[self.kind]
        return dataclasses.replace(
            recipe,
            student_architecture=architecture,
            student_coupling=coupling,
            student_depth=self.depth,
            student_width=self.width,
            students=("student", *recipe.race_methods),
        )


def few_rows_folder(candidate: Candidate, rows: int) -> str:
    """Returns the folder of the students of an architecture that see so many rows."""
    return f"{candidate.name}_rows_{rows}"


def is_folder(name: str) -> bool:
    """Returns whether a race would keep students in a folder of this name."""
    return Candidate.parse(re.sub(r"_rows_[1-9]\d*$", "", name)) is not None


def candidates_of(recipe: Recipe, *, images: bool) -> tuple[Candidate, ...]:
    """Returns the candidates that a recipe names, or the default ones.

    Of images those are Glows of a half and a quarter of the teacher's depth and width.

    Raises:
      ValueError: if a name is not that of a candidate.
    """
    names: Sequence[str] = recipe.candidates or _OF_ROWS
    if images and not recipe.candidates:
        depths, widths = (
            sorted({max(1, size // 4), max(1, size // 2)})
            for size in (recipe.teacher_depth, recipe.teacher_width)
        )
        coupling = recipe.coupling("teacher", images=True)
        names = [f"{coupling}_{depth}x{width}" for depth in depths for width in widths]
    found = {name: Candidate.parse(name) for name in names}
    for name, candidate in found.items():
        if candidate is None:
            raise ValueError(
                "`candidates` must be names such as spline_3x32: a kind out of "
                f"{', '.join(_KINDS)}, a depth and a width; got {name!r}."
            )
    return tuple(candidate for candidate in found.values() if candidate)
