"""Flows: configurations, and the Keras model that they build."""

from tfp_distill.flows.config import FlowConfig
from tfp_distill.flows.flow import Flow
from tfp_distill.flows.glow import GlowConfig
from tfp_distill.flows.interpolation import interpolate, interpolate_latents
from tfp_distill.flows.loading import load_flow
from tfp_distill.flows.maf import MAFConfig
from tfp_distill.flows.presets import preset_config, preset_names
from tfp_distill.flows.tabular_glow import TabularGlowConfig

__all__ = [
    "Flow",
    "FlowConfig",
    "GlowConfig",
    "MAFConfig",
    "TabularGlowConfig",
    "interpolate",
    "interpolate_latents",
    "load_flow",
    "preset_config",
    "preset_names",
]
