"""Tests of trainings by the scripts under a strategy."""

import numpy as np
import pytest
import tensorflow as tf
from absl import app
from jobs import TINY, run

from tfp_distill import load_flow
from tfp_distill.runs import stages
from trainers import compress, distill, train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_xla")]


def _train(run_dir, *arguments):
    run(train, run_dir, *arguments)
    run(distill, run_dir)


def test_replicas_give_the_flows_of_one_device(tmp_path, monkeypatch, two_replicas):
    # Weights of losses that fade change once a call: of two steps on one device, of one on two.
    constant = ("--synthesized_start=0", "--fade_out=0")
    arguments = (*TINY, *constant, "--batch_size=51", "--noguard", "--ema_momentum=0")
    _train(tmp_path / "one", *arguments)
    made = []

    def make_strategy(name):
        made.append(name)
        return two_replicas

    monkeypatch.setattr(stages, "make_strategy", make_strategy)
    _train(tmp_path / "two", *arguments, "--strategy=mirrored")
    assert made == ["mirrored"] * 2
    for name in ("teacher", "skd"):
        flows = [load_flow(tmp_path / job / name / "flow.keras") for job in ("one", "two")]
        for a, b in zip(*(flow.get_weights() for flow in flows), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)  # Adam moves each by 1e-2 a step.


def test_mirrored_is_a_share_on_every_device():
    strategy = stages.make_strategy("mirrored")
    assert isinstance(strategy, tf.distribute.MirroredStrategy)
    assert stages.make_strategy("default").num_replicas_in_sync == 1


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        (
            train,
            ["--strategy=parallel"],
            "`strategy` must be one of default, mirrored, multi_worker, got",
        ),
        (compress, ["--strategy=mirrored"], "`strategy` must be default in a race, .*, got"),
    ],
)
def test_what_cannot_be_is_refused(script, arguments, message, tmp_path):
    with pytest.raises(app.UsageError, match=message):
        run(script, tmp_path / "run", *TINY, *arguments)
