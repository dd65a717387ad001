"""Tests of what is made of the rows of a training: a pass in order, and batches of other arrays."""

import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf

from tfp_distill.data import TrainingRows, training_batches
from tfp_distill.domains import ImageDomain
from tfp_distill.pixels import PixelFormat


def rows(n: int, dims: int = 3) -> np.ndarray:
    return np.arange(n * dims, dtype=np.float32).reshape(n, dims)


def images(n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, [n, 4, 4, 1], np.uint8)


@pytest.mark.parametrize(("n", "batch_size", "starts"), [(8, 4, [0, 4]), (9, 4, [0, 4, 5])])
def test_ordered_batches_hold_all_rows_and_have_one_size(n, batch_size, starts):
    x = rows(n)
    source = TrainingRows(x, batch_size, condition=-x)
    assert (len(source), source.batch_size, source.steps_per_epoch) == (n, batch_size, 2)
    dataset = source.ordered()
    assert dataset.element_spec == (tf.TensorSpec([4, 3]),) * 2
    found = list(dataset.as_numpy_iterator())
    for start, (batch, condition) in zip(starts, found, strict=True):
        np.testing.assert_array_equal(batch, x[start : start + batch_size])
        np.testing.assert_array_equal(condition, -batch)


def _ordered(batch_size, draw=0, n=11, seed=0):
    source = TrainingRows(
        images(n),
        batch_size,
        seed=seed,
        domain=ImageDomain(PixelFormat(padding=1)),
        random_flip=True,
    )
    found = list(source.ordered(draw).as_numpy_iterator())
    assert all(batch.shape == (batch_size, 6, 6, 1) for batch in found)
    last = found.pop()
    return np.concatenate([*found, last[-((n - 1) % batch_size + 1) :]])


def test_noise_and_flips_of_a_pass_depend_on_seed_place_and_draw_alone():
    expected = _ordered(11)
    np.testing.assert_array_equal(_ordered(4), expected)
    for others in (_ordered(4, draw=1), _ordered(4, seed=1)):
        assert np.mean(others == expected) < 0.01
    draws = np.stack([_ordered(11, draw) for draw in range(20)])
    assert len(np.unique(draws * 256 % 1)) > 0.85 * draws.size  # Of 16 bits.
    mirrored = np.stack(
        [
            np.all(np.floor(d * 256)[:, 1:-1, 1:-1] == images(11)[:, :, ::-1], (1, 2, 3))
            for d in draws
        ]
    )
    plain = np.stack(
        [np.all(np.floor(d * 256)[:, 1:-1, 1:-1] == images(11), (1, 2, 3)) for d in draws]
    )
    assert np.all(mirrored ^ plain)
    assert abs(mirrored.mean() - 0.5) < 5 * 0.5 / mirrored.size**0.5


def test_no_step_of_a_training_has_the_noise_of_a_pass():
    source = TrainingRows(images(8), 8, domain=ImageDomain())
    steps = np.stack(list(source.batches().take(2).as_numpy_iterator()))
    noise = {tuple(image.ravel() * 256 % 1) for image in steps.reshape(16, -1)}
    noise |= {
        tuple(image.ravel() * 256 % 1) for image in next(source.ordered().as_numpy_iterator())
    }
    assert len(noise) == 24


@pytest.mark.parametrize("start_step", [0, 7])
@pytest.mark.parametrize("in_file", [False, True])
def test_batches_of_other_arrays_have_the_order_of_the_rows(start_step, in_file, tmp_path):
    x = rows(14)
    source = TrainingRows(x, 4, condition=x[:, :2], seed=3)
    wide = rows(14, 8).reshape(14, 2, 4)
    if in_file:
        np.save(tmp_path / "wide.npy", wide)
        wide = np.load(tmp_path / "wide.npy", mmap_mode="r")
    arrays = {"a": wide, "b": x[:, 0].astype(np.float64)}
    expected = training_batches(x, 4, condition=x[:, :2], seed=3, start_step=start_step).take(9)
    found = source.batches_of(arrays, start_step=start_step)
    assert found.element_spec == (
        {"a": tf.TensorSpec([4, 2, 4]), "b": tf.TensorSpec([4], tf.float64)},
        tf.TensorSpec([4, 2]),
    )
    for (batch, condition), (others, same) in zip(expected, found.take(9), strict=True):
        np.testing.assert_array_equal(condition, same)
        np.testing.assert_array_equal(others["b"], batch[:, 0])
        np.testing.assert_array_equal(others["a"], wide[(batch[:, 0].numpy() / 3).astype(int)])


def test_without_conditions_other_arrays_stand_alone():
    x = rows(4)
    (batch,) = next(iter(TrainingRows(x, 4).batches_of(x)))
    np.testing.assert_array_equal(np.sort(batch, axis=0), x)


def test_what_is_written_into_the_arrays_shows():
    array = np.zeros([4], np.float32)
    batches = TrainingRows(rows(4), 4).batches_of(array)
    array[:] = 1
    np.testing.assert_array_equal(next(iter(batches))[0], np.ones([4]))


def test_nothing_keeps_the_arrays():
    array = np.zeros([4], np.float32)
    next(iter(TrainingRows(rows(4), 4).batches_of(array)))
    kept = weakref.ref(array)
    del array
    gc.collect()
    assert kept() is None


def test_batches_leave_nothing_behind():
    def objects_after_calls(n):
        for _ in range(n):
            next(iter(TrainingRows(np.zeros([20, 2], np.float32), 4).batches()))
        gc.collect()
        return len(gc.get_objects())

    before = objects_after_calls(3)
    assert objects_after_calls(10) < before + 100


def test_whoever_drops_an_iterator_waits_for_no_tuner():
    x = rows(4)
    kept = TrainingRows(x, 4)
    for batches in (kept.batches(), kept.batches_of(x), kept.ordered()):
        assert batches.options().autotune.enabled is False
