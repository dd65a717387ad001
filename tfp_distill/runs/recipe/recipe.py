"""A recipe: everything that determines a run."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

from tfp_distill.files import DamagedFileError, read_json, write_json
from tfp_distill.runs.recipe.data_options import DataOptions
from tfp_distill.runs.recipe.distillation_options import DistillationOptions
from tfp_distill.runs.recipe.evaluation_options import EvaluationOptions
from tfp_distill.runs.recipe.part_options import PartOptions
from tfp_distill.runs.recipe.partition_names import PartitionName
from tfp_distill.runs.recipe.race_options import RaceOptions
from tfp_distill.runs.recipe.training_options import TrainingOptions

__all__ = ["Recipe"]

# Those whose losses every part of a student has at its own steps.
_METHODS_OF_PARTS = ("student", "lkd", "ilkd")


@dataclasses.dataclass(frozen=True)
class Recipe(
    DataOptions, DistillationOptions, RaceOptions, PartOptions, TrainingOptions, EvaluationOptions
):
    """Data, two architectures, how they are trained, and how the student is distilled.

    Raises:
      ValueError: if a value breaks its rule.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_students_in_parts()
        rule = "default where parts have `devices`"
        self.check("strategy", rule, self.strategy == "default" or not self.devices)
        for method in self.students or self.race_methods:
            self.check_method(method)

    def training_steps(self, role: str) -> int:
        """Returns the steps of "teacher" or "student", a multiple of `report_steps`."""
        return -(-getattr(self, f"{role}_training_steps") // self.report_steps) * self.report_steps

    def _check_students_in_parts(self) -> None:
        parsed = map(PartitionName.parse, self.partitions)
        num_parts = max(name.num_parts for name in parsed if name)
        if num_parts == 1:
            return
        rule = f"end_to_end where `students` are not of {', '.join(_METHODS_OF_PARTS)}"
        is_legal = bool(self.students) and set(self.students) <= set(_METHODS_OF_PARTS)
        self.check("partitions", rule, is_legal)
        epochs = self.training_steps("student") // self.report_steps
        in_parts = epochs - round(self.end_to_end_fraction * epochs)
        needed = 1 if self.part_mode == "simultaneous" else num_parts
        rule = f"so small that {needed} of the {epochs} times `report_steps` are left for parts"
        self.check("end_to_end_fraction", rule, in_parts >= needed)

    def write(self, path: pathlib.Path) -> None:
        """Writes the recipe as JSON."""
        write_json(path, dataclasses.asdict(self))

    @classmethod
    def read(cls, path: pathlib.Path) -> Recipe:
        """Reads a recipe that `write` wrote.

        Raises:
          DamagedFileError: if the file holds anything else.
        """
        values = read_json(path)
        try:
            fields: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
            }
            return cls(**fields)
        except (TypeError, ValueError) as error:
            raise DamagedFileError(f"{str(path)!r} holds no recipe: {error}") from error
