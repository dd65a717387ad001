"""Tests of training by several worker processes."""

import json
import os
import socket
import subprocess
import sys

import multi_worker
import numpy as np
import pytest
import source_tree

pytestmark = pytest.mark.slow


def _free_addresses(number):
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("localhost", 0))
    addresses = [f"localhost:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return addresses


def _start(output, *arguments, config=None):
    environment = os.environ | {"PYTHONPATH": str(source_tree.ROOT), "CUDA_VISIBLE_DEVICES": ""}
    if config is not None:
        environment["TF_CONFIG"] = json.dumps(config)
    command = [sys.executable, multi_worker.__file__, str(output), *arguments]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def test_two_workers_take_the_steps_of_one_device(tmp_path):
    cluster = {"worker": _free_addresses(2)}
    processes = [
        _start(
            tmp_path / f"{index}.npz",
            str(index),
            config={"cluster": cluster, "task": {"type": "worker", "index": index}},
        )
        for index in (0, 1)
    ]
    processes.append(_start(tmp_path / "one.npz"))
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-2000:]
    one, *workers = (np.load(tmp_path / f"{name}.npz") for name in ("one", 0, 1))
    assert len(one.files) > 10
    for worker in workers:
        for name in one.files:
            np.testing.assert_allclose(worker[name], one[name], rtol=1e-5, atol=1e-6, err_msg=name)
