"""Tests of TFP distributions as teachers."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from flow_pairs import DIMS, assert_equal, batches, data, make_flow, noise, shared_pass

from tfp_distill.distillation import (
    FlowDistiller,
    IntermediateLatentLoss,
    LatentLoss,
    LogDensityLoss,
    ReverseKLLoss,
    SynthesizedLoss,
)
from tfp_distill.distillation.teachers import DistributionTeacher, as_teacher

tfb = tfp.bijectors
tfd = tfp.distributions

ZEROS, ONES = np.zeros(DIMS, np.float32), np.ones(DIMS, np.float32)
MATRIX = np.array([[1.5, 0, 0], [-0.4, 0.7, 0], [0.3, 0.2, 1.1]], np.float32)


def _base():
    return tfd.MultivariateNormalDiag(ZEROS, ONES)


def _chain():
    return tfb.Chain(
        [tfb.Shift([1.0, 2.0, 3.0]), tfb.Permute([2, 0, 1]), tfb.ScaleMatvecTriL(MATRIX)]
    )


def _tf_keras_maf():
    network = tfb.AutoregressiveNetwork(params=2, hidden_units=[8], activation="tanh")
    return tfb.MaskedAutoregressiveFlow(network)


BIJECTORS = {
    "chain": _chain,
    "no chain": lambda: tfb.ScaleMatvecTriL(MATRIX),
    "inverted chain": lambda: tfb.Invert(_chain()),
    "bounded data": tfb.Sigmoid,
    "tf_keras network": _tf_keras_maf,
    "chain of tf_keras networks": lambda: tfb.Chain(
        [_tf_keras_maf(), tfb.Permute([2, 1, 0]), _tf_keras_maf()]
    ),
}


def _distribution(name):
    tf.random.set_seed(0)
    return tfd.TransformedDistribution(_base(), BIJECTORS[name]())


@pytest.mark.parametrize("name", BIJECTORS)
def test_a_distribution_gives_its_densities_latents_and_samples(name):
    distribution = _distribution(name)
    teacher = as_teacher(distribution)
    assert teacher.event_shape == (DIMS,)
    z = tf.constant(noise(5))
    x, fldj = teacher.to_data_and_fldj(z)
    x = tf.identity(x)
    trace = teacher.trace(x)
    np.testing.assert_allclose(trace.latents[-1], z, atol=1e-4)
    np.testing.assert_allclose(trace.ildj, -fldj, atol=1e-4)
    np.testing.assert_allclose(trace.log_prob(), distribution.log_prob(x), atol=1e-4)
    np.testing.assert_allclose(x, distribution.bijector.forward(z), atol=1e-5)
    assert len(trace.latents) == len(trace.ildjs) == teacher.num_steps + 1
    assert teacher.num_steps == (3 if name.startswith("chain") else 1)


@pytest.mark.parametrize("loss", [LatentLoss, SynthesizedLoss, LogDensityLoss, ReverseKLLoss])
def test_distributions_of_other_types_teach_numbers_of_the_student_s(loss):
    base = tfd.Sample(tfd.Normal(np.float64(0.0), np.float64(1.0)), DIMS)
    wide = tfd.TransformedDistribution(base, tfb.ScaleMatvecTriL(MATRIX.astype(np.float64)))
    narrow = tfd.TransformedDistribution(_base(), tfb.ScaleMatvecTriL(MATRIX))
    student, x = make_flow("glow", seed=1), data(4)
    by_wide, by_narrow = (loss()(shared_pass(student, as_teacher(t), x)) for t in (wide, narrow))
    assert by_wide.dtype == tf.float32
    np.testing.assert_allclose(by_wide, by_narrow, rtol=1e-4, atol=1e-5)


def test_the_members_of_a_chain_are_taps():
    distribution = _distribution("chain")
    student, x = make_flow("glow", num_steps=2, seed=1), data(4)
    shared = shared_pass(student, as_teacher(distribution), x)
    steps = [x - [1, 2, 3]]
    steps.append(steps[0][:, [1, 2, 0]])  # The inverse of the permutation.
    steps.append(steps[1] @ np.linalg.inv(MATRIX).T)
    latents = [latent.numpy() for latent in student.trace(x).latents]
    for taps in (((1, 1), (2, 2)), ((1, 2), (2, 3)), None):
        loss = IntermediateLatentLoss(taps=taps)
        expected = sum(
            np.mean(np.abs(latents[i] - steps[j - 1]), axis=-1)
            for i, j in (taps or ((1, 2), (2, 3)))
        )
        np.testing.assert_allclose(loss(shared), expected, rtol=1e-4)


def test_a_chain_that_changes_the_shape_is_one_step():
    chain = tfb.Chain([tfb.Reshape([DIMS], [1, DIMS]), tfb.Scale(2.0)])
    base = tfd.Independent(tfd.Normal(ZEROS[None], ONES[None]), 2)
    teacher = as_teacher(tfd.TransformedDistribution(base, chain))
    assert (teacher.event_shape, teacher.num_steps) == ((DIMS,), 1)
    z = tf.constant(noise(4))
    x, fldj = teacher.to_data_and_fldj(z)
    np.testing.assert_allclose(x, 2 * z)
    trace = teacher.trace(tf.identity(x))
    np.testing.assert_allclose(trace.latents[-1], z, rtol=1e-6)
    np.testing.assert_allclose(fldj, DIMS * np.log(2) * np.ones(4), rtol=1e-6)
    np.testing.assert_allclose(trace.ildj, -fldj, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chain", "tf_keras network", "chain of tf_keras networks"])
def test_a_students_fit_leaves_the_users_model_alone(name):
    distribution = _distribution(name)
    z = tf.constant(noise(5))
    before_x = distribution.bijector.forward(z).numpy()  # Builds the networks.
    before = [v.numpy() for v in distribution.bijector.variables]
    assert bool(before) == ("tf_keras" in name)
    student = make_flow("glow", num_steps=1, seed=1)
    losses = [
        LatentLoss(),
        IntermediateLatentLoss(),
        SynthesizedLoss(space="latent"),
        LogDensityLoss(),
        ReverseKLLoss(),
    ]
    distiller = FlowDistiller(student=student, teacher=distribution, distillation_losses=losses)
    distiller.compile("adam", jit_compile=False)
    start = [weight.numpy() for weight in student.trainable_variables]
    logs = distiller.fit(batches(data(16)), epochs=1, verbose=0).history
    assert logs["skipped_steps"] == [0]
    assert all(np.isfinite(logs[loss.name]) for loss in losses)
    for weight, old in zip(student.trainable_variables, start, strict=True):
        assert np.any(weight.numpy() != old), weight.path
    assert_equal([v.numpy() for v in distribution.bijector.variables], before)
    np.testing.assert_array_equal(distribution.bijector.forward(tf.identity(z)), before_x)
    assert distiller.trainable_variables == student.trainable_variables
    with pytest.raises(ValueError, match="`teacher` must be a Flow for the distiller to be saved"):
        distiller.get_config()


@pytest.mark.parametrize(
    "base",
    [
        _base,
        lambda: tfd.MultivariateNormalTriL(ZEROS, np.eye(DIMS, dtype=np.float32)),
        lambda: tfd.Sample(tfd.Normal(0.0, 1.0), DIMS),
        lambda: tfd.Independent(tfd.Normal(ZEROS, ONES), 1),
    ],
    ids=["diag", "tril", "sample", "independent"],
)
def test_every_way_to_write_a_standard_normal_is_one(base):
    distribution = tfd.TransformedDistribution(base(), _chain())
    assert as_teacher(distribution).trace(data(2)).latents[-1].shape == (2, DIMS)


@pytest.mark.parametrize(
    "base",
    [
        lambda: tfd.MultivariateNormalDiag(ZEROS, 1.1 * ONES),
        lambda: tfd.MultivariateNormalDiag(ZEROS + 0.1, ONES),
        lambda: tfd.Independent(tfd.StudentT(200.0, ZEROS, ONES), 1),
        lambda: tfd.Independent(tfd.Uniform(ZEROS - 1, ONES), 1),
    ],
    ids=["scaled", "shifted", "student t", "uniform"],
)
def test_other_bases_have_no_latents_to_share(base):
    distribution = tfd.TransformedDistribution(base(), _chain())
    message = "must have latents.*, got TransformedDistribution, whose base '.*' is no standard no"
    with pytest.raises(ValueError, match=message):
        DistributionTeacher(distribution)
    teacher = as_teacher(distribution)
    assert teacher.knows == "density"
    with pytest.raises(ValueError, match=message):
        FlowDistiller(student=make_flow("glow"), teacher=teacher, distillation_losses=LatentLoss())


def test_a_batch_of_distributions_is_refused():
    base = tfd.MultivariateNormalDiag(np.zeros([2, DIMS], np.float32), ONES)
    distribution = tfd.TransformedDistribution(base, tfb.Shift([1.0, 2.0, 3.0]))
    message = r"must be a distribution without batch shape, got batch shape \(2,\)"
    with pytest.raises(ValueError, match=message):
        as_teacher(distribution)


def test_conditions_are_refused():
    teacher = DistributionTeacher(_distribution("chain"))
    for call in (teacher.trace, teacher.to_data_and_fldj):
        with pytest.raises(ValueError, match="`condition` must be None .* got a condition of sh"):
            call(tf.constant(data(2)), tf.zeros([2, 1]))
