"""Tests of training that is interrupted."""

import contextlib
import json

import h5py
import keras
import numpy as np
import pytest
from interruption import Interrupt

from tfp_distill import Flow, MAFConfig, Partition, PartSchedule, TabularGlowConfig, load_flow
from tfp_distill.data import FlowData, Statistics
from tfp_distill.distillation import (
    DistillationMonitor,
    FlowDistiller,
    LatentLoss,
    SynthesizedLoss,
    SynthesizedLossGate,
)
from tfp_distill.runs.fitting import fit_flow as fitting
from tfp_distill.runs.fitting.fit_flow import fit_flow
from tfp_distill.runs.fitting.optimizers import execution_steps
from tfp_distill.runs.fitting.rows import training_rows
from tfp_distill.runs.fitting.training_record import read_record
from tfp_distill.training.callbacks import backup

pytestmark = pytest.mark.slow

DIMS, STEPS, REPORT_STEPS = 3, 8, 2


def _data():
    rows = np.random.RandomState(0).normal(1, 2, size=(300, DIMS)).astype(np.float32)
    train, validation, test = rows[:200], rows[200:250], rows[250:]
    return FlowData("toy", train, validation, test, Statistics.of_rows(train), ("a", "b", "c"))


def _optimizer():
    schedule = keras.optimizers.schedules.CosineDecay(1e-2, STEPS)
    return keras.optimizers.AdamW(schedule, global_clipnorm=1.0, use_ema=True, ema_momentum=0.9)


def _flow(jit_compile=False):
    flow = Flow(TabularGlowConfig(DIMS, num_steps=1, hidden_units=4, num_hidden_layers=1))
    flow.compile(_optimizer(), jit_compile=jit_compile, steps_per_execution=REPORT_STEPS)
    return flow, flow, [], None


def _distiller():
    data = _data()
    student = Flow(TabularGlowConfig(DIMS, num_steps=1, hidden_units=4, num_hidden_layers=1))
    teacher = Flow(MAFConfig(DIMS, num_steps=1, hidden_units=4, seed=1))
    for flow in (student, teacher):
        flow.standardize.set_statistics(data.statistics.mean, data.statistics.scale)
    distiller = FlowDistiller(
        student=student,
        teacher=teacher,
        distillation_losses=[LatentLoss(), SynthesizedLoss()],
        distillation_loss_weights=[0.2, 0.2],
    )
    distiller.compile(_optimizer(), jit_compile=False)
    callbacks = [SynthesizedLossGate(open_at_step=3)]
    return distiller, student, callbacks, DistillationMonitor(data.validation)


def _parts():
    """Two parts that take turns and then the whole: an epoch, an epoch, and two."""
    flow = Flow(TabularGlowConfig(DIMS, num_steps=2, hidden_units=4, num_hidden_layers=1))
    flow.compile(_optimizer(), partition=Partition.at_steps(flow, [1]), jit_compile=False)
    return flow, flow, [PartSchedule("alternating", 1, end_to_end_epochs=2)], None


def _fit(make, directory, interrupt_at=None):
    model, flow, callbacks, monitor = make()
    interrupt = [Interrupt(interrupt_at)] if interrupt_at else []
    with pytest.raises(InterruptedError) if interrupt else contextlib.nullcontext():
        return fit_flow(
            model,
            flow,
            _data(),
            training_rows(_data(), 32, seed=1),
            directory=directory,
            steps=STEPS,
            report_steps=REPORT_STEPS,
            callbacks=[*callbacks, *interrupt],
            monitor=monitor,
        )


def _contents(path):
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return found


def _assert_same(a, b):
    """The same state, optimiser included, the same best flow and the same record."""
    records = [read_record(directory) for directory in (a, b)]
    assert records[0].checkpoint == records[1].checkpoint == f"checkpoint_{STEPS}.weights.h5"
    one, two = (_contents(directory / records[0].checkpoint) for directory in (a, b))
    assert one.keys() == two.keys()
    assert any("optimizer" in name for name in one)
    for name, value in one.items():
        np.testing.assert_array_equal(two[name], value, err_msg=name)
    measured = ("seconds", "peak_bytes")  # Of this machine at that time.
    histories = [
        [{k: v for k, v in row.items() if k not in measured} for row in record.history]
        for record in records
    ]
    assert json.dumps(histories[0]) == json.dumps(histories[1])
    assert [row["step"] for row in histories[0]] == [2, 4, 6, 8]
    assert records[0].best_val_nll == records[1].best_val_nll
    flows = [load_flow(directory / "flow.keras").get_weights() for directory in (a, b)]
    for x, y in zip(*flows, strict=True):
        np.testing.assert_array_equal(x, y)
    assert sorted(path.name for path in b.iterdir()) == sorted(path.name for path in a.iterdir())


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "distiller"
    _fit(_distiller, directory)
    return directory


@pytest.mark.parametrize("step", [1, 5])
def test_interrupted_distillation_ends_as_if_it_had_not_been(step, uninterrupted, tmp_path):
    directory = tmp_path / "distiller"
    _fit(_distiller, directory, interrupt_at=step)
    assert read_record(directory).steps == step // REPORT_STEPS * REPORT_STEPS
    _fit(_distiller, directory)
    _assert_same(uninterrupted, directory)


