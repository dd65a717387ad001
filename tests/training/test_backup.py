"""Tests that a training whose state was kept goes on as if nothing had happened."""

import json
import shutil

import keras
import numpy as np
import pytest
from part_flows import data, equal, make_flow

from tfp_distill import Backup, FlowDistiller, LatentLoss, Partition, PartSchedule, SynthesizedLoss
from tfp_distill.data import TrainingRows
from tfp_distill.files import DamagedFileError

STEPS_OF_EPOCH, EPOCHS = 3, 4


def _optimizer():
    schedule = keras.optimizers.schedules.CosineDecay(1e-2, STEPS_OF_EPOCH * EPOCHS)
    return keras.optimizers.AdamW(schedule, clipnorm=1.0, use_ema=True, ema_momentum=0.9)


def _flow():
    flow = make_flow("glow")
    flow.compile(_optimizer(), jit_compile=False)
    return flow, []


def _parts():
    flow = make_flow("glow")
    flow.compile(_optimizer(), partition=Partition.at_steps(flow, [2]), jit_compile=False)
    return flow, [PartSchedule("alternating", 1, end_to_end_epochs=2)]


def _distiller():
    distiller = FlowDistiller(
        student=make_flow("glow"),
        teacher=make_flow("glow", size=0.3),
        distillation_losses=[LatentLoss(), SynthesizedLoss()],
        distillation_loss_weights=[0.5, 0.5],
    )
    distiller.compile(_optimizer(), jit_compile=False)
    return distiller, []


def _fit(make, directory, epochs):
    model, callbacks = make()
    backup = Backup(directory)
    step = backup.restore(model)
    rows = TrainingRows(data("glow", 50)[0], 8, seed=3)
    model.fit(
        rows.batches(start_step=step),
        steps_per_epoch=STEPS_OF_EPOCH,
        initial_epoch=step // STEPS_OF_EPOCH,
        epochs=epochs,
        callbacks=[*callbacks, backup],
        verbose=0,
    )
    return model, backup


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    directory = tmp_path_factory.mktemp("once")
    _fit(_flow, directory, 1)
    return directory


@pytest.fixture
def begun(once, tmp_path):
    """The directory of a flow that was trained for an epoch."""
    shutil.copytree(once, tmp_path / "begun")
    return tmp_path / "begun"


def _state(model):
    optimizers = (variable for optimizer in model.optimizers for variable in optimizer.variables)
    return [variable.numpy() for variable in (*model.variables, *optimizers)]


@pytest.mark.parametrize(
    "make", [_flow, *(pytest.param(m, marks=pytest.mark.slow) for m in (_parts, _distiller))]
)
def test_a_training_in_pieces_ends_as_one(tmp_path, make):
    whole, kept = _fit(make, tmp_path / "whole", EPOCHS)
    for epochs in (1 if make is _flow else 3, EPOCHS):
        pieces, resumed = _fit(make, tmp_path / "pieces", epochs)
    assert equal(_state(pieces), _state(whole))
    assert (pieces.step, pieces.step) == (whole.step, STEPS_OF_EPOCH * EPOCHS)
    assert resumed.history == kept.history
    assert [row["step"] for row in kept.history] == [3, 6, 9, 12]
    # One state, and nothing left of those before it.
    names = {path.name for path in (tmp_path / "pieces").iterdir()}
    assert names == {"progress.json", "checkpoint_12.weights.h5"}


def test_a_training_that_could_go_on_is_not_begun_again(begun):
    flow, _ = _flow()
    rows = TrainingRows(data("glow", 50)[0], 8, seed=3)
    with pytest.raises(ValueError, match="of step 3, got a model at step 0: call `Backup.restore`"):
        flow.fit(rows.batches(), steps_per_epoch=3, callbacks=[Backup(begun)], verbose=0)


@pytest.mark.slow
def test_flipped_bits_are_found(begun):
    """Of the state, and of what is kept beside it."""
    random, flow = np.random.RandomState(0), _flow()[0]
    untrained = _state(flow)
    trained, _ = _flow()
    Backup(begun).restore(trained)
    for name in ("checkpoint_3.weights.h5", "progress.json"):
        whole = (begun / name).read_bytes()
        for place in random.choice(len(whole), 100):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << random.randint(8)
            (begun / name).write_bytes(damaged)
            try:
                assert Backup(begun).restore(flow) == 3
            except DamagedFileError as error:
                assert "\n" not in str(error) and name in str(error)
                assert name == "progress.json" or equal(_state(flow), untrained)
            else:  # White space, or the name of the checksum, of what is read as it is without.
                assert name == "progress.json" and equal(_state(flow), _state(trained))
        (begun / name).write_bytes(whole)


@pytest.mark.parametrize("missing", ["steps", "checkpoint", "checkpoint_sha256", "layout"])
def test_a_record_of_something_else_is_refused(begun, missing):
    values = json.loads((begun / "progress.json").read_text())
    del values["sha256"], values[missing]
    (begun / "progress.json").write_text(json.dumps(values))
    with pytest.raises(DamagedFileError, match="progress.json' holds no state of a training"):
        Backup(begun).restore(_flow()[0])


def test_the_state_of_another_model_is_refused(begun):
    flow = make_flow("images")
    flow.compile(_optimizer(), jit_compile=False)
    before = _state(flow)
    with pytest.raises(DamagedFileError, match="state of another model or another optimizer than"):
        Backup(begun).restore(flow)
    assert equal(_state(flow), before)


def test_the_state_of_another_optimizer_is_refused(begun):
    flow = make_flow("glow")
    flow.compile("sgd", jit_compile=False)
    with pytest.raises(DamagedFileError, match="state of another model or another optimizer than"):
        Backup(begun).restore(flow)


def test_other_models_are_refused(begun):
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="must be used with a Flow or a FlowDistiller"):
        model.fit(np.zeros([4, 1]), np.zeros([4, 1]), callbacks=[Backup(begun)], verbose=0)
