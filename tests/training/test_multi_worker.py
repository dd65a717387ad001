"""Tests that two worker processes, or two devices of one, take the steps of one device."""

import sys

import clusters
import multi_worker
import numpy as np
import pytest
import tensorflow as tf

pytestmark = pytest.mark.slow
CLOSE = dict(rtol=1e-5, atol=1e-6)


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
            np.testing.assert_allclose(worker[name], one[name], err_msg=name, **CLOSE)


@pytest.mark.parametrize("kind", multi_worker.KINDS)
def test_two_devices_take_the_steps_of_one(kind, two_replicas):
    one, two = (multi_worker.trained(kind, s) for s in (tf.distribute.get_strategy(), two_replicas))
    assert one.keys() == two.keys()
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, err_msg=name, **CLOSE)
