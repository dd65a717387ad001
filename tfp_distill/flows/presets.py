"""The architectures of the papers, by name."""

from __future__ import annotations

from tfp_distill.flows.config import FlowConfig
from tfp_distill.flows.maf import MAFConfig
from tfp_distill.flows.tabular_glow import TabularGlowConfig

__all__ = ["preset_config", "preset_names"]

_DIMS = {"power": 6, "gas": 8, "hepmass": 21, "miniboone": 43, "bsds300": 63}
# Walton et al., 2023, Tables 2 and 3; the depths are those that give the printed parameter counts.
_TABULAR = {
    "glow_student": (TabularGlowConfig, dict(num_steps=3, hidden_units=32)),
    "glow_teacher": (TabularGlowConfig, dict(num_steps=5, hidden_units=64)),
    "maf_student": (MAFConfig, dict(num_steps=3, hidden_units=32)),
    "maf_teacher": (MAFConfig, dict(num_steps=6, hidden_units=32)),
}


def preset_names() -> tuple[str, ...]:
    """Returns the names of all presets."""
    return tuple(f"{data}_{model}" for data in _DIMS for model in _TABULAR)


def preset_config(name: str) -> FlowConfig:
    """Returns the configuration of a preset.

    Args:
      name: `<power|gas|hepmass|miniboone|bsds300>_<glow|maf>_<teacher|student>`.

    Raises:
      ValueError: if there is no preset of that name.
    """
    data, _, model = name.partition("_")
    if data not in _DIMS or model not in _TABULAR:
        raise ValueError(f"`name` must be one of {', '.join(preset_names())}, got {name!r}.")
    config_class, sizes = _TABULAR[model]
    return config_class(dims=_DIMS[data], **sizes)
