"""The scalar transforms by the names that configurations give them."""

from __future__ import annotations

from typing import Any

from tfp_distill.bijectors.transforms.additive import AdditiveTransform
from tfp_distill.bijectors.transforms.affine import AffineTransform
from tfp_distill.bijectors.transforms.scalar_transform import ScalarTransform
from tfp_distill.bijectors.transforms.spline import SplineTransform

__all__ = ["make_transform"]


def make_transform(
    argument: str,
    name: Any,
    *,
    log_scale_bound: float,
    num_bins: int,
    tail_bound: float,
    min_slope: float,
) -> ScalarTransform:
    """Makes the transform of a name.

    Args:
      argument: what the name is called where the user gave it, for the error.
      name: "affine", "additive" or "spline".
      log_scale_bound: of an affine transform, in nats; checked for all.
      num_bins: of a spline; checked for all.
      tail_bound: of a spline; checked for all.
      min_slope: of a spline; checked for all.

    Raises:
      ValueError: if there is no transform of that name, or a value breaks its rule.
    """
    made: dict[str, ScalarTransform] = {
        "affine": AffineTransform(log_scale_bound),
        "additive": AdditiveTransform(),
        "spline": SplineTransform(num_bins, tail_bound, min_slope),
    }
    if name not in made:
        raise ValueError(f'`{argument}` must be "affine", "additive" or "spline", got {name!r}.')
    return made[name]
