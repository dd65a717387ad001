"""Tests of the train step: logs, replicas, the finite guard, tracing."""

import math
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from toy_model import DIMS, Interrupt, Snapshots, batches, data, make_toy, state

pytestmark = pytest.mark.slow

MODES = {
    "xla": {},
    "graph": dict(jit_compile=False),
    "eager": dict(run_eagerly=True),
    "several_steps_per_execution": dict(steps_per_execution=2),
    "two_replicas": {},
    "two_replicas_graph": dict(jit_compile=False),
    "one_replica": {},  # As on a machine with one GPU.
    "one_replica_graph": dict(jit_compile=False, steps_per_execution=2),
    "one_device": {},
}


@pytest.fixture
def strategy_of(two_replicas):
    def make(mode):
        if mode == "one_device":
            return tf.distribute.OneDeviceStrategy("CPU:0")
        if mode.startswith("one_replica"):
            return tf.distribute.MirroredStrategy(["CPU:0"])
        return two_replicas if mode.startswith("two_replicas") else None

    return make


def _adam():
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    return keras.optimizers.Adam(schedule, global_clipnorm=1.0, use_ema=True)


def _assert_states_equal(a, b, tolerance=0.0):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module")
def by_hand():
    """SGD with global clipping on 17 rows in batches of 8, the last one of a single row."""
    x = data(17).astype(np.float64)
    w, b, losses, norms = np.ones(DIMS), np.zeros(DIMS), [], []
    for _ in range(2):
        epoch, epoch_norms = [], []
        for rows in (x[:8], x[8:16], x[16:]):
            y = w * rows + b
            epoch.extend(np.sum(y**2, axis=-1))
            grad_w, grad_b = np.mean(2 * y * rows, axis=0), np.mean(2 * y, axis=0)
            norm = math.sqrt(np.sum(grad_w**2) + np.sum(grad_b**2))
            epoch_norms.extend([norm] * len(rows))
            factor = 0.1 * min(1, 2.0 / norm)
            w, b = w - factor * grad_w, b - factor * grad_b
        losses.append(np.mean(epoch))
        norms.append(np.mean(epoch_norms))
    return w, b, losses, norms


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_takes_the_steps_of_a_calculation_by_hand(mode, by_hand, strategy_of):
    model = make_toy(
        lambda: keras.optimizers.SGD(0.1, global_clipnorm=2.0), strategy_of(mode), **MODES[mode]
    )
    logs = model.fit(batches(data(17)), epochs=2, verbose=0).history
    w, b, losses, norms = by_hand
    np.testing.assert_allclose(model.w.numpy(), w, atol=1e-6)
    np.testing.assert_allclose(model.b.numpy(), b, atol=1e-6)
    # The mean over the epoch's rows, not over its batches.
    np.testing.assert_allclose(logs["loss"], losses, rtol=1e-5)
    np.testing.assert_allclose(logs["pull"], losses, rtol=1e-5)
    np.testing.assert_allclose(logs["grad_norm"], norms, rtol=1e-5)
    assert logs["skipped_steps"] == [0, 0]
    assert (model.step, model.skipped_steps) == (6, 0)


@pytest.mark.parametrize(
    ("mode", "reference"), [("two_replicas", "xla"), ("two_replicas_graph", "eager")]
)
def test_the_noise_is_the_same_on_one_device_and_on_two(mode, reference, strategy_of):
    def trained(mode, noise_size=1.0):
        model = make_toy("sgd", strategy_of(mode), noise_size=noise_size, **MODES[mode])
        model.fit(batches(data(16)), epochs=2, verbose=0)
        return model

    expected, model = trained(reference), trained(mode)
    _assert_states_equal(state(model), state(expected), 1e-6)
    assert np.max(np.abs(trained("eager", 0.0).b.numpy() - model.b.numpy())) > 1e-3
    # Evaluation draws the noise of step 0, whatever was trained.
    first, second = (model.evaluate(batches(data(16)), verbose=0, return_dict=True) for _ in "ab")
    assert first == second
    expected_loss = expected.evaluate(batches(data(16)), verbose=0, return_dict=True)["loss"]
    np.testing.assert_allclose(first["loss"], expected_loss, rtol=1e-5)


