"""Tests that damage to what a run keeps is told of in one line that names the file."""

import dataclasses

import numpy as np
import pytest
from absl import app
from damage import FILES_A_KIND, damage
from jobs import TINY, run

from tfp_distill import Backup, load_flow
from tfp_distill.files import DamagedFileError, write_json
from tfp_distill.runs.data_record import DataRecord
from tfp_distill.runs.fitting.training_record import read_record
from tfp_distill.runs.recipe import Recipe
from trainers import train


@pytest.fixture
def begun(tmp_path):
    """A run whose teacher is half trained."""
    rows = np.random.RandomState(0).normal(size=(300, 2))
    np.save(tmp_path / "rows.npy", rows)
    arguments = [argument for argument in TINY if "teacher_training" not in argument]
    arguments += [f"--data={tmp_path / 'rows.npy'}", "--jit_compile=off"]
    run(train, tmp_path / "run", *arguments, "--teacher_training_steps=4")
    directory = tmp_path / "run" / "teacher"
    return directory, read_record(directory)


def _go_on(directory, record):
    """Takes back that the training is finished, and goes on."""
    values = dataclasses.asdict(record)
    write_json(directory / "progress.json", {**values, "finished": False, "steps": 2})
    return run(train, directory.parent)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_not_gone_on_from(begun):
    directory, record = begun
    path = directory / record.checkpoint
    whole = path.read_bytes()
    for place in np.random.RandomState(0).choice(len(whole), 3):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(DamagedFileError, match=f"{record.checkpoint}' is missing or damaged"):
            _go_on(directory, record)
    path.unlink()
    with pytest.raises(DamagedFileError, match=f"{record.checkpoint}' is missing or damaged"):
        _go_on(directory, record)
    path.write_bytes(whole)
    assert "goes on after 2 steps" in _go_on(directory, record)


def test_a_damaged_record_is_one_line(begun):
    directory, _ = begun
    path = directory / "progress.json"
    whole = path.read_text()
    for text in ("", whole[:100], whole.replace('"steps": 4', '"steps": 2'), '{"steps": 4}'):
        path.write_text(text)
        with pytest.raises(app.UsageError, match="progress.json' ") as caught:
            run(train, directory.parent)
        assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", ["", "{", '{"seed": 1, "what": 2}', '{"seed": "one"}', '{"skd_weights": [1, null]}']
)
def test_a_damaged_recipe_is_one_line(text, begun):
    directory, _ = begun
    (directory.parent / "recipe.json").write_text(text)
    with pytest.raises(app.UsageError, match="recipe.json' ") as caught:
        run(train, directory.parent)
    assert "\n" not in str(caught.value)


def test_damaged_fingerprints_are_one_line(begun):
    directory, _ = begun
    for text in ("{", '{"rows": 3}', "{}"):
        (directory / "data.json").write_text(text)
        with pytest.raises(DamagedFileError, match="data.json' "):
            DataRecord.read(directory)


def test_damage_of_any_kind_is_one_line(begun):
    directory, record = begun
    flow = load_flow(directory / "flow.keras")
    readers = {
        directory.parent / "recipe.json": Recipe.read,
        directory / "progress.json": lambda _: read_record(directory),
        directory / "data.json": lambda _: DataRecord.read(directory),
        directory / record.checkpoint: lambda _: Backup(directory).restore(flow),
    }
    for path, read in readers.items():
        whole, undamaged = path.read_bytes(), read(path)
        for i in range(FILES_A_KIND):
            path.write_bytes(damage(whole, np.random.default_rng(i)))
            try:
                assert read(path) == undamaged, (path, i)
            except DamagedFileError as error:
                assert path.name in str(error) and len(str(error).splitlines()) == 1, (path, i)
        path.write_bytes(whole)
