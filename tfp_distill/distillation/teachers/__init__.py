"""What can teach: flows, distributions, and whatever makes samples."""

from tfp_distill.distillation.teachers.choice import TeacherLike, as_teacher, conditional_teacher
from tfp_distill.distillation.teachers.contracts import (
    AnyTeacher,
    Knowledge,
    Teacher,
    TeacherWithoutLatents,
    check_knowledge,
)
from tfp_distill.distillation.teachers.distributions import DistributionTeacher
from tfp_distill.distillation.teachers.samples import SampleTeacher

__all__ = [
    "AnyTeacher",
    "DistributionTeacher",
    "Knowledge",
    "SampleTeacher",
    "Teacher",
    "TeacherLike",
    "TeacherWithoutLatents",
    "as_teacher",
    "check_knowledge",
    "conditional_teacher",
]
