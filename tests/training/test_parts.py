"""Tests of training in parts: optimisers, the finite guard, logs, replicas, files."""

import contextlib
import os

import keras
import numpy as np
import pytest
from part_flows import Phases, batches, data, equal, make_flow, states

from tfp_distill import Flow, Partition, PartSchedule, export_flow, load_flow
from tfp_distill.training import averaged_weights

pytestmark = pytest.mark.slow

MODES = {
    "xla": dict(jit_compile=True),
    "graph": {},
    "eager": dict(run_eagerly=True),
    "several_steps_per_execution": dict(steps_per_execution=2),
}


def _sgd(**kwargs):
    return keras.optimizers.SGD(0.05, momentum=0.9, **kwargs)


def _compiled(kind="glow", optimizer=_sgd, strategy=None, jit_compile=False, **kwargs):
    with strategy.scope() if strategy else contextlib.nullcontext():
        flow = make_flow(kind)
        optimizer = optimizer() if callable(optimizer) else optimizer
        partition = Partition.at_steps(flow, [1, 3])
        flow.compile(optimizer, partition=partition, jit_compile=jit_compile, **kwargs)
    return flow


def _assert_close(flow, expected, tolerance=2e-6):
    for a, b in zip(flow.trainable_variables, expected.trainable_variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=tolerance, err_msg=a.path)


class Only(keras.callbacks.Callback):
    """Trains the same parts in every epoch."""

    def __init__(self, parts):
        super().__init__()
        self.parts = parts

    def on_epoch_begin(self, epoch, logs=None):
        self.model.train_parts(self.parts)


@pytest.mark.parametrize("mode", MODES)
def test_together_each_part_takes_the_step_that_it_takes_alone(mode):
    """In one step no part notices the others."""
    together = _compiled(**MODES[mode])
    together.fit(batches("glow", 8), verbose=0)
    start = states(_compiled())
    for part in together.all_parts:
        alone = _compiled()
        alone.fit(batches("glow", 8), callbacks=[Only((part,))], verbose=0)
        for k, (now, before) in enumerate(zip(states(alone), start, strict=True)):
            if k == part:
                for a, b in zip(now, states(together)[k], strict=True):
                    np.testing.assert_allclose(a, b, atol=2e-6)
            else:
                assert equal(now, before)


def test_the_first_part_trains_as_a_flow_that_ends_after_it():
    """Nothing before it moves: with any schedule of the others, its path is the same."""
    flows = [_compiled(), _compiled()]
    flows[0].fit(batches("glow", 24), epochs=2, verbose=0)
    flows[1].fit(batches("glow", 24), epochs=2, verbose=0, callbacks=[Only((0,))])
    a, b = (states(flow)[0] for flow in flows)
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, atol=2e-6)


@pytest.mark.parametrize("kind", ["glow", "conditional_maf", "images"])
def test_every_phase_lowers_its_loss(kind):
    flow = _compiled(kind, keras.optimizers.Adam(0.02))
    schedule = PartSchedule("alternating", 3, end_to_end_epochs=2)
    x = data(kind, 40)
    before = flow.evaluate(batches(kind, 40, 40), return_dict=True, verbose=0)
    logs = flow.fit(
        *x,
        batch_size=8,
        epochs=schedule.num_epochs(flow.partition),
        callbacks=[schedule],
        validation_data=x,
        verbose=0,
    ).history
    assert sum(logs["skipped_steps"]) == 0
    for part in flow.all_parts:
        losses = logs[f"part_{part}_loss"]
        assert len(losses) == 3
    assert len(logs["nll"]) == 2
    assert logs["val_nll"][-1] < before["nll"] - 0.3
    assert logs["val_nll"] == logs["val_loss"]
    np.testing.assert_allclose(logs["val_nll"], logs["val_part_2_nll"])
    assert logs["val_part_0_loss"][2] < before["part_0_loss"]


