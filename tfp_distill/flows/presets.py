"""The architectures of the papers, and smaller ones, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tfp_distill.flows.config import FlowConfig
from tfp_distill.flows.glow import GlowConfig
from tfp_distill.flows.maf import MAFConfig
from tfp_distill.flows.tabular_glow import TabularGlowConfig

__all__ = ["preset_config", "preset_names"]

_DIMS = {"power": 6, "gas": 8, "hepmass": 21, "miniboone": 43, "bsds300": 63}
_SPLINE: dict[str, Any] = dict(coupling="spline", num_hidden_layers=2)
# Walton et al., 2023, Tables 2 and 3; the depths are those that give the printed parameter counts.
_TABULAR: dict[str, tuple[Callable[..., FlowConfig], dict[str, Any]]] = {
    "glow_student": (TabularGlowConfig, dict(num_steps=3, hidden_units=32)),
    "glow_teacher": (TabularGlowConfig, dict(num_steps=5, hidden_units=64)),
    "maf_student": (MAFConfig, dict(num_steps=3, hidden_units=32)),
    "maf_teacher": (MAFConfig, dict(num_steps=6, hidden_units=32)),
    # Neural spline flows (Durkan et al., 2019) of fewer weights than the affine ones beside them,
    # and a teacher that two cores can train.
    "spline_student": (TabularGlowConfig, dict(num_steps=4, hidden_units=30, **_SPLINE)),
    "spline_teacher": (TabularGlowConfig, dict(num_steps=8, hidden_units=112, **_SPLINE)),
}
# (image shape, levels, steps per level, hidden channels, coupling). CIFAR-10 and CelebA are those
# of Walton et al., 2023, Table 5, whose columns L and K are swapped; four levels and additive
# couplings of CelebA's teacher follow from the printed parameter count. The others are sizes that
# can be trained without an accelerator.
_IMAGES = {
    "cifar10_glow_student": ((32, 32, 3), 3, 8, 512, "affine"),
    "cifar10_glow_teacher": ((32, 32, 3), 3, 32, 512, "affine"),
    "celeba_glow_student": ((64, 64, 3), 3, 16, 256, "affine"),
    "celeba_glow_teacher": ((64, 64, 3), 4, 32, 512, "additive"),
    "fashion_mnist_glow_student": ((28, 28, 1), 2, 8, 28, "affine"),
    "fashion_mnist_glow_teacher": ((28, 28, 1), 2, 16, 64, "affine"),
    "digits_glow_student": ((8, 8, 1), 2, 4, 18, "affine"),
    "digits_glow_teacher": ((8, 8, 1), 2, 8, 64, "affine"),
}


def preset_names() -> tuple[str, ...]:
    """Returns the names of all presets."""
    return (*(f"{data}_{model}" for data in _DIMS for model in _TABULAR), *_IMAGES)


def preset_config(name: str) -> FlowConfig:
    """Returns the configuration of a preset.

    Args:
      name: `<power|gas|hepmass|miniboone|bsds300>_<glow|maf|spline>_<teacher|student>` or
        `<cifar10|celeba|fashion_mnist|digits>_glow_<teacher|student>`.

    Raises:
      ValueError: if there is no preset of that name.
    """
    if name not in preset_names():
        raise ValueError(f"`name` must be one of {', '.join(preset_names())}, got {name!r}.")
    if name in _IMAGES:
        shape, num_levels, steps_per_level, hidden_channels, coupling = _IMAGES[name]
        return GlowConfig(
            shape,
            num_levels=num_levels,
            steps_per_level=steps_per_level,
            hidden_channels=hidden_channels,
            coupling=coupling,
        )
    data, _, model = name.partition("_")
    config_class, sizes = _TABULAR[model]
    return config_class(dims=_DIMS[data], **sizes)
