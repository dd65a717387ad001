"""Tests of parts that work at the same time: what they learn, and what crosses their boundaries."""

import functools
import math
import os
import subprocess
import sys

import clusters
import keras
import numpy as np
import pytest
import tensorflow as tf
import worker_processes
from part_flows import CONFIGS, batches, data, equal, make_flow, states

from tfp_distill import Partition, PartSchedule
from tfp_distill.training.parts.pipeline import PartPipeline

pytestmark = pytest.mark.slow

TWO = ("CPU:0", "CPU:1")
THREE = ("CPU:0", "CPU:1", "CPU:0")
# The steps that end a part, by the number of parts.
ENDS = {2: [2], 3: [1, 3]}


def _sgd():
    return keras.optimizers.SGD(0.05, momentum=0.9, global_clipnorm=0.5)


def _adamw():
    schedule = keras.optimizers.schedules.CosineDecay(0.0, 20, warmup_target=0.02, warmup_steps=3)
    return keras.optimizers.AdamW(schedule, weight_decay=0.1, use_ema=True, clipvalue=0.1)


def _compiled(kind="glow", num_parts=2, optimizer=_sgd, **options):
    flow = make_flow(kind)
    partition = Partition.at_steps(flow, ENDS[num_parts])
    flow.compile(optimizer(), partition=partition, **(options or dict(run_eagerly=True)))
    return flow


def _fit(flow, devices, dataset, epochs=1, callbacks=(), end_to_end_epochs=0, **options):
    schedule = PartSchedule(
        "simultaneous", epochs, end_to_end_epochs=end_to_end_epochs, devices=devices
    )
    callbacks = [schedule, *callbacks]
    return flow.fit(dataset, epochs=99, callbacks=callbacks, verbose=0, **options).history


def _assert_same(flow, expected, tolerance=0.0):
    assert (flow.step, flow.skipped_steps) == (expected.step, expected.skipped_steps)
    for part, (own, others) in enumerate(zip(states(flow), states(expected), strict=True)):
        for a, b in zip(own, others, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance, err_msg=str(part))


def _assert_same_logs(logs, expected):
    assert list(logs) == list(expected)
    for name, values in expected.items():
        # The sum of mean losses is not, to the last bit, the mean of their sum.
        np.testing.assert_allclose(logs[name], values, rtol=2e-6, err_msg=name)


GRAPH, XLA = dict(jit_compile=False), dict(jit_compile=True)
CASES = {
    "eager": ("glow", TWO, {}),
    "averages and a schedule": ("conditional_maf", TWO, dict(optimizer=_adamw, **GRAPH)),
    "images": ("images", TWO, GRAPH),
    "three parts on two devices": ("images", THREE, {}),
    "more steps than batches in an execution": (
        "conditional_maf",
        TWO,
        dict(steps_per_execution=9, **GRAPH),
    ),
    "xla": ("conditional_maf", TWO, XLA),
}


@pytest.mark.parametrize("case", CASES)
def test_drained_it_has_taken_the_steps_of_simultaneous_training(case):
    """Bit for bit: weights, optimisers, counters and logs; XLA fuses a part alone otherwise."""
    kind, devices, options = CASES[case]
    flow, expected = (_compiled(kind, len(devices), **options) for _ in range(2))
    # Batches of 8, 8 and 4.
    logs, expected_logs = (
        _fit(one, used, batches(kind, 20)) for one, used in ((flow, devices), (expected, None))
    )
    _assert_same(flow, expected, 2e-6 if case == "xla" else 0.0)
    _assert_same_logs(logs, expected_logs)
    assert flow.step == 3


def test_validation_and_what_follows_see_the_steps_of_simultaneous_training():
    def fit(devices):
        flow = _compiled(num_parts=3)
        seen = []

        class Look(keras.callbacks.Callback):
            def on_test_begin(self, logs=None):
                seen.append((flow.step, states(flow)))

            def on_epoch_end(self, epoch, logs=None):
                seen.append((flow.step, states(flow)))

        validation = batches("glow", 8, seed=3)
        # An epoch of two batches is shorter than the pipeline.
        logs = _fit(
            flow,
            devices,
            batches("glow", 16),
            epochs=2,
            callbacks=[Look()],
            end_to_end_epochs=1,
            validation_data=validation,
        )
        return flow, logs, seen

    (flow, logs, seen), (expected, expected_logs, others) = fit(THREE), fit(None)
    _assert_same(flow, expected)
    _assert_same_logs(logs, expected_logs)
    assert logs["val_part_1_loss"] == expected_logs["val_part_1_loss"]
    assert len(logs["part_1_loss"]) == 2 and len(logs["nll"]) == 1
    assert [step for step, _ in seen] == [2, 2, 4, 4, 6, 6]
    for (_, own), (_, other) in zip(seen, others, strict=True):
        assert all(map(equal, own, other))