def test_end_to_end_with_equal_optimisers_is_the_plain_training():
    plain = make_flow("glow")
    plain.compile(_sgd(), jit_compile=False)
    in_parts = _compiled()
    logs = [
        flow.fit(batches("glow", 24), epochs=2, verbose=0, callbacks=callbacks).history
        for flow, callbacks in ((plain, []), (in_parts, [Only(None)]))
    ]
    _assert_close(in_parts, plain)
    for name, values in logs[0].items():
        np.testing.assert_allclose(logs[1][name], values, rtol=1e-5)


def test_one_part_is_the_plain_training():
    plain, one = make_flow("glow"), make_flow("glow")
    plain.compile(_sgd(), jit_compile=False)
    one.compile([_sgd()], partition=Partition.end_to_end(one), jit_compile=False)
    for flow in (plain, one):
        flow.fit(batches("glow", 16), verbose=0)
    assert one.active_parts is None
    assert one.optimizers == (one.optimizer,)
    assert equal(states(one)[0], states(plain)[0])


def test_every_part_has_its_own_optimiser():
    warm_up = keras.optimizers.schedules.CosineDecay(0.0, 4, warmup_target=0.1, warmup_steps=2)
    optimizers = [
        keras.optimizers.SGD(warm_up),
        keras.optimizers.Adam(1e-2, global_clipnorm=1.0),
        keras.optimizers.SGD(0.0, use_ema=True),
    ]
    flow = _compiled(optimizer=optimizers)
    assert flow.optimizers == tuple(optimizers)
    start = [np.concatenate([np.ravel(w.numpy()) for w in flow.part_weights(k)]) for k in range(3)]
    flow.fit(batches("glow", 8), verbose=0)
    now = [np.concatenate([np.ravel(w.numpy()) for w in flow.part_weights(k)]) for k in range(3)]
    steps = [np.abs(a - b) for a, b in zip(now, start, strict=True)]
    assert np.max(steps[0]) == 0  # The first step of the warm-up.
    np.testing.assert_allclose(np.max(steps[1]), 1e-2, rtol=0.01)  # Adam's first step.
    assert np.max(steps[2]) == 0


def test_one_optimiser_is_cloned_for_every_part():
    given = keras.optimizers.Adam(0.01, beta_1=0.8, global_clipnorm=2.0, use_ema=True)
    flow = _compiled(optimizer=given)
    for optimizer in flow.optimizers:
        assert optimizer is not given
        assert optimizer.get_config() == given.get_config()
    assert flow.optimizer is None
    assert not given.built
    sizes = [len(optimizer.variables) for optimizer in flow.optimizers]
    assert sizes == [2 + 3 * len(flow.part_weights(k)) for k in range(3)]


OPTIMIZERS = {
    "too few": (["sgd", "adam"], r"3 parts \(steps 1-1, 2-3, 4-4\), got 2: SGD, Adam"),
    "shared": ([keras.optimizers.SGD()] * 3, "a different object for each part, got SGD, SGD, SGD"),
}


@pytest.mark.parametrize("case", OPTIMIZERS)
def test_optimisers_that_do_not_fit_are_refused(case):
    optimizer, message = OPTIMIZERS[case]
    with pytest.raises(ValueError, match=message):
        _compiled(optimizer=optimizer)
    with pytest.raises(ValueError, match="single one where no `partition` is given, got a list"):
        make_flow("glow").compile(optimizer)


def test_averages_are_those_of_each_part():
    def ema():
        return keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.5)

    flow = _compiled(optimizer=ema)
    schedule = PartSchedule("sequential", 1)
    seen = {}

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen[f"weights {epoch}"] = [w.numpy() for w in flow.trainable_variables]
            with averaged_weights(flow):
                seen[f"averages {epoch}"] = [w.numpy() for w in flow.trainable_variables]
            assert equal(seen[f"weights {epoch}"], [w.numpy() for w in flow.trainable_variables])

    # Ends after the second part: the third one was never trained, and has no average.
    flow.fit(batches("glow", 24), epochs=2, verbose=0, callbacks=[schedule, Look()])
    assert equal([w.numpy() for w in flow.trainable_variables], seen["averages 1"])
    of_part = np.cumsum([0, *(len(flow.part_weights(k)) for k in range(3))])
    # The first one has its averages as weights since its last turn.
    for epoch, expected in enumerate([(True, False, False), (False, True, False)]):
        weights, averages = seen[f"weights {epoch}"], seen[f"averages {epoch}"]
        for part, differ in enumerate(expected):
            own = slice(of_part[part], of_part[part + 1])
            assert equal(weights[own], averages[own]) != differ
    own = slice(of_part[0], of_part[1])
    assert equal(seen["weights 1"][own], seen["averages 0"][own])


