"""Inputs that the library refuses, and the page that lists them with its answers.

    python tests/bad_inputs.py > docs/bad_inputs.md

writes the page anew. An input is an expression; files that it reads are in the current directory.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["BAD_INPUTS", "answer", "page", "workplace"]

_HEAD = """# What is refused

Every input below is an error before any work is done: a `ValueError` in Python, and the same line
after the script's name on the command line. A test keeps the table true.
"""
BAD_INPUTS: Mapping[str, tuple[str, ...]] = {
    "Flags of the scripts (fields of a recipe)": (
        "Recipe(seed=-1)",
        "Recipe(split='half')",
        "Recipe(split_seed=-3)",
        "Recipe(train_rows=-1)",
        "Recipe(num_bits=-1)",
        "Recipe(padding=-2)",
        "Recipe(image_size=-8)",
        "Recipe(teacher_architecture='nice')",
        "Recipe(teacher_coupling='cubic')",
        "Recipe(teacher_architecture='maf', teacher_coupling='additive')",
        "Recipe(teacher_hidden_layers=-1)",
        "Recipe(teacher_levels=-1)",
        "Recipe(teacher_depth=0)",
        "Recipe(teacher_width=0)",
        "Recipe(teacher_training_steps=0)",
        "Recipe(teacher_learning_rate=-0.1)",
        "Recipe(teacher_learning_rate=inf)",
        "Recipe(student_learning_rate=nan)",
        "Recipe(student_training_steps=-5)",
        "Recipe(students=('student', 'student'))",
        "Recipe(students=('skd', 'magic'))",
        "Recipe(race_methods=('student',))",
        "Recipe(within=-0.1)",
        "Recipe(max_parameters=-1)",
        "Recipe(max_ms=inf)",
        "Recipe(few_rows=-1)",
        "Recipe(workers=-1)",
        "Recipe(num_bins=1)",
        "Recipe(num_bins=101)",
        "Recipe(tail_bound=0.0)",
        "Recipe(min_slope=0.5)",
        "Recipe(batch_size=-1)",
        "Recipe(report_steps=0)",
        "Recipe(warmup_steps=-1)",
        "Recipe(clip_norm=0.0)",
        "Recipe(ema_momentum=1.0)",
        "Recipe(weight_decay=-0.1)",
        "Recipe(jit_compile='maybe')",
        "Recipe(memory='small')",
        "Recipe(evaluation_draws=0)",
        "Recipe(frechet_images=1)",
        "Recipe(lkd_weights=(1.0,))",
        "Recipe(ilkd_weights=(1.0, -0.5))",
        "Recipe(skd_weights=(0.0, 0.0, 0.0))",
        "Recipe(lkd_weights=(1.0, nan))",
        "Recipe(mixture_weights=(0.0, 1.0, 0.5))",
        "Recipe(mixture_tolerance=0.0)",
        "Recipe(teacher_pairs=-1)",
        "Recipe(rows_per_sample=0)",
        "Recipe(student_start='middle')",
        "Recipe(student_start='copied', student_path='a.keras')",
        "Recipe(distance='l3')",
        "Recipe(synthesized_space='dream')",
        "Recipe(synthesized_start=1.5)",
        "Recipe(synthesized_start=0.5, students=('skd',))",
        "Recipe(temperature=0.0)",
        "Recipe(fade_out=-0.1)",
        "Recipe(partitions=('halves',))",
        "Recipe(partitions=('by_block_1',))",
        "Recipe(part_mode='random')",
        "Recipe(part_balance='weight')",
        "Recipe(part_learning_rate=-0.1)",
        "Recipe(end_to_end_fraction=1.0)",
        "Recipe(prefix_cache_gib=1.0)",
        "Recipe(devices=('CPU:0', 'CPU:1'))",
    ),
    "Configurations of flows": (
        "TabularGlowConfig(dims=0)",
        "TabularGlowConfig(dims=4, num_steps=0)",
        "TabularGlowConfig(dims=4, hidden_units=0)",
        "TabularGlowConfig(dims=4, num_hidden_layers=0)",
        "TabularGlowConfig(dims=4, coupling='spiral')",
        "TabularGlowConfig(dims=4, log_scale_bound=0.0)",
        "TabularGlowConfig(dims=4, condition_dims=-1)",
        "TabularGlowConfig(dims=2.5)",
        "TabularGlowConfig(dims=3, columns=Columns(('integer',)))",
        "MAFConfig(dims=0)",
        "MAFConfig(dims=3, transform='additive')",
        "GlowConfig((8, 8))",
        "GlowConfig((8, 8, 5))",
        "GlowConfig((6, 6, 1), num_levels=3)",
        "GlowConfig((8, 8, 1), num_bits=9)",
        "GlowConfig((8, 8, 1), padding=4)",
        "Flow.from_preset('power_nice_teacher')",
        "Flow('power_glow_teacher')",
    ),
    "Kinds of columns": (
        "Columns(('whole',))",
        "Columns(('bounded',))",
        "Columns(('bounded',), bounds=((1.0, 0.0),))",
        "Columns(('integer', 'bounded'), bounds=((0.0, 1.0),))",
    ),
    "Calls of a flow": (
        "flow.sample(-1)",
        "flow.sample(2.5)",
        "flow.sample(3, temperature=-1.0)",
        "flow.sample(3, seed=0.5)",
        "flow.sample(3, np.zeros([3, 1]))",
        "flow.log_prob(np.zeros([5, 2]))",
        "flow.to_latent(np.zeros([5, 4]))",
        "flow.to_data(np.zeros([5, 2]))",
        "flow.log_prob([['a', 'b', 'c']])",
        "flow.log_prob(np.zeros([5, 3], complex))",
        "flow.log_prob(np.ma.masked_less(np.eye(3), 1))",
        "flow.log_prob(tf.sparse.eye(3))",
        "flow.log_prob(keras.Input([3]))",
        "flow.adapt(np.zeros([0, 3]))",
        "flow.adapt(np.full([5, 3], nan))",
        "flow.adapt(np.zeros([5, 2]))",
        "flow.compile('adan')",
        "flow.compile(partition='halves')",
        "flow.fit(np.zeros([9, 3]), class_weight={0: 1.0})",
        "flow.fit((np.zeros([9, 3]), np.zeros([9, 1])))",
        "flow.fit(np.zeros([0, 3]))",
        "flow.fit(np.full([9, 3], nan))",
        "flow.fit(np.full([9, 3], 'a'))",
        "flow.fit(np.zeros([2, 9, 3]))",
        "flow.fit(np.zeros([9, 3]), sample_weight=np.ones(2))",
        "flow.fit(np.zeros([9, 3]), sample_weight=-np.ones(9))",
        "flow.fit(np.zeros([9, 3]), validation_data=(np.full([9, 3], inf),))",
        "flow.evaluate([np.zeros([9, 3]), np.zeros([9, 1])])",
        "load_flow('missing.keras')",
        "load_flow('rows.csv')",
    ),
    "Losses, distillers and callbacks": (
        "LatentLoss(distance='l3')",
        "SynthesizedLoss(space='dream')",
        "SynthesizedLoss(temperature=-1.0)",
        "ForwardKLLoss(temperature=nan)",
        "FlowDistiller(student=flow, teacher=flow, distillation_losses=LatentLoss())",
        "FlowDistiller(student=flow, teacher=wide, distillation_losses=LatentLoss())",
        "FlowDistiller(student=flow, teacher=other, distillation_losses=())",
        "FlowDistiller(student=flow, teacher=other, distillation_losses=[LatentLoss()] * 2)",
        "FlowDistiller(student=flow, teacher=other, distillation_losses=LatentLoss(), "
        "student_loss_weight=-1.0)",
        "FlowDistiller(student=flow, teacher=other, distillation_losses=LatentLoss(), "
        "distillation_loss_weights=['much'])",
        "SampleTeacher(np.zeros([9, 3], 'uint8'))",
        "SampleTeacher(np.full([9, 3], nan))",
        "TeacherTraces(other, np.zeros([9, 3]))",
        "align_with_teacher(flow, wide, np.zeros([9, 3]))",
        "align_with_teacher(flow, other, np.zeros([0, 3]))",
        "LossWeightSchedule({})",
        "SynthesizedLossGate()",
        "DistillationMonitor(np.zeros([0, 3]))",
        "TeacherPairs(0)",
        "HeldCosineDecay(0.1, 0)",
        "PartSchedule('random', 1)",
        "PartSchedule('alternating', 0)",
        "PrefixCache(np.zeros([9, 3]))",
        "Partition(())",
    ),
    "Data": (
        "load('nothing')",
        "load('missing.csv')",
        "load('notes.doc')",
        "load('rows.csv', condition_columns=['d'])",
        "load('rows.csv', columns=['a', 'a'])",
        "load('rows.csv', drop_columns=['a', 'b', 'c'])",
        "load('rows.csv', split='half')",
        "load('rows.csv', train_rows=10_000)",
        "load('rows.csv', column_kinds=['a:integer'])",
        "load('rows.csv', column_kinds=['a:bounded:5:1'])",
        "load('surplus.csv')",
        "load('twice.csv')",
        "load('words.csv')",
        "load('gaps.csv')",
        "load('constant.csv')",
        "load('few.csv')",
        "load('empty.csv')",
        "load('damaged.npz')",
        "load('embedded', columns=['voltage'])",
        "training_batches(np.zeros([9, 3]), 0)",
        "training_batches(np.zeros([0, 3]), 4)",
    ),
    "Evaluation and export": (
        "evaluate_likelihood(flow, np.zeros([0, 3]))",
        "evaluate_likelihood(flow, np.zeros([5, 3]), draws=0)",
        "measure_speed(flow, batch_size=0)",
        "two_sample_auc(np.zeros([9, 3]), np.zeros([9, 2]))",
        "paired_difference(np.zeros(5), np.zeros(6))",
        "interpolate(flow, np.zeros([2, 3]), np.zeros([3, 3]), [0.5])",
        "export_flow(flow, 'rows.csv')",
        "export_litert(flow, 'flow.tflite', weights='float8')",
    ),
}


def workplace() -> dict[str, Any]:
    """Writes the files that inputs read, and returns the names that they use."""
    import keras
    import numpy as np
    import tensorflow as tf

    import tfp_distill
    from tfp_distill import data, evaluation
    from tfp_distill.runs.recipe import Recipe

    rows = np.random.default_rng(0).normal(size=(300, 3)).round(4)
    lines = [",".join(map(str, row)) for row in rows]
    files = {
        "rows.csv": ["a,b,c", *lines],
        "surplus.csv": ["a,b,c", *(f"{line},1" for line in lines)],
        "twice.csv": ["a,b,a", *lines],
        "words.csv": ["a,b,c", *lines[:-1], "1.0,red,2.0"],
        "gaps.csv": ["a,b,c", *lines[:-1], "1.0,,2.0"],
        "constant.csv": ["a,b,c,d", *(f"{line},7" for line in lines)],
        "few.csv": ["a,b,c", *lines[:2]],
        "empty.csv": [],
        "damaged.npz": ["no archive"],
    }
    for name, text in files.items():
        pathlib.Path(name).write_text("\n".join(text))
    small = dict(num_steps=1, hidden_units=4, num_hidden_layers=1)
    flow, other, wide = (
        tfp_distill.Flow(tfp_distill.TabularGlowConfig(dims, **small), name=name)
        for dims, name in ((3, "flow"), (3, "other"), (4, "wide"))
    )
    flow.compile()
    return {
        **{name: getattr(tfp_distill, name) for name in tfp_distill.__all__},
        **{name: getattr(evaluation, name) for name in evaluation.__all__},
        **{name: getattr(data, name) for name in data.__all__},
        **dict(
            Recipe=Recipe,
            keras=keras,
            np=np,
            tf=tf,
            inf=float("inf"),
            nan=float("nan"),
            flow=flow,
            other=other,
            wide=wide,
        ),
    }


def answer(expression: str, names: Mapping[str, Any]) -> str:
    """Returns the message of the `ValueError` that an expression raises."""
    try:
        eval(expression, dict(names))
    except ValueError as error:
        return str(error).replace(f"{pathlib.Path.cwd()}{os.sep}", "")
    raise AssertionError(f"{expression} is not refused")


def page() -> str:
    """Returns the page in Markdown."""
    lines = [_HEAD]
    with _elsewhere():
        names = workplace()
        for heading, expressions in BAD_INPUTS.items():
            lines += [f"## {heading}", "", "| input | answer |", "|---|---|"]
            for expression in expressions:
                text = answer(expression, names).replace("|", "\\|")
                lines.append(f"| `{expression}` | {text} |")
            lines.append("")
    return "\n".join(lines)


@contextlib.contextmanager
def _elsewhere() -> Iterator[None]:
    with tempfile.TemporaryDirectory() as directory, contextlib.chdir(directory):
        yield


if __name__ == "__main__":
    sys.stdout.write(page())
