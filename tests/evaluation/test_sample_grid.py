"""Tests of the callback that draws samples while a flow trains."""

import glob
import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfp_distill import Flow, FlowDistiller, GlowConfig, LatentLoss, TabularGlowConfig
from tfp_distill.evaluation import SampleGrid, mosaic

pytestmark = pytest.mark.slow

SHAPE = (8, 8, 1)


def data(rows=8):
    return np.random.RandomState(0).uniform(size=(rows, *SHAPE)).astype(np.float32)


def new_flow(seed=0):
    flow = Flow(GlowConfig(SHAPE, 1, steps_per_level=1, hidden_channels=2, seed=seed))
    flow.adapt(data(16))
    return flow


def fit(model, *callbacks, epochs=2, optimizer=None):
    optimizer = optimizer or keras.optimizers.SGD(0.0)
    model.compile(optimizer, jit_compile=False)
    batches = tf.data.Dataset.from_tensor_slices(data()).batch(4)
    model.fit(batches, epochs=epochs, callbacks=list(callbacks), verbose=0)


def pictures(directory):
    """The PNGs by name."""
    names = sorted(name for name in os.listdir(directory) if name.endswith(".png"))
    return {n: tf.io.decode_png(tf.io.read_file(str(directory / n))).numpy() for n in names}


def samples(flow, n, **options):
    return flow.config.pixel_format.quantize(flow.sample(n, **{"seed": 0, **options})).numpy()


def square_with(flow, values):
    """The picture of four samples with these weights."""
    for weight, value in zip(flow.trainable_variables, values, strict=True):
        weight.assign(value)
    return mosaic(samples(flow, 4, temperature=0.7), 2, 2)


def summaries(directory):
    """(tag, step, picture) of TensorBoard's files."""
    found = []
    for path in sorted(glob.glob(str(directory / "events.out.*"))):
        for record in tf.data.TFRecordDataset(path):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                picture = tf.io.decode_png(value.tensor.string_val[2]).numpy()
                found.append((value.tag, event.step, picture))
    return found


def test_a_picture_an_epoch(tmp_path):
    flow = new_flow()
    directory = tmp_path / "new" / "samples"
    callback = SampleGrid(directory, num_samples=5, temperature=0.9, seed=3)
    fit(flow, callback)
    found = pictures(directory)
    expected = mosaic(samples(flow, 5, temperature=0.9, seed=3), 2, 3)
    assert list(found) == ["epoch_0001.png", "epoch_0002.png"]
    for picture in found.values():
        np.testing.assert_array_equal(picture, expected)
    events = summaries(directory)
    assert [(tag, step) for tag, step, _ in events] == [("samples", 2), ("samples", 4)]
    for _, _, picture in events:
        np.testing.assert_array_equal(picture, expected)


class Weights(keras.callbacks.Callback):
    """Keeps the weights of the ends of epochs."""

    def on_train_begin(self, logs=None):
        self.values = []

    def on_epoch_end(self, epoch, logs=None):
        self.values.append([weight.numpy() for weight in self.model.trainable_variables])


def test_pictures_follow_the_weights_and_are_drawn_by_one_function(tmp_path, monkeypatch):
    flow, weights = new_flow(), Weights()
    callback = SampleGrid(tmp_path, num_samples=4, tensorboard=False)
    calls, to_data = [], Flow.to_data
    with monkeypatch.context() as patch:
        patch.setattr(Flow, "to_data", lambda self, z: calls.append(z) or to_data(self, z))
        optimizer = keras.optimizers.SGD(1e-3)
        fit(flow, callback, weights, optimizer=optimizer)
        found = list(pictures(tmp_path).values())
        fit(flow, callback, optimizer=optimizer)
    assert len(calls) == 1
    assert np.any(found[0] != found[1])
    for picture, values in zip(found, weights.values, strict=True):
        np.testing.assert_array_equal(picture, square_with(flow, values))


def test_averaged_weights_draw(tmp_path):
    flow, weights = new_flow(), Weights()
    optimizer = keras.optimizers.SGD(1e-3, use_ema=True, ema_momentum=0.5)
    callback = SampleGrid(tmp_path, num_samples=4, tensorboard=False)
    fit(flow, callback, weights, epochs=1, optimizer=optimizer)
    (picture,) = pictures(tmp_path).values()
    # `fit` ends with the averages; the last step's weights are those that the callback put back.
    averages = [weight.numpy() for weight in flow.trainable_variables]
    np.testing.assert_array_equal(picture, square_with(flow, averages))
    assert np.any(picture != square_with(flow, weights.values[-1]))


def test_a_distiller_draws_by_its_student(tmp_path):
    distiller = FlowDistiller(
        student=new_flow(), teacher=new_flow(1), distillation_losses=[LatentLoss()]
    )
    fit(distiller, SampleGrid(tmp_path, num_samples=4), epochs=1)
    (picture,) = pictures(tmp_path).values()
    expected = mosaic(samples(distiller.student, 4, temperature=0.7), 2, 2)
    np.testing.assert_array_equal(picture, expected)
    assert [step for _, step, _ in summaries(tmp_path)] == [2]


def test_replicas_draw_together(tmp_path, two_replicas):
    with two_replicas.scope():
        flow = new_flow()
        optimizer = keras.optimizers.SGD(1e-3, use_ema=True)
        fit(flow, SampleGrid(tmp_path, num_samples=1), epochs=1, optimizer=optimizer)
    (picture,) = pictures(tmp_path).values()
    np.testing.assert_array_equal(picture, mosaic(samples(flow, 1, temperature=0.7), 1, 1))


def test_only_the_chief_writes(tmp_path, monkeypatch):
    extended = type(tf.distribute.get_strategy().extended)
    monkeypatch.setattr(extended, "should_checkpoint", False)
    fit(new_flow(), SampleGrid(tmp_path / "samples"), epochs=1)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(("every", "epochs"), [(2, [2, 4]), (3, [3])])
def test_every_so_many_epochs(tmp_path, every, epochs):
    fit(new_flow(), SampleGrid(tmp_path, num_samples=1, every=every, tensorboard=False), epochs=4)
    assert list(pictures(tmp_path)) == [f"epoch_{epoch:04d}.png" for epoch in epochs]
    assert not summaries(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 0}, "`num_samples` must be an integer of at least 1, got 0"),
        ({"every": 0}, "`every` must be an integer of at least 1, got 0"),
        ({"seed": -1}, "`seed` must be an integer of at least 0, got -1"),
        ({"temperature": -0.5}, "`temperature` must be finite and not negative, got -0.5"),
        ({"temperature": np.inf}, "`temperature` must be finite and not negative, got inf"),
    ],
)
def test_illegal_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        SampleGrid("never", **options)


@pytest.mark.parametrize(
    ("model", "got"),
    [
        (Flow(TabularGlowConfig(dims=3)), r"got Flow of shape \(3,\)"),
        (keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]), "got Sequential"),
    ],
)
def test_other_models_are_refused(model, got, tmp_path):
    callback = SampleGrid(tmp_path)
    with pytest.raises(ValueError, match=f"`SampleGrid` must be used with a flow of images.*{got}"):
        callback.set_model(model)
