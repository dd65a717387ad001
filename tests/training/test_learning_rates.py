"""Tests of the learning rate that is held before it decays."""

import keras
import numpy as np
import pytest
from part_flows import batches, make_flow

from tfp_distill import HeldCosineDecay, load_flow

CosineDecay = keras.optimizers.schedules.CosineDecay


def _rates(schedule, steps=40):
    return [float(schedule(step)) for step in range(steps)]


@pytest.mark.parametrize("warmup", [0, 4])
def test_without_a_hold_it_is_keras_cosine_decay(warmup):
    given = dict(warmup_target=0.2, warmup_steps=warmup) if warmup else {}
    expected = CosineDecay(0.0 if warmup else 0.2, 30, alpha=0.01, **given)
    assert _rates(HeldCosineDecay(0.2, 30, warmup_steps=warmup, alpha=0.01)) == _rates(expected)


def test_the_hold_lies_between_warm_up_and_decay():
    plain = _rates(HeldCosineDecay(0.2, 20, warmup_steps=4))
    held = _rates(HeldCosineDecay(0.2, 20, warmup_steps=4, held_steps=7))
    np.testing.assert_array_equal(held[:4], plain[:4])
    np.testing.assert_array_equal(held[4:11], [np.float32(0.2)] * 7)
    np.testing.assert_array_equal(held[11:], plain[4:-7])
    assert held[-1] == 0


def test_it_is_saved_with_a_flow(tmp_path):
    flow = make_flow("glow")
    flow.compile(keras.optimizers.SGD(HeldCosineDecay(0.1, 5, warmup_steps=1, held_steps=2)))
    flow.fit(batches("glow", 16), verbose=0)
    flow.save(tmp_path / "flow.keras")
    loaded = load_flow(tmp_path / "flow.keras")
    schedules = [model.optimizer._learning_rate for model in (flow, loaded)]
    assert _rates(schedules[0], 10) == _rates(schedules[1], 10)


@pytest.mark.parametrize("name", ["warmup_steps", "held_steps"])
def test_numbers_of_steps_are_checked(name):
    with pytest.raises(ValueError, match=f"`{name}` must be at least 0, got -1"):
        HeldCosineDecay(0.1, 5, **{name: -1})
