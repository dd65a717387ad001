"""Distillation: losses between flows, and the model that trains a student on them."""

from tfp_distill.distillation.balance import DataBalance
from tfp_distill.distillation.callbacks import (
    DistillationMonitor,
    LossWeightSchedule,
    SynthesizedLossGate,
)
from tfp_distill.distillation.distiller import FlowDistiller
from tfp_distill.distillation.initialization import (
    align_with_teacher,
    copy_linear_maps,
    copy_matching_steps,
    have_same_linear_maps,
    matching_steps,
    rows_to_align,
)
from tfp_distill.distillation.losses import (
    DistillationLoss,
    ForwardKLLoss,
    GuidedLoss,
    IntermediateLatentLoss,
    LatentLoss,
    LogDensityLoss,
    ReverseKLLoss,
    SynthesizedLoss,
)
from tfp_distill.distillation.shared_pass import sample_teacher
from tfp_distill.distillation.teacher_pairs import TeacherPairs
from tfp_distill.distillation.teacher_traces import TeacherTraces
from tfp_distill.distillation.teachers import SampleTeacher, conditional_teacher

__all__ = [
    "DataBalance",
    "DistillationLoss",
    "DistillationMonitor",
    "FlowDistiller",
    "ForwardKLLoss",
    "GuidedLoss",
    "IntermediateLatentLoss",
    "LatentLoss",
    "LogDensityLoss",
    "LossWeightSchedule",
    "ReverseKLLoss",
    "SampleTeacher",
    "SynthesizedLoss",
    "SynthesizedLossGate",
    "TeacherPairs",
    "TeacherTraces",
    "align_with_teacher",
    "conditional_teacher",
    "copy_linear_maps",
    "copy_matching_steps",
    "have_same_linear_maps",
    "matching_steps",
    "rows_to_align",
    "sample_teacher",
]
