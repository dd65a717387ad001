"""Training that rebuilds activations is training."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from part_flows import CONFIGS, batches, make_flow

import tfp_distill
from tfp_distill import FlowDistiller, Partition, PartSchedule

pytestmark = pytest.mark.slow

_GROWTH = """
import json, os, sys
os.environ["TF_CPU_ALLOCATOR_USE_BFC"] = "1"
import numpy as np, tensorflow as tf
from tfp_distill import Flow, GlowConfig
from tfp_distill.training import PeakMemory

found = {}
for memory, depth in (("plain", 8), ("plain", 24), ("reversible", 8), ("reversible", 24)):
    flow = Flow(GlowConfig((16, 16, 1), num_levels=1, steps_per_level=depth, hidden_channels=64))
    x = tf.constant(np.random.default_rng(0).uniform(size=(64, 16, 16, 1)), tf.float32)
    flow.adapt(x)
    flow.compile("sgd", memory=memory)
    peak = PeakMemory()
    if peak.source != "allocator":
        break
    data = tf.data.Dataset.from_tensors(x).repeat()
    flow.fit(data, steps_per_epoch=2, verbose=0)
    peak.reset()
    level = peak.read()
    flow.fit(data, steps_per_epoch=2, verbose=0)
    found[f"{memory} {depth}"] = peak.read() - level
print(json.dumps(found))
"""


def _flow(kind, size=0.05):
    return make_flow(kind, size)


def _sgd():
    return keras.optimizers.SGD(0.05, momentum=0.9, global_clipnorm=0.5)


def _fit(model, dataset, memory, *, partition=None, callbacks=(), **options):
    with model.distribute_strategy.scope():
        model.compile(_sgd(), partition=partition, memory=memory, **options)
    history = model.fit(dataset, epochs=2, callbacks=list(callbacks), verbose=0).history
    return history, [weight.numpy() for weight in model.trainable_variables]


def _assert_same(found, expected):
    (logs, weights), (other_logs, others) = found, expected
    assert max(logs.pop("drift")) < 1e-4
    assert list(logs) == list(other_logs)
    for name, values in other_logs.items():
        np.testing.assert_allclose(logs[name], values, rtol=1e-4, atol=1e-5, err_msg=name)
    for own, other in zip(weights, others, strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("xla", [False, True])
def test_a_flow_learns_the_same(kind, xla):
    data = batches(kind, 20)
    plain = _fit(_flow(kind), data, "plain", jit_compile=xla)
    _assert_same(_fit(_flow(kind), data, "reversible", jit_compile=xla), plain)


@pytest.mark.parametrize("kind", ["glow", "images"])
@pytest.mark.parametrize("devices", [None, ("CPU:0", "CPU:1")])
def test_parts_learn_the_same(kind, devices):
    def fitted(memory):
        flow = _flow(kind)
        partition = Partition.at_steps(flow, [2])
        schedule = PartSchedule("simultaneous", 2, devices=devices)
        return _fit(
            flow,
            batches(kind, 16),
            memory,
            partition=partition,
            callbacks=[schedule],
            jit_compile=False,
        )

    _assert_same(fitted("reversible"), fitted("plain"))


@pytest.mark.parametrize("kind", ["glow", "images"])
@pytest.mark.parametrize("parts", [False, True])
def test_students_learn_the_same(kind, parts):
    losses = [tfp_distill.LatentLoss(), tfp_distill.IntermediateLatentLoss()]
    if not parts:
        losses.append(tfp_distill.SynthesizedLoss())

    def fitted(memory):
        student = _flow(kind)
        distiller = FlowDistiller(
            student=student,
            teacher=_flow(kind, 0.03),
            distillation_losses=losses,
            distillation_loss_weights=[1.0] * len(losses),
        )
        partition = Partition.at_steps(student, [2]) if parts else None
        return _fit(distiller, batches(kind, 16), memory, partition=partition, jit_compile=False)

    _assert_same(fitted("reversible"), fitted("plain"))


def test_replicas_learn_the_same(two_replicas):
    data = batches("glow", 21)
    expected = _fit(make_flow("glow"), data, "plain")
    with two_replicas.scope():
        flow = make_flow("glow")
    _assert_same(_fit(flow, data, "reversible"), expected)


def test_steps_whose_gradients_drifted_are_skipped():
    flow = make_flow("glow")
    data = batches("glow", 16)
    # A shift of 1e8, and one back: of what arrived nothing is left.
    for step, shift in ((1, 1e8), (2, -1e8)):
        flow.bijector.bijectors[step].bijectors[0].keras_layers[0].shift.assign([shift] * 3)
    flow.compile("sgd", memory="reversible")
    before = [weight.numpy() for weight in flow.trainable_variables]
    logs = flow.fit(data, verbose=0).history

    assert logs["skipped_steps"] == [2]
    for weight, value in zip(flow.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_memory_does_not_grow_with_the_steps():
    process = subprocess.run(
        [sys.executable, "-c", _GROWTH], capture_output=True, text=True, check=True
    )
    growth = json.loads(process.stdout)
    if not growth:
        pytest.skip("this machine does not tell what TensorFlow holds")
    assert growth["plain 24"] > 2.5 * growth["plain 8"]
    assert growth["reversible 24"] < 1.5 * growth["reversible 8"]
    assert growth["reversible 24"] < growth["plain 8"]


def test_what_was_compiled_is_restored(tmp_path):
    flow = make_flow("glow")
    flow.compile("adam", memory="reversible")
    flow.save(tmp_path / "flow.keras")
    loaded = keras.saving.load_model(tmp_path / "flow.keras")
    assert loaded.recomputes
    assert "drift" in loaded.fit(batches("glow", 8), verbose=0).history


def test_other_memory_is_refused():
    with pytest.raises(ValueError, match="`memory` must be one of plain, reversible, got 'small'"):
        make_flow("glow").compile("adam", memory="small")
