"""Tests of the schedules of loss weights, the gate, and the monitor."""

import math

import keras
import numpy as np
import pytest
from flow_pairs import LossWeights, batches, conditions, data, make_flow, noise

from tfp_distill.distillation import (
    DistillationMonitor,
    FlowDistiller,
    LatentLoss,
    LossWeightSchedule,
    SynthesizedLoss,
    SynthesizedLossGate,
)

NLL, LATENT, BOTH = ("nll",), ("nll", "latent_loss"), ("nll", "latent_loss", "synthesized_loss")


def _distiller(learning_rate=1e-2, **compile_options):
    student = make_flow("glow", num_steps=1, seed=1)
    teacher = make_flow("glow", num_steps=1, seed=2)
    distiller = FlowDistiller(
        student=student,
        teacher=teacher,
        distillation_losses=[LatentLoss(), SynthesizedLoss()],
        distillation_loss_weights=[0.25, 0.5],
        seed=3,
    )
    options = {"run_eagerly": True, **compile_options}
    distiller.compile(keras.optimizers.SGD(learning_rate, clipnorm=1.0), **options)
    return distiller


def _fit(distiller, *callbacks, rows=16, epochs=2):
    recorded = LossWeights()
    logs = distiller.fit(
        batches(data(rows)), epochs=epochs, verbose=0, callbacks=[*callbacks, recorded]
    ).history
    return recorded.rows, logs


@pytest.fixture(scope="module")
def eager():
    """A distiller for tests that do not care about its weights."""
    return _distiller()


class _SetWeights(keras.callbacks.Callback):
    def __init__(self, weights):
        super().__init__()
        self.weights = weights

    def on_train_batch_begin(self, batch, logs=None):
        self.model.set_loss_weights(self.weights[self.model.step])


def test_weights_change_during_fit_and_each_set_of_losses_is_traced_once(monkeypatch):
    traces, objective = [], FlowDistiller.objective

    def traced(self, *args):
        traces.append(self.active_losses)
        return objective(self, *args)

    monkeypatch.setattr(FlowDistiller, "objective", traced)
    distiller = _distiller(run_eagerly=False, jit_compile=False)
    off = {"latent_loss": 0.0, "synthesized_loss": 0.0}
    weights = [
        off,
        {"latent_loss": 0.5},
        {"latent_loss": 3.0},  # Another value is no other set.
        off,
        {"latent_loss": 0.1, "synthesized_loss": 0.0},
        off,
    ]
    rows, logs = _fit(distiller, _SetWeights(weights), rows=48, epochs=1)
    assert [active for _, _, active in rows] == [NLL, LATENT, LATENT, NLL, LATENT, NLL]
    assert traces == [NLL, LATENT]
    assert rows[2][1] == {"nll": 1.0, "latent_loss": 3.0, "synthesized_loss": 0.0}
    assert np.isfinite(logs["loss"][0])


def test_a_new_weight_reaches_the_compiled_step():
    distiller = _distiller(learning_rate=0.0, run_eagerly=False, jit_compile=False)
    losses = []
    for weight in (0.25, 4.0):
        distiller.set_loss_weights({"latent_loss": weight, "synthesized_loss": 0.0})
        logs = distiller.fit(batches(data(8)), verbose=0).history
        losses.append((logs["loss"][0], logs["nll"][0] + weight * logs["latent_loss"][0]))
    np.testing.assert_allclose(*zip(*losses, strict=True), rtol=1e-5)
    assert losses[1][0] > losses[0][0] + 0.1


def _schedule():
    decay = keras.optimizers.schedules.PolynomialDecay(1.0, 4, 0.0)
    return LossWeightSchedule(
        {"latent_loss": decay, "synthesized_loss": lambda step: 0.125 * (step >= 2)}
    )


