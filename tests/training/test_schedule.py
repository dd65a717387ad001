"""Tests of whose turn it is, and of resuming in every phase."""

import keras
import numpy as np
import pytest
from interruption import Interrupt
from part_flows import Phases, batches, data, equal, make_flow, states, weights_of

from tfp_distill import Partition, PartSchedule

pytestmark = pytest.mark.slow

PLANS = {
    "sequential": (
        PartSchedule("sequential", 2, end_to_end_epochs=1),
        [(0,), (0,), (1,), (1,), None],
    ),
    "sequential of different lengths": (
        PartSchedule("sequential", [1, 3]),
        [(0,), (1,), (1,), (1,)],
    ),
    "alternating": (
        PartSchedule("alternating", 2, end_to_end_epochs=2),
        [(0,), (1,), (0,), (1,), None, None],
    ),
    "alternating of different lengths": (
        PartSchedule("alternating", [3, 1]),
        [(0,), (1,), (0,), (0,)],
    ),
    "simultaneous": (
        PartSchedule("simultaneous", 2, end_to_end_epochs=1),
        [(0, 1), (0, 1), None],
    ),
    "simultaneous of different lengths": (
        PartSchedule("simultaneous", [1, 2]),
        [(0, 1), (1,)],
    ),
}


def _compiled(**options):
    flow = make_flow("glow")
    schedule = keras.optimizers.schedules.CosineDecay(0.0, 20, warmup_target=0.02, warmup_steps=3)
    optimizer = keras.optimizers.Adam(schedule, global_clipnorm=1.0, use_ema=True)
    partition = Partition.at_steps(flow, [2])
    # A graph takes longer to make than these few steps.
    options = options or dict(run_eagerly=True)
    flow.compile(optimizer, partition=partition, **options)
    return flow


@pytest.mark.parametrize("case", PLANS)
def test_the_plan(case):
    schedule, expected = PLANS[case]
    assert [schedule.phase(epoch, 2) for epoch in range(len(expected))] == expected
    assert schedule.phase(len(expected), 2) == ()
    flow = make_flow("glow")
    assert schedule.num_epochs(Partition.at_steps(flow, [2])) == len(expected)


@pytest.mark.parametrize("mode", ["sequential", "alternating", "simultaneous"])
def test_a_part_that_stalled_takes_no_more_turns(mode):
    schedule = PartSchedule(mode, 3, end_to_end_epochs=2)
    plan = [schedule.phase(epoch, 2) for epoch in range(8)]
    for stalled in range(3):
        phases = [schedule.phase(epoch, 2, [stalled, 99]) for epoch in range(8)]
        assert phases[: stalled + 1] == plan[: stalled + 1]  # The past stays as it was.
        later = phases[stalled + 1 : phases.index(None)]
        assert all(phase == (1,) for phase in later)
        assert sum(1 in (phase or ()) for phase in phases) == 3
        assert phases.count(None) == 2


@pytest.mark.parametrize("mode", ["sequential", "alternating", "simultaneous"])
def test_each_epoch_trains_its_parts_and_no_others(mode):
    flow, phases = _compiled(), Phases()
    schedule = PartSchedule(mode, 2, end_to_end_epochs=1)
    planned = schedule.num_epochs(flow.partition)
    flow.fit(batches("glow", 16), epochs=99, callbacks=[schedule, phases], verbose=0)
    assert phases.active == [schedule.phase(epoch, 2) for epoch in range(planned)]
    assert phases.changed == [(0, 1) if parts is None else parts for parts in phases.active]


def test_each_phase_is_traced_once():
    flow = _compiled(jit_compile=False)
    traced = []
    objective, part_objectives = flow.objective, flow.part_objectives

    def note(*inputs):
        traced.append(None)
        return objective(*inputs)

    def note_parts(x, condition, parts):
        traced.append(tuple(parts))
        return part_objectives(x, condition, parts)

    flow.objective, flow.part_objectives = note, note_parts
    for _ in range(2):
        schedule = PartSchedule("alternating", 2, end_to_end_epochs=2)
        flow.fit(batches("glow", 16), epochs=6, callbacks=[schedule], verbose=0)
    assert traced == [(0,), (1,), None]