@pytest.mark.parametrize("what", ["batch", "part"])
def test_a_part_that_is_not_finite_skips_the_step_as_in_simultaneous_training(what):
    (x,) = data("glow", 32)
    flows = _compiled(num_parts=3), _compiled(num_parts=3)
    if what == "batch":
        x[9, 1] = np.nan
    else:
        for flow in flows:
            weight = flow.part_weights(1)[0]
            weight.assign(np.full(weight.shape, np.inf, np.float32))
    dataset = tf.data.Dataset.from_tensor_slices((x,)).batch(8)
    logs, expected = (
        _fit(flow, used, dataset) for flow, used in zip(flows, (THREE, None), strict=True)
    )
    _assert_same(*flows)
    _assert_same_logs(logs, expected)
    assert flows[0].skipped_steps == (1 if what == "batch" else 4)
    iterations = [int(optimizer.iterations.numpy()) for optimizer in flows[0].optimizers]
    assert iterations == ([3, 3, 3] if what == "batch" else [4, 0, 0])


class _Interrupt(keras.callbacks.Callback):
    def __init__(self, epoch, batch):
        super().__init__()
        self.at, self.epoch = (epoch, batch), None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            raise InterruptedError


def test_interrupted_and_resumed_is_uninterrupted(tmp_path):
    path = str(tmp_path / "state.weights.h5")

    class Save(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.save_weights(path)

    expected, interrupted, resumed = (_compiled() for _ in range(3))
    rows = batches("glow", 24)
    _fit(expected, None, rows, epochs=2)
    with pytest.raises(InterruptedError):
        _fit(interrupted, TWO, rows, epochs=2, callbacks=[Save(), _Interrupt(1, 1)])
    resumed.load_weights(path)
    assert resumed.step == 3
    _fit(resumed, TWO, rows, epochs=2, initial_epoch=1)
    _assert_same(resumed, expected)
    # What the interrupted training left in the pipeline is gone.
    interrupted.load_weights(path)
    interrupted.evaluate(rows, verbose=0)
    _fit(interrupted, TWO, rows, epochs=2, initial_epoch=1)
    _assert_same(interrupted, expected)


def test_a_file_that_is_saved_within_an_epoch_holds_all_steps(tmp_path):
    flows = _compiled(), _compiled()
    path = str(tmp_path / "{batch}.weights.h5")
    for flow, devices in zip(flows, (TWO, None), strict=True):
        save = keras.callbacks.ModelCheckpoint(path, save_weights_only=True, save_freq=2)
        _fit(flow, devices, batches("glow", 24), callbacks=[save])
        flow.load_weights(path.format(batch=2))
        assert flow.step == 2
    _assert_same(*flows)


def test_weights_without_decay_have_none_on_the_devices():
    def make():
        optimizer = keras.optimizers.AdamW(0.01, weight_decay=1.0)
        flow = make_flow("glow")
        optimizers = [optimizer, keras.optimizers.SGD(0.01)]
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        partition = Partition.at_steps(flow, [2])
        flow.compile(optimizers, partition=partition, run_eagerly=True)
        return flow

    flows = make(), make()
    for flow, devices in zip(flows, (TWO, None), strict=True):
        _fit(flow, devices, batches("glow", 16))
    _assert_same(*flows)


class _Tick:
    """The graph of a tick of a pipeline over two devices."""

    def __init__(self, kind):
        self.flow = _compiled(kind, jit_compile=False)
        self.pipeline = PartPipeline(self.flow, TWO, jit_compile=False)
        self.pipeline(iter(batches(kind, 8)))
        self.graph = self.pipeline.tick.get_concrete_function().graph
        library = self.graph.as_graph_def(add_shapes=False).library.function
        self._functions = {function.signature.name: function for function in library}

    def device(self, op):
        """Number of the device of an operation; None if it computes nothing itself."""
        if op.type in ("Placeholder", "NoOp", "Identity") and not op.device:
            return None  # What comes in and what goes out.
        spec = tf.DeviceSpec.from_string(op.device)
        assert spec.device_type == "CPU" and spec.device_index in (0, 1), op
        return spec.device_index

    def edges(self):
        """(from, to, tensor) of all tensors, and the order of operations, between devices."""
        for op in self.graph.get_operations():
            inputs = [(tensor.op, tensor) for tensor in op.inputs]
            for source, tensor in [*inputs, *((before, None) for before in op.control_inputs)]:
                ends = self.device(source), self.device(op)
                if None not in ends and ends[0] != ends[1]:
                    yield *ends, tensor

    def devices_inside(self, names):
        """The devices of all operations of functions, and of those that they call."""
        found, seen, names = set(), set(), list(names)
        while names:
            if (name := names.pop()) in seen or name not in self._functions:
                continue
            seen.add(name)
            for node in self._functions[name].node_def:
                if node.device:
                    found.add(tf.DeviceSpec.from_string(node.device).device_index)
                names += _called(node)
        return found


_tick = functools.cache(_Tick)


def _called(node):
    return [value.func.name for value in node.attr.values() if value.func.name]


@pytest.mark.parametrize("kind", CONFIGS)
def test_only_activations_cross_a_boundary_and_only_forward(kind):
    tick = _tick(kind)
    crossing = list(tick.edges())
    assert {(a, b) for a, b, _ in crossing} == {(0, 1)}
    tensors = {tensor.name: tensor for *_, tensor in crossing if tensor is not None}
    rows = 8
    handed = sum(
        math.prod([rows, *tensor.shape[1:]]) * tensor.dtype.size for tensor in tensors.values()
    )
    dims = CONFIGS[kind].condition_dims
    assert handed == 4 * rows * (tick.flow.handed_size(1) + dims)
    # They are what then lies in the inbox, in the memory of the other device.
    (inbox,) = tick.pipeline.inboxes
    values = tf.nest.flatten(inbox)
    assert handed == sum(value.numpy().nbytes for value in values)
    assert all(value.backing_device.endswith("CPU:1") for value in values)


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_part_computes_and_keeps_everything_on_its_device(kind):
    tick = _tick(kind)
    steps = [op for op in tick.graph.get_operations() if op.type in ("If", "StatelessIf")]
    assert [tick.device(op) for op in steps] == [0, 1]
    external = {id(inner): outer for outer, inner in tick.graph.captures}
    for device, op in enumerate(steps):
        assert tick.devices_inside(_called(op.node_def)) == {device}
        own = [external[id(tensor)] for tensor in op.inputs if id(tensor) in external]
        assert len(own) == len(tick.pipeline.parts[device].variables)
        assert all(handle.device.endswith(f"CPU:{device}") for handle in own)
    # What the tick returns besides the inbox are means, for the logs.
    inboxes, means = tick.pipeline.tick.get_concrete_function().structured_outputs
    assert len(inboxes) == 1
    names = {"loss", "grad_norm", *tick.flow.loss_names}
    assert all(set(own) == names for own in means)
    assert all(value.shape.rank == 0 for own in means for value in own.values())


def test_no_part_waits_for_another_within_a_tick():
    tick = _tick("conditional_maf")
    steps = [op for op in tick.graph.get_operations() if op.type == "If"]
    for op in steps:
        seen, ahead = set(), [op]
        while ahead:
            behind = ahead.pop()
            before = {tensor.op for tensor in behind.inputs} | set(behind.control_inputs)
            ahead += before - seen
            seen |= before
        assert not seen & set(steps)


ILLEGAL = {
    "number": (("CPU:0",), r"one for each of the 2 parts of 'glow', got 1: CPU:0"),
    "unknown": (("CPU:0", "GPU:7"), r"some of .*device:CPU:0, .*device:CPU:1, got GPU:7"),
    "no device": (("CPU:0", "gold"), "some of .*, got gold"),
}


@pytest.mark.parametrize("case", ILLEGAL)
def test_devices_that_do_not_fit_are_refused(case):
    devices, message = ILLEGAL[case]
    flow = _compiled()
    with pytest.raises(ValueError, match=f"`devices` must be {message}"):
        _fit(flow, devices, batches("glow", 8))
    with pytest.raises(ValueError, match=message):
        flow.train_parts((0, 1), devices=devices)
    assert flow.step == 0


@pytest.mark.parametrize("mode", ["sequential", "alternating"])
def test_other_modes_have_no_devices(mode):
    with pytest.raises(ValueError, match=f"`mode` must be simultaneous .*, got '{mode}'"):
        PartSchedule(mode, 1, devices=TWO)
    with pytest.raises(ValueError, match=r"`parts` must be all, \(0, 1\), .*, got \(0,\)"):
        _compiled().train_parts((0,), devices=TWO)


def test_replicas_have_no_devices(two_replicas):
    with two_replicas.scope():
        flow = _compiled(jit_compile=False)
    with pytest.raises(ValueError, match="without replicas.*MirroredStrategy with 2"):
        flow.train_parts((0, 1), devices=TWO)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="starts processes as on Linux and macOS")
def test_parts_work_in_other_processes():
    try:
        addresses = ",".join(clusters.free_addresses(2))
    except OSError as error:
        pytest.skip(f"no port of this machine can be opened: {error}")
    script = [sys.executable, worker_processes.__file__]
    quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    workers = [
        subprocess.Popen([*script, "worker", str(index), addresses], **quiet) for index in range(2)
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    try:
        trainer = subprocess.run(
            [*script, "trainer", addresses],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert trainer.stdout.splitlines() == ["placed True", "equal True"], trainer.stderr[-2000:]
