"""A run directory: one recipe, its data, and everything that was trained by it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator

from absl import flags

from tfp_distill.data import FlowData, load, sources
from tfp_distill.distillation import matching_steps
from tfp_distill.evaluation import FeatureExtractor
from tfp_distill.files import copy_file, write_text
from tfp_distill.flows import Flow, FlowConfig, load_flow
from tfp_distill.runs.data_record import DataRecord
from tfp_distill.runs.endings import only_here
from tfp_distill.runs.fitting.rows import batch_size_of
from tfp_distill.runs.fitting.training_record import FLOW_FILE, check_finished, check_teacher
from tfp_distill.runs.partitions import check_partitions, sorted_names
from tfp_distill.runs.racing.candidates import is_folder
from tfp_distill.runs.recipe import Recipe, recipe_from_flags, recorded_recipe
from tfp_distill.runs.strategies import join_workers, share_directory, together

__all__ = ["RunDirectory", "open_run"]

_RECIPE = "recipe.json"
_WINNER = "winner.txt"
_START = "start.keras"


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """A directory and its recipe.

    Attributes:
      path: the directory.
      recipe: what is done in it.
      parent: the run whose data and teacher this one shares, if it is a folder of it.
      strategy: that of the recipe in a process that trains, "default" in one that does not.
      is_copy: whether this is the copy of a worker that is not the chief, which only trains.
    """

    path: pathlib.Path
    recipe: Recipe
    parent: RunDirectory | None = None
    strategy: str = "default"
    is_copy: bool = False

    @contextlib.contextmanager
    def work(self) -> Iterator[None]:
        """Keeps the directory for this process as long as the block lasts, for all that train.

        Raises:
          RunStopped: if another process works there, or another worker has ended.
        """
        with only_here(self.path), together(self.strategy):
            yield

    @functools.cached_property
    def data(self) -> FlowData:
        """The recipe's data, loaded once."""
        recipe = self.recipe
        if self.parent and self.parent.recipe.train_rows == recipe.train_rows:
            return self.parent.data
        data = self._with_kinds_of_teacher(self._load_data())
        if recipe.batch_size > len(data.train):
            raise ValueError(
                f"`batch_size` must be at most the {len(data.train):,} training rows, "
                f"got {recipe.batch_size:,}."
            )
        recorded = DataRecord.read(self.path)
        # Published sets do not change, and may be prepared with other rounding elsewhere.
        if recorded and recipe.data not in sources() and recorded != DataRecord.of(data):
            raise ValueError(
                f"`data` must be as it was when {str(self.path)!r} was made, got other rows from "
                f"{recipe.data} ({recorded.sizes}, now {DataRecord.of(data).sizes}); other "
                "data need another `run_dir`."
            )
        return data

    @property
    def batch_size(self) -> int:
        """Rows of a training batch: those of the recipe, or what the data suggest."""
        data = self.data
        return self.recipe.batch_size or batch_size_of(data.domain.batch_rows, len(data.train))

    def learning_rate(self, role: str) -> float:
        """Returns the peak learning rate of "teacher" or "student", see `batch_size`."""
        return self.recipe.learning_rate(role, self.data.event_shape)

    def _load_data(self) -> FlowData:
        recipe = self.recipe
        return load(
            recipe.data,
            data_dir=recipe.data_dir or None,
            manual_dir=recipe.manual_dir or None,
            columns=recipe.columns,
            drop_columns=recipe.drop_columns,
            drop_missing=recipe.drop_missing,
            condition_columns=recipe.condition_columns,
            split=recipe.split,
            split_seed=recipe.split_seed,
            validation_data=recipe.validation_data or None,
            test_data=recipe.test_data or None,
            train_rows=recipe.train_rows,
            column_kinds=recipe.column_kinds,
            num_bits=recipe.num_bits or None,
            padding=recipe.padding,
            image_size=recipe.image_size or None,
        )

    def _with_kinds_of_teacher(self, data: FlowData) -> FlowData:
        """Gives columns the kinds that they have for a teacher that was there before."""
        if self.parent:
            return dataclasses.replace(data, domain=self.parent.data.domain)
        if not self.recipe.teacher_path or self.recipe.column_kinds != ("auto",):
            return data
        here = self.teacher_path
        config = load_flow(here if here.is_file() else self.recipe.teacher_path).config
        return dataclasses.replace(data, domain=config.domain)

    def warnings(self) -> tuple[str, ...]:
        """Returns what to mind about the data and the teacher, a sentence or two each.

        Raises:
          ValueError: if the data do not exist or have changed.
        """
        data, found = self.data, []
        kinds = data.domain.columns.kinds if data.domain.columns else ()
        told = {n for n, kind in zip(data.feature_names, kinds, strict=False) if kind == "integer"}
        discrete = [c.name for c in data.look if c.is_discrete and c.name not in told]
        if discrete:
            found.append(
                f"{', '.join(discrete)}: single values are common, so likelihoods have no bound. "
                "Compare them among models of these data only; `condition_columns` or "
                "`drop_columns` leave such columns out of the likelihood."
            )
        taken = self.teacher_path if "teacher" in self.trained() else self.recipe.teacher_path
        seen = DataRecord.beside(taken) if taken else None
        if seen and seen.may_have_trained_on_test_rows(DataRecord.of(data)):
            found.append(
                f"the teacher was trained on another split or other rows ({seen.rows[0]:,} of "
                f"{seen.name}), so that test rows may have been among its training rows."
            )
        return tuple(found)

    def within(self, folder: str, recipe: Recipe) -> RunDirectory:
        """Returns the run in a folder of this one: the same teacher, other students."""
        return RunDirectory(self.path / folder, recipe, parent=self)

    def model_directory(self, name: str) -> pathlib.Path:
        """Where a model of a name ("teacher", or that of a student) is kept."""
        return self.path / name

    @property
    def teacher_path(self) -> pathlib.Path:
        """The file of the teacher, there or not."""
        return self.parent.teacher_path if self.parent else self.path / "teacher" / FLOW_FILE

    def load_teacher(self) -> Flow:
        """Loads the teacher.

        Raises:
          ValueError: if there is none, or its training has not ended.
        """
        teacher = self.load_flow("teacher")
        check_finished(self.teacher_path, "run_dir")
        return teacher

    def label(self, name: str) -> str:
        """What lines of progress call a model."""
        return f"{self.path.name}/{name}" if self.parent else name

    def winner(self) -> str | None:
        """Returns the name of the model that won the last race in this directory, if any."""
        path = self.path / _WINNER
        return path.read_text(encoding="utf-8").strip() if path.is_file() else None

    def set_winner(self, name: str) -> None:
        """Keeps the name of the model that won a race."""
        write_text(self.path / _WINNER, name + "\n")

    def trained(self) -> tuple[str, ...]:
        """Names of the models that can be used, the teacher first, those in folders last."""
        folders = [path.name for path in self.path.glob("*/") if is_folder(path.name)]
        inner = (f"{f}/{name}" for f in sorted(folders) for name in sorted_names(self.path / f))
        return (*sorted_names(self.path), *inner)

    def check_inputs(self) -> None:
        """Checks what the recipe names: the data, and the teacher if it was not taken over yet.

        Raises:
          ValueError: if one of them does not exist or does not fit.
          OSError: if one of them cannot be read.
        """
        data, path = self.data, self.recipe.teacher_path
        if self.recipe.random_flip and not data.domain.is_images:
            raise ValueError("`random_flip` must be False where `data` is no images, got True.")
        for role in ("teacher", "student"):
            self.config(role)
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
        if taken_over:
            students = {name: self.model_directory(name) for name in self.trained()}
            check_teacher(students, self.teacher_path)
        elif path:
            check_finished(path, "teacher_path")
            self._check_teacher_fits(config)
        check_partitions(self.recipe, self.config("student"), config, len(data.train))

    def _check_teacher_fits(self, config: FlowConfig) -> None:
        for name in ("event_shape", "condition_dims", "domain"):
            expected = getattr(self.data, name)
            if getattr(config, name) != expected:
                raise ValueError(
                    f"`teacher_path` must hold a flow with {name} {expected} as the data, "
                    f"got {getattr(config, name)}."
                )

    def _check_student_start(self) -> None:
        expected = self.config("student")
        got = self.student_start().config
        if type(got) is type(expected):
            same = {"seed": got.get_config()["seed"]}
            expected = dataclasses.replace(expected, **same)
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
            copy_file(self.recipe.student_path, self.path / _START)

    @functools.cached_property
    def feature_extractor(self) -> FeatureExtractor | None:
        """What Frechet distances of images are measured by; None where they are not.

        Raises:
          ValueError: if the data is no images, or the file holds no extractor.
        """
        extractor = self.recipe.feature_extractor
        if not extractor:
            return None
        if not self.data.domain.is_images:
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
            data.event_shape,
            condition_dims=data.condition_dims,
            domain=data.domain,
        )

    def load_flow(self, name: str) -> Flow:
        """Loads a trained model.

        Raises:
          ValueError: if there is none of that name.
        """
        if name == "teacher" and self.parent:
            return self.parent.load_flow(name)
        if name not in self.trained():
            raise ValueError(
                f"`model` must be one of the trained {', '.join(self.trained()) or '(none)'} in "
                f"{str(self.path)!r}, got {name!r}."
            )
        return load_flow(self.model_directory(name) / FLOW_FILE)


