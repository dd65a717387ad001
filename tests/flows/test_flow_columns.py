"""Tests of flows that know the kinds of their columns."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfp_distill import (
    Flow,
    FlowDistiller,
    ForwardKLLoss,
    IntermediateLatentLoss,
    MAFConfig,
    SynthesizedLoss,
    TabularGlowConfig,
    align_with_teacher,
    export_flow,
    load_flow,
)
from tfp_distill.columns import Columns
from tfp_distill.data import evaluation_batches, training_batches
from tfp_distill.domains import RowDomain
from tfp_distill.evaluation import evaluate_likelihood, round_trip_error

COLUMNS = Columns(
    ("continuous", "integer", "bounded", "integer"), (None, None, (0.0, 360.0), (1, 5))
)
SMALL = dict(num_steps=1, hidden_units=8, num_hidden_layers=1)
GLOW = TabularGlowConfig(4, **SMALL, columns=COLUMNS)
MAF = MAFConfig(4, **SMALL, columns=COLUMNS)


def rows(number=2000, seed=0):
    random = np.random.default_rng(seed)
    count = random.poisson(4, number)
    columns = (
        random.normal(count),
        count,
        random.uniform(0, 360, number),
        random.integers(1, 6, number),
    )
    return np.stack(columns, axis=1).astype(np.float32)


X = rows()


def adapted(config, seed=0):
    flow = Flow(dataclasses.replace(config, seed=seed))
    flow.adapt(X)
    return flow


def assert_of_these_kinds(x):
    x = np.asarray(x)
    assert np.isfinite(x).all()
    np.testing.assert_array_equal(x[:, [1, 3]], np.floor(x[:, [1, 3]]))
    assert x[:, 2].min() >= 0 and x[:, 2].max() <= 360
    assert set(np.unique(x[:, 3])) <= {1, 2, 3, 4, 5}


@pytest.mark.parametrize("config", [GLOW, MAF])
@pytest.mark.parametrize("temperature", [1.0, 50.0])
def test_samples_are_of_the_kinds(config, temperature):
    flow = adapted(config)
    assert_of_these_kinds(flow.sample(5000, seed=0, temperature=temperature))
    x, log_prob = flow.sample_and_log_prob(100, seed=0)
    np.testing.assert_allclose(log_prob, flow.log_prob(x), atol=2e-2)
    np.testing.assert_array_equal(COLUMNS.quantize(x), flow.sample(100, seed=0))


@pytest.mark.parametrize("config", [GLOW, MAF])
def test_the_log_determinant_is_that_of_autodiff_in_float64(config, float64, randomize):
    flow = adapted(config)
    randomize(flow.bijector.keras_layers, size=0.1)
    x = tf.constant(COLUMNS.dequantize(X[:5].astype(np.float64), seed=3))
    with tf.GradientTape() as tape:
        tape.watch(x)
        z, ildj = flow.bijector.inverse_and_ildj(x)
    jacobian = tape.batch_jacobian(z, x)
    np.testing.assert_allclose(ildj, np.linalg.slogdet(jacobian)[1], rtol=1e-9)
    again, fldj = flow.to_data_and_fldj(tf.identity(z))
    np.testing.assert_allclose(again, x, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(fldj, -ildj, rtol=1e-9)


def test_data_are_standardised_as_they_are_modelled():
    flow = adapted(GLOW)
    standardized = flow.trace(COLUMNS.dequantize(X, seed=0)).latents[0].numpy()
    np.testing.assert_allclose(standardized.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(standardized.std(axis=0), 1, atol=1e-3)
    # Differences are measured in units of the data, not of what is modelled.
    units = flow.standardize.in_units_of_scale(tf.ones([4]))
    np.testing.assert_allclose(units, 1 / X.std(axis=0), rtol=0.05)
    assert round_trip_error(flow, X) < 1e-3


def test_given_statistics_are_those_of_what_has_no_kind():
    @dataclasses.dataclass
    class Given:
        mean: np.ndarray
        scale: np.ndarray

    flow = Flow(GLOW)
    flow.adapt(X, statistics=Given(np.full(4, 7.0), np.full(4, 3.0)))
    mean, scale = flow.standardize.mean, flow.standardize.scale
    assert (mean[0], scale[0]) == (7, 3)
    np.testing.assert_allclose(mean[1], X[:, 1].mean() + 0.5, atol=0.05)


def test_what_is_out_of_bounds_has_no_density_and_is_refused_by_adapt():
    flow = adapted(GLOW)
    x = np.array([[0, 4, 361, 1], [0, 4, -1, 1], [0, 4, 20, 7]], np.float32)
    np.testing.assert_array_equal(flow.log_prob(x), np.full(3, -np.inf))
    assert np.isfinite(flow.to_latent(x)).all()
    new = Flow(GLOW)
    with pytest.raises(ValueError, match=r"`x` must be within .*1 of column 2 \(bounded, 0 to 360"):
        new.adapt(np.concatenate([X, x[:1]]))
    assert not new.adapted
    assert np.isfinite(flow.log_prob([[0, 4, 0, 1], [0, 4, 360, 5.999]])).all()


@pytest.mark.slow
def test_the_likelihood_has_a_bound():
    """A flow without kinds would learn peaks without end at the integers."""
    x = X.copy()
    x[:, 0] = np.random.default_rng(1).normal(size=len(x))
    x[:, 1] = 3 * (x[:, 1] > 4)
    flow = Flow(TabularGlowConfig(4, **SMALL, coupling="spline", columns=COLUMNS))
    flow.adapt(x)
    flow.compile(keras.optimizers.Adam(1e-2), steps_per_execution=10)
    flow.fit(training_batches(x, 500, domain=RowDomain(COLUMNS)), steps_per_epoch=150, verbose=0)
    found = evaluate_likelihood(flow, x, draws=2)
    # No discrete distribution is better than that of the values, and those of others are densities.
    parts = np.unique(x[:, 1], return_counts=True)[1] / len(x)
    entropy = -np.sum(parts * np.log(parts))
    best = -entropy - np.log(360) - np.log(5) - 0.5 * np.log(2 * np.pi * np.e)
    assert best - 1.5 < found.mean < best + 0.4
    assert found.num_non_finite == 0


def test_a_saved_flow_has_its_kinds(tmp_path):
    flow = adapted(MAF)
    flow.save(tmp_path / "flow.keras")
    loaded = load_flow(tmp_path / "flow.keras")
    assert loaded.config == flow.config and loaded.config.columns == COLUMNS
    x = COLUMNS.dequantize(X[:50], seed=0)
    np.testing.assert_array_equal(loaded.log_prob(x), flow.log_prob(x))
    np.testing.assert_array_equal(loaded.sample(50, seed=1), flow.sample(50, seed=1))


def test_an_exported_flow_has_its_kinds(tmp_path):
    flow = adapted(GLOW)
    export_flow(flow, tmp_path / "model")
    signatures = tf.saved_model.load(str(tmp_path / "model")).signatures
    scalars = dict(n=tf.constant(300), temperature=tf.constant(1.0), seed=tf.constant(4))
    samples = signatures["sample"](**scalars)["x"]
    assert_of_these_kinds(samples)
    np.testing.assert_allclose(samples, flow.sample(300, seed=4), atol=1e-3)
    x = tf.constant(X[:100])
    again = signatures["reconstruct"](x=x)["x"]
    np.testing.assert_array_equal(again.numpy()[:, [1, 3]], X[:100, [1, 3]])
    nats = signatures["log_prob"](x=x, seed=tf.constant(5))["log_prob"]
    expected = flow.log_prob(COLUMNS.dequantize(x, seed=5))
    np.testing.assert_allclose(nats, expected, rtol=1e-4, atol=1e-3)


def test_students_learn_with_the_same_kinds_only():
    teacher, student = adapted(GLOW, seed=1), Flow(GLOW)
    align_with_teacher(student, teacher, X)
    losses = [IntermediateLatentLoss(), SynthesizedLoss(), ForwardKLLoss()]
    distiller = FlowDistiller(student=student, teacher=teacher, distillation_losses=losses)
    distiller.compile(keras.optimizers.Adam(1e-3), jit_compile=False)
    batches = training_batches(X, 250, domain=RowDomain(COLUMNS))
    history = distiller.fit(batches, steps_per_epoch=10, epochs=3, verbose=0).history
    assert distiller.skipped_steps == 0
    assert history["loss"][-1] < history["loss"][0]
    assert max(history["left_out_samples"]) < 0.05
    assert_of_these_kinds(distiller.student.sample(100, seed=0))
    others = [None, dataclasses.replace(COLUMNS, bounds=(None, None, (0.0, 361.0), (1, 5)))]
    for columns in others:
        other = Flow(dataclasses.replace(GLOW, columns=columns))
        with pytest.raises(
            ValueError, match="must take their data for the same, columns for the sam"
        ):
            FlowDistiller(student=other, teacher=teacher, distillation_losses=losses)


def test_identical_flows_have_no_distance():
    teacher, student = adapted(MAF), adapted(MAF)
    losses = [IntermediateLatentLoss(), SynthesizedLoss()]
    distiller = FlowDistiller(student=student, teacher=teacher, distillation_losses=losses)
    distiller.compile("adam", jit_compile=False)
    batch = evaluation_batches(X[:250], 250, domain=RowDomain(COLUMNS))
    found = distiller.evaluate(batch, return_dict=True, verbose=0)
    assert found["intermediate_latent_loss"] == found["synthesized_loss"] == 0


def test_a_warning_tells_of_integers_that_a_flow_knows_nothing_of(recwarn):
    Flow(GLOW).adapt(rows())
    random = np.random.default_rng(0)
    plain = Flow(dataclasses.replace(GLOW, columns=None))
    ids = np.round(1e9 * random.normal(size=2000))  # Hardly one repeats.
    plain.adapt(np.stack([ids, random.normal(size=2000), np.ones(2000), ids + 1], axis=1))
    assert not recwarn.list
    with pytest.warns(UserWarning, match="`x` holds integers .* in columns 1, 3, so .*`tfp_dist"):
        plain.adapt(rows())


def test_training_without_noise_is_refused():
    flow, rule = adapted(GLOW), "`x` must have noise on its integers, as"
    student = adapted(GLOW, seed=1)
    losses = dict(distillation_losses=ForwardKLLoss(), student_loss_weight=0.0)
    distiller = FlowDistiller(student=student, teacher=flow, **losses)
    for model in (flow, distiller):
        model.compile("adam", jit_compile=False)
    with pytest.raises(ValueError, match=rule):
        flow.fit(X, verbose=0)
    distiller.fit(batch_size=64, steps_per_epoch=2, verbose=0)  # Samples of a teacher have noise.
    distiller.set_loss_weights({"nll": 1.0})
    with pytest.raises(ValueError, match=rule):
        distiller.fit(X, verbose=0)


def test_wrong_kinds_are_refused():
    with pytest.raises(ValueError, match="`columns` must be the Columns of 3 columns, got 4"):
        TabularGlowConfig(3, columns=COLUMNS)
    with pytest.raises(ValueError, match="`columns` must be the Columns of 2 columns, got str"):
        MAFConfig(2, columns="auto")
