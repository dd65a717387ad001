"""What a student can be made to match: latents, intermediate latents, samples, densities."""

from tfp_distill.distillation.losses.base import DistillationLoss
from tfp_distill.distillation.losses.densities import ForwardKLLoss, LogDensityLoss, ReverseKLLoss
from tfp_distill.distillation.losses.latents import IntermediateLatentLoss, LatentLoss
from tfp_distill.distillation.losses.samples import GuidedLoss, SynthesizedLoss

__all__ = [
    "DistillationLoss",
    "ForwardKLLoss",
    "GuidedLoss",
    "IntermediateLatentLoss",
    "LatentLoss",
    "LogDensityLoss",
    "ReverseKLLoss",
    "SynthesizedLoss",
]
