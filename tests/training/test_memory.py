"""Tests of the peak of memory, by whatever this machine can tell and by what others tell."""

from types import SimpleNamespace

import pytest
import tensorflow as tf

from tfp_distill.training import PeakMemory, memory

SIZE = 64_000_000
STATUS = "Name:\tpython\nVmHWM:\t  2000 kB\nVmRSS:\t  1000 kB\n"


def take_and_release():
    tf.reduce_sum(tf.ones([SIZE // 4]) + 1.0).numpy()


def test_the_peak_is_that_since_the_last_reset():
    peak = PeakMemory()
    if peak.source is None:
        pytest.skip("this machine does not tell its memory")
    take_and_release()  # So that what was freed, if it is kept, is there from the beginning.
    peak.reset()
    level = peak.read()
    take_and_release()
    if peak.source == "allocator":
        assert SIZE <= peak.read() - level <= 3 * SIZE
    peak.reset()
    assert peak.read() <= level + SIZE // 2


@pytest.fixture
def no_allocator(monkeypatch):
    """TensorFlow does not count the memory of the CPU."""

    def fail(device):
        raise ValueError(f"Allocator stats not available for device '{device}'")

    monkeypatch.setattr(tf.config.experimental, "get_memory_info", fail)


def test_without_an_allocator_that_counts_the_resident_set_does(
    no_allocator, monkeypatch, tmp_path
):
    (tmp_path / "status").write_text(STATUS)
    monkeypatch.setattr(memory, "_PROCESS", tmp_path)
    peak = PeakMemory()
    assert peak.source == "resident"
    (tmp_path / "clear_refs").unlink()
    peak.reset()
    assert (tmp_path / "clear_refs").read_text() == "5"
    assert peak.read() == 2000 * 1024


@pytest.mark.parametrize("status", [None, "Name:\tpython\n"])
def test_where_nothing_is_known_it_says_so(no_allocator, monkeypatch, tmp_path, status):
    if status:
        (tmp_path / "status").write_text(status)
    monkeypatch.setattr(memory, "_PROCESS", tmp_path)
    peak = PeakMemory()
    peak.reset()
    assert (peak.source, peak.read()) == (None, None)


def test_the_fullest_accelerator_counts(monkeypatch):
    types = {"/device:CPU:0": "CPU", "/device:GPU:0": "GPU", "/device:GPU:1": "GPU"}
    devices = [SimpleNamespace(name=name, device_type=kind) for name, kind in types.items()]
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: devices)
    peaks, reset = {"CPU:0": 9, "GPU:0": 3, "GPU:1": 5}, []
    info = {name: {"current": 1, "peak": peak} for name, peak in peaks.items()}
    monkeypatch.setattr(tf.config.experimental, "get_memory_info", info.__getitem__)
    monkeypatch.setattr(tf.config.experimental, "reset_memory_stats", reset.append)
    peak = PeakMemory()
    reset.clear()
    peak.reset()
    assert (peak.source, peak.read(), reset) == ("allocator", 5, ["GPU:0", "GPU:1"])
