"""Tests of distilling a student in gradient-isolated parts."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from flow_pairs import assert_equal, batches, conditions, data, make_flow, twin, values
from image_pairs import image_flow, images

from tfp_distill import Partition, PartSchedule
from tfp_distill.compiling import inlined
from tfp_distill.distillation import (
    FlowDistiller,
    ForwardKLLoss,
    IntermediateLatentLoss,
    LatentLoss,
    LogDensityLoss,
    ReverseKLLoss,
    SynthesizedLoss,
)
from tfp_distill.distillation.alignment import align_boundary, align_flows
from tfp_distill.training import StepRandom

pytestmark = pytest.mark.slow

RANDOM = StepRandom(0, 0)
LOSSES = (LatentLoss(), IntermediateLatentLoss())


PAIRS = {
    "vectors": lambda: (
        make_flow("glow", num_steps=4, seed=1),
        make_flow("maf", num_steps=6, seed=2),
        (data(16),),
        [2],
    ),
    "conditions": lambda: (
        make_flow("maf", num_steps=3, seed=1, condition_dims=2),
        make_flow("glow", num_steps=5, seed=2, condition_dims=2),
        (data(16), conditions(16)),
        [1],
    ),
    "images": lambda: (image_flow(2, 1), image_flow(3, 2), (images(16),), [3]),
}


def _distiller(case, losses=LOSSES, weights=(0.2, 0.3), optimizer="sgd"):
    student, teacher, inputs, boundaries = PAIRS[case]()
    distiller = FlowDistiller(
        student=student,
        teacher=teacher,
        distillation_losses=losses,
        distillation_loss_weights=weights,
        student_loss_weight=0.5,
    )
    partition = Partition.at_steps(student, boundaries)
    distiller.compile(optimizer, partition=partition, jit_compile=False)
    inputs = [tf.constant(value) for value in inputs]
    return distiller, inputs[0], inputs[1] if len(inputs) > 1 else None


@pytest.mark.parametrize("case", PAIRS)
@pytest.mark.parametrize("part", [0, 1])
def test_a_part_learns_from_the_teacher_at_its_own_depth(case, part):
    distiller, x, condition = _distiller(case)
    student, teacher = distiller.student, distiller.teacher
    losses = distiller.part_objectives(x, condition, (part,))[part]
    end = distiller.partition.ends[part]
    depth = align_boundary(student, teacher, end)
    h_s = student.trace(x, condition).latents
    h_t = teacher.trace(x, condition).latents

    def distance(i, j):
        return np.mean(np.abs(h_s[i] - h_t[j]), axis=-1)

    np.testing.assert_allclose(losses["latent_loss"], distance(end, depth), rtol=1e-5)
    first = distiller.partition.parts[part].first_step
    taps = dict([(end, depth), *align_flows(student, teacher)])
    own = sum(distance(i, j) for i, j in taps.items() if first <= i <= end)
    np.testing.assert_allclose(losses["intermediate_latent_loss"], own, rtol=1e-5)
    total = 0.5 * losses["nll"] + 0.2 * losses["latent_loss"] + 0.3 * own
    np.testing.assert_allclose(losses["loss"], total, rtol=1e-5)


@pytest.mark.parametrize("case", PAIRS)
@pytest.mark.parametrize("part", [0, 1])
def test_a_part_has_the_gradient_of_the_whole_flow_cut_there(case, part):
    """In its own weights; and none in another part, or in the teacher."""
    distiller, x, condition = _distiller(case)
    student, own_steps = distiller.student, distiller.parts[part]
    weights = [*student.trainable_variables, *distiller.teacher.trainable_variables]
    # A compiled pass has gradients of 0 where there are none.
    with tf.GradientTape(persistent=True) as tape, inlined():
        losses = distiller.part_objectives(x, condition, (0, 1))
        loss = tf.reduce_mean(losses[part]["loss"])
        trace = student.trace(x, condition)
        h_t = distiller.teacher.trace(x, condition).latents
        nll = -trace.log_prob_until(own_steps.last_step)
        taps = [loss.taps_in(own_steps, student, distiller.teacher) for loss in LOSSES]
        distances = [
            sum(tf.reduce_mean(tf.abs(trace.latents[i] - h_t[j]), axis=-1) for i, j in own)
            for own in taps
        ]
        expected = tf.reduce_mean(0.5 * nll + 0.2 * distances[0] + 0.3 * distances[1])
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    of_part = {id(weight) for weight in distiller.part_weights(part)}
    for weight in weights:
        gradient = tape.gradient(loss, weight.value)
        assert (gradient is not None) == (id(weight) in of_part), weight.path
        if gradient is not None:
            assert np.any(gradient.numpy() != 0), weight.path
            whole = tape.gradient(expected, weight.value)
            np.testing.assert_allclose(gradient, whole, rtol=1e-4, atol=1e-6, err_msg=weight.path)


@pytest.mark.parametrize("case", PAIRS)
def test_distilling_in_turns(case):
    distiller, x, condition = _distiller(case, optimizer=keras.optimizers.Adam(0.01))
    teacher_before = values(distiller.teacher)
    schedule = PartSchedule("alternating", 4, end_to_end_epochs=1)
    rows = x if condition is None else (x, condition)
    logs = distiller.fit(
        batches(rows),
        epochs=schedule.num_epochs(distiller.partition),
        validation_data=batches(rows),
        callbacks=[schedule],
        verbose=0,
    ).history
    assert sum(logs["skipped_steps"]) == 0
    for part in (0, 1):
        for loss in ("loss", "nll", "latent_loss", "intermediate_latent_loss"):
            assert len(logs[f"part_{part}_{loss}"]) == 4
            assert len(logs[f"val_part_{part}_{loss}"]) == 9
        assert logs[f"val_part_{part}_loss"][-2] < logs[f"val_part_{part}_loss"][0]
    nll = -np.mean(distiller.student.log_prob(x, condition))
    np.testing.assert_allclose(logs["val_nll"][-1], nll, rtol=1e-4)
    assert_equal(values(distiller.teacher), teacher_before)
    # The student is a flow without parts: they were the distiller's.
    assert distiller.student.partition is None


def test_identical_flows_have_no_distillation_loss_in_any_part():
    teacher = make_flow("glow", num_steps=4)
    student = twin(teacher)
    distiller = FlowDistiller(
        student=student, teacher=teacher, distillation_losses=LOSSES, student_loss_weight=0.0
    )
    distiller.compile("sgd", partition=Partition.across_blocks(student, 3))
    losses = distiller.part_objectives(tf.constant(data(8)), None, (0, 1, 2))
    for part in (0, 1, 2):
        assert set(losses[part]) == {"loss", "latent_loss", "intermediate_latent_loss"}
        np.testing.assert_array_equal(losses[part]["loss"], np.zeros(8))


def test_losses_of_all_parts_add_up_to_the_whole():
    """Where the taps are the parts' own."""
    distiller, x, condition = _distiller("vectors")
    losses = distiller.part_objectives(x, condition, (0, 1))
    whole = distiller.objective(x, condition, RANDOM)
    name = "intermediate_latent_loss"
    np.testing.assert_allclose(losses[0][name] + losses[1][name], whole[name], rtol=1e-5)
    np.testing.assert_allclose(losses[1]["latent_loss"], whole["latent_loss"], rtol=1e-6)
    np.testing.assert_allclose(losses[1]["nll"], whole["nll"], rtol=1e-5)


