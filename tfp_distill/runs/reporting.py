"""The evaluation of a run on test data, and its report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from tfp_distill.evaluation import (
    FrechetDistance,
    LearningCurve,
    Result,
    Table,
    evaluate_flow,
    format_table,
    frechet_distance,
    image_statistics,
    interpolated_images,
    interpolations,
    learning_curves,
    marginals,
    nearest_training_images,
    pairwise,
    part_curves,
    phase_table,
    reconstructions,
    reference_statistics,
    sample_grid,
    sampled_images,
    temperature_sweep,
    training_table,
    write_report,
    write_results_json,
)
from tfp_distill.flows import Flow
from tfp_distill.runs.fitting import read_record
from tfp_distill.runs.partition_names import END_TO_END
from tfp_distill.runs.partitions import part_history
from tfp_distill.runs.run_directory import RunDirectory

__all__ = ["evaluate"]

_GUARD_NOTE = (
    "These students fell behind the plain one on validation data, by more than two standard errors "
    "of the paired difference three times in a row, and let go of the teacher from that step on; "
    "one that was still behind at its end has the plain student's flow."
)
_PLOTTED_SAMPLES = 20_000
_TEMPERATURES = (1.0, 0.7)  # Those of Walton et al., 2023, Table 6.
_SPEED_BATCH_OF_IMAGES = 64


def evaluate(run: RunDirectory, *, command: str) -> list[Result]:
    """Evaluates all trained models on test data, writes the report and returns the results.

    Args:
      run: the run.
      command: what was typed, for the report.
    """
    data, recipe = run.data, run.recipe
    flows = {name: run.load_flow(name) for name in run.trained()}
    results, curves, histories = [], {}, {}
    for name, flow in flows.items():
        print(f"{name}: is evaluated", flush=True)
        record = read_record(run.model_directory(name))
        results.append(
            evaluate_flow(
                flow,
                name,
                data.test,
                data.test_condition,
                frechet=_frechet_distances(run, flow),
                training_steps=record.steps,
                training_seconds=record.seconds,
                skipped_steps=record.skipped_steps,
                draws=recipe.evaluation_draws if data.pixel_format else 1,
                speed_batch_size=_SPEED_BATCH_OF_IMAGES if data.pixel_format else 1000,
            )
        )
        if record.history:
            columns = ([row[k] for row in record.history] for k in ("step", "seconds", "val_nll"))
            curves[name] = LearningCurve(*columns)
            directory = run.model_directory(name)
            histories[name] = part_history(flow, record, directory, recipe.batch_size)
    settings = _settings(run, command)
    figures = {"Learning curves on validation data": learning_curves(curves)}
    tables = {}
    if any(history.num_parts > 1 for history in histories.values()):
        unit, test = _part_figures(results)
        histories = {_training(name): history for name, history in histories.items()}
        tables["In parts, beside end to end"] = training_table(histories, test, unit=unit)
        tables["Phases and parts"] = phase_table(histories, unit=unit)
        figures = {"In parts, beside end to end": part_curves(histories, unit=unit), **figures}
    if guards := _guard_table(run, flows):
        tables["Guarded students"] = guards
    figures |= (_draw_images if data.pixel_format else _draw_rows)(run, flows)
    write_results_json(run.path / "results.json", results, settings=settings)
    write_report(
        run.path / "report.html",
        results,
        title=f"Normalizing flows of {data.name}",
        settings=settings,
        figures=figures,
        tables=tables,
    )
    print("\n\n".join([format_table(results), *map(str, tables.values())]), flush=True)
    return results


def _guard_table(run: RunDirectory, names: Iterable[str]) -> Table | None:
    """Returns what the guard has done, a row per student that it did something with."""
    records = {name: read_record(run.model_directory(name)) for name in names}
    rows = [
        [
            name,
            "-" if record.guarded_at is None else f"{record.guarded_at:,}",
            "yes" if record.replaced else "no",
        ]
        for name, record in records.items()
        if record.guarded_at is not None or record.replaced
    ]
    if not rows:
        return None
    header = ["model", "guarded at step", "has the plain student's flow"]
    return Table(header, rows, note=_GUARD_NOTE)


def _part_figures(results: Sequence[Result]) -> tuple[str, dict[str, float]]:
    """Returns the unit of the figures of trainings in parts, and those of the test data by name."""
    if all(result.bits_per_dim is not None for result in results):
        return "bits per dimension", {_training(r.name): r.bits_per_dim for r in results}
    return "nats per example", {_training(r.name): -r.likelihood.mean for r in results}


def _training(name: str) -> str:
    """Returns the name of a model among trainings in parts, which are compared with "student"."""
    return END_TO_END if name == "student" else name


def _settings(run: RunDirectory, command: str) -> dict[str, str]:
    data, recipe = run.data, run.recipe
    numbers = (f"{len(part):,}" for part in (data.train, data.validation, data.test))
    shape = "x".join(map(str, data.event_shape))
    settings = {
        "command": command,
        "data": "{}, {} training, {} validation and {} test examples of {}".format(
            data.name, *numbers, shape
        ),
        "seed": str(recipe.seed),
    }
    for role in ("teacher", "student"):
        values = vars(run.config(role)).items()
        settings[role] = ", ".join(f"{name}={value}" for name, value in values)
    settings["recipe"] = ", ".join(f"{name}={value}" for name, value in vars(recipe).items())
    return settings


def _frechet_distances(run: RunDirectory, flow: Flow) -> dict[str, FrechetDistance]:
    """Returns the distances of samples and of interpolations from test images, by name."""
    extractor, data, number = run.feature_extractor, run.data, run.recipe.frechet_images
    if extractor is None:
        return {}
    reference = reference_statistics(data.test[:number], extractor)
    seed = run.recipe.seed
    streams = {}
    for temperature in _TEMPERATURES:
        options = dict(temperature=temperature, seed=seed)
        streams[f"samples, T = {temperature:g}"] = sampled_images(flow, number, **options)
        streams[f"half-way, T = {temperature:g}"] = interpolated_images(
            flow, data.test, number, **options
        )
    return {
        name: frechet_distance(reference, image_statistics(images, extractor))
        for name, images in streams.items()
    }


def _draw_rows(run: RunDirectory, flows: Mapping[str, Flow]) -> dict[str, Figure]:
    data = run.data
    samples = {name: _samples(flow, data.test_condition) for name, flow in flows.items()}
    names = data.feature_names
    return {
        "Marginals": marginals(data.test, samples, feature_names=names),
        "Pairs of dimensions": pairwise(data.test, samples, feature_names=names),
    }


def _samples(flow: Flow, condition: np.ndarray | None) -> np.ndarray:
    if condition is None:
        return flow.sample(_PLOTTED_SAMPLES).numpy()
    condition = condition[:_PLOTTED_SAMPLES]
    return flow.sample(len(condition), condition).numpy()


def _draw_images(run: RunDirectory, flows: Mapping[str, Flow]) -> dict[str, Figure]:
    data, seed = run.data, run.recipe.seed
    chosen = data.test[np.random.default_rng(seed).permutation(len(data.test))[:16]]
    pairs = len(chosen) // 2
    return {
        "Samples": sample_grid(flows, seed=seed),
        "Temperatures": temperature_sweep(flows, seed=seed),
        "Reconstructions": reconstructions(flows, chosen),
        "Interpolations": interpolations(flows, chosen[:pairs], chosen[pairs : 2 * pairs]),
        "Nearest training images": nearest_training_images(flows, data.train, seed=seed),
    }
