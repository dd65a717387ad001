"""Small, cheap normalizing flows: distillation and gradient-isolated training on Keras 3 and TFP."""

from tfp_distill.flows import Flow, MAFConfig, TabularGlowConfig, load_flow

__all__ = ["Flow", "MAFConfig", "TabularGlowConfig", "load_flow"]