def test_a_schedule_is_a_function_of_the_step_alone(tmp_path):
    rows, _ = _fit(_distiller(), _schedule(), epochs=3)
    expected = [
        (i + 1, {"nll": 1.0, "latent_loss": max(0, 1 - i / 4), "synthesized_loss": 0.125 * (i > 1)})
        for i in range(6)
    ]
    assert [row[:2] for row in rows] == expected
    assert [row[2] for row in rows][::3] == [LATENT, BOTH]
    assert rows[5][2] == ("nll", "synthesized_loss")

    first = _distiller()
    _fit(first, _schedule(), epochs=1)
    first.save_weights(tmp_path / "state.weights.h5")
    second = _distiller()
    second.load_weights(tmp_path / "state.weights.h5")
    assert second.loss_weights == first.loss_weights
    resumed, _ = _fit(second, _schedule(), epochs=2)
    assert resumed == rows[2:]


def test_the_gate_opens_at_its_step(eager):
    distiller = _distiller()
    rows, logs = _fit(distiller, SynthesizedLossGate(open_at_step=3), epochs=3)
    assert [active for _, _, active in rows] == [LATENT] * 3 + [BOTH] * 3
    assert rows[-1][1] == {"nll": 1.0, "latent_loss": 0.25, "synthesized_loss": 0.5}
    assert len(logs["synthesized_loss"]) == 2  # Not in the first epoch.
    again, _ = _fit(distiller, SynthesizedLossGate(open_at_step=3), epochs=1)
    assert [active for _, _, active in again] == [BOTH] * 2
    rows, _ = _fit(_distiller(), SynthesizedLossGate(open_at_step=0), epochs=1)
    assert [active for _, _, active in rows] == [BOTH] * 2


def test_the_gate_opens_when_the_latents_are_aligned():
    reference = _distiller()
    reference.set_loss_weights({"synthesized_loss": 0.0})
    _, logs = _fit(reference, epochs=4)
    losses = logs["latent_loss"]
    assert losses == sorted(losses, reverse=True)
    threshold = (losses[1] + losses[2]) / 2
    rows, logs = _fit(_distiller(), SynthesizedLossGate(open_below=threshold), epochs=4)
    assert [active for _, _, active in rows] == [LATENT] * 6 + [BOTH] * 2
    np.testing.assert_allclose(logs["latent_loss"][:3], losses[:3], rtol=1e-6)
    rows, _ = _fit(_distiller(), SynthesizedLossGate(open_below=threshold, watch="nll"), epochs=1)
    assert rows[-1][2] == LATENT


def test_an_open_gate_stays_open_in_this_run_and_in_a_resumed_one(tmp_path):
    def with_gate():
        distiller, gate = _distiller(), SynthesizedLossGate(open_below=0.5)
        gate.set_model(distiller)
        return distiller, gate

    distiller, gate = with_gate()
    gate.on_train_begin()
    for value, active in (
        (0.7, LATENT),
        (0.5, LATENT),
        (float("nan"), LATENT),
        (0.4, BOTH),
        (0.9, BOTH),
    ):
        gate.on_epoch_end(0, {"latent_loss": value})
        assert distiller.active_losses == active
    distiller._step.assign(7)
    distiller.save_weights(tmp_path / "open.weights.h5")
    distiller.set_loss_weights({"synthesized_loss": 0.0})
    distiller.save_weights(tmp_path / "closed.weights.h5")
    for name, active in (("open", BOTH), ("closed", LATENT)):
        resumed, gate = with_gate()
        resumed.load_weights(tmp_path / f"{name}.weights.h5")
        gate.on_train_begin()
        assert resumed.active_losses == active
        gate.on_epoch_end(7, {"latent_loss": 0.1})
        assert resumed.loss_weights["synthesized_loss"] == 0.5


def test_loaded_weights_select_the_step_even_in_the_middle_of_a_fit(tmp_path):
    distiller = _distiller()
    distiller.set_loss_weights({"synthesized_loss": 0.0})
    distiller.save_weights(tmp_path / "closed.weights.h5")

    class Load(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):  # As BackupAndRestore does.
            self.model.load_weights(tmp_path / "closed.weights.h5")

    loaded = _distiller()
    rows, logs = _fit(loaded, Load(), epochs=1)
    assert [active for _, _, active in rows] == [LATENT] * 2
    assert "synthesized_loss" not in logs


