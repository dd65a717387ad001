"""Tests of flows of one dimension: densities of a number, on their own and given a condition."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfp_distill import Flow, FlowDistiller, IntermediateLatentLoss, MAFConfig, TabularGlowConfig
from tfp_distill.evaluation import two_sample_auc

SIZES = dict(dims=1, num_steps=2, hidden_units=16, num_hidden_layers=2)
CONFIGS = {
    "glow": TabularGlowConfig(coupling="spline", **SIZES),
    "conditional_maf": MAFConfig(transform="spline", mixing=True, condition_dims=1, **SIZES),
}
ROWS = 4000
pytestmark = pytest.mark.slow


def _draw(config, seed=0):
    """Draws x = 3 c + g, with c from -1 to 1 and g of a gamma distribution of shape 2."""
    random = np.random.RandomState(seed)
    condition = random.uniform(-1, 1, size=(ROWS, 1)).astype(np.float32)
    noise = random.gamma(2, size=(ROWS, 1)).astype(np.float32)
    if config.condition_dims:
        return 3 * condition + noise, condition
    return noise, None


@pytest.mark.parametrize("name", CONFIGS)
def test_a_number_is_modelled(name):
    flow = Flow(CONFIGS[name])
    x, condition = _draw(flow.config)
    flow.adapt(x, condition)
    weights = flow.trainable_variables
    before = [weight.numpy() for weight in weights]
    flow.compile(keras.optimizers.Adam(0.01, global_clipnorm=1.0))
    flow.fit(x, condition, batch_size=500, epochs=25, verbose=0)
    for weight, old in zip(weights, before, strict=True):
        # There are no entries off a diagonal, and no other dimension for a mask to let through.
        nothing = not old.size or "hidden_0_kernel" in weight.path
        assert np.any(weight.numpy() != old) != nothing, weight.path

    x, condition = _draw(flow.config, seed=1)
    # The entropy of the gamma distribution, k + ln Gamma(k) + (1 - k) psi(k), at k = 2.
    assert -np.mean(flow.log_prob(x, condition)) == pytest.approx(1 + np.euler_gamma, abs=0.08)
    edges = np.linspace(-20, 40, 20_001, dtype=np.float32)
    places = (edges[1:] + edges[:-1])[:, None] / 2
    given = None if condition is None else np.full_like(places, 0.5)
    assert np.sum(np.exp(flow.log_prob(places, given))) * 0.003 == pytest.approx(1, abs=2e-3)
    z = flow.to_latent(x, condition)
    np.testing.assert_allclose(flow.to_data(tf.identity(z), condition), x, atol=1e-4)
    samples = flow.sample(ROWS, condition, seed=0)
    assert samples.shape == (ROWS, 1)
    given = [] if condition is None else [condition]
    sets = [np.concatenate([rows, *given], axis=1) for rows in (x, samples)]
    assert two_sample_auc(*sets, seed=0).auc < 0.56


def test_a_number_is_distilled():
    config = TabularGlowConfig(coupling="spline", condition_dims=1, **SIZES)
    teacher, student = Flow(config, name="teacher"), Flow(config, name="student")
    x, condition = _draw(config)
    for flow in (teacher, student):
        flow.adapt(x, condition)
    for weight in teacher.trainable_variables:
        weight.assign_add(0.1 * np.random.RandomState(0).normal(size=weight.shape))
    distiller = FlowDistiller(
        student=student,
        teacher=teacher,
        distillation_losses=IntermediateLatentLoss(),
        student_loss_weight=0.0,
    )
    distiller.compile(keras.optimizers.Adam(0.01))
    losses = distiller.fit(x, condition, batch_size=500, epochs=5, verbose=0).history
    values = losses["intermediate_latent_loss"]
    assert values[-1] < 0.5 * values[0]
