"""Tests of feature extractors: what they do to images, and how they are known again."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_extractors import linear_model, pixels_model, random_images

from tfp_distill.evaluation import FeatureExtractor
from tfp_distill.evaluation.images import features

WHITE = np.full([2, 8, 8, 3], 255, np.uint8)


def pixels_extractor(size, **options):
    return FeatureExtractor(pixels_model(size), name="pixels", **options)


def fingerprint(model, **options):
    return FeatureExtractor(model, name="model", **options).fingerprint


def test_images_of_the_right_size_are_not_changed():
    images = random_images(3, size=6)
    result = pixels_extractor(6)(images)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, images.reshape(3, -1))


def test_downscaling_a_checkerboard_gives_grey():
    row, column = np.indices([24, 24])
    board = np.broadcast_to(255 * ((row + column) % 2), [1, 3, 24, 24])
    board = np.moveaxis(board, 1, -1).astype(np.uint8)
    small = pixels_extractor(8)(board).reshape(8, 8, 3)[1:-1, 1:-1]
    np.testing.assert_allclose(small, 127.5, atol=3)
    assert np.all(small != np.round(small))
    # What is not antialiased takes one pixel of nine.
    careless = tf.image.resize(board, [8, 8]).numpy()
    assert set(np.unique(careless)) == {0, 255}


@pytest.mark.parametrize("size", [5, 8, 13])
def test_resizes_once_and_does_not_round(size):
    images = random_images(2, size=8)
    expected = tf.image.resize(images, [size, size], antialias=True)
    result = pixels_extractor(size)(images)
    np.testing.assert_allclose(result, tf.reshape(expected, [2, -1]), atol=1e-4)


def test_grey_is_repeated():
    grey = random_images(3, size=8, channels=1)
    extractor = pixels_extractor(5)
    np.testing.assert_allclose(extractor(grey), extractor(grey.repeat(3, axis=-1)), atol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 8])
def test_batches_do_not_matter(batch_size):
    images = random_images(5)
    extractor = FeatureExtractor(linear_model(), name="linear", batch_size=batch_size)
    expected = FeatureExtractor(linear_model(), name="linear")(images)
    assert extractor(images).shape == (5, extractor.num_features) == (5, 5)
    np.testing.assert_allclose(extractor(images), expected, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(extractor(images[2:3]), expected[2:3], rtol=1e-5, atol=1e-3)


def test_layers_do_not_train():
    images = keras.Input([8, 8, 3])
    hidden = keras.layers.Dropout(0.5)(keras.layers.BatchNormalization()(images))
    model = keras.Model(images, keras.layers.GlobalAveragePooling2D()(hidden))
    result = FeatureExtractor(model, name="dropout")(WHITE)
    np.testing.assert_allclose(result, 255, rtol=1e-3)


def test_a_saved_model_is_the_same_extractor(tmp_path):
    model = linear_model()
    model.compile(optimizer="adam", loss="mse")
    model.save(tmp_path / "some_features.keras")
    loaded = FeatureExtractor.load(str(tmp_path / "some_features.keras"), batch_size=2)
    extractor = FeatureExtractor(model, name="linear")
    assert loaded.name == "some_features"
    assert loaded.fingerprint == extractor.fingerprint
    images = random_images(3)
    np.testing.assert_allclose(loaded(images), extractor(images), rtol=1e-5, atol=1e-3)


def test_inception_scales_to_plus_and_minus_one(monkeypatch):
    def network(*, include_top, weights, input_shape, pooling):
        assert (include_top, weights, input_shape, pooling) == (False, "imagenet", SHAPE, "avg")
        images = keras.Input(input_shape)
        return keras.Model(images, keras.layers.GlobalAveragePooling2D()(images))

    SHAPE = (299, 299, 3)
    monkeypatch.setattr(keras.applications, "InceptionV3", network)
    extractor = FeatureExtractor.inception(batch_size=2)
    assert extractor.name == "keras_inception_v3"
    np.testing.assert_allclose(extractor(WHITE), 1, atol=1e-5)
    np.testing.assert_allclose(extractor(np.zeros_like(WHITE)), -1, atol=1e-5)


def test_inception_says_what_to_do_without_a_network(monkeypatch):
    def network(**_):
        raise Exception("URL fetch failure on https://example.com/weights.h5")

    monkeypatch.setattr(keras.applications, "InceptionV3", network)
    with pytest.raises(OSError, match=r"URL fetch failure.*use a model file: FeatureExtr.*load"):
        FeatureExtractor.inception()


def test_fingerprints_are_of_architecture_and_weights_alone():
    first, second = linear_model(), linear_model()
    assert [layer.name for layer in first.layers] != [layer.name for layer in second.layers]
    assert fingerprint(first) == fingerprint(second) == fingerprint(first, batch_size=7)
    others = [
        linear_model(seed=1),
        linear_model(activation="relu"),
        linear_model(size=5),
        linear_model(6),
        pixels_model(4),
    ]
    assert len({fingerprint(model) for model in [first, *others]}) == 6
    before = fingerprint(first)
    weight = first.trainable_variables[0]
    weight.assign(weight.numpy() * (1 + 1e-6))
    assert fingerprint(first) != before


def test_fingerprints_know_how_layers_are_connected():
    def model(swapped):
        images = keras.Input([4, 4, 3])
        a, b = keras.layers.ReLU()(images), keras.layers.Softmax()(images)
        difference = keras.layers.Subtract()([b, a] if swapped else [a, b])
        return keras.Model(images, keras.layers.Flatten()(difference))

    assert fingerprint(model(False)) == fingerprint(model(False)) != fingerprint(model(True))


def test_fingerprints_are_of_nested_models_too():
    def model(activation):
        inner = keras.Sequential([keras.Input([48]), keras.layers.Activation(activation)])
        layers = [keras.Input([4, 4, 3]), keras.layers.Flatten(), inner]
        return keras.Sequential(layers)

    assert fingerprint(model("relu")) == fingerprint(model("relu")) != fingerprint(model("tanh"))


def test_fingerprints_are_of_activations_that_layers_are_named_after():
    def model(activation):
        images = keras.Input([4, 4, 3])
        named = keras.layers.Activation(activation, name=activation)
        return keras.Model(images, named(keras.layers.Flatten()(images)))

    assert fingerprint(model("relu")) != fingerprint(model("tanh"))


def test_fingerprints_are_of_operations_too():
    def model(axis):
        images = keras.Input([4, 4, 3])
        return keras.Model(images, keras.layers.Flatten()(keras.ops.flip(images, axis=axis)))

    assert fingerprint(model(1)) == fingerprint(model(1)) != fingerprint(model(2))


def test_another_preprocessing_is_another_extractor(monkeypatch):
    before = fingerprint(linear_model())
    monkeypatch.setattr(features, "_PREPROCESSING", "none")
    assert fingerprint(linear_model()) != before


def test_rejects_images_that_are_none():
    extractor = pixels_extractor(4)
    with pytest.raises(ValueError, match=r"`images` must be uint8 of .*got float32 of shape \(1, "):
        extractor(np.zeros([1, 4, 4, 3], np.float32))
    with pytest.raises(ValueError, match=r"1 or 3\), got uint8 of shape \(4, 4, 3\)"):
        extractor(np.zeros([4, 4, 3], np.uint8))
    with pytest.raises(ValueError, match=r"1 or 3\), got uint8 of shape \(1, 4, 4, 4\)"):
        extractor(np.zeros([1, 4, 4, 4], np.uint8))
    with pytest.raises(ValueError, match="`images` must hold at least 1 image, got 0"):
        extractor(np.zeros([0, 4, 4, 3], np.uint8))
    with pytest.raises(ValueError, match=r"got list of shape \(0,\)"):
        extractor([])


def test_rejects_files_that_hold_no_extractor(tmp_path):
    missing, damaged = tmp_path / "missing.keras", tmp_path / "damaged.keras"
    with pytest.raises(ValueError, match="`path` must be an existing .keras file, got .*missing"):
        FeatureExtractor.load(missing)
    linear_model().save(damaged)
    with pytest.raises(
        ValueError, match="`path` must be an existing .keras file, got .*weights.h5"
    ):
        FeatureExtractor.load(damaged.rename(tmp_path / "weights.h5"))
    damaged.write_bytes((tmp_path / "weights.h5").read_bytes()[:-100])
    with pytest.raises(ValueError, match="`path` must hold a model that Keras can load, got .*dam"):
        FeatureExtractor.load(damaged)


def _convolution(shape):
    images = keras.Input(shape)
    return keras.Model(images, keras.layers.Conv2D(2, 1)(images))


def _two_inputs():
    images = [keras.Input([4, 4, 3]), keras.Input([4, 4, 3])]
    return keras.Model(images, keras.layers.Flatten()(keras.layers.Add()(images)))


def _pooled(shape):
    images = keras.Input(shape)
    return keras.Model(images, keras.layers.GlobalAveragePooling2D()(images))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: _pooled([4, 4, 1]), r"take RGB images.*got \(None, 4, 4, 1\) of 'wrong'"),
        (lambda: _pooled([None, None, 3]), r"of one size, .*got \(None, None, None, 3\)"),
        (_two_inputs, r"take RGB images .*got \[\(None, 4, 4, 3\), \(None, 4, 4, 3\)\]"),
        (lambda: _convolution([4, 4, 3]), r"a vector of features .*got \(None, 4, 4, 2\)"),
    ],
)
def test_rejects_models_that_are_no_extractor(tmp_path, model, message):
    model().save(tmp_path / "wrong.keras")
    with pytest.raises(ValueError, match=f"`model` must .*{message}"):
        FeatureExtractor.load(tmp_path / "wrong.keras")


def test_rejects_no_batch():
    with pytest.raises(ValueError, match="`batch_size` must be an integer of at least 1, got 0"):
        pixels_extractor(4, batch_size=0)
