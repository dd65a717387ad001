"""Tests of the batches that training and evaluation read."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfp_distill.data import evaluation_batches, training_batches
from tfp_distill.domains import ImageDomain
from tfp_distill.pixels import DequantizedImages, PixelFormat


def rows(n: int, dims: int = 3) -> np.ndarray:
    """Rows that say where they come from: the first column is the row's number."""
    return np.arange(n * dims, dtype=np.float32).reshape(n, dims) / dims


def images(n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, [n, 4, 4, 1], np.uint8)


def places(batches: tf.data.Dataset, num_batches: int) -> np.ndarray:
    return np.stack([batch[:, 0] for batch in batches.take(num_batches).as_numpy_iterator()])


@pytest.mark.parametrize(("n", "batch_size"), [(12, 4), (14, 4), (7, 7), (5, 1), (9, 5)])
def test_an_epoch_visits_rows_once_in_an_order_of_its_own(n, batch_size):
    steps = n // batch_size
    epochs = places(training_batches(rows(n), batch_size), 3 * steps).reshape(3, -1)
    for epoch in epochs:
        assert len(set(epoch)) == steps * batch_size
        assert set(epoch) <= set(range(n))
    if steps * batch_size == n:
        assert np.array_equal(np.sort(epochs), np.tile(np.arange(n), (3, 1)))
    assert not np.array_equal(epochs[0], epochs[1])
    assert not np.array_equal(epochs[0], np.arange(n)[: steps * batch_size])


def test_rows_left_out_differ_between_epochs():
    epochs = places(training_batches(rows(7), 4), 50)
    assert set(epochs.ravel()) == set(range(7))


def test_order_is_random():
    order = places(training_batches(rows(4096), 64), 128).reshape(2, 4096)
    for values in (order, order[:, ::-1]):
        # A correlation of n independent pairs has a deviation of n**-0.5.
        assert abs(np.corrcoef(values[0], np.arange(4096))[0, 1]) < 5 / 64
        assert abs(np.corrcoef(values[0], values[1])[0, 1]) < 5 / 64
    assert abs(np.corrcoef(order[0, :-1], order[0, 1:])[0, 1]) < 5 / 64


@pytest.mark.parametrize("start_step", [0, 1, 2, 3, 7, 30])
def test_a_step_does_not_depend_on_the_start(start_step):
    x = rows(14)
    whole = places(training_batches(x, 4, seed=5), 36)
    resumed = places(training_batches(x, 4, seed=5, start_step=start_step), 6)
    np.testing.assert_array_equal(resumed, whole[start_step : start_step + 6])


def test_a_late_step_is_reached_at_once():
    batches = training_batches(rows(14), 4, start_step=3 * 10**9 + 1)
    assert places(batches, 2).shape == (2, 4)


def test_equal_seeds_only_give_equal_batches():
    x = rows(100)
    first = places(training_batches(x, 10, seed=1), 5)
    np.testing.assert_array_equal(first, places(training_batches(x, 10, seed=1), 5))
    assert not np.array_equal(first, places(training_batches(x, 10, seed=2), 5))


def test_iterating_again_starts_again():
    batches = training_batches(rows(100), 10)
    np.testing.assert_array_equal(places(batches, 5), places(batches, 5))


def test_conditions_stay_with_their_rows():
    x = rows(20)
    condition = 100 - x[:, :2]
    for batches in (
        training_batches(x, 6, condition=condition).take(7),
        evaluation_batches(x, 6, condition=condition),
    ):
        for batch, batch_condition in batches.as_numpy_iterator():
            np.testing.assert_array_equal(batch_condition, 100 - batch[:, :2])
            np.testing.assert_array_equal(batch, x[batch[:, 0].astype(int)])


def test_element_specs():
    x, condition = rows(20), rows(20, 2)
    assert training_batches(x, 6).element_spec == tf.TensorSpec([6, 3])
    assert training_batches(x, 6, condition=condition).element_spec == (
        tf.TensorSpec([6, 3]),
        tf.TensorSpec([6, 2]),
    )
    assert evaluation_batches(x, 6).element_spec == tf.TensorSpec([None, 3])


def test_rows_may_have_any_shape():
    volumes = np.zeros([10, 4, 4, 3, 2], np.float32)
    assert training_batches(volumes, 5).element_spec == tf.TensorSpec([5, 4, 4, 3, 2])


@pytest.mark.parametrize(
    "batches", [training_batches, evaluation_batches], ids=["training", "evaluation"]
)
def test_images_and_only_images_need_an_image_domain(batches):
    with pytest.raises(
        ValueError, match="`domain` must be an ImageDomain for uint8 images, .* got RowDo"
    ):
        batches(images(10), 5)
    with pytest.raises(
        ValueError, match="`domain` must be a RowDomain where `x` holds no bytes, got Im"
    ):
        batches(rows(10), 5, domain=ImageDomain())


def test_rows_are_not_mirrored():
    with pytest.raises(ValueError, match="`random_flip` must be False where `x` holds no images"):
        training_batches(rows(10), 5, random_flip=True)


