"""nflows (Durkan, Bekasov, Murray and Papamakarios): MAF, splines and affine maps by coupling."""

from __future__ import annotations

import torch
from nflows import distributions, flows, nn, transforms
from torch_operations import operations_of
from worker import Case, Operations, serve


def _step(case: Case, index: int) -> list[transforms.Transform]:
    dims, hidden = case["dims"], case["hidden"]
    if case["kind"] == "maf":
        return [
            transforms.ReversePermutation(dims),
            transforms.MaskedAffineAutoregressiveTransform(
                dims, hidden, num_blocks=1, use_residual_blocks=False
            ),
        ]
    mask = torch.arange(dims) % 2 == index % 2
    if case["kind"] == "affine":
        blocks = (case["layers"] - 1) // 2  # of two layers, after the first layer.
        return [
            transforms.ActNorm(dims),
            transforms.LULinear(dims, identity_init=True),
            transforms.AffineCouplingTransform(
                mask.int(),
                lambda inputs, outputs: nn.nets.ResidualNet(
                    inputs, outputs, hidden, num_blocks=blocks
                ),
            ),
        ]
    return [
        transforms.RandomPermutation(dims),
        transforms.PiecewiseRationalQuadraticCouplingTransform(
            mask.int(),
            lambda inputs, outputs: nn.nets.ResidualNet(inputs, outputs, hidden, num_blocks=1),
            num_bins=8,
            tails="linear",
            tail_bound=4.0,
        ),
    ]


def build(case: Case) -> tuple[Operations, int] | None:
    """Makes the flow; there is none for images."""
    if case["kind"] == "glow":
        return None
    steps = [member for index in range(case["steps"]) for member in _step(case, index)]
    base = distributions.StandardNormal([case["dims"]])
    flow = flows.Flow(transforms.CompositeTransform(steps), base)
    return operations_of(flow, (case["dims"],), flow.log_prob, flow.sample)


if __name__ == "__main__":
    serve(build)