def open_run(
    flag_values: flags.FlagValues,
    *,
    trains: bool = False,
    check: Callable[[RunDirectory], None] | None = None,
) -> RunDirectory:
    """Opens the run directory of the flags; a new one records the flags as its recipe, if all are.

    Args:
      flag_values: the flags of a script.
      trains: whether to join the other workers that train by this recipe, if there are any; one
        that is not the chief gets a copy of the directory.
      check: raises `ValueError` if the recipe cannot be carried out, beside `check_inputs`.

    Raises:
      ValueError: if `run_dir` is missing, the recipe breaks a rule, or a flag contradicts the
        recipe that the directory holds.
      RunStopped: if another worker has ended.
    """
    if not flag_values["run_dir"].value:
        raise ValueError("`run_dir` must be given: the directory that holds the run.")
    path = pathlib.Path(flag_values["run_dir"].value).expanduser()
    recorded = path / _RECIPE
    is_new = not recorded.is_file()
    if is_new and "data" not in flag_values:
        raise ValueError(f"`run_dir` must hold a run, got no {_RECIPE} in {str(path)!r}.")
    recipe = recipe_from_flags(flag_values) if is_new else recorded_recipe(recorded, flag_values)
    strategy = recipe.strategy if trains else "default"
    is_chief = join_workers(strategy)
    run, begins = RunDirectory(path, recipe), is_chief and is_new
    if begins:
        run.check_inputs()  # A recipe that cannot be carried out is not recorded.
    if check:
        check(run)
    if begins:
        path.mkdir(parents=True, exist_ok=True)
        DataRecord.of(run.data).write(path)
        recipe.write(recorded)
    path = share_directory(strategy, path)
    return RunDirectory(path, recipe, strategy=strategy, is_copy=not is_chief)
