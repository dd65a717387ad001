"""normflows (Stimper et al., 2023): MAF, splines and affine maps by coupling, and Glow."""

from __future__ import annotations

import math

import normflows
from torch_operations import operations_of
from worker import Case, Operations, serve


def _step(case: Case, index: int) -> list[normflows.flows.Flow]:
    dims, hidden = case["dims"], case["hidden"]
    if case["kind"] == "affine":
        kept = dims - dims // 2
        sizes = [kept, *[hidden] * case["layers"], 2 * (dims - kept)]
        return [
            normflows.flows.AffineCouplingBlock(normflows.nets.MLP(sizes, init_zeros=True)),
            normflows.flows.InvertibleAffine(dims),
            normflows.flows.ActNorm(dims),
        ]
    if case["kind"] == "maf":
        step = normflows.flows.MaskedAffineAutoregressive(
            dims, hidden, num_blocks=1, use_residual_blocks=False
        )
    else:
        step = normflows.flows.CoupledRationalQuadraticSpline(
            dims, 1, hidden, num_bins=8, tail_bound=4.0, reverse_mask=index % 2 == 1
        )
    return [step, normflows.flows.Permute(dims, mode="swap")]


def _rows(case: Case) -> tuple[Operations, int]:
    steps = [member for index in range(case["steps"]) for member in _step(case, index)]
    flow = normflows.NormalizingFlow(normflows.distributions.DiagGaussian(case["dims"]), steps)
    return operations_of(flow, (case["dims"],), flow.log_prob, lambda n: flow.sample(n)[0])


def _images(case: Case) -> tuple[Operations, int]:
    height, width, channels = case["shape"]
    levels, bases, merges = [], [], []
    for level in range(case["levels"]):
        depth = channels * 2 ** (case["levels"] + 1 - level)
        steps = [
            normflows.flows.GlowBlock(depth, case["hidden"], split_mode="channel", scale=True)
            for _ in range(case["steps"])
        ]
        levels.append([*steps, normflows.flows.Squeeze()])
        side = 2 ** (case["levels"] - level)
        out = depth if level == 0 else depth // 2
        bases.append(normflows.distributions.DiagGaussian((out, height // side, width // side)))
        if level > 0:
            merges.append(normflows.flows.Merge())
    flow = normflows.MultiscaleFlow(bases, levels, merges, class_cond=False)
    shape = (channels, height, width)
    if math.prod(shape) != sum(base.d for base in bases):
        raise ValueError(f"The bases of all levels must make up {shape}.")
    return operations_of(flow, shape, lambda x: flow.log_prob(x, None), lambda n: flow.sample(n)[0])


def build(case: Case) -> tuple[Operations, int]:
    """Makes the flow."""
    return _images(case) if case["kind"] == "glow" else _rows(case)


if __name__ == "__main__":
    serve(build)