def test_a_saved_distiller_has_its_partition(tmp_path):
    distiller, x, _ = _distiller("vectors")
    distiller.fit(batches(x), verbose=0)
    distiller.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    assert loaded.partition == distiller.partition
    for model in (distiller, loaded):
        model.fit(batches(x), verbose=0)
    assert_equal(values(loaded.student), values(distiller.student))


@pytest.mark.parametrize(
    "loss", [SynthesizedLoss(), ForwardKLLoss(), ReverseKLLoss(), LogDensityLoss()]
)
def test_losses_of_whole_flows_are_refused(loss):
    student, teacher = make_flow("glow"), make_flow("glow", seed=1)
    distiller = FlowDistiller(
        student=student, teacher=teacher, distillation_losses=[LatentLoss(), loss]
    )
    message = f"must be LatentLoss or IntermediateLatentLoss .* in parts, got {type(loss).__name__}"
    with pytest.raises(ValueError, match=message):
        distiller.compile("sgd", partition=Partition.across_blocks(student, 2))
    distiller.compile("sgd", partition=Partition.end_to_end(student))
    assert distiller.all_parts is None


def test_explicit_taps_have_to_reach_every_part():
    student, teacher = make_flow("glow", num_steps=4), make_flow("glow", seed=1)
    distiller = FlowDistiller(
        student=student,
        teacher=teacher,
        distillation_losses=IntermediateLatentLoss(taps=((1, 1), (2, 1))),
    )
    distiller.compile("sgd", partition=Partition.at_steps(student, [1]))
    message = "`taps` must have one in every part, got none in steps 3 to 4 of part 1"
    with pytest.raises(ValueError, match=message):
        distiller.compile("sgd", partition=Partition.at_steps(student, [2]))


def test_the_partition_has_to_be_the_students():
    student, teacher = make_flow("glow", num_steps=4), make_flow("glow", num_steps=3, seed=1)
    distiller = FlowDistiller(student=student, teacher=teacher, distillation_losses=LatentLoss())
    with pytest.raises(ValueError, match="with 4 steps and .* got one with 3 steps"):
        distiller.compile("sgd", partition=Partition.end_to_end(teacher))
