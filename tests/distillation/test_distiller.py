"""Tests of the constructor, of `fit` and of the saved model."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from flow_pairs import (
    assert_equal,
    batches,
    conditions,
    data,
    make_flow,
    values,
)
from interruption import Interrupt

from tfp_distill import Flow, MAFConfig
from tfp_distill.distillation import (
    FlowDistiller,
    ForwardKLLoss,
    IntermediateLatentLoss,
    LatentLoss,
    LogDensityLoss,
    LossWeightSchedule,
    ReverseKLLoss,
    SynthesizedLoss,
    SynthesizedLossGate,
)

tfd = tfp.distributions


@pytest.fixture(scope="module")
def glow():
    return make_flow("glow", num_steps=1, seed=1)


@pytest.fixture(scope="module")
def maf():
    return make_flow("maf", num_steps=1, seed=2)


@pytest.fixture(scope="module")
def conditional():
    return make_flow("glow", num_steps=1, seed=3, condition_dims=2)


def test_student_and_teacher_cannot_be_confused(glow, maf):
    with pytest.raises(TypeError, match="by name, because Keras's own Distiller takes the teacher"):
        FlowDistiller(glow, maf, distillation_losses=[LatentLoss()])


ILLEGAL = {
    "student": (
        lambda a, b, c: FlowDistiller(student="a", teacher=b, distillation_losses=[LatentLoss()]),
        "`student` must be a Flow, got str",
    ),
    "teacher": (
        lambda a, b, c: FlowDistiller(student=a, teacher="b", distillation_losses=[LatentLoss()]),
        "`teacher` must be a Flow, a tfd.Distribution, .* got str",
    ),
    "same object": (
        lambda a, b, c: FlowDistiller(student=a, teacher=a, distillation_losses=[LatentLoss()]),
        "`teacher` must be another model than `student`, got the same object",
    ),
    "event shape": (
        lambda a, b, c: FlowDistiller(
            student=a,
            teacher=Flow(MAFConfig(dims=2, num_steps=1)),
            distillation_losses=[LatentLoss()],
        ),
        r"`teacher` and `student` must have the same event shape, got \(2,\) and \(3,\)",
    ),
    "condition of the teacher": (
        lambda a, b, c: FlowDistiller(student=a, teacher=c, distillation_losses=[LatentLoss()]),
        "must take conditions of the same size, got 2 and 0",
    ),
    "condition of the student": (
        lambda a, b, c: FlowDistiller(
            student=c, teacher=b.distribution, distillation_losses=[LatentLoss()]
        ),
        "must take conditions of the same size, got 0 and 2",
    ),
    "no losses": (
        lambda a, b, c: FlowDistiller(student=a, teacher=b, distillation_losses=[]),
        "`distillation_losses` must hold at least one loss, got none",
    ),
    "not a loss": (
        lambda a, b, c: FlowDistiller(
            student=a, teacher=b, distillation_losses=[keras.losses.MeanSquaredError()]
        ),
        "`distillation_losses` must be DistillationLoss objects, got MeanSquaredError",
    ),
    "same names": (
        lambda a, b, c: FlowDistiller(
            student=a, teacher=b, distillation_losses=[LatentLoss(), LatentLoss(distance="l2")]
        ),
        "must have different names, .* got 'latent_loss' again",
    ),
    "reserved name": (
        lambda a, b, c: FlowDistiller(
            student=a, teacher=b, distillation_losses=[LatentLoss(name="nll")]
        ),
        "must have different names, none of loss, nll, .*, left_out_samples; got 'nll'",
    ),
    "taps": (
        lambda a, b, c: FlowDistiller(
            student=a, teacher=b, distillation_losses=[IntermediateLatentLoss(taps=((1, 2),))]
        ),
        r"`taps` must be pairs .* got \(1, 2\)",
    ),
    "number of weights": (
        lambda a, b, c: FlowDistiller(
            student=a,
            teacher=b,
            distillation_losses=[LatentLoss()],
            distillation_loss_weights=[1.0, 2.0],
        ),
        "must have one weight for each of the 1 `distillation_losses`, got 2",
    ),
    "negative weight": (
        lambda a, b, c: FlowDistiller(
            student=a,
            teacher=b,
            distillation_losses=[LatentLoss()],
            distillation_loss_weights=[-1.0],
        ),
        "must be finite and not negative, got -1.0 for 'latent_loss'",
    ),
    "infinite weight": (
        lambda a, b, c: FlowDistiller(
            student=a,
            teacher=b,
            distillation_losses=[LatentLoss()],
            distillation_loss_weights=1.0,
            student_loss_weight=float("inf"),
        ),
        "must be finite and not negative, got inf for 'nll'",
    ),
    "nothing to minimise": (
        lambda a, b, c: FlowDistiller(
            student=a,
            teacher=b,
            distillation_losses=[LatentLoss()],
            distillation_loss_weights=0.0,
            student_loss_weight=0.0,
        ),
        "At least one loss must have a weight above 0, got 0 for all",
    ),
}


@pytest.mark.parametrize("case", ILLEGAL)
def test_what_does_not_fit_is_named(case, glow, maf, conditional):
    make, message = ILLEGAL[case]
    with pytest.raises(ValueError, match=message):
        make(glow, maf, conditional)


def test_the_defaults(glow, maf):
    distiller = FlowDistiller(student=glow, teacher=maf, distillation_losses=LatentLoss())
    assert distiller.loss_weights == {"nll": 1.0, "latent_loss": 1.0}
    assert distiller.distillation_losses == (LatentLoss(),)
    assert distiller.student is glow
    assert distiller.teacher is maf
    with pytest.raises(ValueError, match="must name some of nll, latent_loss, got 'latent'"):
        distiller.set_loss_weights({"latent": 1.0})


def test_the_call_is_the_students_log_likelihood(glow, maf):
    distiller = FlowDistiller(student=glow, teacher=maf, distillation_losses=LatentLoss())
    np.testing.assert_array_equal(distiller(tf.constant(data(4))), glow.log_prob(data(4)))


@pytest.mark.slow
def test_a_compiled_fit_moves_every_weight_of_the_student_and_none_of_the_teacher():
    student = make_flow("maf", num_steps=2, seed=1)
    teacher = make_flow("glow", num_steps=1, seed=2)
    distiller = FlowDistiller(
        student=student,
        teacher=teacher,
        distillation_losses=[IntermediateLatentLoss(), SynthesizedLoss()],
        distillation_loss_weights=[0.2, 0.2],
        student_loss_weight=0.6,
    )
    assert distiller.trainable_variables == student.trainable_variables
    assert distiller.trainable_weights == student.trainable_variables
    teacher_before, student_before = values(teacher), values(student)
    teacher_trainable = [weight.trainable for weight in teacher.weights]
    ema = dict(use_ema=True, ema_momentum=0.5)
    distiller.compile(keras.optimizers.AdamW(1e-2, weight_decay=0.1, clipnorm=1.0, **ema))
    logs = distiller.fit(batches(data(24)), epochs=2, verbose=0).history
    assert set(logs) == {
        *("loss", "nll", "intermediate_latent_loss", "synthesized_loss"),
        *("grad_norm", "skipped_steps", "left_out_samples"),
    }
    assert np.all(np.isfinite(list(logs.values())))
    assert_equal(values(teacher), teacher_before)
    assert [weight.trainable for weight in teacher.weights] == teacher_trainable
    assert teacher.trainable
    fixed = {w.path for w in student.weights} - {w.path for w in student.trainable_variables}
    for weight, before in zip(student.weights, student_before, strict=True):
        assert np.any(weight.numpy() != before) == (weight.path not in fixed), weight.path
    shapes = [tuple(weight.shape) for weight in student.trainable_variables]
    slots = [tuple(v.shape) for v in distiller.optimizer.variables if len(v.shape)]
    assert sorted(slots) == sorted(3 * shapes)  # Momentum, velocity and the average.
    # The average has become the student, and nothing of it has reached the teacher.
    averages = distiller.optimizer._model_variables_moving_average
    for weight, average in zip(student.trainable_variables, averages, strict=True):
        np.testing.assert_array_equal(weight.numpy(), average.numpy())


PAIRS = {
    "maf to glow": ("glow", "maf", [LatentLoss(), SynthesizedLoss()], 1.0, 0),
    "glow to maf": ("maf", "glow", [IntermediateLatentLoss(), SynthesizedLoss()], 1.0, 0),
    "maf to iaf": ("iaf", "maf", [ReverseKLLoss()], 0.0, 0),
    "conditional": ("glow", "maf", [LatentLoss(), SynthesizedLoss(), ForwardKLLoss()], 1.0, 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", PAIRS)
def test_pairs_of_architectures(case):
    student_kind, teacher_kind, losses, nll_weight, dims = PAIRS[case]
    student = make_flow(student_kind, num_steps=1, seed=1, condition_dims=dims)
    teacher = make_flow(teacher_kind, num_steps=2, seed=2, condition_dims=dims)
    distiller = FlowDistiller(
        student=student, teacher=teacher, distillation_losses=losses, student_loss_weight=nll_weight
    )
    distiller.compile(keras.optimizers.Adam(2e-2), jit_compile=False)
    x = (data(64), conditions(64)) if dims else data(64)
    before = distiller.evaluate(batches(x, 64), verbose=0, return_dict=True)
    teacher_before = values(teacher)
    logs = distiller.fit(batches(x, 64), epochs=20, verbose=0).history
    assert sum(logs["skipped_steps"]) == 0
    assert_equal(values(teacher), teacher_before)
    after = distiller.evaluate(batches(x, 64), verbose=0, return_dict=True)
    assert after["loss"] < before["loss"] - 0.1
    for loss in losses:
        assert after[loss.name] < before[loss.name]


def test_a_conditional_pair_uses_the_condition():
    student = make_flow("glow", num_steps=1, seed=1, condition_dims=2)
    teacher = make_flow("maf", num_steps=1, seed=2, condition_dims=2)
    distiller = FlowDistiller(
        student=student,
        teacher=teacher,
        distillation_losses=[SynthesizedLoss()],
        student_loss_weight=0.0,
    )
    distiller.compile(run_eagerly=True)

    def loss(condition):
        rows = batches((data(8), condition))
        return distiller.evaluate(rows, verbose=0, return_dict=True)["synthesized_loss"]

    assert abs(loss(conditions(8)) - loss(0 * conditions(8))) > 1e-3


def test_without_data_the_teacher_is_the_data():
    teacher = make_flow("maf", num_steps=1, seed=2)
    student = Flow(make_flow("glow", num_steps=1).config)
    distiller = FlowDistiller(
        student=student,
        teacher=teacher,
        distillation_losses=[ForwardKLLoss()],
        student_loss_weight=0.0,
    )
    distiller.compile(keras.optimizers.Adam(2e-2), jit_compile=False)
    assert not student.adapted
    logs = distiller.fit(batch_size=128, steps_per_epoch=15, epochs=2, verbose=0).history
    assert student.adapted
    # From the teacher's samples, whatever `placeholder` stands for the data.
    samples = teacher.sample(4096, seed=0).numpy()
    assert np.max(np.abs(student.sample(4096, seed=0).numpy().mean(0) - samples.mean(0))) < 0.5
    first, last = logs["forward_kl_loss"]
    assert 0 < last < 0.9 * first
    assert "nll" not in logs


def test_fit_names_the_losses_that_need_data(glow, maf, conditional):
    losses = [ForwardKLLoss(), SynthesizedLoss(), LatentLoss(), LogDensityLoss()]
    distiller = FlowDistiller(student=glow, teacher=maf, distillation_losses=losses)
    distiller.compile()
    message = "`x` must be given for the losses nll, latent_loss, log_density_loss, got None"
    with pytest.raises(ValueError, match=message):
        distiller.fit(batch_size=8, steps_per_epoch=1)
    distiller = FlowDistiller(
        student=glow, teacher=maf, distillation_losses=losses[:2], student_loss_weight=0.0
    )
    distiller.compile()
    with pytest.raises(ValueError, match="`batch_size` and `steps_per_epoch` must be given .* No"):
        distiller.fit(steps_per_epoch=1)
    with pytest.raises(ValueError, match="must be given where `x` is not, got 8 and None"):
        distiller.fit(batch_size=8)
    other = make_flow("glow", num_steps=1, seed=4, condition_dims=2)
    distiller = FlowDistiller(
        student=conditional, teacher=other, distillation_losses=losses[:2], student_loss_weight=0.0
    )
    distiller.compile()
    with pytest.raises(ValueError, match="`x` must be given, with conditions, to a conditional"):
        distiller.fit(batch_size=8, steps_per_epoch=1)


@pytest.mark.parametrize("rows", [24, 21, 17, 7])  # Batches of 8: the last one has odd shares.
def test_two_replicas_take_the_steps_of_one_device(two_replicas, rows):
    def trained(strategy):
        with strategy.scope() if strategy else contextlib.nullcontext():
            student = make_flow("glow", num_steps=1, seed=1)
            teacher = make_flow("maf", num_steps=1, seed=2)
            losses = [LatentLoss(distance="l2"), SynthesizedLoss(distance="l2"), ForwardKLLoss()]
            distiller = FlowDistiller(
                student=student, teacher=teacher, distillation_losses=losses, seed=7
            )
            distiller.compile(keras.optimizers.SGD(1e-3, global_clipnorm=100.0), jit_compile=False)
        start, teacher_start = values(student), values(teacher)
        logs = distiller.fit(batches(data(rows)), verbose=0).history
        assert_equal(values(teacher), teacher_start)
        return start, values(student), logs

    start, one, one_logs = trained(None)
    _, two, two_logs = trained(two_replicas)
    for before, a, b in zip(start, one, two, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)
        assert a.ndim == 0 or not np.any(a != before) or np.max(np.abs(a - before)) > 1e-5
    for name, value in one_logs.items():
        np.testing.assert_allclose(two_logs[name], value, rtol=1e-4, err_msg=name)
    assert one_logs["synthesized_loss"][0] > 0.1


def test_a_batch_that_is_not_finite_changes_nothing():
    student = make_flow("glow", num_steps=1, seed=1)
    teacher = make_flow("maf", num_steps=1, seed=2)
    distiller = FlowDistiller(
        student=student, teacher=teacher, distillation_losses=[LatentLoss(), SynthesizedLoss()]
    )
    distiller.compile(keras.optimizers.Adam(1e-2), jit_compile=False)
    x = data(8)
    distiller.fit(batches(x), verbose=0)
    state = [*student.trainable_variables, *distiller.optimizer.variables, *teacher.weights]
    before = [v.numpy().copy() for v in state]
    x[3, 1] = np.nan
    logs = distiller.fit(batches(x), verbose=0).history
    assert_equal([v.numpy() for v in state], before)
    assert (logs["skipped_steps"], distiller.step, distiller.skipped_steps) == ([1], 2, 1)
    logs = distiller.fit(batches(data(8)), verbose=0).history
    assert logs["skipped_steps"] == [0]
    assert np.isfinite(logs["loss"])
    assert np.any(student.trainable_variables[0].numpy() != before[0])


def test_a_saved_distiller_is_the_same_distiller(tmp_path):
    student = make_flow("glow", num_steps=1, seed=1)
    teacher = make_flow("maf", num_steps=2, seed=2)
    losses = [
        IntermediateLatentLoss(taps=((1, 1), (1, 2)), distance="huber"),
        SynthesizedLoss(temperature=0.8),
        LatentLoss(),
    ]
    distiller = FlowDistiller(
        student=student,
        teacher=teacher,
        distillation_losses=losses,
        distillation_loss_weights=[0.5, 0.25, 0.0],
        student_loss_weight=0.75,
        seed=4,
    )
    distiller.compile(keras.optimizers.Adam(1e-2), jit_compile=False)
    distiller.fit(batches(data(16)), verbose=0)
    distiller.set_loss_weights({"synthesized_loss": 0.0, "latent_loss": 2.0})
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    assert loaded.distillation_losses == tuple(losses)
    assert loaded.loss_weights == distiller.loss_weights
    assert loaded.initial_loss_weights == distiller.initial_loss_weights
    assert loaded.active_losses == ("nll", "intermediate_latent_loss", "latent_loss")
    assert (loaded.seed, loaded.step, loaded.adapted) == (4, 2, True)
    assert loaded.teacher.config == teacher.config
    assert_equal(values(loaded.student), values(student))
    assert_equal(values(loaded.teacher), values(teacher))
    logs = [d.evaluate(batches(data(16)), verbose=0, return_dict=True) for d in (distiller, loaded)]
    assert logs[0] == logs[1]
    assert "latent_loss" in logs[0]
    for d in (distiller, loaded):
        d.fit(batches(data(16)), verbose=0)
    assert_equal(values(loaded.student), values(student))


@pytest.mark.slow
@pytest.mark.parametrize(("scheduled", "backup_first"), [(True, True), (False, False)])
def test_interrupted_and_resumed_is_uninterrupted(scheduled, backup_first, tmp_path):
    def fit(interrupt=None, backup=None):
        student = make_flow("glow", num_steps=1, seed=1)
        teacher = make_flow("maf", num_steps=1, seed=2)
        losses = [LatentLoss(), SynthesizedLoss()]
        distiller = FlowDistiller(
            student=student,
            teacher=teacher,
            distillation_losses=losses,
            distillation_loss_weights=[0.2, 0.2],
            student_loss_weight=0.6,
        )
        schedule = keras.optimizers.schedules.CosineDecay(1e-2, 8)
        distiller.compile(keras.optimizers.Adam(schedule, use_ema=True), jit_compile=False)
        callbacks = [SynthesizedLossGate(open_at_step=3)]
        if scheduled:
            callbacks.append(
                LossWeightSchedule({"latent_loss": lambda step: 0.2 * max(0.0, 1 - step / 5)})
            )
        if backup:
            place = 0 if backup_first else len(callbacks)
            callbacks.insert(place, keras.callbacks.BackupAndRestore(backup))
        if interrupt:
            callbacks.append(Interrupt(interrupt))
        with pytest.raises(InterruptedError) if interrupt else contextlib.nullcontext():
            distiller.fit(batches(data(16)), epochs=4, verbose=0, callbacks=callbacks)
        assert distiller.step == (interrupt or 8)
        return distiller

    expected = fit()
    fit(interrupt=5, backup=str(tmp_path))
    resumed = fit(backup=str(tmp_path))
    assert_equal(values(resumed.student), values(expected.student))
    for got, wanted in zip(resumed.optimizer.variables, expected.optimizer.variables, strict=True):
        np.testing.assert_array_equal(got.numpy(), wanted.numpy())
    assert resumed.active_losses == expected.active_losses
    assert "synthesized_loss" in resumed.active_losses
    assert ("latent_loss" in resumed.active_losses) == (not scheduled)
    assert resumed.loss_weights == expected.loss_weights