@pytest.mark.parametrize("mode", ["xla", "eager", "two_replicas", "one_replica"])
@pytest.mark.parametrize("bad", ["loss", "gradient"])
def test_a_step_that_is_not_finite_changes_nothing(mode, bad, strategy_of):
    x = data(32)
    if bad == "loss":
        x[9, 1] = np.nan  # in the second batch, on the first replica only
        active = ("pull",)
    else:
        x[9] = 0  # the loss is finite, its gradient is not
        active = ("norm",)
    model = make_toy(_adam, strategy_of(mode), active=active, **MODES[mode])
    snapshots = Snapshots()
    logs = model.fit(batches(x), verbose=0, callbacks=[snapshots]).history
    start, first, second, third, fourth = snapshots.states
    _assert_states_equal(first, second)
    for before, after in ((start, first), (second, third), (third, fourth)):
        assert np.all(after[0] != before[0])  # w
    assert (model.step, model.skipped_steps) == (4, 1)
    assert int(model.optimizer.iterations.numpy()) == 3
    assert logs["skipped_steps"] == [1]
    assert [batch["skipped_steps"] for batch in snapshots.logs] == [0, 1, 1, 1]
    assert np.all(np.isfinite([logs["loss"], logs["grad_norm"]]))
    assert all(np.all(np.isfinite(value)) for value in state(model))


@pytest.mark.parametrize("mode", ["xla", "two_replicas"])
def test_an_epoch_without_a_finite_step_has_no_loss(mode, strategy_of):
    model = make_toy("sgd", strategy_of(mode))
    before = state(model)
    logs = model.fit(batches(np.full([8, DIMS], np.inf, np.float32)), epochs=2, verbose=0).history
    _assert_states_equal(state(model), before)
    assert np.all(np.isnan(logs["loss"]))
    assert logs["skipped_steps"] == [1, 1]
    assert model.skipped_steps == 2


