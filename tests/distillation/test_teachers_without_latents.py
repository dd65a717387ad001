"""Tests of teachers that have samples, or samples and a density, and no latents."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from flow_pairs import DIMS, assert_equal, batches, conditions, data, make_flow, shared_pass, values

from tfp_distill.distillation import (
    DataBalance,
    DistillationMonitor,
    FlowDistiller,
    ForwardKLLoss,
    GuidedLoss,
    IntermediateLatentLoss,
    LatentLoss,
    LogDensityLoss,
    ReverseKLLoss,
    SampleTeacher,
    SynthesizedLoss,
    TeacherPairs,
    align_with_teacher,
    conditional_teacher,
    sample_teacher,
)
from tfp_distill.distillation.teachers import DistributionTeacher, as_teacher

tfb = tfp.bijectors
tfd = tfp.distributions

MEANS = np.float32([[-1.0, 0.0, 2.0], [1.0, 0.5, 2.5]])


def _mixture():
    return tfd.MixtureSameFamily(
        tfd.Categorical(probs=[0.3, 0.7]),
        tfd.MultivariateNormalDiag(MEANS, np.full_like(MEANS, 0.3)),
    )


def _simulate(n, seed):
    return np.random.default_rng(seed).gamma(2.0, size=[n, DIMS])


def _distill(teacher, losses, *, student=None, jit_compile=False, nll=0.0):
    distiller = FlowDistiller(
        student=student or make_flow("glow", seed=1),
        teacher=teacher,
        distillation_losses=losses,
        student_loss_weight=nll,
    )
    distiller.compile(keras.optimizers.Adam(0.01), jit_compile=jit_compile)
    return distiller


def test_a_density_is_a_trace_without_latents():
    teacher, x = as_teacher(_mixture()), data(4)
    trace = teacher.trace(x)
    assert trace.latents[-1].shape == (4, 0)
    np.testing.assert_allclose(trace.log_prob(), _mixture().log_prob(x), rtol=1e-6)


def test_losses_over_densities_and_samples_are_their_formulas():
    student, x = make_flow("glow", seed=1), data(6)
    shared = shared_pass(student, as_teacher(_mixture()), x)
    drawn = shared.teacher_sample(1.0)
    assert drawn.z.shape == (6, 0)
    kept = shared.kept(1.0).numpy()
    assert kept.all()
    difference = _mixture().log_prob(drawn.x) - student.log_prob(drawn.x)
    np.testing.assert_allclose(ForwardKLLoss()(shared), difference, rtol=1e-4, atol=1e-4)
    difference = tf.abs(student.log_prob(x) - _mixture().log_prob(x)) / DIMS
    np.testing.assert_allclose(LogDensityLoss()(shared), difference, rtol=1e-4, atol=1e-4)
    made, trace = shared.student_generation(1.0)
    difference = trace.log_prob() - _mixture().log_prob(made)
    np.testing.assert_allclose(ReverseKLLoss()(shared), difference, rtol=1e-4, atol=1e-4)


def test_of_samples_alone_the_divergence_is_the_cross_entropy():
    student, rows = make_flow("glow", seed=1), data(50, seed=3)
    shared = shared_pass(student, as_teacher(rows), data(6))
    drawn = shared.teacher_sample(1.0).x
    assert {row.tobytes() for row in drawn.numpy()} <= {row.tobytes() for row in rows}
    np.testing.assert_allclose(
        ForwardKLLoss()(shared), -student.log_prob(drawn), rtol=1e-5, atol=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_student_without_data_becomes_the_mixture(jit_compile):
    student = make_flow("glow", seed=1, num_steps=4)
    distiller = _distill(_mixture(), ForwardKLLoss(), student=student, jit_compile=jit_compile)
    first, *_, last = distiller.fit(
        batch_size=256, steps_per_epoch=100, epochs=4, verbose=0
    ).history["forward_kl_loss"]
    assert last < 0.5 < first


@pytest.mark.slow
def test_a_students_samples_are_those_of_a_simulator():
    student = make_flow("glow", seed=1, num_steps=3)
    distiller = _distill(_simulate, ForwardKLLoss(), student=student)
    distiller.fit(batch_size=256, steps_per_epoch=300, verbose=0)
    samples = student.sample(4000, seed=0).numpy()
    np.testing.assert_allclose(samples.mean(axis=0), 2.0, atol=0.2)
    np.testing.assert_allclose(samples.var(axis=0), 2.0, atol=0.6)


@pytest.mark.slow
@pytest.mark.parametrize("teacher", [_mixture, lambda: _simulate], ids=["density", "samples"])
def test_trainings_repeat_and_data_may_take_part(teacher):
    def train():
        student = make_flow("glow", seed=1)
        distiller = _distill(teacher(), ForwardKLLoss(), student=student, nll=1.0)
        logs = distiller.fit(batches(data(32)), epochs=2, verbose=0).history
        assert logs["left_out_samples"] == [0, 0]
        return values(student)

    assert_equal(train(), train())


@pytest.mark.slow
def test_replicas_see_the_samples_of_one_device(two_replicas):
    def train(strategy):
        with strategy.scope():
            student = make_flow("glow", seed=1)
            losses = (ForwardKLLoss(), ForwardKLLoss(name="of_mixture"))
            distiller = _distill(_mixture(), losses[1], student=student, nll=1.0)
        distiller.fit(batches(data(30)), epochs=2, verbose=0)
        return values(student)

    for one, other in zip(train(tf.distribute.get_strategy()), train(two_replicas), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_kept_pairs_of_a_density_are_its_samples():
    student = make_flow("glow", seed=1)
    distiller = _distill(_mixture(), (ForwardKLLoss(), ReverseKLLoss()), student=student)
    logs = distiller.fit(
        batches(data(64)), epochs=2, callbacks=[TeacherPairs(64, refresh_steps=4)], verbose=0
    ).history
    assert np.isfinite(logs["forward_kl_loss"]).all()
    assert logs["left_out_samples"] == [0, 0]


@pytest.mark.slow
def test_the_monitor_reports_the_gap_of_densities():
    distiller = _distill(_mixture(), ForwardKLLoss())
    x = data(20)
    logs = distiller.fit(batches(data(16)), callbacks=[DistillationMonitor(x)], verbose=0).history
    expected = np.mean(_mixture().log_prob(x) - distiller.student.log_prob(x))
    np.testing.assert_allclose(logs["val_nll_gap"], [expected], rtol=1e-4)
    assert "val_latent_distance" not in logs


def _shifted(condition):
    """Normals whose means are the condition and its sum."""
    mean = tf.concat([condition, tf.reduce_sum(condition, axis=-1, keepdims=True)], axis=-1)
    return tfd.Independent(tfd.Normal(mean, 0.1), 1)


def _shifted_flow(condition):
    mean = tf.concat([condition, tf.reduce_sum(condition, axis=-1, keepdims=True)], axis=-1)
    base = tfd.MultivariateNormalDiag(tf.zeros(DIMS), tf.ones(DIMS))
    return tfd.TransformedDistribution(base, tfb.Chain([tfb.Shift(mean), tfb.Scale(0.1)]))


def _network(condition, network):
    flow = tfb.MaskedAutoregressiveFlow(functools.partial(network, conditional_input=condition))
    base = tfd.MultivariateNormalDiag(tf.zeros(DIMS), tf.ones(DIMS))
    return tfd.TransformedDistribution(base, flow)


def test_conditional_distributions_teach_with_and_without_latents():
    x, c = data(5), conditions(5)
    flow, density = conditional_teacher(_shifted_flow, 2), conditional_teacher(_shifted, 2)
    assert isinstance(flow, DistributionTeacher)
    assert flow.num_steps == 2
    expected = _shifted(c).log_prob(x)
    for teacher in (flow, density):
        np.testing.assert_allclose(teacher.trace(x, c).log_prob(), expected, rtol=1e-4)
    z = flow.trace(x, c).latents[-1]
    np.testing.assert_allclose(flow.to_data_and_fldj(tf.identity(z), c)[0], x, atol=1e-4)
    student = make_flow("glow", seed=1, condition_dims=2)
    shared = shared_pass(student, density, x, condition=tf.constant(c))
    np.testing.assert_allclose(shared.teacher_sample(1.0).x[:, :2], c, atol=0.5)


def test_a_network_of_tfp_with_conditions_teaches():
    network = tfb.AutoregressiveNetwork(
        params=2,
        event_shape=[DIMS],
        conditional=True,
        conditional_event_shape=[2],
        hidden_units=[8],
    )
    teacher = conditional_teacher(functools.partial(_network, network=network), 2)
    x, c = data(5), conditions(5)
    trace = teacher.trace(x, c)
    made, fldj = teacher.to_data_and_fldj(tf.identity(trace.latents[-1]), c)
    np.testing.assert_allclose(made, x, atol=1e-4)
    np.testing.assert_allclose(fldj, -trace.ildj, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("make", [_shifted, _shifted_flow], ids=["density", "latents"])
def test_a_conditional_student_learns_what_the_condition_does(make):
    student = make_flow("maf", seed=1, condition_dims=2, size=0.05)
    distiller = _distill(conditional_teacher(make, 2), ForwardKLLoss(), student=student)
    dataset = tf.data.Dataset.from_tensor_slices((data(512), conditions(512))).batch(128)
    distiller.fit(dataset, epochs=60, verbose=0)
    c = np.float32([[1.0, -0.5]])
    samples = student.sample(500, np.repeat(c, 500, axis=0), seed=0).numpy()
    np.testing.assert_allclose(samples.mean(axis=0), [1.0, -0.5, 0.5], atol=0.15)


@pytest.mark.parametrize(
    "loss",
    [LatentLoss(), IntermediateLatentLoss(), SynthesizedLoss(), GuidedLoss()],
    ids=lambda loss: loss.name,
)
def test_losses_of_latents_are_refused_by_name(loss):
    message = f"`teacher` must have latents for '{loss.name}', got MixtureSameFamily, which is no"
    with pytest.raises(ValueError, match=message):
        _distill(_mixture(), loss)
    message = f"`teacher` must have latents for '{loss.name}', got the function '_simulate', with s"
    with pytest.raises(ValueError, match=message):
        _distill(_simulate, loss)


@pytest.mark.parametrize("loss", [LogDensityLoss(), ReverseKLLoss()], ids=lambda loss: loss.name)
def test_losses_of_densities_are_refused_of_samples(loss):
    message = f"must have a density for '{loss.name}', got an array of samples, with samples only"
    with pytest.raises(ValueError, match=message):
        _distill(data(20), loss)


def test_a_distribution_without_a_density_has_samples():
    class NoDensity(tfd.Independent):
        def _log_prob(self, x):
            raise NotImplementedError

    teacher = as_teacher(NoDensity(tfd.Normal(MEANS[0], 1.0), 1))
    assert teacher.knows == "samples"
    assert sample_teacher(make_flow("glow"), teacher, 10, seed=0).shape == (10, DIMS)


def test_what_else_needs_more_is_refused_by_name():
    distiller = _distill(_simulate, ForwardKLLoss(), nll=1.0)
    for callback, message in (
        (DataBalance(data(4), data(4)), "must have a density for `DataBalance`, got the function"),
        (DistillationMonitor(data(4)), "must have a density for `DistillationMonitor`, got the fu"),
        (TeacherPairs(), "`TeacherPairs` must be used with teachers that make samples, got the fu"),
    ):
        with pytest.raises(ValueError, match=message):
            callback.set_model(distiller)
    with pytest.raises(ValueError, match="must have latents for `align_with_teacher`, got Mixt"):
        align_with_teacher(make_flow("glow"), _mixture(), data(20))
    with pytest.raises(ValueError, match="`temperature` must be 1 for a teacher without latents, "):
        _distill(_simulate, ForwardKLLoss(temperature=0.7))


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (
            lambda n, seed: np.zeros([n - 1, DIMS]),
            "as many samples as it is asked for, 65,536, got",
        ),
        (lambda n: np.zeros([n, DIMS]), r"a function of a number and a seed, got '<la.*ts \(n\)"),
        (
            np.full([4, DIMS], np.nan),
            "`samples` must be finite, got 4 of 4 that are not, the first",
        ),
        (np.float64([[0, 0, 0], [0, 1e300, 0]]), "`samples` must be finite, got 1 of 2 .* at 1"),
        (np.zeros([4]), r"must be at least 2 rows or images of numbers .* shape \(4,\)"),
        (np.zeros([1, DIMS]), r"must be at least 2 rows or images of numbers"),
        (np.array([["a", "b"]] * 3), "of numbers .* and type <U1"),
        (keras.layers.Dense(3), "`teacher` must be a Flow, a tfd.Distribution, .* got Dense"),
        ("teacher.keras", "`teacher` must be a Flow, .* got str"),
        (tfd.Normal(np.zeros(DIMS, np.float32), 1.0), r"without batch shape, got batch shape \(3,"),
        (tfd.Multinomial(3.0, probs=[0.2, 0.8]), "the same event shape, got .2,. and .3,."),
        (tfd.Categorical(probs=[0.2, 0.8]), "must be a distribution of real numbers, got int32"),
        (
            tfd.JointDistributionSequential([tfd.Normal(0.0, 1.0), tfd.Normal(0.0, 1.0)]),
            "must be a distribution of one array, got one of ",
        ),
        (
            np.zeros([4, DIMS], np.uint8),
            "`samples` must be numbers as the student's flow takes them",
        ),
        (data(4, dims=2), "must have the same event shape, got .2,. and .3,."),
    ],
)
def test_what_cannot_teach_is_refused(teacher, message):
    with pytest.raises(ValueError, match=message):
        _distill(teacher, ForwardKLLoss())


@pytest.mark.parametrize("size", [1, 2.5, True])
def test_a_wrong_number_of_samples_is_refused(size):
    with pytest.raises(ValueError, match="`size` must be an integer of at least 2, got"):
        SampleTeacher(_simulate, size=size)


def test_conditions_must_be_the_teachers():
    with pytest.raises(ValueError, match="conditions of the same size, got 2 and 0"):
        _distill(conditional_teacher(_shifted, 2), ForwardKLLoss())
    student = make_flow("glow", condition_dims=2)
    with pytest.raises(ValueError, match="conditions of the same size, got 0 and 2"):
        _distill(_simulate, ForwardKLLoss(), student=student)
    for dims, message in ((0, "at least 1, got 0"), (2.0, "an integer of at least 1, got 2.0")):
        with pytest.raises(ValueError, match=f"`condition_dims` .*{message}"):
            conditional_teacher(_shifted, dims)
    with pytest.raises(
        ValueError, match="`make` must return a tfd.Distribution for conditions, go"
    ):
        conditional_teacher(lambda condition: condition, 2)
    with pytest.raises(ValueError, match=r"but \[n\] for \[n, 2\] conditions, got batch shape \(4"):
        conditional_teacher(lambda c: tfd.Sample(tfd.Normal(tf.zeros(4), 1.0), DIMS), 2)
    teacher = conditional_teacher(_shifted, 2)
    for condition in (None, conditions(4)[:, :1]):
        with pytest.raises(ValueError, match=r"`condition` must be \[n, 2\], as the distribution"):
            teacher.log_prob(data(4), condition)
