"""The evaluation of a run on test data, and its report."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tfp_distill.data import FlowData
from tfp_distill.evaluation import (
    DataRange,
    FrechetDistance,
    LearningCurve,
    Result,
    Table,
    TwoSampleTest,
    evaluate_flow,
    format_table,
    frechet_distance,
    fronts,
    image_statistics,
    interpolated_images,
    interpolations,
    learning_curves,
    marginals,
    measure_speeds,
    nearest_training_images,
    pairwise,
    part_curves,
    phase_table,
    reconstructions,
    reference_statistics,
    sample_grid,
    sample_quality,
    sampled_images,
    sampler_table,
    temperature_sweep,
    training_table,
    two_sample_auc,
    write_report,
    write_results_json,
)
from tfp_distill.evaluation.text_table import UNDEFINED
from tfp_distill.flows import Flow
from tfp_distill.runs.data_tables import columns_table
from tfp_distill.runs.fitting.training_record import read_record
from tfp_distill.runs.partitions import part_history
from tfp_distill.runs.racing.race import Outcome
from tfp_distill.runs.racing.race_report import race_summary, race_table
from tfp_distill.runs.recipe.partition_names import END_TO_END
from tfp_distill.runs.run_directory import RunDirectory
from tfp_distill.runs.sampler_report import compare_samplers

__all__ = ["evaluate", "show_data"]

_GUARD_NOTE = (
    "These students fell behind the plain one on validation data, by more than two standard errors "
    "of the paired difference three times in a row, and let go of the teacher from that step on; "
    "one that was still behind at its end has the plain student's flow."
)
_SAMPLES_OF_ROWS = 20_000
_TESTED_ROWS, _FEWEST_TESTED_ROWS = 10_000, 100
_TEMPERATURES = (1.0, 0.7)  # Those of Walton et al., 2023, Table 6.


def evaluate(run: RunDirectory, *, command: str, outcome: Outcome | None = None) -> list[Result]:
    """Evaluates trained models on test data, writes the report and returns the results.

    Args:
      run: the run.
      command: what was typed, for the report.
      outcome: the end of a race, to report first, of its models only; by default all models are
        evaluated.
    """
    data = run.data
    names = outcome.names if outcome else run.trained()
    flows = {name: run.load_flow(name) for name in names}
    results, samples = _examine(run, flows)
    curves, histories = {}, {}
    for name, flow in flows.items():
        record = read_record(run.model_directory(name))
        if record.history:
            columns = ([row[k] for row in record.history] for k in ("step", "seconds", "val_nll"))
            curves[name] = LearningCurve(*columns)
            directory = run.model_directory(name)
            histories[name] = part_history(flow, record, directory, run.batch_size)
    settings = _settings(run, command)
    figures = {"Learning curves on validation data": learning_curves(curves)}
    tables = {"The columns of the training rows": columns_table(data)} if data.look else {}
    shown, conclusions = [], []
    if outcome:
        shown, conclusions = [race_table(results, outcome)], race_summary(results, outcome, run)
        tables = {"The race": shown[0]} | tables
        raced = [r for r in results if r.name not in outcome.few_rows]
        figures = {"What a parameter and a millisecond buy": fronts(raced)} | figures
    if any(history.num_parts > 1 for history in histories.values()):
        unit, test = data.domain.unit, _part_figures(results)
        histories = {_training(name): history for name, history in histories.items()}
        shown += [training_table(histories, test, unit=unit), phase_table(histories, unit=unit)]
        headings = ("In parts, beside end to end", "Phases and parts")
        tables = dict(zip(headings, shown[-2:], strict=True)) | tables
        figures = {"In parts, beside end to end": part_curves(histories, unit=unit), **figures}
    if samplers := compare_samplers(run, flows):
        tables["Samplers beside the teacher"] = sampler_table(results, samplers)
        shown.append(tables["Samplers beside the teacher"])
    if guards := _guard_table(run, flows):
        tables["Guarded students"] = guards
        shown.append(guards)
    figures |= _draw_images(run, flows) if data.domain.is_images else _draw_rows(run, samples)
    write_results_json(run.path / "results.json", results, settings=settings)
    write_report(
        run.path / "report.html",
        results,
        title=f"Normalizing flows of {data.name}",
        settings=settings,
        figures=figures,
        tables=tables,
    )
    text = [format_table(results), *map(str, shown), "\n".join(conclusions)]
    print("\n\n".join(part for part in text if part), flush=True)
    return results


def show_data(run: RunDirectory) -> None:
    """Prints what the data look like and what to mind about them, before anything is trained."""
    data = run.data
    if data.look:
        print(f"{_describe(data)}\n{columns_table(data)}\n", flush=True)
    for warning in run.warnings():
        print(f"warning: {warning}", flush=True)


def _guard_table(run: RunDirectory, names: Iterable[str]) -> Table | None:
    """Returns what the guard has done, a row per student that it did something with."""
    records = {name: read_record(run.model_directory(name)) for name in names}
    rows = [
        [
            name,
            UNDEFINED if record.guarded_at is None else f"{record.guarded_at:,}",
            "yes" if record.replaced else "no",
        ]
        for name, record in records.items()
        if record.guarded_at is not None or record.replaced
    ]
    header = ["guarded model", "from step", "has the plain student's flow"]
    return Table(header, rows, note=_GUARD_NOTE) if rows else None


def _part_figures(results: Sequence[Result]) -> dict[str, float]:
    """Returns the figures of the test data that trainings in parts are compared by, by name."""
    return {
        _training(r.name): -r.likelihood.mean if r.bits_per_dim is None else r.bits_per_dim
        for r in results
    }


def _training(name: str) -> str:
    """Returns the name of a model among trainings in parts, which are compared with "student"."""
    return END_TO_END if name == "student" else name


def _settings(run: RunDirectory, command: str) -> dict[str, str]:
    data, recipe = run.data, run.recipe
    settings = {
        "command": command,
        "data": _describe(data),
        "split": (
            f"{recipe.split}, seed {recipe.split_seed}, SHA-256 of the training part "
            f"{data.fingerprint}"
        ),
        "seed": str(recipe.seed),
    }
    if warnings := run.warnings():
        settings["warnings"] = "\n".join(warnings)
    for role in ("teacher", "student"):
        values = vars(run.config(role)).items()
        settings[role] = ", ".join(f"{name}={value}" for name, value in values)
    rates = {f"{role}_learning_rate": run.learning_rate(role) for role in ("teacher", "student")}
    options = {**vars(recipe), "batch_size": run.batch_size, **rates}  # What 0 stands for.
    settings["recipe"] = ", ".join(f"{name}={value}" for name, value in options.items())
    return settings


def _describe(data: FlowData) -> str:
    numbers = (f"{len(part):,}" for part in (data.train, data.validation, data.test))
    text = "{}, {} training, {} validation and {} test examples of {}".format(
        data.name, *numbers, "x".join(map(str, data.event_shape))
    )
    if data.dropped_rows:
        text += f"; {data.dropped_rows:,} rows with missing values are left out"
    return text


def _frechet_distances(run: RunDirectory, flow: Flow) -> dict[str, FrechetDistance]:
    """Returns the distances of samples and of interpolations from test images, by name."""
    extractor, data, number = run.feature_extractor, run.data, run.recipe.frechet_images
    if extractor is None:
        return {}
    seed = run.recipe.seed
    # The first ones of sorted images would be of few classes.
    chosen = np.sort(np.random.default_rng(seed).permutation(len(data.test))[:number])
    reference = reference_statistics(data.test[chosen], extractor)
    streams = {}
    for temperature in _TEMPERATURES:
        options: dict[str, Any] = dict(temperature=temperature, seed=seed)
        streams[f"samples, T = {temperature:g}"] = sampled_images(flow, number, **options)
        streams[f"half-way, T = {temperature:g}"] = interpolated_images(
            flow, data.test, number, **options
        )
    return {
        name: frechet_distance(reference, image_statistics(images, extractor))
        for name, images in streams.items()
    }


def _examine(
    run: RunDirectory, flows: Mapping[str, Flow]
) -> tuple[list[Result], dict[str, np.ndarray]]:
    """Returns what is known of flows on test data, and samples of each, none of images.

    Several flows of rows are examined side by side: most of it is compilation and small networks,
    which leave cores idle. Times are measured before, with nothing beside them.
    """
    data, recipe, is_images = run.data, run.recipe, run.data.domain.is_images
    data_range = None if is_images else DataRange.of_rows(data.train)
    speeds = measure_speeds(flows, batch_size=data.domain.timed_rows)

    def examine(name: str) -> tuple[Result, np.ndarray]:
        print(f"{name}: is evaluated\n", end="", flush=True)  # At once: others print, too.
        flow, record = flows[name], read_record(run.model_directory(name))
        samples, quality, test = np.empty(0), None, None
        if data_range is not None:
            samples = _samples(flow, data.test_condition)
            quality = sample_quality(samples, data_range, data.test)
            test = _two_sample_test(run, samples)
        result = evaluate_flow(
            flow,
            name,
            data.test,
            data.test_condition,
            frechet=_frechet_distances(run, flow),
            samples=quality,
            two_sample=test,
            speed=speeds[name],
            training_steps=record.steps,
            training_seconds=record.seconds,
            skipped_steps=record.skipped_steps,
            draws=recipe.evaluation_draws if data.domain.has_noise else 1,
        )
        return result, samples

    with ThreadPoolExecutor(max_workers=1 if is_images else os.cpu_count()) as pool:
        results, samples = zip(*pool.map(examine, flows), strict=True)
    return list(results), dict(zip(flows, samples, strict=True))


def _samples(flow: Flow, condition: np.ndarray | None) -> np.ndarray:
    if condition is None:
        return flow.sample(_SAMPLES_OF_ROWS, seed=0).numpy()
    condition = condition[:_SAMPLES_OF_ROWS]
    return flow.sample(len(condition), condition, seed=0).numpy()


def _two_sample_test(run: RunDirectory, samples: np.ndarray) -> TwoSampleTest | None:
    """Tells samples from test rows, with their conditions if any; None if rows are few."""
    if len(run.data.test) < _FEWEST_TESTED_ROWS:
        return None
    sets = [run.data.test[:_TESTED_ROWS], samples[:_TESTED_ROWS]]
    if (condition := run.data.test_condition) is not None:
        sets = [np.concatenate([rows, condition[: len(rows)]], axis=1) for rows in sets]
    return two_sample_auc(*sets, seed=run.recipe.seed)


def _draw_rows(run: RunDirectory, samples: Mapping[str, np.ndarray]) -> dict[str, Figure]:
    test, names = run.data.test, run.data.feature_names
    figures = {"Marginals": marginals(test, samples, feature_names=names)}
    if len(names) > 1:
        figures["Pairs of dimensions"] = pairwise(test, samples, feature_names=names)
    return figures


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
