"""TensorFlow Probability's own bijectors within `tf.function`; with `--xla`, compiled by XLA."""

from __future__ import annotations

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras
from worker import Case, Operations, serve

tfb, tfd = tfp.bijectors, tfp.distributions


def _maf(case: Case) -> tfb.Bijector:
    dims, hidden = case["dims"], [case["hidden"]] * 2
    steps = []
    for _ in range(case["steps"]):
        made = tfb.AutoregressiveNetwork(params=2, hidden_units=hidden, activation="relu")
        made.build((None, dims))
        steps.append(tfb.MaskedAutoregressiveFlow(made))
        steps.append(tfb.Permute(np.arange(dims)[::-1].astype("int32")))
    return tfb.Chain(steps[:-1])


def _network(inputs: int, outputs: int, hidden: int, layers: int) -> tf_keras.Model:
    dense = [tf_keras.layers.Dense(hidden, "relu") for _ in range(layers)]
    network = tf_keras.Sequential([*dense, tf_keras.layers.Dense(outputs)])
    network.build((None, inputs))
    return network


class _Spline(tf.Module):
    """A conditioner, and the spline that it makes for the other half."""

    def __init__(self, inputs: int, outputs: int, hidden: int, bins: int = 8) -> None:
        super().__init__()
        self._sizes, self._shape = [bins, bins, bins - 1], [outputs, 3 * bins - 1]
        self.network = _network(inputs, outputs * (3 * bins - 1), hidden, layers=2)

    def __call__(self, x, output_units, **condition):
        parameters = tf.reshape(self.network(x), [-1, *self._shape])
        widths, heights, slopes = tf.split(parameters, self._sizes, axis=-1)
        return tfb.RationalQuadraticSpline(
            bin_widths=8 * (0.01 + 0.92 * tf.nn.softmax(widths)),
            bin_heights=8 * (0.01 + 0.92 * tf.nn.softmax(heights)),
            knot_slopes=0.01 + tf.nn.softplus(slopes),
            range_min=-4,
        )


def _spline(case: Case) -> tfb.Bijector:
    dims, kept = case["dims"], case["dims"] // 2
    steps = []
    for _ in range(case["steps"]):
        spline = _Spline(kept, dims - kept, case["hidden"])
        steps.append(tfb.RealNVP(num_masked=kept, bijector_fn=spline))
        steps.append(tfb.Permute(np.arange(dims)[::-1].astype("int32")))
    return tfb.Chain(steps)


class _ShiftAndLogScale(tf.Module):
    """A conditioner of an affine coupling."""

    def __init__(self, inputs: int, outputs: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.network = _network(inputs, 2 * outputs, hidden, layers)

    def __call__(self, x, output_units, **condition):
        return tf.split(self.network(x), 2, axis=-1)


def _affine(case: Case) -> tfb.Bijector:
    dims, kept = case["dims"], case["dims"] // 2
    steps = []
    for _ in range(case["steps"]):
        conditioner = _ShiftAndLogScale(kept, dims - kept, case["hidden"], case["layers"])
        mixed = tfb.ScaleMatvecLU(tf.Variable(tf.eye(dims)), tf.range(dims))
        scale, shift = tf.Variable(tf.ones(dims)), tf.Variable(tf.zeros(dims))
        steps.append(tfb.RealNVP(num_masked=kept, shift_and_log_scale_fn=conditioner))
        # The linear map multiplies on the way to the latents, where training goes.
        steps += [tfb.Invert(mixed), tfb.Shift(shift), tfb.Scale(scale)]
    return tfb.Chain(steps)


def _glow(case: Case) -> tfb.Bijector:
    return tfb.Glow(
        output_shape=tuple(case["shape"]),
        num_glow_blocks=case["levels"],
        num_steps_per_block=case["steps"],
        coupling_bijector_fn=lambda shape: tfb.GlowDefaultNetwork(shape, num_hidden=case["hidden"]),
        exit_bijector_fn=tfb.GlowDefaultExitNetwork,
    )


KINDS = {"maf": _maf, "spline": _spline, "affine": _affine, "glow": _glow}


def build(case: Case) -> tuple[Operations, int]:
    """Makes the flow."""
    use_xla = "--xla" in sys.argv
    bijector = KINDS[case["kind"]](case)
    shape = tuple(case["shape"]) if case["kind"] == "glow" else (case["dims"],)
    base = tfd.Sample(tfd.Normal(0.0, 1.0), bijector.inverse_event_shape(shape))
    flow = tfd.TransformedDistribution(base, bijector)
    optimizer = keras.optimizers.Adam(1e-3)

    def data(batch):
        values = np.random.default_rng(0)
        return tf.constant(values.uniform(size=(batch, *shape)), tf.float32)

    flow.log_prob(data(2))
    weights = list(flow.trainable_variables)
    optimizer.build(weights)

    @tf.function(jit_compile=use_xla)
    def take(x):
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(flow.log_prob(x))
        optimizer.apply(tape.gradient(loss, weights), weights)
        return loss

    evaluate = tf.function(flow.log_prob, jit_compile=use_xla)
    draw = tf.function(lambda n: flow.sample(n), jit_compile=use_xla)

    def step(batch):
        x = data(batch)
        return lambda: take(x).numpy()

    def log_prob(batch):
        x = data(batch)
        return lambda: evaluate(x).numpy()

    def sample(batch):
        return lambda: draw(batch).numpy()

    number = sum(int(np.prod(weight.shape)) for weight in weights)
    return {"step": step, "log_prob": log_prob, "sample": sample}, number


if __name__ == "__main__":
    serve(build)
