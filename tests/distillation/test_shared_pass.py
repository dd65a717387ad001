"""Tests of what a step computes: everything once, and nothing that no loss asks for."""

import collections

import pytest
import tensorflow as tf
from flow_pairs import data, make_flow

from tfp_distill import Flow
from tfp_distill.distillation import (
    FlowDistiller,
    ForwardKLLoss,
    GuidedLoss,
    IntermediateLatentLoss,
    LatentLoss,
    LogDensityLoss,
    ReverseKLLoss,
    SynthesizedLoss,
)
from tfp_distill.training import StepRandom


@pytest.fixture(scope="module")
def pair():
    return make_flow("glow", num_steps=1, seed=1), make_flow("maf", num_steps=1, seed=2)


@pytest.fixture
def counted(monkeypatch, pair):
    """Counts the passes of student and teacher, and the draws of noise."""
    calls = collections.Counter()
    names = {id(flow): name for flow, name in zip(pair, ("student", "teacher"), strict=True)}

    def count(owner, method, label):
        original = getattr(owner, method)

        def counting(self, *args, **kwargs):
            calls[label(self)] += 1
            return original(self, *args, **kwargs)

        monkeypatch.setattr(owner, method, counting)

    count(Flow, "trace", lambda flow: f"{names[id(flow)]} trace")
    count(Flow, "generative_trace", lambda flow: f"{names[id(flow)]} sample")
    count(Flow, "to_data_and_fldj", lambda flow: f"{names[id(flow)]} sample")
    count(StepRandom, "normal", lambda random: "noise")
    return calls


LATENTS = [LatentLoss(), IntermediateLatentLoss(), LogDensityLoss()]
SPACES = [SynthesizedLoss(space=space, name=space) for space in ("data", "latent")]
CASES = {
    "all latents": (LATENTS, 1.0, {"student trace": 1, "teacher trace": 1}),
    "latents alone": (LATENTS, 0.0, {"student trace": 1, "teacher trace": 1}),
    "samples": (
        SPACES[:1],
        1.0,
        # The teacher has to map its samples back, for those to be left out that it does not know.
        {"student trace": 1, "student sample": 1, "noise": 1}
        | {"teacher sample": 1, "teacher trace": 1},
    ),
    "samples and their latents": (
        [SPACES[1], ForwardKLLoss()],
        0.0,
        {"student trace": 1, "teacher trace": 1, "teacher sample": 1, "noise": 1},
    ),
    "data-free reverse": (
        [ReverseKLLoss()],
        0.0,
        {"student sample": 1, "teacher trace": 1, "noise": 1},
    ),
    "sampler": (
        [GuidedLoss(), ReverseKLLoss()],
        0.0,
        # Of the data and of the student's samples; of the teacher's latents and of new ones.
        {"teacher trace": 2, "student sample": 2, "noise": 1},
    ),
    "everything": (
        [*LATENTS, *SPACES, ForwardKLLoss()],
        1.0,
        # Of the data and of the teacher's samples.
        {"student trace": 2, "teacher trace": 2}
        | {"student sample": 1, "teacher sample": 1, "noise": 1},
    ),
    "two temperatures": (
        [SynthesizedLoss(), SynthesizedLoss(temperature=0.7, name="colder")],
        0.0,
        {"student sample": 2, "teacher sample": 2, "teacher trace": 2, "noise": 2},
    ),
}


def _objective(distiller):
    return distiller.objective(tf.constant(data(4)), None, StepRandom(0, tf.constant(0)))


@pytest.mark.parametrize("case", CASES)
def test_each_pass_runs_once_however_many_losses_use_it(case, pair, counted):
    losses, nll_weight, expected = CASES[case]
    logs = _objective(
        FlowDistiller(
            student=pair[0],
            teacher=pair[1],
            distillation_losses=losses,
            student_loss_weight=nll_weight,
        )
    )
    assert counted == expected
    names = {loss.name for loss in losses} | ({"nll"} if nll_weight else set())
    if any(isinstance(loss, (SynthesizedLoss, ForwardKLLoss, GuidedLoss)) for loss in losses):
        names.add("left_out_samples")
    assert set(logs) == {"loss", *names}


def test_losses_of_weight_zero_run_nothing(pair, counted):
    losses = [*LATENTS, *SPACES, ForwardKLLoss(), ReverseKLLoss()]
    distiller = FlowDistiller(
        student=pair[0],
        teacher=pair[1],
        distillation_losses=losses,
        distillation_loss_weights=[0.0] * len(losses),
    )
    assert set(_objective(distiller)) == {"loss", "nll"}
    assert counted == {"student trace": 1}
    counted.clear()
    distiller.set_loss_weights({"latent_loss": 0.5})
    assert set(_objective(distiller)) == {"loss", "nll", "latent_loss"}
    assert counted == {"student trace": 1, "teacher trace": 1}


def test_validation_reports_the_nll_whatever_its_weight(pair, counted):
    distiller = FlowDistiller(
        student=pair[0],
        teacher=pair[1],
        distillation_losses=[LatentLoss()],
        student_loss_weight=0.0,
    )
    random = StepRandom(0, tf.constant(0))
    logs = distiller.evaluation_losses(tf.constant(data(4)), None, random)
    assert set(logs) == {"loss", "nll", "latent_loss"}
    assert counted == {"student trace": 1, "teacher trace": 1}
    assert (logs["loss"].numpy() == logs["latent_loss"].numpy()).all()


def test_the_loss_is_the_weighted_sum(pair):
    losses = [LatentLoss(), SynthesizedLoss(), ReverseKLLoss()]
    distiller = FlowDistiller(
        student=pair[0],
        teacher=pair[1],
        distillation_losses=losses,
        distillation_loss_weights=[0.25, 2.0, 0.0],
        student_loss_weight=0.5,
    )
    logs = _objective(distiller)
    expected = (
        0.5 * logs["nll"] + 0.25 * logs["latent_loss"] + 2.0 * logs["synthesized_loss"]
    ).numpy()
    assert logs["loss"].shape == (4,)
    assert abs(logs["loss"].numpy() - expected).max() < 1e-5