def test_each_set_of_active_losses_is_traced_once():
    model = make_toy("sgd")
    sets = [("pull",), ("pull", "norm"), ("pull",), ("pull", "norm")]

    class Switch(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            model.active = sets[epoch]
            model.make_train_function()

    logs = model.fit(batches(data(16)), epochs=4, verbose=0, callbacks=[Switch()]).history
    assert model.traces == [("pull",), ("pull", "norm")]
    model.fit(batches(data(16)), epochs=1, verbose=0)
    assert model.traces == [("pull",), ("pull", "norm")]
    assert "norm" in model.history.history
    assert len(logs["loss"]) == 4


def test_evaluation_follows_the_active_losses():
    model = make_toy("sgd")
    before = state(model)
    for active in (("pull",), ("norm",), ("pull",)):
        model.active = active
        logs = model.evaluate(batches(data(16)), verbose=0, return_dict=True)
        assert set(logs) == {"loss", *active}
        assert logs["loss"] == logs[active[0]]
    assert model.traces == [("pull",), ("norm",)]
    _assert_states_equal(state(model), before)
    assert model.step == 0


@pytest.mark.parametrize("mode", ["xla", "eager", "two_replicas"])
def test_evaluation_is_the_mean_over_all_rows(mode, strategy_of):
    x = data(17)
    x[16] = 10  # alone in the last batch
    model = make_toy("sgd", strategy_of(mode), **MODES[mode])
    logs = model.evaluate(batches(x), verbose=0, return_dict=True)
    np.testing.assert_allclose(logs["loss"], np.mean(np.sum(x**2, axis=-1)), rtol=1e-5)


def test_validation_and_conditions_from_arrays():
    model = make_toy(keras.optimizers.SGD(0.0), jit_compile=False)
    x, condition = data(11), np.full([11, 2], 3.0, np.float32)
    logs = model.fit(
        x, condition, batch_size=4, epochs=2, verbose=0, validation_data=(x[:5], condition[:5])
    ).history
    norms = np.sum(x**2, axis=-1) + 18
    np.testing.assert_allclose(logs["loss"], [norms.mean()] * 2, rtol=1e-5)
    np.testing.assert_allclose(logs["val_loss"], [norms[:5].mean()] * 2, rtol=1e-5)
    of_training = {"loss", "pull", "grad_norm", "skipped_steps"}
    assert set(logs) == of_training | {"val_loss", "val_pull"}
    ((rows, first_condition),) = model.adapted_to
    np.testing.assert_array_equal(rows, x)
    np.testing.assert_array_equal(first_condition, condition)


def test_datasets_are_fitted_without_a_warning():
    model = make_toy("sgd", run_eagerly=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*shuffle.*")
        model.fit(batches(data(8)), verbose=0)


@pytest.mark.parametrize("asked", [None, True])
def test_datasets_have_no_tuner_that_they_do_not_ask_for(asked, monkeypatch):
    seen = []

    def fit(self, x, y, validation_data, **options):
        seen.extend([x, validation_data])

    monkeypatch.setattr(keras.Model, "fit", fit)
    dataset = batches(data(8))
    if asked is not None:
        options = tf.data.Options()
        options.autotune.enabled = asked
        dataset = dataset.with_options(options)
    model = make_toy("adam")
    model.fit(dataset, validation_data=dataset)
    assert [given.options().autotune.enabled for given in seen] == [bool(asked)] * 2
    arrays = data(8), None
    model.fit(arrays[0], validation_data=arrays)
    assert seen[2] is arrays[0] and seen[3] is arrays


def test_arrays_are_shuffled_unless_told_otherwise():
    def first_losses(**kwargs):
        keras.utils.set_random_seed(0)
        model = make_toy(keras.optimizers.SGD(0.0), run_eagerly=True)
        snapshots = Snapshots()
        model.fit(data(64), batch_size=8, verbose=0, callbacks=[snapshots], **kwargs)
        return snapshots.logs[0]["loss"]

    in_order = np.mean(np.sum(data(64)[:8] ** 2, axis=-1))
    np.testing.assert_allclose(first_losses(shuffle=False), in_order, rtol=1e-5)
    assert abs(first_losses() - in_order) > 1e-3


class _PyDataset(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return (data(16)[8 * index : 8 * index + 8],)


def test_the_first_batches_adapt_the_model_once():
    for x in (batches(data(16)), data(16), _PyDataset()):
        model = make_toy("sgd", run_eagerly=True)
        for _ in range(2):
            model.fit(x, verbose=0, batch_size=8 if hasattr(x, "shape") else None)
        ((rows, condition),) = model.adapted_to
        np.testing.assert_array_equal(rows, data(16))
        assert condition is None


def test_as_many_batches_adapt_the_model_as_hold_4096_rows():
    model = make_toy("sgd", run_eagerly=True)
    model.fit(batches(data(5000), 1000).repeat(), steps_per_epoch=1, verbose=0)
    ((rows, _),) = model.adapted_to
    np.testing.assert_array_equal(rows, data(5000))


@pytest.mark.parametrize("mode", ["xla", "eager", "two_replicas"])
def test_a_row_of_weight_two_is_a_row_given_twice(mode, strategy_of):
    x, weights = data(12), np.array([2, 1, 1, 2, 1, 1] * 2, np.float32)
    twice = np.repeat(x, weights.astype(int), axis=0)  # 8 rows of each 6
    weighted = (x, np.zeros([12, 2], np.float32), weights)
    trained = []
    for dataset in (
        batches(twice, 8),
        batches(weighted, 6),
    ):
        model = make_toy("sgd", strategy_of(mode), active=("pull", "norm"), **MODES[mode])
        logs = model.fit(dataset, verbose=0).history
        validation = model.evaluate(dataset, verbose=0, return_dict=True)
        trained.append((state(model), [logs["loss"], logs["grad_norm"], [validation["loss"]]]))
    (expected, expected_logs), (actual, logs) = trained
    _assert_states_equal(actual, expected, 1e-5)
    np.testing.assert_allclose(logs, expected_logs, rtol=1e-5)


def test_arrays_have_weights_without_conditions():
    model = make_toy(keras.optimizers.SGD(0.0), jit_compile=False)
    x, weights = data(4), np.array([0, 3, 0, 1], np.float32)
    losses = np.sum(x**2, axis=-1)
    expected = (3 * losses[1] + losses[3]) / 4
    validation = dict(validation_data=(x, None, weights), validation_batch_size=4)
    logs = model.fit(x, sample_weight=weights, verbose=0, batch_size=4, **validation).history
    np.testing.assert_allclose([logs["loss"], logs["val_loss"]], [[expected]] * 2, rtol=1e-5)
    logs = model.evaluate(x, sample_weight=weights, verbose=0, return_dict=True)
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-5)
    dataset = tf.data.Dataset.from_tensors((x, None, weights))
    logs = model.fit(dataset, verbose=0).history
    np.testing.assert_allclose(logs["loss"], [expected], rtol=1e-5)


def test_xla_compiles_where_it_pays_or_where_it_is_told(tmp_path):
    model = make_toy("sgd")
    assert model.uses_xla
    assert model.get_compile_config()["jit_compile"] == "auto"
    assert not make_toy("sgd", jit_compile=False).uses_xla
    with pytest.raises(ValueError, match='`jit_compile` must be True, False or "auto", got .off'):
        make_toy("sgd", jit_compile="off")


def test_the_global_batch_initialises_under_a_strategy(two_replicas):
    for distribute in (lambda x: x, two_replicas.experimental_distribute_dataset):
        model = make_toy("sgd", two_replicas, jit_compile=False)
        # Outside of the strategy's scope.
        model.fit(distribute(batches(data(16))), steps_per_epoch=2, verbose=0)
        ((rows, _),) = model.adapted_to
        np.testing.assert_array_equal(rows, data(16))


def test_data_that_cannot_be_looked_at_is_refused():
    model = make_toy("sgd")
    with pytest.raises(ValueError, match="`x` must be a dataset or an array .* got generator"):
        model.fit(data(8) for _ in range(2))


def test_a_model_without_trainable_weights_is_refused():
    model = make_toy("sgd")
    model.trainable = False
    with pytest.raises(ValueError, match="`toy` must have trainable weights to be fitted"):
        model.fit(batches(data(8)))
    assert model.step == 0


def test_a_weight_without_a_gradient_is_refused_by_name():
    model = make_toy("sgd", run_eagerly=True)
    model.add_weight(shape=(1,), name="forgotten")
    model.compile("sgd", run_eagerly=True)
    with pytest.raises(ValueError, match="must have a gradient, got none for 'toy/forgotten'"):
        model.fit(batches(data(8)), verbose=0)


def test_a_schedule_counts_the_steps_that_were_taken():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1], [0.1, 0.0])
    model = make_toy(keras.optimizers.SGD(schedule), jit_compile=False)
    x = data(32)
    x[:8] = np.nan
    snapshots = Snapshots()
    model.fit(batches(x), verbose=0, callbacks=[snapshots])
    moved = [
        bool(np.any(a[0] != b[0]))
        for a, b in zip(snapshots.states, snapshots.states[1:], strict=False)
    ]
    assert moved == [False, True, True, False]


