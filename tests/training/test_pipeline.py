"""Tests of parts that work at the same time: what they learn, and what crosses their boundaries."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from interruption import Interrupt
from part_flows import batches, data, equal, make_flow, states

from tfp_distill import FlowDistiller, Partition, PartSchedule, load_flow
from tfp_distill.training import averaged_weights
from tfp_distill.training.pipeline import PartPipeline

TWO = ("CPU:0", "CPU:1")
THREE = ("CPU:0", "CPU:1", "CPU:0")
# Steps that end a part, by the devices.
ENDS = {TWO: [2], THREE: [1, 3]}


def _adam():
    schedule = keras.optimizers.schedules.CosineDecay(0.0, 20, warmup_target=0.02, warmup_steps=3)
    return keras.optimizers.AdamW(schedule, global_clipnorm=1.0, use_ema=True)


def _compiled(kind="glow", devices=TWO, optimizer=_adam, jit_compile=False, **options):
    flow = make_flow(kind)
    optimizer = optimizer() if callable(optimizer) else optimizer
    partition = Partition.at_steps(flow, ENDS[devices])
    flow.compile(optimizer, partition=partition, jit_compile=jit_compile, **options)
    return flow


def _fit(flow, dataset, epochs, *callbacks, devices=None, end_to_end=0, **options):
    schedule = PartSchedule("simultaneous", epochs, end_to_end_epochs=end_to_end, devices=devices)
    history = flow.fit(dataset, epochs=99, callbacks=[schedule, *callbacks], verbose=0, **options)
    return history.history


def _assert_same(flow, expected):
    assert (flow.step, flow.skipped_steps) == (expected.step, expected.skipped_steps)
    assert all(equal(a, b) for a, b in zip(states(flow), states(expected), strict=True))


def _assert_same_logs(logs, expected, rtol=1e-6):
    assert list(logs) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(logs[name], values, rtol=rtol, err_msg=name)


CASES = {
    "glow": dict(),
    "conditional_maf": dict(kind="conditional_maf"),
    "images": dict(kind="images"),
    "three parts on two devices": dict(devices=THREE),
    "images in three parts": dict(kind="images", devices=THREE),
    "eager": dict(run_eagerly=True),
    "several_steps_per_execution": dict(steps_per_execution=3),
}


@pytest.mark.parametrize("case", CASES)
def test_drained_it_has_taken_the_steps_of_simultaneous_training(case):
    """Bit for bit: weights, optimisers, counters, and the validation after each epoch."""
    arguments = {"kind": "glow", "devices": TWO, **CASES[case]}
    kind, devices = arguments["kind"], arguments["devices"]
    flows, logs = [], []
    for used in (None, devices):
        flow = _compiled(**arguments)
        # The last batch of an epoch is a smaller one.
        validation = batches(kind, 16, seed=3)
        logs.append(
            _fit(flow, batches(kind, 36), 2, devices=used, end_to_end=1, validation_data=validation)
        )
        flows.append(flow)
    _assert_same(flows[1], flows[0])
    _assert_same_logs(logs[1], logs[0])
    assert all(logs[1][f"val_{n}"] == logs[0][f"val_{n}"] for n in ("loss", "part_0_loss"))
    assert len(logs[1]["part_0_loss"]) == 2
