"""flowjax (Ward): MAF, and splines by coupling, compiled by `filter_jit`."""

from __future__ import annotations

import equinox
import flowjax.bijections
import flowjax.distributions
import flowjax.flows
import jax
import jax.numpy as jnp
import optax
import paramax
from worker import Case, Operations, serve


def _make(case: Case):
    of_both = dict(
        key=jax.random.key(0),
        base_dist=flowjax.distributions.Normal(jnp.zeros(case["dims"])),
        flow_layers=case["steps"],
        nn_width=case["hidden"],
        nn_depth=2,
    )
    if case["kind"] == "maf":
        return flowjax.flows.masked_autoregressive_flow(invert=True, **of_both)
    spline = flowjax.bijections.RationalQuadraticSpline(knots=8, interval=4.0)
    return flowjax.flows.coupling_flow(transformer=spline, invert=True, **of_both)


def build(case: Case) -> tuple[Operations, int] | None:
    """Makes the flow; there is none for images, and no linear maps for couplings."""
    if case["kind"] in ("affine", "glow"):
        return None
    flow = _make(case)
    trained, fixed = equinox.partition(
        flow,
        equinox.is_inexact_array,
        is_leaf=lambda leaf: isinstance(leaf, paramax.NonTrainable),
    )
    optimizer = optax.adam(1e-3)
    state = [trained, optimizer.init(trained)]

    def data(batch):
        return jax.random.uniform(jax.random.key(1), (batch, case["dims"]))

    def loss_of(trained, x):
        return -paramax.unwrap(equinox.combine(trained, fixed)).log_prob(x).mean()

    @equinox.filter_jit
    def take(trained, optimizer_state, x):
        loss, gradient = equinox.filter_value_and_grad(loss_of)(trained, x)
        updates, optimizer_state = optimizer.update(gradient, optimizer_state, trained)
        return equinox.apply_updates(trained, updates), optimizer_state, loss

    def step(batch):
        x = data(batch)

        def run():
            state[0], state[1], loss = take(*state, x)
            return loss.block_until_ready()

        return run

    evaluate = equinox.filter_jit(lambda flow, x: flow.log_prob(x))
    draw = equinox.filter_jit(lambda flow, key, n: flow.sample(key, (n,)))

    def log_prob(batch):
        x = data(batch)
        return lambda: evaluate(flow, x).block_until_ready()

    def sample(batch):
        return lambda: draw(flow, jax.random.key(2), batch).block_until_ready()

    number = sum(leaf.size for leaf in jax.tree.leaves(trained))
    return {"step": step, "log_prob": log_prob, "sample": sample}, number


if __name__ == "__main__":
    serve(build)
