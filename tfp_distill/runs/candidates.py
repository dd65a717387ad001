"""The architectures that a race compares, by names such as `spline_3x32`."""

from __future__ import annotations

import dataclasses
import re
from typing import NamedTuple

from tfp_distill.flows import Flow, FlowConfig
from tfp_distill.runs.recipe import Recipe

__all__ = ["Candidate", "candidates_of", "num_parameters"]

# Of Glow steps with other couplings than maf's and iaf's.
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
    *("spline_2x16", "spline_3x24", "spline_3x32", "spline_4x48", "spline_5x64"),
    *("affine_3x32", "affine_5x64"),
)
# What a candidate should save at least, or it is not worth its loss.
_LARGEST_SHARE = 0.5


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
    def parse(cls, name: str) -> Candidate:
        """Returns what a name says.

        Raises:
          ValueError: if it is not the name of a candidate.
        """
        found = re.fullmatch(_PATTERN, name)
        if found is None:
            raise ValueError(
                "`candidates` must be names such as spline_3x32, a kind out of "
                f"{', '.join(_KINDS)}, a depth and a width, got {name!r}."
            )
        return cls(found["kind"], int(found["depth"]), int(found["width"]))

    @property
    def name(self) -> str:
        """The name, which is also that of the directory of its plain student."""
        return f"{self.kind}_{self.depth}x{self.width}"

    def of(self, recipe: Recipe) -> Recipe:
        """Returns the recipe with this architecture for its student."""
        architecture, coupling = _KINDS[self.kind]
        return dataclasses.replace(
            recipe,
            student_architecture=architecture,
            student_coupling=coupling,
            student_depth=self.depth,
            student_width=self.width,
        )


def candidates_of(recipe: Recipe, *, images: bool) -> tuple[Candidate, ...]:
    """Returns the candidates that a recipe names, or the default ones.

    For images those are Glows of a half and a quarter of the teacher's depth and width.
    """
    names = recipe.candidates or _OF_ROWS
    if images and not recipe.candidates:
        depths, widths = (
            sorted({max(1, size // 4), max(1, size // 2)})
            for size in (recipe.teacher_depth, recipe.teacher_width)
        )
        names = [f"affine_{depth}x{width}" for depth in depths for width in widths]
    return tuple(dict.fromkeys(map(Candidate.parse, names)))


def num_parameters(config: FlowConfig) -> int:
    """Returns the number of trainable parameters of an architecture."""
    return Flow(config).count_params()


def is_worth_racing(parameters: int, of_teacher: int) -> bool:
    """Returns whether a default candidate is small enough beside its teacher."""
    return parameters <= _LARGEST_SHARE * of_teacher
