"""What the three PyTorch libraries have in common: a module, an Adam and a loss.

With `--compile`, likelihoods and samples go through `torch.compile`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from worker import Operations

__all__ = ["operations_of"]


def operations_of(
    module: torch.nn.Module,
    event_shape: tuple[int, ...],
    log_prob_of: Callable[[torch.Tensor], torch.Tensor],
    sample_of: Callable[[int], torch.Tensor],
) -> tuple[Operations, int]:
    """Returns the operations of a flow, and its number of parameters."""
    optimizer = torch.optim.Adam(module.parameters(), 1e-3)

    def data(batch):
        return torch.rand((batch, *event_shape), generator=torch.Generator().manual_seed(0))

    log_prob_of(data(256))  # ActNorm and lazy weights, before the optimiser steps.
    if "--compile" in sys.argv:
        log_prob_of, sample_of = (torch.compile(f, dynamic=False) for f in (log_prob_of, sample_of))

    def step(batch):
        x = data(batch)

        def take():
            optimizer.zero_grad()
            loss = -log_prob_of(x).mean()
            loss.backward()
            optimizer.step()
            return loss.item()

        return take

    def log_prob(batch):
        x = data(batch)

        def evaluate():
            with torch.no_grad():
                return log_prob_of(x).numpy()

        return evaluate

    def sample(batch):
        def draw():
            with torch.no_grad():
                return sample_of(batch).numpy()

        return draw

    number = sum(weight.numel() for weight in module.parameters() if weight.requires_grad)
    return {"step": step, "log_prob": log_prob, "sample": sample}, number
