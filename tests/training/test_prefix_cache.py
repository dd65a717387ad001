"""Tests that a cached phase trains as one that runs the frozen parts in every step."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from interruption import Interrupt
from part_flows import data, equal, make_flow, states

from tfp_distill import Partition, PartSchedule, PrefixCache
from tfp_distill.data import TrainingRows
from tfp_distill.domains import ImageDomain

pytestmark = pytest.mark.slow

_N, _BATCH = 21, 8  # Two batches and some rows that are left out.


def _compiled(kind="glow", boundaries=(1, 3), strategy=None, **options):
    # A graph takes longer to make than these few steps.
    options = options or dict(run_eagerly=True)
    with strategy.scope() if strategy else contextlib.nullcontext():
        flow = make_flow(kind, size=0.05)
        partition = Partition.at_steps(flow, boundaries)
        flow.compile(keras.optimizers.SGD(0.01, momentum=0.9), partition=partition, **options)
    return flow


def _rows(kind="glow", n=_N, batch_size=_BATCH, **options):
    x, *condition = data(kind, n)
    return TrainingRows(x, batch_size, condition=condition[0] if condition else None, **options)


def _images(n=_N, batch_size=_BATCH):
    x = np.random.RandomState(0).randint(0, 256, (n, 4, 4, 2)).astype(np.uint8)
    return TrainingRows(x, batch_size, domain=ImageDomain(), random_flip=True)


def _fit(flow, rows, cache, epochs_per_part=2, end_to_end_epochs=0, callbacks=(), **options):
    schedule = PartSchedule(
        "sequential", epochs_per_part, end_to_end_epochs=end_to_end_epochs, prefix_cache=cache
    )
    return flow.fit(
        rows.batches(start_step=flow.step),
        steps_per_epoch=rows.steps_per_epoch,
        epochs=schedule.num_epochs(flow.partition),
        callbacks=[schedule, *callbacks],
        verbose=0,
        **options,
    ).history


def _assert_same(flow, expected, tolerance=1e-6):
    for part, (own, others) in enumerate(zip(states(flow), states(expected), strict=True)):
        for a, b in zip(own, others, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance, err_msg=f"part {part}")


def _assert_same_logs(logs, expected):
    assert set(logs) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(logs[name], values, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("kind", ["glow", "conditional_maf", "images"])
def test_training_with_the_cache_is_training_without_it(kind):
    """The same operations on the same rows. And so are the steps after a phase."""
    flow, expected = _compiled(kind), _compiled(kind)
    rows = _rows(kind)
    logs = _fit(flow, rows, PrefixCache(rows), [1, 2, 1], 1)
    _assert_same_logs(logs, _fit(expected, rows, None, [1, 2, 1], 1))
    assert flow.step == expected.step == 10
    assert flow.skipped_steps == 0
    _assert_same(flow, expected)


COMPILED = {
    "xla": dict(jit_compile=True),
    "several_steps_per_execution": dict(jit_compile=False, steps_per_execution=2),
}


@pytest.mark.parametrize("case", COMPILED)
def test_compiled_steps_are_those_of_the_eager_training(case):
    flow, expected = _compiled(boundaries=(3,), **COMPILED[case]), _compiled(boundaries=(3,))
    traced = []
    part_objectives = flow.part_objectives

    def note(x, condition, parts):
        traced.append(parts)
        return part_objectives(x, condition, parts)

    flow.part_objectives = note
    rows = _rows()
    options = dict(initial_epoch=2)  # The second part's first one.
    logs = _fit(flow, rows, PrefixCache(rows, refresh_epochs=1), **options)
    _assert_same_logs(logs, _fit(expected, rows, None, **options))
    _assert_same(flow, expected)
    assert traced == [(1,)]


def test_two_replicas_take_the_steps_of_one_device(two_replicas):
    rows = _rows("conditional_maf")
    flow = _compiled("conditional_maf", (2,), two_replicas, jit_compile=False)
    expected = _compiled("conditional_maf", (2,))
    logs = _fit(flow, rows, PrefixCache(rows), initial_epoch=2)
    _assert_same_logs(logs, _fit(expected, rows, None, initial_epoch=2))
    for a, b in zip(flow.trainable_variables, expected.trainable_variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=2e-6, err_msg=a.path)


class _Calls(keras.callbacks.Callback):
    """Counts in each epoch how often each part runs."""

    def __init__(self, flow):
        super().__init__()
        self.counts = []
        run_part = flow.run_part

        def note(part, *inputs):
            self.counts[-1][part] += 1
            return run_part(part, *inputs)

        flow.run_part = note

    def on_epoch_begin(self, epoch, logs=None):
        self.counts.append([0, 0, 0])


def test_the_frozen_parts_run_once_a_phase():
    flow, rows = _compiled(), _rows()
    calls = _Calls(flow)
    schedule = PartSchedule("sequential", 2, prefix_cache=PrefixCache(rows))
    options = dict(steps_per_epoch=2, epochs=6, verbose=0)
    flow.fit(rows.batches(), callbacks=[calls, schedule], **options)
    # Two steps an epoch; three batches hold all rows.
    assert calls.counts == [[2, 0, 0]] * 2 + [[3, 2, 0], [0, 2, 0], [3, 3, 2], [0, 0, 2]]


def test_fit_only_counts_the_steps_of_the_data_that_it_was_given():
    flow, expected = _compiled(boundaries=(2,)), _compiled(boundaries=(2,))
    rows = _rows()
    schedule = PartSchedule("sequential", 1, end_to_end_epochs=1, prefix_cache=PrefixCache(rows))
    # Nothing looks at the batches of a dataset before they are used.
    nothing = tf.data.Dataset.from_tensors(np.full([_BATCH, 3], np.nan, np.float32)).repeat(2)
    flow.fit(nothing, epochs=3, callbacks=[schedule], verbose=0)
    _fit(expected, rows, None, 1, end_to_end_epochs=1)
    _assert_same(flow, expected)
    # Without a cache the model takes what it is given again.
    flow.fit(nothing, verbose=0)
    assert flow.skipped_steps == 2


def _received(flow, cache, epoch):
    """Returns what part 1 receives in an epoch of one batch, in the order of the likelihoods."""
    ((state, log_prob, _),) = next(cache.batches(flow, (1,), epoch))
    order = np.argsort(log_prob)
    return state.numpy()[order], log_prob.numpy()[order]


def test_noise_and_flips_are_drawn_when_the_cache_is_filled():
    rows = _images(8, 8)

    def epochs(**options):
        flow = _compiled("images")
        cache = PrefixCache(rows, **options)
        return [_received(flow, cache, epoch) for epoch in range(2, 7)]

    once, often = epochs(), epochs(refresh_epochs=2)
    assert all(equal(once[0], later) for later in once[1:])
    assert [equal(a, b) for a, b in zip(often, often[1:], strict=False)] == [True, False] * 2
    assert equal(once[0], often[0])
    assert all(equal(a, b) for a, b in zip(often, epochs(refresh_epochs=2), strict=True))
    # Every number is another one.
    assert not np.any(often[0][1] == often[2][1])
    flow = _compiled("images")
    log_prob = flow.part_input(1, next(iter(rows.ordered(draw=2)))).log_prob
    np.testing.assert_array_equal(np.sort(log_prob), once[0][1])


def test_interrupted_and_resumed_is_uninterrupted(tmp_path):
    rows, path = _images(), str(tmp_path / "state.weights.h5")

    def fit(flow, *callbacks):
        # Saving comes first: what the cache notes has to be there already.
        save = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: flow.save_weights(path)
        )
        cache = PrefixCache(rows, refresh_epochs=2)
        callbacks = [save, *callbacks]
        _fit(flow, rows, cache, [1, 3], 1, callbacks, initial_epoch=flow.step // 2)
        return flow

    expected = fit(_compiled("images", (2,)))
    assert expected.step == 10
    for step in (5, 9):  # On the noise of the epoch before, and after the cached phase.
        with pytest.raises(InterruptedError):
            fit(_compiled("images", (2,)), Interrupt(step))
        resumed = _compiled("images", (2,))
        resumed.load_weights(path)
        assert resumed.step == step - 1
        _assert_same(fit(resumed), expected, 0.0)


def test_a_cache_on_disk_is_the_one_in_memory(tmp_path):
    rows = _rows()
    directory = tmp_path / "made" / "when it is needed"
    flow, expected = _compiled(), _compiled()
    cache = PrefixCache(rows, directory=directory)
    sizes = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            sizes.append(sum(path.stat().st_size for path in directory.glob("*.npy")))

    _fit(flow, rows, cache, 1, callbacks=[Look()])
    _fit(expected, rows, PrefixCache(rows), 1)
    _assert_same(flow, expected)
    header = 128
    assert sizes == [0] * 2 + [cache.num_bytes(flow) + header] * 4
    assert not list(directory.iterdir())


def test_a_cache_that_is_too_big_is_refused_before_anything_is_trained():
    # The second part receives 32 numbers, the third 16; each row also has its log-likelihood.
    flow, rows = _compiled("images", (1, 3)), _rows("images")
    need = _N * (32 + 1) * 4
    assert PrefixCache(rows).num_bytes(flow) == need
    with pytest.raises(ValueError, match="`max_bytes` must be at least 2,772 for 21 .* got 2,771"):
        _fit(flow, rows, PrefixCache(rows, max_bytes=need - 1))
    assert flow.step == 0
    _fit(flow, rows, PrefixCache(rows, max_bytes=need), 1)


ILLEGAL = {
    "max_bytes": (dict(max_bytes=0), "`max_bytes` must be at least 1, got 0"),
    "refresh": (dict(refresh_epochs=0), "`refresh_epochs` must be None or at least 1, got 0"),
    "rows": (dict(rows=np.zeros([2, 3])), "`rows` must be `.*TrainingRows`, got ndarray"),
}


@pytest.mark.parametrize("case", ILLEGAL)
def test_errors_name_argument_rule_and_value(case):
    arguments, message = ILLEGAL[case]
    with pytest.raises(ValueError, match=message):
        PrefixCache(**{"rows": _rows(), **arguments})


@pytest.mark.parametrize("mode", ["alternating", "simultaneous"])
def test_parts_that_do_not_wait_for_each_other_have_no_cache(mode):
    message = f"`mode` must be sequential where `prefix_cache` is given, got '{mode}'"
    with pytest.raises(ValueError, match=message):
        PartSchedule(mode, 1, prefix_cache=PrefixCache(_rows()))


def test_an_epoch_without_an_end_is_refused():
    rows = _rows()
    schedule = PartSchedule("sequential", 1, prefix_cache=PrefixCache(rows))
    with pytest.raises(ValueError, match="`steps_per_epoch` must be given .* got None"):
        _compiled().fit(rows.batches(), callbacks=[schedule], verbose=0)