@pytest.fixture(scope="module")
def uninterrupted_parts(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "parts"
    _fit(_parts, directory)
    return directory


@pytest.mark.parametrize("step", [2, 5])
def test_interrupted_training_in_parts_ends_as_if_it_had_not_been(
    step, uninterrupted_parts, tmp_path
):
    directory = tmp_path / "parts"
    _fit(_parts, directory, interrupt_at=step)
    assert read_record(directory).steps == (step - 1) // REPORT_STEPS * REPORT_STEPS
    _fit(_parts, directory)
    _assert_same(uninterrupted_parts, directory)


def test_the_record_says_who_was_trained(uninterrupted_parts):
    history = read_record(uninterrupted_parts).history
    assert [row["parts"] for row in history] == [[0], [1], None, None]
    assert ["part_0_nll" in row for row in history] == [True, False, False, False]


def test_a_crash_between_the_files_of_a_report_loses_nothing(uninterrupted, tmp_path, monkeypatch):
    directory = tmp_path / "distiller"
    write, calls = backup.write_json, []

    def write_once(path, value):
        calls.append(path)
        if len(calls) == 2:
            raise InterruptedError
        write(path, value)

    with monkeypatch.context() as patched:
        patched.setattr(backup, "write_json", write_once)
        with pytest.raises(InterruptedError):
            _fit(_distiller, directory)
    assert read_record(directory).steps == 2
    _fit(_distiller, directory)
    _assert_same(uninterrupted, directory)


def test_interrupted_compiled_training_ends_as_if_it_had_not_been(tmp_path):
    def make():
        return _flow(jit_compile=True)

    _fit(make, tmp_path / "a")
    _fit(make, tmp_path / "b", interrupt_at=6)
    assert read_record(tmp_path / "b").steps == 4
    _fit(make, tmp_path / "b")
    _assert_same(tmp_path / "a", tmp_path / "b")


def test_a_finished_training_is_left_alone(uninterrupted, capsys):
    before = {path: path.stat().st_mtime_ns for path in uninterrupted.iterdir()}
    record = _fit(_distiller, uninterrupted)
    assert record == read_record(uninterrupted)
    assert record.finished
    assert capsys.readouterr().out == "distiller: already trained, 8 steps\n"
    assert {path: path.stat().st_mtime_ns for path in uninterrupted.iterdir()} == before


def test_the_record_and_the_best_flow(uninterrupted):
    record = read_record(uninterrupted)
    assert (record.steps, record.skipped_steps, record.finished) == (STEPS, 0, True)
    assert record.best_val_nll == min(row["val_nll"] for row in record.history)
    flow = load_flow(uninterrupted / "flow.keras")
    nll = -np.mean(flow.log_prob(_data().validation))
    np.testing.assert_allclose(nll, record.best_val_nll, rtol=1e-5)
    first, *later = record.history
    assert "synthesized_loss" not in first
    assert all("synthesized_loss" in row for row in later)
    assert all("val_latent_distance" in row and row["seconds"] > 0 for row in record.history)
    seconds = [row["seconds"] for row in record.history]
    assert seconds == sorted(seconds)
    assert seconds[-1] == record.seconds


class _SlowPicture(keras.callbacks.Callback):
    """Takes a thousand seconds, and a lot of memory, at the end of each epoch."""

    def __init__(self, machine):
        super().__init__()
        self._machine = machine

    def on_epoch_end(self, epoch, logs=None):
        self._machine["seconds"] += 1000
        self._machine["peak"] = 10**15


@pytest.mark.parametrize("make", [_flow, _parts])
def test_what_callbacks_do_at_the_end_of_an_epoch_counts_neither_as_time_nor_as_memory(
    make, tmp_path, monkeypatch
):
    machine = {"seconds": 0.0, "peak": 1}

    def perf_counter():
        machine["seconds"] += 1
        return machine["seconds"]

    monkeypatch.setattr(fitting.time, "perf_counter", perf_counter)
    memory = fitting.PeakMemory
    monkeypatch.setattr(memory, "reset", lambda self: machine.update(peak=1))
    monkeypatch.setattr(memory, "read", lambda self: machine["peak"])
    model, flow, callbacks, monitor = make()
    record = _fit(lambda: (model, flow, [*callbacks, _SlowPicture(machine)], monitor), tmp_path)
    assert machine["seconds"] > 4000
    assert 0 < record.seconds < 1000
    assert [row["peak_bytes"] for row in record.history] == [1] * 4


def test_nothing_is_recorded_where_nothing_was_trained(tmp_path):
    record = read_record(tmp_path)
    assert (record.steps, record.finished, record.history) == (0, False, ())


def test_steps_per_execution_divide_the_steps_between_reports():
    assert [execution_steps(n) for n in (1, 2, 50, 53, 60, 250, 1000)] == [1, 2, 50, 1, 30, 50, 50]


def test_a_training_that_takes_no_step_any_more_ends_and_keeps_what_it_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "_PATIENCE", 2)
    model, flow, callbacks, monitor = _flow()

    def fit(steps):
        rows = training_rows(_data(), 32, seed=1)
        options = dict(directory=tmp_path, steps=STEPS, report_steps=REPORT_STEPS)
        return fit_flow(model, flow, _data(), rows, until=steps, **options)

    fit(2)
    saved = load_flow(tmp_path / "flow.keras").get_weights()
    flow.trainable_variables[0].assign(np.full(flow.trainable_variables[0].shape, np.nan))
    monkeypatch.setattr(fitting.Backup, "restore", lambda *_: None)
    with pytest.raises(
        FloatingPointError, match="stopped at step 4: 2 steps in a row.*step_0_actnorm"
    ):
        fit(8)
    assert read_record(tmp_path).steps == 2
    for x, y in zip(load_flow(tmp_path / "flow.keras").get_weights(), saved, strict=True):
        np.testing.assert_array_equal(x, y)
