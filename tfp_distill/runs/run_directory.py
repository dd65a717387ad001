"""A run directory: one recipe, its data, and everything that was trained by it."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import shutil

from absl import flags

from tfp_distill.data import FlowData, load
from tfp_distill.distillation import matching_steps
from tfp_distill.evaluation import FeatureExtractor
from tfp_distill.flows import Flow, FlowConfig, load_flow
from tfp_distill.runs.partitions import check_partitions, sorted_names
from tfp_distill.runs.recipe import Recipe, define_recipe_flags, recipe_from_flags

__all__ = ["RunDirectory", "define_run_flags", "open_run"]

_RECIPE = "recipe.json"
_START = "start.keras"
# What may differ from the recorded recipe, because no trained model depends on it.
_FREE = (
    *("data_dir", "manual_dir", "students", "partitions"),
    *("evaluation_draws", "feature_extractor", "frechet_images"),
)


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """A directory and its recipe.

    Attributes:
      path: the directory.
      recipe: what is done in it.
    """

    path: pathlib.Path
    recipe: Recipe

    @functools.cached_property
    def data(self) -> FlowData:
        """The recipe's data, loaded once."""
        recipe = self.recipe
        data = self._load_data()
        if recipe.batch_size > len(data.train):
            raise ValueError(
                f"`batch_size` must be at most the {len(data.train):,} training rows, "
                f"got {recipe.batch_size:,}."
            )
        return data

    def _load_data(self) -> FlowData:
        recipe = self.recipe
        data = load(
            recipe.data,
            data_dir=recipe.data_dir or None,
            manual_dir=recipe.manual_dir or None,
            seed=recipe.seed,
            condition_columns=recipe.condition_columns,
            num_bits=recipe.num_bits or None,
            padding=recipe.padding,
            image_size=recipe.image_size or None,
        )
        if not recipe.train_rows:
            return data
        if recipe.train_rows > len(data.train):
            raise ValueError(
                f"`train_rows` must be at most the {len(data.train):,} training rows, "
                f"got {recipe.train_rows:,}."
            )
        condition = data.train_condition
        return dataclasses.replace(
            data,
            train=data.train[: recipe.train_rows],
            train_condition=None if condition is None else condition[: recipe.train_rows],
        )

    def model_directory(self, name: str) -> pathlib.Path:
        """Where a model of a name ("teacher", or that of a student) is kept."""
        return self.path / name

    def trained(self) -> tuple[str, ...]:
        """Names of the models that can be used, the teacher first."""
        return sorted_names(self.path)

    def check_inputs(self) -> None:
        """Checks what the recipe names: the data, and the teacher if it was not taken over yet.

        Raises:
          ValueError: if one of them does not exist or does not fit.
          OSError: if one of them cannot be read.
        """
        data, path = self.data, self.recipe.teacher_path
        if self.recipe.random_flip and data.pixel_format is None:
            raise ValueError("`random_flip` must be False where `data` is no images, got True.")
        for role in ("teacher", "student"):
            self.config(role)
        check_partitions(self.recipe, self.config("student"), len(data.train))
        if self.feature_extractor and self.recipe.frechet_images > len(data.test):
            raise ValueError(
                f"`frechet_images` must be at most the {len(data.test):,} test images, "
                f"got {self.recipe.frechet_images:,}."
            )
        if self.recipe.student_path:
            self._check_student_start()
        taken_over = "teacher" in self.trained()
        config = self.config("teacher")
        if path:
            config = (self.load_flow("teacher") if taken_over else load_flow(path)).config
        if self.recipe.student_start == "copied":
            matching_steps(Flow(self.config("student")), Flow(config))
        if not path or taken_over:
            return
        expected = {
            "event_shape": data.event_shape,
            "condition_dims": data.condition_dims,
            "pixel_format": data.pixel_format,
        }
        for name, value in expected.items():
            if getattr(config, name) != value:
                raise ValueError(
                    f"`teacher_path` must hold a flow with {name} {value} as the data, "
                    f"got {getattr(config, name)}."
                )

    def _check_student_start(self) -> None:
        expected = self.config("student")
        got = self.student_start().config
        if type(got) is type(expected):
            expected = dataclasses.replace(expected, seed=got.seed)
        if got != expected:
            raise ValueError(
                f"`student_path` must hold a flow of the student's architecture, {expected}, "
                f"got {got}."
            )

    def student_start(self) -> Flow:
        """Loads the flow that every student starts from: what was kept of it, or its file."""
        kept = self.path / _START
        return load_flow(kept if kept.is_file() else self.recipe.student_path)

    def keep_student_start(self) -> None:
        """Copies the flow that every student starts from into the directory."""
        if not (self.path / _START).is_file():
            shutil.copyfile(self.recipe.student_path, self.path / f"{_START}.tmp")
            os.replace(self.path / f"{_START}.tmp", self.path / _START)

    @functools.cached_property
    def feature_extractor(self) -> FeatureExtractor | None:
        """What Frechet distances of images are measured by; None where they are not.

        Raises:
          ValueError: if the data is no images, or the file holds no extractor.
        """
        extractor = self.recipe.feature_extractor
        if not extractor:
            return None
        if self.data.pixel_format is None:
            raise ValueError(
                f"`feature_extractor` must be empty where `data` is no images, got {extractor!r}."
            )
        if extractor == "inception":
            return FeatureExtractor.inception()
        return FeatureExtractor.load(extractor)

    def config(self, role: str) -> FlowConfig:
        """Returns the architecture of "teacher" or "student" for the data.

        Raises:
          ValueError: if it does not fit them.
        """
        data, recipe = self.data, self.recipe
        make = recipe.teacher_config if role == "teacher" else recipe.student_config
        return make(
            data.event_shape, condition_dims=data.condition_dims, pixel_format=data.pixel_format
        )

    def load_flow(self, name: str) -> Flow:
        """Loads a trained model.

        Raises:
          ValueError: if there is none of that name.
        """
        if name not in self.trained():
            raise ValueError(
                f"`model` must be one of the trained {', '.join(self.trained()) or '(none)'} in "
                f"{str(self.path)!r}, got {name!r}."
            )
        return load_flow(self.model_directory(name) / "flow.keras")


