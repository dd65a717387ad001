"""The partitions of a recipe, by name, and the turns of their parts."""

from __future__ import annotations

import itertools
import math
import pathlib
from collections.abc import Callable
from typing import Any, TypeVar

from tfp_distill.distillation import FlowDistiller
from tfp_distill.evaluation import EpochRecord, PartHistory
from tfp_distill.files import DamagedFileError, read_json, write_json
from tfp_distill.flows import Flow, FlowConfig
from tfp_distill.runs.fitting.training_record import FLOW_FILE, TrainingRecord
from tfp_distill.runs.recipe import METHODS, Recipe
from tfp_distill.runs.recipe.partition_names import END_TO_END, PartitionName, split_model_name
from tfp_distill.training import (
    OrderedRows,
    Partition,
    PartSchedule,
    PartwiseModel,
    PrefixCache,
    check_devices_exist,
)

__all__ = [
    "check_partitions",
    "epochs_of_parts",
    "model_name",
    "note_parts",
    "part_history",
    "part_schedule",
    "partition_of_run",
    "sorted_names",
]

_ENDS = "partition.json"
_T = TypeVar("_T")


def model_name(method: str, partition: str) -> str:
    """Returns the name of a student, which is also that of its directory."""
    return method if partition == END_TO_END else f"{method}_{partition}"


def sorted_names(path: pathlib.Path) -> tuple[str, ...]:
    """Returns the names of the models that a run directory holds: teacher, students, by method."""
    order: dict[str, tuple[Any, ...]] = {"teacher": (-1,)}
    for directory in path.glob("*/"):
        if found := split_model_name(directory.name, METHODS):
            method, partition = found
            whole = partition.kind == END_TO_END
            order[directory.name] = (METHODS.index(method), not whole, partition)
    names = sorted(order, key=order.__getitem__)
    return tuple(name for name in names if (path / name / FLOW_FILE).is_file())


def check_partitions(
    recipe: Recipe, config: FlowConfig, teacher_config: FlowConfig, num_rows: int
) -> None:
    """Raises `ValueError` if a student cannot be divided as the recipe says, or on its devices.

    Args:
      recipe: the recipe.
      config: architecture of the student.
      teacher_config: that of its teacher, of which a distilled student's parts hand on latents.
      num_rows: number of training rows, for whose sake the cache has to be large enough.
    """
    if recipe.devices:
        check_devices_exist(recipe.devices)
    names = [name for name in recipe.partitions if name != END_TO_END]
    if not names:
        return
    flow = Flow(config, name="student")
    # Where equal costs are is not worth knowing yet.
    partitions = [_partition(flow, name, balance="steps") for name in names]
    if not recipe.prefix_cache_gib:
        return
    models: list[PartwiseModel] = [flow]
    if any(losses := [recipe.losses(method) for method in recipe.students]):
        teacher = Flow(teacher_config, name="teacher")
        pair: dict[str, Any] = dict(student=flow, teacher=teacher)
        models += [FlowDistiller(**pair, distillation_losses=own) for own in losses if own]
    for model, (name, partition) in itertools.product(models, zip(names, partitions, strict=True)):
        model.compile("sgd", partition=partition)
        need = math.ceil(max(_numbers_handed(model)) * num_rows * 4 / 2**30 * 1e6) / 1e6
        if recipe.prefix_cache_gib < need:
            raise ValueError(
                f"`prefix_cache_gib` must be at least {need:g} for {num_rows:,} rows of what the "
                f"parts of {name} receive, got {recipe.prefix_cache_gib}."
            )


def partition_of_run(
    recipe: Recipe, flow: Flow, name: str, directory: pathlib.Path
) -> Partition | None:
    """Returns the partition of a flow of a name; None for end to end.

    Its boundaries are those of `note_parts`, if there are any: measured costs, which may decide
    about them, are others in the next process, which has to go on with the same parts.

    Raises:
      ValueError: if the flow cannot be divided so.
    """
    if name == END_TO_END:
        return None
    if recorded := _recorded_partition(flow, directory):
        return recorded
    return _partition(flow, name, recipe.part_balance)


