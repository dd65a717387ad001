"""Samplers beside the slow teacher that they were made of."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tfp_distill.distillation import sample_teacher
from tfp_distill.evaluation import (
    SamplerComparison,
    compare_sampler,
    evaluation_batch_size,
)
from tfp_distill.flows import Flow, FlowConfig, MAFConfig
from tfp_distill.runs.run_directory import RunDirectory

__all__ = ["compare_samplers"]

_ROWS = 10_000


def compare_samplers(run: RunDirectory, flows: Mapping[str, Flow]) -> dict[str, SamplerComparison]:
    """Compares students, whose samples are one pass, with an autoregressive teacher.

    On samples of the teacher that it is sure of, as students learn from them. Integers have their
    noise in the samples of both: rounded ones would be told from others at once.

    Args:
      run: the run.
      flows: trained flows by name.

    Returns:
      The comparisons by name; none without a teacher, for other students, images and conditions.
    """
    students = {name: flow for name, flow in flows.items() if name != "teacher"}
    if run.data.domain.is_images or run.data.condition_dims or "teacher" not in flows:
        return {}
    teacher, seed = flows["teacher"], run.recipe.seed
    students = {name: flow for name, flow in students.items() if _samples_faster(flow, teacher)}
    found = {}
    for name, student in students.items():
        try:
            x = sample_teacher(student, teacher, _ROWS, seed=seed).numpy()
        except ValueError as error:  # What was trained is worth a report without this.
            print(
                f"warning: {name} is not compared with its teacher as a sampler: {error}",
                flush=True,
            )
            continue
        of_teacher, of_student = (_log_probs(flow, x) for flow in (teacher, student))
        samples, _ = student.sample_and_log_prob(_ROWS, seed=seed)
        found[name] = compare_sampler(
            x,
            samples.numpy(),
            teacher_log_probs=of_teacher,
            student_log_probs=of_student,
            seed=seed,
        )
    return found


def _samples_faster(student: Flow, teacher: Flow) -> bool:
    return _is_slow(teacher.config) and not _is_slow(student.config)


def _is_slow(config: FlowConfig) -> bool:
    """Whether a sample takes a pass of each network for every dimension."""
    return isinstance(config, MAFConfig) and not config.inverse_autoregressive


def _log_probs(flow: Flow, x: np.ndarray) -> np.ndarray:
    size = evaluation_batch_size(flow)
    starts = range(0, len(x), size)
    return np.concatenate([flow.log_prob(x[start : start + size]).numpy() for start in starts])