def define_run_flags(flag_values: flags.FlagValues) -> None:
    """Defines `run_dir` and the flags of the recipe."""
    flags.DEFINE_string("run_dir", None, "Directory of the run.", flag_values=flag_values)
    define_recipe_flags(flag_values)


def open_run(flag_values: flags.FlagValues) -> RunDirectory:
    """Opens the run directory of the flags; a new one records the flags as its recipe.

    Raises:
      ValueError: if `run_dir` is missing, the recipe breaks a rule, or a flag contradicts the
        recipe that the directory holds.
    """
    if not flag_values["run_dir"].value:
        raise ValueError("`run_dir` must be given: the directory that holds the run.")
    path = pathlib.Path(flag_values["run_dir"].value).expanduser()
    recorded = path / _RECIPE
    if not recorded.is_file():
        run = RunDirectory(path, recipe_from_flags(flag_values))
        run.check_inputs()  # A recipe that cannot be carried out is not recorded.
        path.mkdir(parents=True, exist_ok=True)
        run.recipe.write(recorded)
        return run
    before = Recipe.read(recorded)
    recipe = recipe_from_flags(flag_values, base=before)
    for field in dataclasses.fields(Recipe):
        old, new = getattr(before, field.name), getattr(recipe, field.name)
        if old != new and field.name not in _FREE:
            raise ValueError(
                f"`{field.name}` must be {old!r} as in {str(recorded)!r}, got {new!r}; "
                "another recipe needs another `run_dir`."
            )
    return RunDirectory(path, recipe)