def test_a_part_that_rests_has_its_averages_and_wakes_with_its_weights():
    flow = _compiled(optimizer=lambda: keras.optimizers.SGD(0.05, use_ema=True))
    flow.fit(batches("glow", 24), epochs=1, verbose=0, callbacks=[Only((1,))])
    weights, averages = flow.part_weights(1), flow.optimizers[1]._model_variables_moving_average
    for weight in weights:
        weight.assign(weight + 1.0)
    before = [weight.numpy() for weight in weights]
    for _ in range(2):  # The second time, as in an epoch that is begun again.
        flow.rest_part(1)
        assert equal([w.numpy() for w in weights], [average.numpy() for average in averages])
    flow.wake_part(1)
    assert equal([w.numpy() for w in weights], before)
    assert not flow.callback_state


@pytest.mark.parametrize("mode", ["xla", "eager", "two_replicas"])
def test_a_part_that_is_not_finite_does_not_hold_up_the_others(mode, two_replicas):
    strategy = two_replicas if mode == "two_replicas" else None
    flow = _compiled(strategy=strategy, **MODES.get(mode, {}))
    weight = flow.part_weights(1)[0]
    weight.assign(np.full(weight.shape, np.inf, np.float32))
    before = states(flow)
    phases = Phases()
    logs = flow.fit(batches("glow", 16), verbose=0, callbacks=[phases]).history
    # What comes behind it receives numbers that are not finite.
    assert phases.changed == [(0,)]
    assert equal(states(flow)[1], before[1])
    assert (flow.step, flow.skipped_steps) == (2, 2)
    assert logs["skipped_steps"] == [2]
    assert np.isfinite(logs["part_0_loss"])
    assert all(np.isnan(logs[name]) for name in ("loss", "grad_norm", "part_1_loss"))
    # End to end, the step is skipped as a whole.
    before = states(flow)
    flow.fit(batches("glow", 16), verbose=0, callbacks=[Only(None)])
    assert all(equal(a, b) for a, b in zip(states(flow), before, strict=True))
    assert flow.skipped_steps == 4


def test_the_gradient_norm_is_that_of_all_active_parts():
    norms = {}
    for parts in ((0,), (1,), (2,), (0, 1, 2)):
        flow = _compiled(optimizer="sgd")
        logs = flow.fit(batches("glow", 8), verbose=0, callbacks=[Only(parts)]).history
        norms[parts] = logs["grad_norm"][0]
        losses = [logs[f"part_{part}_loss"][0] for part in parts]
        np.testing.assert_allclose(logs["loss"][0], np.sum(losses), rtol=1e-5)
        shown = {name[:6] for name in logs if name.startswith("part_")}
        assert shown == {f"part_{part}" for part in parts}
    alone = [norms[(part,)] for part in range(3)]
    np.testing.assert_allclose(norms[(0, 1, 2)], np.linalg.norm(alone), rtol=1e-5)


def test_evaluation_shows_the_whole_flow_and_every_part_in_every_phase():
    flow = _compiled("images")
    shown = []
    for parts in (None, (0,), (0, 1, 2)):
        flow.train_parts(parts)
        shown.append(flow.evaluate(batches("images", 16), return_dict=True, verbose=0))
    assert shown[0] == shown[1] == shown[2]
    nll = -np.mean(flow.log_prob(*data("images", 16)))
    np.testing.assert_allclose(shown[0]["nll"], nll, rtol=1e-5)
    names = {"loss", *flow.loss_names}
    assert set(shown[0]) == names | {f"part_{k}_{name}" for k in range(3) for name in names}


