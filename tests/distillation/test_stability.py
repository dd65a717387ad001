"""Tests that a student stays finite however badly it is trained."""

import numpy as np
import pytest
import tensorflow as tf
from flow_pairs import data, make_flow, shared_pass

from tfp_distill.distillation import SynthesizedLoss

DIMS = 6


def _with_huge_log_scales(flow, factor):
    """Blows up what a network says about log-scales; returns the largest raw one."""
    largest = 0.0
    for step in flow.bijector.bijectors[1:]:
        (made,) = step.keras_layers
        for weight in made.trainable_weights[-2:]:
            value = weight.numpy()
            value[..., DIMS:] *= factor
            weight.assign(value)
        raw = made(tf.constant(data(32, dims=DIMS)), None)[1]
        largest = max(largest, float(tf.reduce_max(tf.abs(raw))))
    return largest


@pytest.mark.parametrize("space", ["data", "latent"])
def test_huge_log_scales_of_an_autoregressive_student_stay_finite(space):
    teacher = make_flow("glow", num_steps=2, seed=2, dims=DIMS)
    student = make_flow("maf", num_steps=3, seed=1, dims=DIMS)
    # exp of it is infinite: without a bound nothing would be finite.
    assert _with_huge_log_scales(student, 1e4) > 1e3
    weights = [weight.value for weight in student.trainable_variables]
    with tf.GradientTape() as tape:
        losses = SynthesizedLoss(space=space)(shared_pass(student, teacher, data(64, dims=DIMS)))
        loss = tf.reduce_mean(losses)
    gradients = tape.gradient(loss, weights)
    assert np.all(np.isfinite(losses))
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)
    assert max(np.max(np.abs(gradient)) for gradient in gradients) > 0


def test_latents_that_are_far_out_stay_finite():
    student = make_flow("maf", num_steps=3, seed=1, size=1.0, dims=DIMS)
    teacher = make_flow("maf", num_steps=3, seed=2, dims=DIMS)
    weights = [weight.value for weight in student.trainable_variables]
    with tf.GradientTape() as tape:
        shared = shared_pass(student, teacher, data(64, dims=DIMS))
        loss = tf.reduce_mean(SynthesizedLoss(temperature=30.0)(shared))
    gradients = tape.gradient(loss, weights)
    assert np.isfinite(loss)
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)
