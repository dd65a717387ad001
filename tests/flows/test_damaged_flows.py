"""Tests that files of flows that were damaged are told of, and never load as other weights."""

import zipfile

import numpy as np
import pytest
from damage import FILES_A_KIND, damage

from tfp_distill import Flow, TabularGlowConfig, load_flow


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The file of a flow, and the flow."""
    flow = Flow(TabularGlowConfig(2, num_steps=2, hidden_units=8, num_hidden_layers=1))
    flow.adapt(np.random.RandomState(0).normal(size=(64, 2)))
    path = tmp_path_factory.mktemp("flows") / "flow.keras"
    flow.save(path)
    return path, flow


def test_no_flipped_bit_loads_other_weights(saved, tmp_path):
    whole, flow = saved[0].read_bytes(), saved[1]
    path, refused = tmp_path / "damaged.keras", 0
    for bit in np.random.RandomState(1).choice(8 * len(whole), 200, replace=False):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            loaded = load_flow(path)
        except ValueError as error:
            refused += 1
            assert str(path) in str(error) and len(str(error).splitlines()) == 1
            continue
        assert loaded.config == flow.config
        for weight, expected in zip(loaded.get_weights(), flow.get_weights(), strict=True):
            np.testing.assert_array_equal(weight, expected)
    assert refused > 190


def test_damage_of_any_kind_is_one_line(saved, tmp_path):
    whole, path = saved[0].read_bytes(), tmp_path / "damaged.keras"
    for i in range(FILES_A_KIND):
        path.write_bytes(damage(whole, np.random.default_rng(i)))
        try:
            loaded = load_flow(path)
        except ValueError as error:
            assert str(path) in str(error) and len(str(error).splitlines()) == 1, i
        else:
            assert loaded.config == saved[1].config, i


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_files_that_were_cut_off_are_one_line(saved, share, tmp_path):
    whole = saved[0].read_bytes()
    (tmp_path / "cut.keras").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"^'.*cut\.keras' is damaged: .+\.$"):
        load_flow(tmp_path / "cut.keras")


def test_archives_of_something_else_are_one_line(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(ValueError, match=r"`path` must hold a flow that `save` wrote, got '.+"):
        load_flow(tmp_path / "other.keras")


def _repacked(path, saved, change, **options):
    """Writes a saved flow's archive with another configuration."""
    with zipfile.ZipFile(saved) as whole, zipfile.ZipFile(path, "w", **options) as archive:
        for name in whole.namelist():
            content = whole.read(name)
            archive.writestr(name, change(content) if name == "config.json" else content)
    return path


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"hidden_units": 8', '"hidden_units": 60000'),
        ('"num_steps": 2', '"num_steps": 9000000'),
        ('"dims": 2', '"dims": 90000'),
        ('"num_hidden_layers": 1', '"num_hidden_layers": 90000000'),
    ],
)
def test_a_small_file_does_not_ask_for_much_memory(saved, old, new, tmp_path):
    def change(content):
        assert old.encode() in content
        return content.replace(old.encode(), new.encode())

    path = _repacked(tmp_path / "large.keras", saved[0], change)
    with pytest.raises(ValueError, match=r"`path` must hold the weights of its flow, got [\d,]+"):
        load_flow(path)


def test_nor_does_one_that_unpacks_to_much(saved, tmp_path):
    path, packing = tmp_path / "bomb.keras", dict(compression=zipfile.ZIP_DEFLATED)
    _repacked(path, saved[0], lambda content: content + b" " * 2**26, **packing)
    with pytest.raises(ValueError, match=r"bomb\.keras' is damaged: it unpacks to 67,\d+"):
        load_flow(path)
    same = _repacked(tmp_path / "same.keras", saved[0], lambda content: content, **packing)
    assert load_flow(same).config == saved[1].config


@pytest.mark.parametrize("name", ["keras.layers.Dense", "tfp_distill>Flow", "nothing"])
def test_what_a_file_names_in_place_of_a_configuration_is_not_made(saved, name, tmp_path):
    def change(content):
        return content.replace(b"tfp_distill>TabularGlowConfig", name.encode())

    path = _repacked(tmp_path / "other.keras", saved[0], change)
    with pytest.raises(ValueError, match="is no configuration of a flow"):
        load_flow(path)
