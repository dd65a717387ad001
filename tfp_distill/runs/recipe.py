"""A recipe: everything that determines a run, as a dataclass and as absl flags."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from absl import flags

from tfp_distill.files import DamagedFileError, read_json, write_json
from tfp_distill.runs.partition_names import END_TO_END, PartitionName

# A script knows its flags before TensorFlow is there: what needs it is imported where it is used.
if TYPE_CHECKING:
    from tfp_distill.columns import Columns
    from tfp_distill.distillation import DistillationLoss
    from tfp_distill.flows import FlowConfig
    from tfp_distill.pixels import PixelFormat

__all__ = ["METHODS", "Recipe", "define_recipe_flags", "define_run_flags", "recipe_from_flags"]

_ARCHITECTURES = ("glow", "maf", "iaf")
_JIT_COMPILE: dict[str, str | bool] = {"auto": "auto", "on": True, "off": False}
# Added to the seed of the recipe: teacher and students do not start with the same weights.
_SEEDS = {"teacher": 0, "student": 1_000_003}
# The losses of each way to train a student, in the order of their weights after that of the nll.
_LOSSES = {
    "student": (),
    "lkd": ("latent_loss",),
    "ilkd": ("intermediate_latent_loss",),
    "skd": ("intermediate_latent_loss", "synthesized_loss"),
    "forward_kl": ("forward_kl_loss",),
    "reverse_kl": ("reverse_kl_loss",),
    "mixture": ("forward_kl_loss",),
}
METHODS = tuple(_LOSSES)
_OVER_SAMPLES = {"synthesized_loss", "forward_kl_loss"}
_HINTS = ("lkd", "ilkd", "skd")
_STARTS = ("new", "aligned", "copied")
# Those whose losses every part of a student has at its own steps.
_METHODS_OF_PARTS = ("student", "lkd", "ilkd")


def _field(default: Any, help_text: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": help_text})


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Data, two architectures, how they are trained, and how the student is distilled.

    The help of each flag of the same name documents the field.

    Raises:
      ValueError: if a value breaks its rule.
    """

    data: str = _field("embedded", "Name of a data set, or path of rows or images of yours.")
    data_dir: str = _field("", "Where prepared benchmark data are kept; TFDS's default if empty.")
    manual_dir: str = _field("", "Directory with published archives, to use instead of downloads.")
    condition_columns: tuple[str, ...] = _field((), "Columns that condition the flow.")
    columns: tuple[str, ...] = _field((), "Columns of a table of yours to use; all if empty.")
    drop_columns: tuple[str, ...] = _field((), "Columns of a table of yours to leave out.")
    drop_missing: bool = _field(False, "Whether to leave out a table's rows with missing values.")
    column_kinds: tuple[str, ...] = _field(
        ("auto",),
        "What columns hold: auto, by the look of a table of yours (those of named data stay "
        "continuous); continuous; or NAME:KIND or NAME:KIND:LOW:HIGH of some, after auto or alone, "
        "KIND being continuous, integer or bounded.",
    )
    split: str = _field("random", "How to split a table of yours: random or by_order, test last.")
    split_seed: int = _field(0, "Seed of random splits, whatever the seed of a training.")
    validation_data: str = _field("", "A table of yours to validate with; drawn if empty.")
    test_data: str = _field("", "A table of yours to test with; drawn if empty.")
    train_rows: int = _field(0, "Use only the first so many training rows; 0 for all.")
    num_bits: int = _field(0, "Bits of a pixel's channel that are modelled; 0: all of the source.")
    padding: int = _field(0, "Black pixels to add at each border of images.")
    image_size: int = _field(0, "Crop images to a square and resize them to this; 0: as they are.")
    random_flip: bool = _field(False, "Whether training images are mirrored at random.")
    seed: int = _field(0, "Seed of weights, batches and latents.")

    teacher_path: str = _field("", "A saved .keras flow to use as teacher instead of training one.")
    teacher_architecture: str = _field("glow", "glow, maf or iaf.")
    teacher_depth: int = _field(5, "Number of steps, for images of each level.")
    teacher_levels: int = _field(3, "Number of levels of a Glow of images.")
    teacher_coupling: str = _field(
        "", "affine, additive (glow only) or spline; if empty spline for a glow of rows."
    )
    teacher_hidden_layers: int = _field(
        0, "Hidden layers of conditioners of rows; 0: 5 of an affine or additive glow, else 2."
    )
    teacher_width: int = _field(64, "Hidden units or channels of the conditioners.")
    teacher_training_steps: int = _field(
        4000, "Training steps of the teacher, rounded up to a multiple of report_steps."
    )
    teacher_learning_rate: float = _field(1e-2, "Peak learning rate of the teacher.")

    student_architecture: str = _field("glow", "glow, maf or iaf.")
    student_depth: int = _field(3, "Number of steps, for images of each level.")
    student_levels: int = _field(3, "Number of levels of a Glow of images.")
    student_coupling: str = _field(
        "", "affine, additive (glow only) or spline; if empty spline for a glow of rows."
    )
    student_hidden_layers: int = _field(
        0, "Hidden layers of conditioners of rows; 0: 5 of an affine or additive glow, else 2."
    )
    student_width: int = _field(32, "Hidden units or channels of the conditioners.")
    student_training_steps: int = _field(
        3000, "Training steps of each student, rounded up to a multiple of report_steps."
    )
    student_learning_rate: float = _field(2e-2, "Peak learning rate of each student.")
    students: tuple[str, ...] = _field(
        (),
        f"Students to train and compare, of {', '.join(METHODS)}; a race of candidates if empty.",
    )

    candidates: tuple[str, ...] = _field(
        (), "Architectures to race, as spline_3x32 (depth, width); usual smaller ones if empty."
    )
    within: float = _field(
        0.05, "How far behind the teacher the flow may be: nats, or bits per dimension of images."
    )
    max_parameters: int = _field(0, "Race no candidate with more parameters; 0: no limit.")
    max_ms: float = _field(
        0.0, "Race no candidate that takes longer for 1,000 samples (64 of images); 0: no limit."
    )
    race_methods: tuple[str, ...] = _field(
        ("ilkd",),
        "How to distill the chosen architecture, and the next smaller one if it is close.",
    )
    few_rows: int = _field(
        0, "Also train the chosen architecture on so many rows, with and without the teacher."
    )
    workers: int = _field(0, "Trainings of a race side by side; 0: one a core.")

    num_bins: int = _field(8, "Bins of splines.")
    tail_bound: float = _field(4.0, "Where the tails of splines begin.")
    min_slope: float = _field(
        0.01, "Bound of the slopes of splines; smaller for data with spikes, less exact inverses."
    )
    mixing: bool = _field(False, "Whether linear maps go before the steps of maf and iaf.")

    partitions: tuple[str, ...] = _field(
        (END_TO_END,),
        "How to divide each student: end_to_end, by_block_N, across_blocks_N, at_steps_I_J...",
    )
    part_balance: str = _field("steps", "What across_blocks shares: steps, parameters or cost.")
    part_mode: str = _field("alternating", "sequential, alternating or simultaneous.")
    prefix_cache_gib: float = _field(
        0.0, "GiB to keep what frozen parts hand on in, with sequential; 0: they run every time."
    )
    prefix_cache_epochs: int = _field(
        0, "Times report_steps after which that is computed again, with new noise; 0: once a part."
    )
    devices: tuple[str, ...] = _field(
        (), "The device of each part, with simultaneous: they then work at the same time."
    )
    part_learning_rate: float = _field(
        0.0, "Learning rate of parts, which decays end to end; 0: the peak of students."
    )
    end_to_end_fraction: float = _field(
        1 / 3, "Part of the training of a divided student that is end to end, at its end."
    )
    fresh_optimizers: bool = _field(
        False, "Whether the end-to-end part of the training has new optimisers."
    )

    batch_size: int = _field(512, "Rows of a training batch.")
    warmup_steps: int = _field(500, "Steps of linear warm-up, at most a tenth of the training.")
    clip_norm: float = _field(1.0, "Largest norm of the gradient.")
    ema_momentum: float = _field(0.99, "Momentum of the average of the weights; 0 for none.")
    weight_decay: float = _field(0.0, "Decoupled weight decay (AdamW).")
    jit_compile: str = _field("auto", "Whether XLA compiles: on, off, or auto for where it pays.")
    report_steps: int = _field(250, "Steps between two measurements on validation data.")

    evaluation_draws: int = _field(1, "Draws of noise that the likelihood of images averages.")
    feature_extractor: str = _field(
        "", "For Frechet distances: inception, or a .keras file of features; none if empty."
    )
    frechet_images: int = _field(10_000, "Number of samples and of test images to compare.")

    lkd_weights: tuple[float, ...] = _field((1.0, 0.5), "Weights of nll, LKD.")
    ilkd_weights: tuple[float, ...] = _field((1.0, 0.5), "Weights of nll, ILKD.")
    skd_weights: tuple[float, ...] = _field((1.0, 0.5, 0.05), "Weights of nll, ILKD, SKD.")
    forward_kl_weights: tuple[float, ...] = _field((0.0, 1.0), "Weights of nll, forward KL.")
    reverse_kl_weights: tuple[float, ...] = _field((0.0, 1.0), "Weights of nll, reverse KL.")
    mixture_weights: tuple[float, ...] = _field(
        (0.5, 0.5), "Weights of nll, forward KL, with which a mixture begins."
    )
    teacher_pairs: int = _field(
        65_536,
        "Samples of the teacher that students of rows draw from, made anew every 1,000 steps; 0: "
        "new ones at each step, as of images.",
    )
    mixture_tolerance: float = _field(
        0.1,
        "How much of the nll a mixture may learn by heart, as a part of what the teacher is ahead.",
    )
    student_start: str = _field(
        "aligned",
        "Where distilled students start: new; aligned, which puts Glow students of LKD, ILKD and "
        "SKD in the teacher's frame; or copied, with the weights of those of its steps that fit.",
    )
    student_path: str = _field(
        "", "A saved .keras flow that every student starts from, instead of student_start."
    )
    guard: bool = _field(
        True,
        "Whether methods that fall behind the plain student, where students has it, let go of the "
        "teacher.",
    )
    distance: str = _field("l1", "Distance of latents and samples: l1, l2 or huber.")
    synthesized_space: str = _field("data", "Where SKD compares: data or latent.")
    synthesized_start: float = _field(0.1, "Part of the training after which SKD starts.")
    temperature: float = _field(1.0, "Standard deviation of the latents that are shared.")
    fade_out: float = _field(
        0.3, "Part of the training in which LKD, ILKD and SKD fade to 0; 0: they stay."
    )

    def __post_init__(self) -> None:
        from tfp_distill.data import SPLITS

        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            values = value if isinstance(value, tuple) else (value,)
            finite = all(math.isfinite(item) for item in values if isinstance(item, float))
            self._check(field.name, "finite", finite)
        at_least = {
            2: ("frechet_images",),
            1: (
                *("teacher_training_steps", "student_training_steps", "batch_size"),
                *("report_steps", "teacher_levels", "student_levels", "evaluation_draws"),
            ),
            0: (
                *("train_rows", "split_seed", "seed", "warmup_steps", "weight_decay"),
                *("num_bits", "padding", "image_size", "teacher_pairs"),
                *("within", "max_parameters", "max_ms", "few_rows", "workers"),
            ),
        }
        for minimum, names in at_least.items():
            for name in names:
                self._check(name, f"at least {minimum}", getattr(self, name) >= minimum)
        for name in ("teacher_learning_rate", "student_learning_rate", "clip_norm"):
            self._check(name, "positive", getattr(self, name) > 0)
        for name in ("synthesized_start", "fade_out"):
            self._check(name, "between 0 and 1", 0 <= getattr(self, name) <= 1)
        self._check("mixture_tolerance", "positive", self.mixture_tolerance > 0)
        rule = f"one of {', '.join(_STARTS)}"
        self._check("student_start", rule, self.student_start in _STARTS)
        is_legal = not self.student_path or self.student_start != "copied"
        self._check("student_path", "empty where `student_start` is copied", is_legal)
        self._check_parts()
        self._check("split", f"one of {', '.join(SPLITS)}", self.split in SPLITS)
        self._check("ema_momentum", "at least 0 and less than 1", 0 <= self.ema_momentum < 1)
        for name in ("teacher_architecture", "student_architecture"):
            rule = f"one of {', '.join(_ARCHITECTURES)}"
            self._check(name, rule, getattr(self, name) in _ARCHITECTURES)
        rule = f"different names out of {', '.join(METHODS)}"
        known = set(self.students) <= set(METHODS) and len(set(self.students)) == len(self.students)
        self._check("students", rule, known)
        rule = f"different names out of {', '.join(METHODS[1:])}"
        different = len(set(self.race_methods)) == len(self.race_methods)
        is_legal = different and set(self.race_methods) <= set(METHODS[1:])
        self._check("race_methods", rule, is_legal)
        for method in METHODS[1:]:
            number = 1 + len(_LOSSES[method])
            weights = getattr(self, f"{method}_weights")
            rule = f"{number} numbers, none negative and not all 0"
            is_legal = len(weights) == number and min(weights) >= 0 and max(weights) > 0
            self._check(f"{method}_weights", rule, is_legal)
        self._check("jit_compile", "auto, on or off", self.jit_compile in _JIT_COMPILE)
        self._check("mixture_weights", "two positive numbers", min(self.mixture_weights) > 0)
        for role in ("teacher", "student"):
            self._check_coupling(role)
        self.teacher_config((2,))
        self.student_config((2,))
        self.losses("skd")
        for method in self.students or self.race_methods:
            self.check_method(method)

    def _check(self, name: str, rule: str, is_legal: bool) -> None:
        if not is_legal:
            raise ValueError(f"`{name}` must be {rule}, got {getattr(self, name)!r}.")

    def _check_coupling(self, role: str) -> None:
        couplings: tuple[str, ...] = ("affine", "additive", "spline")
        if getattr(self, f"{role}_architecture") != "glow":
            couplings = ("affine", "spline")
        name = f"{role}_coupling"
        is_legal = getattr(self, name) in ("", *couplings)
        self._check(name, f"one of {', '.join(couplings)}", is_legal)
        layers = f"{role}_hidden_layers"
        self._check(layers, "at least 0", getattr(self, layers) >= 0)

    def _check_parts(self) -> None:
        from tfp_distill.training import BALANCES, MODES

        is_legal = 0 <= self.end_to_end_fraction < 1
        self._check("end_to_end_fraction", "at least 0 and less than 1", is_legal)
        for name in ("part_learning_rate", "prefix_cache_gib", "prefix_cache_epochs"):
            self._check(name, "at least 0", getattr(self, name) >= 0)
        choices = {"part_mode": MODES, "part_balance": BALANCES}
        for name, values in choices.items():
            self._check(name, f"one of {', '.join(values)}", getattr(self, name) in values)
        parsed = [known for name in self.partitions if (known := PartitionName.parse(name))]
        self._check(
            "partitions",
            "different ones of end_to_end, by_block_N, across_blocks_N and at_steps_I_J..., with "
            "a number of parts N of at least 2",
            bool(parsed) and len(set(parsed)) == len(self.partitions),
        )
        is_legal = not self.prefix_cache_gib or self.part_mode == "sequential"
        self._check("prefix_cache_gib", "0 unless `part_mode` is sequential", is_legal)
        is_legal = not self.prefix_cache_epochs or self.prefix_cache_gib > 0
        self._check("prefix_cache_epochs", "0 unless `prefix_cache_gib` is not", is_legal)
        is_legal = not self.devices or self.part_mode == "simultaneous"
        self._check("devices", "empty unless `part_mode` is simultaneous", is_legal)
        numbers = {name.num_parts for name in parsed} - {1}
        rule = "one for each part of all `partitions`"
        self._check("devices", rule, not self.devices or numbers <= {len(self.devices)})
        num_parts = max(name.num_parts for name in parsed)
        if num_parts == 1:
            return
        if self.prefix_cache_gib or self.devices:
            rule = "only student where parts have a cache or devices"
            self._check("students", rule, self.students == ("student",))
        rule = f"end_to_end where `students` are not of {', '.join(_METHODS_OF_PARTS)}"
        is_legal = bool(self.students) and set(self.students) <= set(_METHODS_OF_PARTS)
        self._check("partitions", rule, is_legal)
        epochs = self.training_steps("student") // self.report_steps
        in_parts = epochs - round(self.end_to_end_fraction * epochs)
        needed = 1 if self.part_mode == "simultaneous" else num_parts
        rule = f"so small that {needed} of the {epochs} times `report_steps` are left for parts"
        self._check("end_to_end_fraction", rule, in_parts >= needed)

    def teacher_config(
        self,
        event_shape: tuple[int, ...],
        *,
        condition_dims: int = 0,
        pixel_format: PixelFormat | None = None,
        columns: Columns | None = None,
    ) -> FlowConfig:
        """Returns the architecture of the teacher for examples of a shape.

        Raises:
          ValueError: if the architecture does not fit examples of that shape.
        """
        return self._config("teacher", event_shape, condition_dims, pixel_format, columns)

    def student_config(
        self,
        event_shape: tuple[int, ...],
        *,
        condition_dims: int = 0,
        pixel_format: PixelFormat | None = None,
        columns: Columns | None = None,
    ) -> FlowConfig:
        """Returns the architecture of every student, as `teacher_config`."""
        return self._config("student", event_shape, condition_dims, pixel_format, columns)

    def coupling(self, role: str, *, images: bool) -> str:
        """Returns the coupling of "teacher" or "student"."""
        is_glow_of_rows = not images and getattr(self, f"{role}_architecture") == "glow"
        return getattr(self, f"{role}_coupling") or ("spline" if is_glow_of_rows else "affine")

    @property
    def uses_xla(self) -> str | bool:
        """`jit_compile` as Keras's `compile` takes it."""
        return _JIT_COMPILE[self.jit_compile]

    def training_steps(self, role: str) -> int:
        """Returns the steps of "teacher" or "student", a multiple of `report_steps`."""
        return -(-getattr(self, f"{role}_training_steps") // self.report_steps) * self.report_steps

    def losses(self, method: str) -> tuple[DistillationLoss, ...]:
        """Returns the distillation losses of a method, none for "student"."""
        from tfp_distill.distillation import (
            ForwardKLLoss,
            IntermediateLatentLoss,
            LatentLoss,
            ReverseKLLoss,
            SynthesizedLoss,
        )

        latents: dict[str, Any] = dict(distance=self.distance)
        drawn: dict[str, Any] = dict(temperature=self.temperature)
        made = {
            "latent_loss": lambda: LatentLoss(**latents),
            "intermediate_latent_loss": lambda: IntermediateLatentLoss(**latents),
            "synthesized_loss": lambda: SynthesizedLoss(
                **latents, **drawn, space=self.synthesized_space
            ),
            "forward_kl_loss": lambda: ForwardKLLoss(**drawn),
            "reverse_kl_loss": lambda: ReverseKLLoss(**drawn),
        }
        return tuple(made[name]() for name in _LOSSES[method])

    def start(self, method: str) -> str:
        """Returns what a student of this method starts from: "new", "aligned" or "copied"."""
        if method == "student" or self.student_path:
            return "new"
        can_align = method in _HINTS and self.student_architecture == "glow"
        return "new" if self.student_start == "aligned" and not can_align else self.student_start

    def guards(self, method: str) -> bool:
        """Returns whether this method is compared with the plain student."""
        return self.guard and method != "student" and "student" in self.students

    def draws_pairs(self, method: str) -> bool:
        """Returns whether a method looks at samples of the teacher that can be made before."""
        return self.teacher_pairs > 0 and bool(_OVER_SAMPLES & set(_LOSSES[method]))

    def fades_out(self, method: str) -> bool:
        """Returns whether the weights of the distillation losses of this method go to 0."""
        return self.fade_out > 0 and method in _HINTS

    def check_method(self, method: str) -> None:
        """Raises `ValueError` if a method would have nothing to minimise, or SKD no step."""
        nll_weight, *weights = self.weights(method)
        if method == "skd" and self.fades_out(method):
            rule = f"less than `fade_out` ({self.fade_out})"
            self._check("synthesized_start", rule, self.synthesized_start < self.fade_out)
        if nll_weight:
            return
        rule = f"0 where `{method}_weights` gives the nll no weight"
        self._check("fade_out", rule, not self.fades_out(method))
        if method == "skd" and not weights[0]:
            rule = "0 where `skd_weights` gives nothing but SKD a weight"
            self._check("synthesized_start", rule, self.synthesized_start == 0)

    def weights(self, method: str) -> tuple[float, ...]:
        """Returns the weights of the nll and of the losses of a method."""
        return (1.0,) if method == "student" else getattr(self, f"{method}_weights")

    def _config(
        self,
        role: str,
        event_shape: tuple[int, ...],
        condition_dims: int,
        pixel_format: PixelFormat | None,
        columns: Columns | None,
    ) -> FlowConfig:
        from tfp_distill.flows import GlowConfig, MAFConfig, TabularGlowConfig

        architecture, depth, width, levels = (
            getattr(self, f"{role}_{name}") for name in ("architecture", "depth", "width", "levels")
        )
        coupling = self.coupling(role, images=pixel_format is not None)
        splines: dict[str, Any] = dict(
            num_bins=self.num_bins, tail_bound=self.tail_bound, min_slope=self.min_slope
        )
        seed = self.seed + _SEEDS[role]
        if pixel_format:
            self._check(f"{role}_architecture", "glow for images", architecture == "glow")
            height, breadth, channels = event_shape
            return GlowConfig(
                (height, breadth, channels),
                num_levels=levels,
                steps_per_level=depth,
                hidden_channels=width,
                coupling=coupling,
                **splines,
                num_bits=pixel_format.num_bits,
                padding=pixel_format.padding,
                seed=seed,
            )
        common = dict(
            dims=event_shape[0],
            num_steps=depth,
            hidden_units=width,
            num_hidden_layers=getattr(self, f"{role}_hidden_layers")
            or (5 if architecture == "glow" and coupling != "spline" else 2),
            condition_dims=condition_dims,
            seed=seed,
            columns=columns,
            **splines,
        )
        if architecture == "glow":
            return TabularGlowConfig(**common, coupling=coupling)
        return MAFConfig(
            **common,
            transform=coupling,
            mixing=self.mixing,
            inverse_autoregressive=architecture == "iaf",
        )

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


def define_run_flags(flag_values: flags.FlagValues) -> None:
    """Defines `run_dir` and the flags of the recipe."""
    flags.DEFINE_string("run_dir", None, "Directory of the run.", flag_values=flag_values)
    define_recipe_flags(flag_values)


def define_recipe_flags(flag_values: flags.FlagValues) -> None:
    """Defines one flag for each field of `Recipe`."""
    for field in dataclasses.fields(Recipe):
        text = field.metadata["help"]
        if isinstance(field.default, tuple):
            default = [str(item) for item in field.default]
            flags.DEFINE_list(field.name, default, text, flag_values=flag_values)
            continue
        definitions: dict[type, Callable[..., Any]] = {
            str: flags.DEFINE_string,
            bool: flags.DEFINE_boolean,
            int: flags.DEFINE_integer,
            float: flags.DEFINE_float,
        }
        define = definitions[type(field.default)]
        define(field.name, field.default, text, flag_values=flag_values)


def recipe_from_flags(flag_values: flags.FlagValues, *, base: Recipe | None = None) -> Recipe:
    """Makes a recipe of the flags.

    Args:
      flag_values: parsed flags.
      base: a recipe whose values stand where no flag was given; the defaults otherwise.

    Raises:
      ValueError: if a value breaks its rule.
    """
    given: Mapping[str, Any] = {
        field.name: _from_flag(field, flag_values[field.name].value)
        for field in dataclasses.fields(Recipe)
        if base is None or flag_values[field.name].present
    }
    return dataclasses.replace(base or Recipe(), **given)


def _from_flag(field: dataclasses.Field[Any], value: Any) -> Any:
    if not isinstance(field.default, tuple):
        return value
    if not field.name.endswith("_weights"):
        return tuple(value)
    try:
        return tuple(float(item) for item in value)
    except ValueError:
        raise ValueError(f"`{field.name}` must be numbers, got {','.join(value)!r}.") from None
