"""Tests that parts of a student learn the same on own devices, from a cache and on replicas."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from flow_pairs import conditions, data, make_flow
from image_pairs import image_flow, images

from tfp_distill import Partition, PartSchedule, PrefixCache
from tfp_distill.data import TrainingRows
from tfp_distill.distillation import (
    FlowDistiller,
    IntermediateLatentLoss,
    LatentLoss,
    LossWeightSchedule,
    TeacherTraces,
)
from tfp_distill.training import placed_batches
from tfp_distill.training.parts.pipeline import PartPipeline

pytestmark = pytest.mark.slow

TWO = ("CPU:0", "CPU:1")
_N, _BATCH = 20, 8
PAIRS = {
    "vectors": lambda: (make_flow("glow", num_steps=4, seed=1), make_flow("maf", num_steps=6)),
    "conditions": lambda: (
        make_flow("maf", num_steps=4, seed=1, condition_dims=2),
        make_flow("glow", num_steps=5, condition_dims=2),
    ),
    "images": lambda: (image_flow(2, 1), image_flow(3, 2)),
}
KINDS = tuple(PAIRS)
EAGER, GRAPH, XLA = dict(run_eagerly=True), dict(jit_compile=False), dict(jit_compile=True)


def _rows(kind):
    x = images(_N) if kind == "images" else data(_N)
    return TrainingRows(x, _BATCH, condition=conditions(_N) if kind == "conditions" else None)


def _compiled(kind, boundaries=(2,), strategy=None, losses=None, **options):
    with strategy.scope() if strategy else contextlib.nullcontext():
        student, teacher = PAIRS[kind]()
        distiller = FlowDistiller(
            student=student,
            teacher=teacher,
            distillation_losses=losses or (LatentLoss(), IntermediateLatentLoss()),
            distillation_loss_weights=(0.2, 0.3) if losses is None else None,
            student_loss_weight=0.5,
        )
        optimizer = keras.optimizers.SGD(0.02, momentum=0.9, global_clipnorm=1.0)
        partition = Partition.at_steps(student, boundaries)
        distiller.compile(optimizer, partition=partition, **(options or EAGER))
    return distiller


def _fit(distiller, schedule, batches, steps, callbacks=(), **options):
    return distiller.fit(
        batches,
        steps_per_epoch=steps,
        epochs=schedule.num_epochs(distiller.partition),
        callbacks=[schedule, *callbacks],
        verbose=0,
        **options,
    ).history


def _assert_same(distiller, expected, tolerance):
    assert (distiller.step, distiller.skipped_steps) == (expected.step, expected.skipped_steps)
    pairs = zip(distiller.trainable_variables, expected.trainable_variables, strict=True)
    for own, other in pairs:
        np.testing.assert_allclose(own, other, rtol=0, atol=tolerance, err_msg=own.path)
    for own, other in zip(distiller.optimizers, expected.optimizers, strict=True):
        for a, b in zip(own.variables, other.variables, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


def _assert_same_logs(logs, expected, tolerance=1e-5):
    assert set(logs) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(logs[name], values, rtol=tolerance, atol=1e-5, err_msg=name)


def _fading():
    """Weights that change in the middle of an epoch, to 0 in the second one."""
    return LossWeightSchedule({"latent_loss": lambda step: 0.2 * max(0.0, 1 - step / 3)})


# What is distilled, how, whether by `TeacherTraces`, and how near it comes.
DEVICES = {
    "eager": ("vectors", EAGER, False, 0.0),
    "traces": ("vectors", EAGER, True, 0.0),
    "graph": ("conditions", GRAPH, True, 0.0),
    "images": ("images", GRAPH, False, 0.0),
    # XLA fuses a part alone otherwise.
    "xla": ("conditions", XLA, False, 2e-6),
}


@pytest.mark.parametrize("case", DEVICES)
def test_devices_take_the_steps_of_simultaneous_training(case):
    kind, options, traced, tolerance = DEVICES[case]
    logs, made = [], []
    for devices in (TWO, None):
        distiller, rows = _compiled(kind, **options), _rows(kind)
        source = TeacherTraces(distiller.teacher, rows) if traced else rows
        schedule = PartSchedule("simultaneous", 2, end_to_end_epochs=1, devices=devices)
        validation = rows.batches().take(2)
        fading = [_fading()]
        logs.append(
            _fit(distiller, schedule, source.batches(), 3, fading, validation_data=validation)
        )
        made.append(distiller)
    _assert_same(*made, tolerance)
    _assert_same_logs(*logs)
    assert made[0].step == 9 and made[0].skipped_steps == 0
    assert made[0].loss_weights["latent_loss"] == 0


def test_the_teacher_is_on_the_first_device_and_only_its_latents_leave_it():
    distiller, rows = _compiled("images", **GRAPH), _rows("images")
    # The model's own variables are on the other device.
    pipeline = PartPipeline(distiller, TWO[::-1], jit_compile=False)
    pipeline(iter(rows.batches()))
    first, second = pipeline.parts
    student, teacher = distiller.student, distiller.teacher
    for part, own in (
        (first, student.step_variables(1, 2) + teacher.weights),
        (second, student.step_variables(3, 4)),
    ):
        optimizer = distiller.optimizers[pipeline.parts.index(part)]
        assert len(part.variables) == len(own) + len(optimizer.variables)
    graph = pipeline.tick.get_concrete_function().graph
    captured = {id(inner): outer.device for outer, inner in graph.captures}
    steps = [op for op in graph.get_operations() if op.type in ("If", "StatelessIf")]
    for op, device, part in zip(steps, TWO[::-1], pipeline.parts, strict=True):
        devices = [captured[id(tensor)] for tensor in op.inputs if id(tensor) in captured]
        assert len(devices) == len(part.variables)
        assert all(found.endswith(device) for found in devices)
    sizes = [spec.shape[1:].num_elements() for spec in tf.nest.flatten(first.hands_on.x)]
    assert sum(sizes) == distiller.handed_size(1)


CACHES = {
    "vectors": ("vectors", (1, 3), EAGER, False),
    "traces": ("vectors", (1, 3), GRAPH, True),
    "conditions": ("conditions", (2,), GRAPH, False),
    "images": ("images", (2,), EAGER, True),
    "images within levels": ("images", (1, 3), GRAPH, False),
}


@pytest.mark.parametrize("case", CACHES)
def test_a_cached_phase_trains_as_one_that_runs_all_before_it(case):
    kind, boundaries, options, traced = CACHES[case]
    made, logs = [], []
    for cached in (True, False):
        distiller, rows = _compiled(kind, boundaries, **options), _rows(kind)
        source = TeacherTraces(distiller.teacher, rows) if traced else rows
        cache = PrefixCache(source) if cached else None
        schedule = PartSchedule("sequential", 2, end_to_end_epochs=1, prefix_cache=cache)
        logs.append(_fit(distiller, schedule, rows.batches(), rows.steps_per_epoch, [_fading()]))
        made.append(distiller)
    _assert_same(*made, 2e-6)
    _assert_same_logs(*logs)


def test_a_cached_phase_runs_neither_the_parts_before_nor_the_teacher():
    distiller, rows = _compiled("vectors", (1, 3)), _rows("vectors")
    calls = []
    trace, run_part = distiller.teacher.trace, distiller.run_part
    distiller.teacher.trace = lambda *args: calls.append("teacher") or trace(*args)
    distiller.run_part = lambda part, *args: calls.append(part) or run_part(part, *args)
    schedule = PartSchedule("sequential", 1, prefix_cache=PrefixCache(rows))
    _fit(distiller, schedule, rows.batches(), 10)
    # Part 0 learns by the teacher; then three batches fill the cache, and ten steps are taken.
    filled = ["teacher", 0] * 3
    assert calls == ["teacher", 0] * 10 + filled + [1] * 10 + ["teacher", 0, 1] * 3 + [2] * 10


@pytest.mark.parametrize("kind", KINDS)
def test_a_cache_takes_what_it_says(kind):
    distiller, rows = _compiled(kind), _rows(kind)
    handed = distiller.part_input(1, *next(placed_batches(rows))[1])
    numbers = sum(value.shape[1:].num_elements() for value in tf.nest.flatten(handed))
    assert numbers == distiller.handed_size(1)
    cache = PrefixCache(rows)
    assert cache.num_bytes(distiller) == _N * 4 * numbers
    small = PrefixCache(rows, max_bytes=_N * 4 * numbers - 1)
    schedule = PartSchedule("sequential", 1, prefix_cache=small)
    with pytest.raises(ValueError, match="`max_bytes` must be at least"):
        _fit(distiller, schedule, rows.batches(), 1)


@pytest.mark.parametrize("way", ["together", "cached"])
@pytest.mark.parametrize("kind", ["conditions", "images"])
def test_replicas_take_the_steps_of_one_device(kind, way, two_replicas):
    made, logs = [], []
    for strategy in (two_replicas, None):
        distiller, rows = _compiled(kind, strategy=strategy, **GRAPH), _rows(kind)
        if way == "together":
            schedule = PartSchedule("simultaneous", 2)
        else:
            schedule = PartSchedule("sequential", 2, prefix_cache=PrefixCache(rows))
        logs.append(_fit(distiller, schedule, rows.batches(), 2))
        made.append(distiller)
    _assert_same(*made, 2e-6)
    _assert_same_logs(*logs)


def test_without_latents_of_the_teacher_nothing_more_is_handed_on():
    distiller = _compiled("images", losses=(IntermediateLatentLoss(taps=((2, 2), (4, 6))),))
    rows = _rows("images")
    handed = distiller.part_input(1, *next(placed_batches(rows))[1])
    # What is in the flow, and of latents what has left it and the teacher's at step 6.
    assert [value.shape[1:].num_elements() for value in handed.besides] == [16, 32]
