"""How much faster MAF samples than the same flow built from `tfb.MaskedAutoregressiveFlow`.

    python benchmarks/maf_sampling.py

Both hold the same weights and are compiled by XLA; samples are compared before they are timed, in
turn, in one process. Quiet machine required; only the ratio means anything elsewhere.
"""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from turns import medians

import tfp_distill
from tfp_distill.bijectors.transforms.affine import bounded_log_scale

DIMS, STEPS, ROWS, REPEATS = 63, 3, 1000, 15


def same_flow_of_tfp(flow: tfp_distill.Flow) -> tfp.bijectors.Bijector:
    """Returns the flow as a chain of TFP's own bijectors over the same networks."""

    def shift_and_log_scale(made, bound):
        def function(x):
            shift, raw = tf.unstack(made(x), axis=-2)
            return shift, bounded_log_scale(raw, bound)

        return function

    steps = []
    for step in flow.bijector.bijectors[1:]:
        (made,) = step.keras_layers
        function = shift_and_log_scale(made, flow.config.log_scale_bound)
        if made.get_config()["reverse"]:
            # tfb.MaskedAutoregressiveFlow generates the dimensions in ascending order only.
            flip = tfp.bijectors.Permute(np.arange(DIMS)[::-1])
            inner = tfp.bijectors.MaskedAutoregressiveFlow(
                lambda x, f=function: [tf.reverse(p, [-1]) for p in f(tf.reverse(x, [-1]))]
            )
            steps += [flip, inner, flip]
        else:
            steps.append(tfp.bijectors.MaskedAutoregressiveFlow(function))
    return tfp.bijectors.Chain(steps)


def main() -> None:
    """Prints the two medians and their ratio."""
    flow = tfp_distill.Flow(tfp_distill.MAFConfig(dims=DIMS, num_steps=STEPS))
    random = np.random.RandomState(0)
    for weight in flow.trainable_variables:
        weight.assign(weight + 0.05 * random.normal(size=weight.shape))
    z = tf.constant(random.normal(size=(ROWS, DIMS)), tf.float32)
    theirs = same_flow_of_tfp(flow)
    for compiler, jit in (("XLA", True), ("graph", False)):
        ours_fn = tf.function(flow.to_data, jit_compile=jit)
        theirs_fn = tf.function(theirs.forward, jit_compile=jit)
        np.testing.assert_allclose(ours_fn(z), theirs_fn(z), rtol=1e-3, atol=1e-3)
        calls = [functools.partial(function, z) for function in (ours_fn, theirs_fn)]
        ours, tfps = medians(*calls, turns=REPEATS)
        print(
            f"{compiler}: {ROWS} samples, D={DIMS}, K={STEPS}: ours {1e3 * ours:.1f} ms, "
            f"TFP {1e3 * tfps:.1f} ms, ratio {tfps / ours:.1f}"
        )


if __name__ == "__main__":
    main()