def test_training_images_get_new_noise_in_every_step_that_only_the_step_decides():
    x = images(12)
    pixel_format = PixelFormat(padding=1)

    def steps(number, start_step=0, seed=3):
        batches = training_batches(
            x,
            4,
            seed=seed,
            start_step=start_step,
            domain=ImageDomain(pixel_format),
            random_flip=True,
        )
        assert batches.element_spec == tf.TensorSpec([4, 6, 6, 1])
        return np.stack(list(batches.take(number).as_numpy_iterator()))

    whole = steps(9)
    np.testing.assert_array_equal(steps(4, start_step=5), whole[5:])
    assert not np.array_equal(steps(9, seed=4), whole)
    noise = whole * 256 % 1
    assert len(np.unique(noise)) > 0.95 * noise.size  # Nothing is drawn twice.
    assert np.abs(noise.mean() - 0.5) < 5 * (1 / 12 / noise.size) ** 0.5


def test_half_of_the_images_are_mirrored():
    x = images(64)
    x[..., :2, :] = 255
    x[..., 2:, :] = 0
    batches = training_batches(x, 64, domain=ImageDomain(), random_flip=True)
    seen = np.concatenate(list(batches.take(16).as_numpy_iterator()))
    whole = (seen[:, :, :2] > 0.9).all(axis=(1, 2, 3)), (seen[:, :, 2:] > 0.9).all(axis=(1, 2, 3))
    assert np.all(whole[0] ^ whole[1])
    assert abs(whole[0].mean() - 0.5) < 5 * 0.5 / 32
    plain = next(iter(training_batches(x, 64, domain=ImageDomain())))
    assert np.all(plain[:, :, :2] > 0.9)


def test_the_noise_of_an_evaluation_depends_on_place_and_draw_alone():
    x = images(11)

    def evaluated(batch_size, draw=0):
        batches = evaluation_batches(x, batch_size, domain=ImageDomain(), draw=draw)
        return np.concatenate(list(batches.as_numpy_iterator()))

    np.testing.assert_array_equal(evaluated(4), evaluated(11))
    np.testing.assert_array_equal(evaluated(4), DequantizedImages(x, PixelFormat())[:])
    assert not np.any(evaluated(4, draw=1) == evaluated(4))


@pytest.mark.parametrize(("n", "sizes"), [(8, [4, 4]), (9, [4, 4, 1]), (3, [3])])
def test_evaluation_visits_all_rows_in_order(n, sizes):
    batches = evaluation_batches(rows(n), 4)
    assert int(batches.cardinality()) == len(sizes)
    found = list(batches.as_numpy_iterator())
    assert [len(batch) for batch in found] == sizes
    np.testing.assert_array_equal(np.concatenate(found), rows(n))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 11}, "`batch_size` must be between 1 and the 10 rows of `x`, got 11"),
        ({"batch_size": 0}, "`batch_size` must be between 1 and the 10 rows of `x`, got 0"),
        ({"start_step": -1}, "`start_step` must be at least 0, got -1"),
        ({"condition": rows(9)}, r"`x` and `condition` .* got shapes \(10, 3\) and \(9, 3\)"),
        ({"condition": np.float32(1)}, r"`x` and `condition` .* and \(\)"),
        ({"x": np.float32(1)}, r"`x` must have at least 1 row, got shape \(\)"),
        ({"x": rows(0)}, r"`x` must have at least 1 row, got shape \(0, 3\)"),
    ],
)
def test_errors_of_training(arguments, message):
    with pytest.raises(ValueError, match=message):
        training_batches(**{"x": rows(10), "batch_size": 5, **arguments})


def test_errors_of_evaluation():
    with pytest.raises(ValueError, match="`batch_size` must be at least 1, got 0"):
        evaluation_batches(rows(10), 0)
    with pytest.raises(ValueError, match="same number of rows"):
        evaluation_batches(rows(10), 5, condition=rows(5))


def test_fit_under_a_strategy(capfd, two_replicas):
    x = rows(64)
    with two_replicas.scope():
        model = keras.Sequential([keras.Input([3]), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    capfd.readouterr()
    history = model.fit(
        training_batches(x / 64, 16, condition=x[:, :1] / 64),
        steps_per_epoch=6,  # More than the 4 batches of the rows.
        epochs=2,
        validation_data=evaluation_batches(x / 64, 24, condition=x[:, :1] / 64),
        verbose=0,
        shuffle=False,
    )
    assert len(history.history["val_loss"]) == 2
    captured = capfd.readouterr()
    # That a replica's data ended TensorFlow tells now and then, by the name of an operation.
    assert "shard" not in captured.err.replace("MultiDeviceIteratorGetNextFromShard", "").lower()


def test_a_strategy_splits_the_global_batch(two_replicas):
    strategy = two_replicas
    x = rows(64)
    distributed = iter(strategy.experimental_distribute_dataset(training_batches(x, 16)))
    expected = list(training_batches(x, 16).take(3).as_numpy_iterator())
    for batch in expected:
        parts = strategy.experimental_local_results(next(distributed))
        np.testing.assert_array_equal(np.concatenate(parts), batch)
