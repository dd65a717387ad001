"""Tests of training a Flow: resuming, Keras's callbacks, replicas."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from interruption import Interrupt

from tfp_distill import Flow, MAFConfig, TabularGlowConfig, load_flow
from tfp_distill.data import training_batches

pytestmark = pytest.mark.slow

SMALL = dict(dims=3, num_steps=2, hidden_units=4, num_hidden_layers=1)
CONFIGS = {
    "glow": TabularGlowConfig(**SMALL),
    "conditional_maf": MAFConfig(condition_dims=2, **SMALL),
}
EPOCHS, STEPS_PER_EPOCH = 3, 4
_random = np.random.RandomState(0)
X = (_random.normal(size=(50, 3)) @ _random.normal(size=(3, 3)) + 4).astype(np.float32)
CONDITION = _random.normal(size=(50, 2)).astype(np.float32)


def _compiled(name):
    flow = Flow(CONFIGS[name], name=name)
    schedule = keras.optimizers.schedules.CosineDecay(0.02, 12, warmup_target=0.05, warmup_steps=3)
    flow.compile(keras.optimizers.AdamW(schedule, weight_decay=0.01, global_clipnorm=1.0))
    return flow


def _fit(flow, *callbacks, start_epoch=0, epochs=EPOCHS, **kwargs):
    batches = training_batches(
        X,
        16,
        condition=CONDITION if flow.config.condition_dims else None,
        seed=7,
        start_step=start_epoch * STEPS_PER_EPOCH,
    )
    return flow.fit(
        batches,
        initial_epoch=start_epoch,
        epochs=epochs,
        steps_per_epoch=STEPS_PER_EPOCH,
        callbacks=list(callbacks),
        verbose=0,
        **kwargs,
    )


def _assert_same_state(a, b):
    assert a.step == b.step
    for x, y in zip(
        [*a.weights, *a.optimizer.variables], [*b.weights, *b.optimizer.variables], strict=True
    ):
        np.testing.assert_array_equal(x.numpy(), y.numpy(), err_msg=x.path)


class Run:
    """An uninterrupted training, with a file of each epoch."""

    def __init__(self, name, directory):
        self.name, self.directory = name, directory
        self.flow = _compiled(name)
        path = os.path.join(directory, "{epoch}.keras")
        self.logs = _fit(self.flow, keras.callbacks.ModelCheckpoint(path)).history


@pytest.fixture(scope="module", params=CONFIGS)
def run(request, tmp_path_factory):
    return Run(request.param, str(tmp_path_factory.mktemp("run")))


def test_a_loaded_flow_trains_on_as_if_nothing_had_happened(run):
    flow = load_flow(os.path.join(run.directory, "1.keras"))
    assert (flow.step, flow.adapted, flow.compiled) == (STEPS_PER_EPOCH, True, True)
    assert int(flow.optimizer.iterations.numpy()) == STEPS_PER_EPOCH
    logs = _fit(flow, start_epoch=flow.step // STEPS_PER_EPOCH).history
    _assert_same_state(flow, run.flow)
    assert logs["loss"] == run.logs["loss"][1:]


def test_backup_and_restore_resumes_exactly(run, tmp_path):
    backup = keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
    interrupted = _compiled(run.name)
    with pytest.raises(InterruptedError):  # in the middle of the second epoch
        _fit(interrupted, backup, Interrupt(6))
    assert interrupted.step == 6
    resumed = _compiled(run.name)
    # It was saved after the first epoch, which `BackupAndRestore` finds out by itself.
    _fit(resumed, keras.callbacks.BackupAndRestore(backup.backup_dir), start_epoch=1)
    _assert_same_state(resumed, run.flow)


def test_checkpoints_hold_the_flow_of_their_epoch(run):
    assert sorted(os.listdir(run.directory)) == ["1.keras", "2.keras", "3.keras"]
    last = load_flow(os.path.join(run.directory, "3.keras"))
    _assert_same_state(last, run.flow)
    assert last.optimizer.get_config() == run.flow.optimizer.get_config()
    middle = load_flow(os.path.join(run.directory, "2.keras"))
    assert middle.step == 2 * STEPS_PER_EPOCH
    weights = zip(middle.trainable_variables, run.flow.trainable_variables, strict=True)
    assert all(np.any(a.numpy() != b.numpy()) for a, b in weights)


def test_early_stopping_and_best_checkpoint(tmp_path):
    flow = Flow(CONFIGS["glow"])
    flow.compile(keras.optimizers.SGD(1e-3), jit_compile=False)

    class Spoil(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                for weight in flow.trainable_variables:
                    weight.assign_add(tf.ones(weight.shape))

    best = str(tmp_path / "best.keras")
    logs = _fit(
        flow,
        Spoil(),
        keras.callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=True),
        keras.callbacks.ModelCheckpoint(best, monitor="val_loss", save_best_only=True),
        epochs=9,
        validation_data=X[:20],
    ).history
    assert len(logs["val_loss"]) == 4  # the best epoch was the second
    assert set(logs) == {"loss", "nll", "grad_norm", "skipped_steps", "val_loss", "val_nll"}
    assert min(logs["val_loss"]) == logs["val_loss"][1]
    for of in (flow, load_flow(best)):
        np.testing.assert_allclose(-np.mean(of.log_prob(X[:20])), logs["val_loss"][1], rtol=1e-5)


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    flow = Flow(CONFIGS["glow"])
    flow.compile("sgd", run_eagerly=True)
    callback = keras.callbacks.TensorBoard(str(tmp_path), histogram_freq=1)
    _fit(flow, callback, epochs=1, validation_data=X[:20])
    for part in ("train", "validation"):
        assert os.listdir(tmp_path / part)


def test_two_replicas_take_the_steps_of_one_device(two_replicas, tmp_path):
    def trained(flow):
        flow.fit(X, batch_size=20, epochs=2, shuffle=False, verbose=0)  # the last batch has 10
        return flow

    def make():
        flow = Flow(CONFIGS["glow"], name="flow")
        flow.compile(keras.optimizers.SGD(0.05, momentum=0.9, global_clipnorm=0.5))
        return flow

    expected = trained(make())
    with two_replicas.scope():
        flow = make()
    trained(flow)
    for a, b in zip(flow.trainable_variables, expected.trainable_variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=2e-6, err_msg=a.path)
        copies = two_replicas.experimental_local_results(a.value)
        assert len(copies) == 2
        np.testing.assert_array_equal(copies[0].numpy(), copies[1].numpy(), err_msg=a.path)
    np.testing.assert_allclose(
        flow.history.history["loss"], expected.history.history["loss"], rtol=1e-5
    )
    assert flow.step == expected.step == 6
    flow.save(tmp_path / "f.keras")
    loaded = load_flow(tmp_path / "f.keras")
    np.testing.assert_allclose(loaded.log_prob(X), expected.log_prob(X), rtol=1e-4, atol=1e-4)


def test_initialisation_under_a_strategy_sees_the_global_batch(two_replicas):
    with two_replicas.scope():
        flow = Flow(CONFIGS["glow"])
        flow.compile(keras.optimizers.SGD(0.0), jit_compile=False)
    flow.fit(tf.data.Dataset.from_tensor_slices(X).batch(50), verbose=0)
    expected = Flow(CONFIGS["glow"])
    expected.adapt(X)
    for a, b in zip(flow.trainable_variables, expected.trainable_variables, strict=True):
        for copy in two_replicas.experimental_local_results(a.value):
            np.testing.assert_allclose(copy.numpy(), b.numpy(), atol=1e-6, err_msg=a.path)


@pytest.mark.parametrize(
    ("name", "optimizer"), [("adam", keras.optimizers.Adam), ("sgd", keras.optimizers.SGD)]
)
def test_an_optimizer_may_be_named(name, optimizer, tmp_path):
    flow = Flow(CONFIGS["glow"])
    flow.compile(name)
    assert type(flow.optimizer) is optimizer
    assert flow.optimizer.built
    flow.save(tmp_path / "f.keras")
    assert type(load_flow(tmp_path / "f.keras").optimizer) is optimizer


@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_end_of_data_of_unknown_length_is_no_step(jit_compile):
    x = np.random.RandomState(0).normal(size=(10, 3)).astype(np.float32)
    spec = tf.TensorSpec([None, 3], tf.float32)
    batches = tf.data.Dataset.from_generator(lambda: iter([x] * 4), output_signature=spec)
    flow = Flow(TabularGlowConfig(dims=3, num_steps=1, hidden_units=4))
    flow.compile("adam", jit_compile=jit_compile)
    flow.fit(batches, epochs=2, verbose=0)
    assert flow.step == flow.optimizer.iterations == 8


def test_a_flow_that_was_not_compiled_is_loaded_uncompiled(tmp_path):
    Flow(CONFIGS["glow"]).save(tmp_path / "f.keras")
    flow = load_flow(tmp_path / "f.keras")
    assert not flow.compiled
    assert not flow.adapted
