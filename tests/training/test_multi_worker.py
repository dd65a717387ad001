"""Tests of training by several worker processes."""

import sys

import clusters
import multi_worker
import numpy as np
import pytest

pytestmark = pytest.mark.slow


def test_two_workers_take_the_steps_of_one_device(tmp_path):
    commands = [
        [sys.executable, multi_worker.__file__, tmp_path / f"{name}.npz", *arguments]
        for name, arguments in (("one", []), ("0", [0]), ("1", [1]))
    ]
    clusters.outputs([clusters.start_alone(commands[0]), *clusters.start(2, *commands[1:])])
    one, *workers = (np.load(tmp_path / f"{name}.npz") for name in ("one", 0, 1))
    assert len({name.split("/")[0] for name in one.files}) == 8
    for worker in workers:
        for name in one.files:
            np.testing.assert_allclose(worker[name], one[name], rtol=1e-5, atol=1e-6, err_msg=name)