def note_parts(model: PartwiseModel, directory: pathlib.Path) -> None:
    """Keeps the ends of a compiled model's parts, and how many numbers of a row they hand on."""
    ends = [part.last_step for part in model.parts]
    write_json(directory / _ENDS, {"ends": ends, "handed": _numbers_handed(model)})


def _numbers_handed(model: PartwiseModel) -> list[int]:
    return [model.handed_size(part) for part in range(1, len(model.parts))]


def _partition(flow: Flow, name: str, balance: str) -> Partition:
    parsed = PartitionName.parse(name)
    if parsed is None:
        raise ValueError(f"`partitions` must hold names of partitions, got {name!r}.")
    kind, num_parts, boundaries = parsed
    if kind == "at_steps":
        return Partition.at_steps(flow, boundaries)
    if kind == "by_block":
        return Partition.by_block(flow, num_parts)
    return Partition.across_blocks(flow, num_parts, balance)


def epochs_of_parts(recipe: Recipe, num_parts: int) -> tuple[tuple[int, ...], int]:
    """Returns the epochs of each part, and those end to end; an epoch is `report_steps`.

    Parts that take turns share the epochs in parts, as in PARTS, section 4: what is trained as long
    as an end-to-end training has seen the data as often.
    """
    epochs = recipe.training_steps("student") // recipe.report_steps
    end_to_end = round(recipe.end_to_end_fraction * epochs)
    if recipe.part_mode == "simultaneous":
        return (epochs - end_to_end,) * num_parts, end_to_end
    each, more = divmod(epochs - end_to_end, num_parts)
    return tuple(each + (part < more) for part in range(num_parts)), end_to_end


def part_schedule(recipe: Recipe, num_parts: int, rows: OrderedRows) -> PartSchedule:
    """Returns the turns of the parts of a recipe, which is trained on these rows."""
    in_parts, end_to_end = epochs_of_parts(recipe, num_parts)
    cache = None
    if recipe.prefix_cache_gib:
        cache = PrefixCache(
            rows,
            max_bytes=int(recipe.prefix_cache_gib * 2**30),
            refresh_epochs=recipe.prefix_cache_epochs or None,
        )
    return PartSchedule(
        recipe.part_mode,
        in_parts,
        end_to_end_epochs=end_to_end,
        fresh_optimizers=recipe.fresh_optimizers,
        prefix_cache=cache,
        devices=recipe.devices or None,
    )


def part_history(
    flow: Flow, record: TrainingRecord, directory: pathlib.Path, batch_size: int
) -> PartHistory:
    """Returns what a training took and reached, epoch by epoch.

    Args:
      flow: the flow that was trained.
      record: its record.
      directory: its directory.
      batch_size: rows of a batch.
    """
    figure = flow.config.domain.figures[-1]
    epochs, step, seconds = [], 0, 0.0
    for row in record.history:
        parts = row.get("parts")
        prefix = f"part_{parts[-1]}_" if parts else ""
        epochs.append(
            EpochRecord(
                parts=parts,
                steps=row["step"] - step,
                seconds=row["seconds"] - seconds,
                train=row.get(f"{prefix}{figure}", math.nan),
                validation=row[f"val_{figure}"],
                peak_bytes=row.get("peak_bytes"),
            )
        )
        step, seconds = row["step"], row["seconds"]
    numbers = _recorded(directory, lambda values: [int(number) for number in values["handed"]])
    each = flow.config.condition_dims
    return PartHistory(epochs, tuple(batch_size * 4 * (own + each) for own in numbers or ()))


def _recorded_partition(flow: Flow, directory: pathlib.Path) -> Partition | None:
    return _recorded(directory, lambda values: Partition.at_steps(flow, values["ends"][:-1]))


def _recorded(directory: pathlib.Path, read: Callable[[Any], _T]) -> _T | None:
    """Returns what is read of the record of a partition; None where there is none."""
    if not (directory / _ENDS).is_file():
        return None
    values = read_json(directory / _ENDS)
    try:
        return read(values)
    except (KeyError, TypeError, ValueError) as error:
        path = str(directory / _ENDS)
        raise DamagedFileError(f"{path!r} holds no ends of parts: {error}.") from error