def test_two_replicas_take_the_steps_of_one_device(two_replicas):
    kind = "images"

    def make(strategy):
        def optimizer():
            return keras.optimizers.SGD(0.05, momentum=0.9, global_clipnorm=0.5)

        return _compiled(kind, optimizer, strategy, jit_compile=False)

    def fit(flow):
        schedule = PartSchedule("sequential", 1, end_to_end_epochs=1, fresh_optimizers=True)
        options = dict(batch_size=8, shuffle=False, verbose=0)
        x = data(kind, 16)
        flow.fit(*x, **options)  # All parts together.
        flow.fit(*x, epochs=4, callbacks=[schedule], **options)
        return flow

    expected, flow = fit(make(None)), fit(make(two_replicas))
    _assert_close(flow, expected, 5e-6)
    for name, values in expected.history.history.items():
        np.testing.assert_allclose(flow.history.history[name], values, rtol=1e-4, err_msg=name)
    for weight in flow.trainable_variables:
        a, b = two_replicas.experimental_local_results(weight.value)
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_a_loaded_flow_has_its_partition_and_goes_on(tmp_path):
    schedule = PartSchedule("sequential", [2, 2, 1], end_to_end_epochs=1)
    path = str(tmp_path / "{epoch}.keras")
    expected = _compiled(optimizer=[_sgd(), keras.optimizers.Adam(0.01), _sgd(use_ema=True)])
    expected.fit(
        batches("glow", 16),
        epochs=6,
        callbacks=[keras.callbacks.ModelCheckpoint(path), schedule],
        verbose=0,
    )
    flow = load_flow(str(tmp_path / "3.keras"))
    assert flow.partition == expected.partition
    assert [type(o) for o in flow.optimizers] == [type(o) for o in expected.optimizers]
    flow.fit(batches("glow", 16), initial_epoch=3, epochs=6, callbacks=[schedule], verbose=0)
    assert flow.step == expected.step == 12
    assert all(equal(a, b) for a, b in zip(states(flow), states(expected), strict=True))


def test_a_flow_that_was_trained_in_parts_is_a_flow_like_any_other(tmp_path):
    flow = _compiled()
    flow.fit(batches("glow", 8), verbose=0)
    plain = make_flow("glow")
    assert len(plain.weights) == len(flow.weights)
    plain.set_weights(flow.get_weights())
    (x,) = data("glow", 8)
    np.testing.assert_array_equal(plain.log_prob(x), flow.log_prob(x))
    export_flow(flow, tmp_path / "saved_model")
    # Compiled anew it trains, and is saved, end to end.
    flow.compile("sgd", jit_compile=False)
    assert (flow.partition, flow.active_parts, flow.all_parts) == (None, None, None)
    logs = flow.fit(batches("glow", 8), verbose=0).history
    assert set(logs) == {"loss", "nll", "grad_norm", "skipped_steps"}
    flow.save(tmp_path / "f.keras")
    assert load_flow(tmp_path / "f.keras").partition is None


def test_keras_callbacks_take_the_names_of_the_parts(tmp_path):
    flow = _compiled()
    schedule = PartSchedule("alternating", 1, end_to_end_epochs=1)
    best = str(tmp_path / "best_{val_part_1_loss:.2f}.keras")
    log = tmp_path / "log.csv"
    logs = flow.fit(
        batches("glow", 16),
        epochs=4,
        validation_data=batches("glow", 16),
        callbacks=[
            schedule,
            keras.callbacks.ModelCheckpoint(best, monitor="val_part_1_loss", mode="min"),
            keras.callbacks.CSVLogger(str(log)),
            keras.callbacks.TerminateOnNaN(),
            keras.callbacks.EarlyStopping("val_nll", mode="min", patience=9),
        ],
        verbose=0,
    ).history
    assert len(logs["val_part_1_loss"]) == 4
    assert len([name for name in os.listdir(tmp_path) if name.endswith(".keras")]) >= 1
    rows = log.read_text().splitlines()
    assert len(rows) == 5
    assert "val_part_2_nll" in rows[0].split(",")


def test_without_data_dependent_weights_the_first_batch_initialises():
    flow = Flow(make_flow("glow").config)
    flow.compile("sgd", jit_compile=False, partition=Partition.across_blocks(flow, 2))
    flow.fit(batches("glow", 8), verbose=0)
    assert flow.adapted