def test_the_update_of_a_part_is_traced_once_for_all_phases():
    flow = _compiled(jit_compile=False)
    traced = []

    def note(part, apply):
        def noted(*args):
            traced.append(part)
            return apply(*args)

        return noted

    for part, optimizer in enumerate(flow.optimizers):
        optimizer.apply = note(part, optimizer.apply)
    schedule = PartSchedule("alternating", 1, end_to_end_epochs=1)
    flow.fit(batches("glow", 16), epochs=3, callbacks=[schedule], verbose=0)
    assert traced == [0, 1]


def _slots(flow):
    return [variable.numpy() for o in flow.optimizers for variable in o.variables]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("sequential", {0: [], 1: [], 2: [0], 3: [0], 4: [0, 1]}),
        ("alternating", {0: [], 1: [0], 2: [1], 3: [0], 4: [0, 1]}),
        ("simultaneous", {0: [], 1: [], 2: [0, 1]}),
    ],
)
def test_parts_that_wait_or_are_done_have_their_averages_as_weights(mode, expected):
    flow, averaged, own = _compiled(), {}, {}

    class Look(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            averaged[epoch] = [
                part
                for part, optimizer in enumerate(flow.optimizers)
                if int(optimizer.iterations.numpy())
                and equal(weights_of(flow, part), averages_of(optimizer))
            ]
            for part in flow.active_parts or ():
                assert part not in own or equal(weights_of(flow, part), own[part])

        def on_epoch_end(self, epoch, logs=None):
            for part in flow.active_parts or ():
                own[part] = weights_of(flow, part)

    def averages_of(optimizer):
        return [average.numpy() for average in optimizer._model_variables_moving_average]

    schedule = PartSchedule(mode, 2, end_to_end_epochs=1)
    flow.fit(batches("glow", 24), epochs=5, verbose=0, callbacks=[schedule, Look()])
    assert averaged == expected


@pytest.mark.parametrize("fresh", [False, True])
def test_optimisers_at_the_begin_of_the_end_to_end_phase(fresh):
    flow = _compiled()
    seen = []

    class Look(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            seen.append((self.model.active_parts, _slots(flow)))

        def on_epoch_end(self, epoch, logs=None):
            seen.append((self.model.active_parts, _slots(flow)))

    schedule = PartSchedule("sequential", 1, end_to_end_epochs=2, fresh_optimizers=fresh)
    flow.fit(batches("glow", 16), epochs=4, callbacks=[schedule, Look()], verbose=0)
    before, begin, end, second = (slots for _, slots in seen[3:7])
    assert equal(before, begin) != fresh
    assert equal(begin, _slots(_compiled())) == fresh
    assert equal(end, second)
    iterations = [int(optimizer.iterations.numpy()) for optimizer in flow.optimizers]
    assert iterations == [4, 4] if fresh else [6, 6]


class _SaveEveryEpoch(keras.callbacks.Callback):
    """Saves the state as `runs/fitting/fit_flow.py` does."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch, logs=None):
        self.model.save_weights(self.path)


# Epochs per part, options, and how many epochs it takes.
RESUMED = {
    "sequential": (1, {}, 4),
    "simultaneous": (1, {}, 3),
    # A part stalls at once and hands over before its epochs are used up.
    "early hand-over": (4, dict(patience=1, min_delta=1e9), 6),
}


@pytest.mark.parametrize("case", RESUMED)
def test_interrupted_and_resumed_is_uninterrupted(case, tmp_path):
    epochs_per_part, options, num_epochs = RESUMED[case]
    compiled = dict(jit_compile=False) if case == "sequential" else {}
    mode = "sequential" if options else case
    path = str(tmp_path / "state.weights.h5")
    (rows,) = data("glow", 16)

    def fit(flow, epochs=99, start=0, *callbacks):
        schedule = PartSchedule(
            mode, epochs_per_part, end_to_end_epochs=2, fresh_optimizers=True, **options
        )
        flow.fit(
            rows,
            batch_size=8,
            shuffle=False,
            initial_epoch=start,
            epochs=epochs,
            validation_data=(rows[:8],),
            # Saving comes first: what the schedule notes has to be there already.
            callbacks=[_SaveEveryEpoch(path), schedule, *callbacks],
            verbose=0,
        )
        return flow

    expected = fit(_compiled(**compiled))
    assert expected.step == 2 * num_epochs
    for step in range(3, expected.step, 6):  # In the middle of every third epoch.
        with pytest.raises(InterruptedError):
            fit(_compiled(**compiled), 99, 0, Interrupt(step))
        resumed = _compiled(**compiled)
        resumed.load_weights(path)
        assert resumed.step == step - 1
        fit(resumed, num_epochs, resumed.step // 2)
        assert resumed.step == expected.step
        assert all(equal(a, b) for a, b in zip(states(resumed), states(expected), strict=True))


def test_a_backup_in_the_middle_of_the_end_to_end_phase_keeps_its_optimisers(tmp_path):
    def fit(flow, *callbacks):
        schedule = PartSchedule("simultaneous", 1, end_to_end_epochs=1, fresh_optimizers=True)
        flow.fit(batches("glow", 24), epochs=2, callbacks=[*callbacks, schedule], verbose=0)

    interrupted, resumed = _compiled(), _compiled()
    backup = str(tmp_path / "backup")
    with pytest.raises(InterruptedError):
        fit(interrupted, keras.callbacks.BackupAndRestore(backup, save_freq=1), Interrupt(5))
    fit(resumed, keras.callbacks.BackupAndRestore(backup, save_freq=1))
    # Keras takes the three steps of the epoch again, after the two that it restored.
    assert resumed.step == 8
    assert [int(optimizer.iterations.numpy()) for optimizer in resumed.optimizers] == [5, 5]


@pytest.mark.parametrize("mode", ["sequential", "alternating", "simultaneous"])
def test_a_part_hands_over_when_its_validation_loss_stalls(mode):
    flow, phases = _compiled(), Phases()
    # The first part cannot learn.
    flow.compile(["sgd", "sgd"], partition=flow.partition, run_eagerly=True)
    flow.optimizers[0].learning_rate = 0.0
    flow.optimizers[1].learning_rate = 1e-3
    schedule = PartSchedule(mode, 4, end_to_end_epochs=1, patience=2)
    flow.fit(
        *data("glow", 16),
        epochs=schedule.num_epochs(flow.partition),
        validation_data=data("glow", 16),
        callbacks=[schedule, phases],
        verbose=0,
    )
    turns = [sum(part in (parts or ()) for parts in phases.active) for part in (0, 1)]
    assert turns == [3, 4]  # One that sets the loss to beat, and two that do not.
    assert phases.active[-1] is None
    # A new training begins anew.
    x = data("glow", 16)
    flow.fit(*x, epochs=1, validation_data=x, callbacks=[schedule], verbose=0)
    assert 0 in flow.active_parts


ILLEGAL = {
    "mode": (dict(mode="random"), "`mode` must be one of sequential, .*, got 'random'"),
    "no epochs": (dict(epochs_per_part=0), "`epochs_per_part` must be at least 1, got 0"),
    "no epochs of a part": (dict(epochs_per_part=[1, 0]), "must be at least 1, got .1, 0."),
    "end to end": (dict(end_to_end_epochs=-1), "`end_to_end_epochs` must be at least 0, got -1"),
    "patience": (dict(patience=0), "`patience` must be None or at least 1, got 0"),
    "min_delta": (dict(min_delta=-1.0), "`min_delta` must be at least 0, got -1.0"),
}


@pytest.mark.parametrize("case", ILLEGAL)
def test_errors_name_argument_rule_and_value(case):
    arguments, message = ILLEGAL[case]
    with pytest.raises(ValueError, match=message):
        PartSchedule(**{"mode": "sequential", "epochs_per_part": 1, **arguments})


def test_models_and_runs_that_do_not_fit_the_schedule_are_refused():
    flow = make_flow("glow")
    flow.compile("sgd", jit_compile=False)

    def fit(schedule, **kwargs):
        flow.fit(batches("glow", 8), callbacks=[schedule], verbose=0, **kwargs)

    with pytest.raises(ValueError, match="with a partition of several parts, got 'glow'"):
        fit(PartSchedule("sequential", 1))
    flow = _compiled()
    with pytest.raises(ValueError, match=r"one number for each of the 2 parts, got \(1, 2, 3\)"):
        fit(PartSchedule("sequential", [1, 2, 3]))
    with pytest.raises(ValueError, match="`initial_epoch` must be within the schedule, got 2"):
        fit(PartSchedule("sequential", 1), initial_epoch=2, epochs=3)
    assert flow.step == 0
    with pytest.raises(ValueError, match="`validation_data` must be given .* none in epoch 0"):
        fit(PartSchedule("sequential", 1, patience=1))
    np.testing.assert_equal(flow.step, 1)