def test_optimizer_ema_becomes_the_weights():
    optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.6)
    model = make_toy(optimizer)
    snapshots = Snapshots()
    model.fit(batches(data(32)), verbose=0, callbacks=[snapshots])
    average = snapshots.states[1][0]
    for weights, *_ in snapshots.states[2:]:
        average = 0.6 * average + 0.4 * weights
    np.testing.assert_allclose(model.w.numpy(), average, rtol=1e-5)
    assert np.max(np.abs(average - snapshots.states[-1][0])) > 1e-3


@pytest.mark.parametrize("mode", ["xla", "two_replicas"])
def test_interrupted_and_resumed_is_uninterrupted(mode, tmp_path, strategy_of):
    def make():
        return make_toy(_adam, strategy_of(mode), noise_size=1.0)

    def fit(model, *callbacks):
        model.fit(batches(data(24)), epochs=3, verbose=0, callbacks=list(callbacks))

    uninterrupted = make()
    fit(uninterrupted)
    interrupted = make()
    backup = str(tmp_path / "backup")
    with pytest.raises(InterruptedError):  # in the middle of the second epoch
        fit(interrupted, keras.callbacks.BackupAndRestore(backup), Interrupt(5))
    assert interrupted.step == 5
    resumed = make()
    fit(resumed, keras.callbacks.BackupAndRestore(backup))
    assert (uninterrupted.step, resumed.step) == (9, 9)
    _assert_states_equal(state(resumed), state(uninterrupted))
    assert np.any(resumed.w.numpy() != 1)