@pytest.mark.slow
@pytest.mark.parametrize("condition", [None, conditions(11)], ids=["plain", "conditional"])
def test_the_figures_of_the_monitor(condition):
    dims = 0 if condition is None else 2
    student = make_flow("maf", num_steps=1, seed=1, condition_dims=dims)
    teacher = make_flow("glow", num_steps=1, seed=2, condition_dims=dims)
    distiller = FlowDistiller(
        student=student, teacher=teacher, distillation_losses=[LatentLoss()], seed=5
    )
    x = data(11, seed=9)
    monitor = DistillationMonitor(x, condition, batch_size=4)
    monitor.set_model(distiller)
    logs = {"loss": 1.0}
    monitor.on_epoch_end(0, logs)
    z = np.concatenate(
        [noise(n, seed=5, step=i, stream="evaluation") for i, n in enumerate((4, 4, 3))]
    )
    samples = [flow.to_data(z, condition).numpy() for flow in (student, teacher)]
    latents = [flow.to_latent(x, condition).numpy() for flow in (student, teacher)]
    densities = [flow.log_prob(x, condition).numpy() for flow in (student, teacher)]
    expected = {
        "val_nll_gap": np.mean(densities[1] - densities[0]),
        "val_latent_distance": np.mean(np.abs(latents[0] - latents[1])),
        "val_sample_distance": np.mean(np.abs(samples[0] - samples[1]) / student.standardize.scale),
    }
    assert logs.pop("loss") == 1.0
    assert logs.keys() == expected.keys()
    for name, value in expected.items():
        assert math.isclose(logs[name], value, rel_tol=1e-4), name
        assert isinstance(logs[name], float)
    again = {}
    monitor.on_epoch_end(1, again)
    assert again == logs


@pytest.mark.slow
@pytest.mark.parametrize(("learning_rate", "epochs"), [(0.0, 3), (1e-3, 5)])
def test_the_monitor_stops_early_where_nothing_improves(learning_rate, epochs):
    distiller = _distiller(learning_rate)
    callbacks = [
        DistillationMonitor(data(8)),
        keras.callbacks.EarlyStopping("val_latent_distance", patience=2, mode="min"),
    ]
    _, logs = _fit(distiller, *callbacks, epochs=5)
    assert len(logs["val_latent_distance"]) == epochs
    assert {"val_nll_gap", "val_sample_distance"} < set(logs)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LossWeightSchedule({}), "`schedules` must hold at least one schedule, got none"),
        (SynthesizedLossGate, "Exactly one of .* must be given, got None and None"),
        (
            lambda: SynthesizedLossGate(open_at_step=1, open_below=0.1),
            "Exactly one of .* must be given, got 1 and 0.1",
        ),
        (lambda: DistillationMonitor(data(0)), "`x` must have at least one row, got none"),
    ],
)
def test_illegal_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_validation_data_are_checked_when_training_begins(eager):
    distiller = _distiller()
    with pytest.raises(ValueError, match=r"`x` of '.*' must have shape \(batch, 3\), got \(4, 2\)"):
        _fit(distiller, DistillationMonitor(data(4, dims=2)))
    assert distiller.step == 0


def test_names_of_losses_are_checked_when_training_begins(eager):
    for gate in (
        SynthesizedLossGate(open_at_step=1, loss_name="skd"),
        SynthesizedLossGate(open_below=1.0, watch="skd"),
    ):
        with pytest.raises(ValueError, match="must be among nll, latent_loss, .*, got 'skd'"):
            _fit(eager, gate)
    with pytest.raises(ValueError, match="must name some of nll, .*, got 'skd'"):
        _fit(eager, LossWeightSchedule({"skd": lambda step: 1.0}))
    with pytest.raises(ValueError, match="must be finite and not negative, got -1.0"):
        _fit(eager, LossWeightSchedule({"nll": lambda step: -1.0}))


@pytest.mark.parametrize(
    "make",
    [
        lambda: LossWeightSchedule({"nll": lambda step: 1.0}),
        lambda: SynthesizedLossGate(open_at_step=1),
        lambda: DistillationMonitor(data(2)),
    ],
)
def test_other_models_are_refused(make):
    callback = make()
    flow = make_flow("glow", num_steps=1)
    with pytest.raises(ValueError, match="must be used with a FlowDistiller, got Flow"):
        callback.set_model(flow)
