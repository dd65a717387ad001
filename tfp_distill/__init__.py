"""Normalizing flows that are small and cheap to train, on TensorFlow, TFP and Keras 3."""

from tfp_distill.columns import Columns
from tfp_distill.distillation import (
    DistillationMonitor,
    FlowDistiller,
    ForwardKLLoss,
    IntermediateLatentLoss,
    LatentLoss,
    LogDensityLoss,
    LossWeightSchedule,
    ReverseKLLoss,
    SynthesizedLoss,
    SynthesizedLossGate,
    align_with_teacher,
)
from tfp_distill.export import export_flow
from tfp_distill.flows import (
    Flow,
    GlowConfig,
    MAFConfig,
    TabularGlowConfig,
    interpolate,
    load_flow,
    preset_names,
)
from tfp_distill.pixels import PixelFormat
from tfp_distill.training import HeldCosineDecay, Partition, PartSchedule, PrefixCache

__all__ = [
    "Columns",
    "DistillationMonitor",
    "Flow",
    "FlowDistiller",
    "ForwardKLLoss",
    "GlowConfig",
    "HeldCosineDecay",
    "IntermediateLatentLoss",
    "LatentLoss",
    "LogDensityLoss",
    "LossWeightSchedule",
    "MAFConfig",
    "PartSchedule",
    "Partition",
    "PixelFormat",
    "PrefixCache",
    "ReverseKLLoss",
    "SynthesizedLoss",
    "SynthesizedLossGate",
    "TabularGlowConfig",
    "align_with_teacher",
    "export_flow",
    "interpolate",
    "load_flow",
    "preset_names",
]
