"""Flows for programs that do not have this library."""

from tfp_distill.export.litert import WEIGHTS, export_litert
from tfp_distill.export.saved_model import check_replaceable, export_flow

__all__ = ["WEIGHTS", "check_replaceable", "export_flow", "export_litert"]
