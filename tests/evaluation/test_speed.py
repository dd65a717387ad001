"""Tests of the timing."""

import time

import pytest
import tensorflow as tf

from tfp_distill import Flow, MAFConfig
from tfp_distill.evaluation import Speed, measure_speed, measure_speeds


@pytest.mark.parametrize("condition_dims", [0, 2])
@pytest.mark.parametrize("batch_size", [7, 256])
def test_times_both_directions(condition_dims, batch_size):
    flow = Flow(MAFConfig(dims=3, num_steps=1, hidden_units=4, condition_dims=condition_dims))
    speed = measure_speed(flow, batch_size=batch_size, repeats=3)
    assert 0 < speed.to_latent_seconds < 10
    assert 0 < speed.to_data_seconds < 10
    assert (speed.batch_size, speed.repeats) == (batch_size, 3)


def test_waits_for_the_result_and_leaves_the_first_call_out():
    flow = Flow(MAFConfig(dims=3, num_steps=1, hidden_units=4))
    calls = []

    def sleep(x):
        calls.append(None)
        time.sleep(0.5 if len(calls) <= 1 else 0.02)
        return x

    def to_latent(x, condition=None):
        return tf.ensure_shape(tf.py_function(sleep, [x], x.dtype), x.shape)

    flow.to_latent = to_latent
    speed = measure_speed(flow, batch_size=2, repeats=3)
    assert len(calls) == 4
    assert 0.02 <= speed.to_latent_seconds < 0.5


def test_flows_take_turns():
    flows = {
        name: Flow(MAFConfig(dims=3, num_steps=1, hidden_units=4)) for name in ("first", "second")
    }
    calls = []
    for name, flow in flows.items():

        def to_latent(x, name=name):
            calls.append(name)
            return x

        flow.to_latent = to_latent
    speeds = measure_speeds(flows, batch_size=2, repeats=3)
    assert list(speeds) == ["first", "second"]
    assert calls[2:] == ["first", "second"] * 3  # After those that compile.


def test_prints_milliseconds():
    assert str(Speed(0.00123, 0.2, 1000, 3)) == "to latent 1.23 ms, to data 200 ms for 1,000 rows"


def test_rejects_no_repeats():
    flow = Flow(MAFConfig(dims=3, num_steps=1, hidden_units=4))
    with pytest.raises(ValueError, match="`repeats` must be an integer of at least 1, got 0"):
        measure_speed(flow, repeats=0)
