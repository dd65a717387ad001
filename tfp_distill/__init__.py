"""Normalizing flows that are small and cheap to train, on TensorFlow, TFP and Keras 3."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfp_distill.columns import Columns
    from tfp_distill.distillation import (
        DistillationMonitor,
        FlowDistiller,
        ForwardKLLoss,
        GuidedLoss,
        IntermediateLatentLoss,
        LatentLoss,
        LogDensityLoss,
        LossWeightSchedule,
        ReverseKLLoss,
        SampleTeacher,
        SynthesizedLoss,
        SynthesizedLossGate,
        TeacherPairs,
        TeacherTraces,
        align_with_teacher,
        conditional_teacher,
    )
    from tfp_distill.domains import ImageDomain, RowDomain
    from tfp_distill.export import export_flow, export_litert
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
    from tfp_distill.training import (
        Backup,
        HeldCosineDecay,
        Partition,
        PartSchedule,
        PrefixCache,
        StopOnSkippedSteps,
    )

__all__ = [
    "Backup",
    "Columns",
    "DistillationMonitor",
    "Flow",
    "FlowDistiller",
    "ForwardKLLoss",
    "GlowConfig",
    "GuidedLoss",
    "HeldCosineDecay",
    "ImageDomain",
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
    "RowDomain",
    "SampleTeacher",
    "StopOnSkippedSteps",
    "SynthesizedLoss",
    "SynthesizedLossGate",
    "TabularGlowConfig",
    "TeacherPairs",
    "TeacherTraces",
    "align_with_teacher",
    "conditional_teacher",
    "export_flow",
    "export_litert",
    "interpolate",
    "load_flow",
    "preset_names",
]

_PLACES = ("flows", "distillation", "training", "export", "pixels", "columns", "domains")


def __getattr__(name: str) -> Any:
    """Imports TensorFlow with the first name that needs it: a wrong flag is told of at once."""
    if name in __all__ or name in _PLACES:
        modules = {place: importlib.import_module(f"{__name__}.{place}") for place in _PLACES}
        found = (vars(module)[name] for module in modules.values() if name in module.__all__)
        return modules.get(name) or next(found)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
