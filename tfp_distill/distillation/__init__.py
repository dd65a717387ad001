"""Distillation: losses between flows, and the model that trains a student on them."""

from tfp_distill.distillation.distiller import FlowDistiller
from tfp_distill.distillation.losses import (
    DistillationLoss,
    ForwardKLLoss,
    IntermediateLatentLoss,
    LatentLoss,
    LogDensityLoss,
    ReverseKLLoss,
    SynthesizedLoss,
)

__all__ = [
    "DistillationLoss",
    "FlowDistiller",
    "ForwardKLLoss",
    "IntermediateLatentLoss",
    "LatentLoss",
    "LogDensityLoss",
    "ReverseKLLoss",
    "SynthesizedLoss",
]
