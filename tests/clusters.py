"""Processes that TensorFlow's collective operations connect, for tests to start."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Sequence

import source_tree


def free_addresses(number: int) -> list[str]:
    """Returns addresses of this machine that nobody listens to."""
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("localhost", 0))
    addresses = [f"localhost:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return addresses


def start(number: int, *commands: Sequence[str]) -> list[subprocess.Popen]:
    """Starts a command in each of so many processes; one command is for all of them."""
    cluster, processes = {"worker": free_addresses(number)}, []
    for index in range(number):
        config = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        command = commands[index % len(commands)]
        processes.append(start_alone(command, TF_CONFIG=json.dumps(config)))
    return processes


def start_alone(command: Sequence[str], **variables: str) -> subprocess.Popen:
    """Starts a command, with environment variables."""
    environment = os.environ | {"PYTHONPATH": str(source_tree.ROOT), "CUDA_VISIBLE_DEVICES": ""}
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen(list(map(str, command)), env=environment | variables, **pipes)


def outputs(processes: Sequence[subprocess.Popen], status: int = 0) -> list[str]:
    """Waits for processes and returns what they printed; all must end with that status."""
    printed = []
    for process in processes:
        output, errors = process.communicate(timeout=300)
        assert process.returncode == status, errors[-2000:]
        printed.append(output)
    return printed
