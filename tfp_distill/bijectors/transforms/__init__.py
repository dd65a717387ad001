"""Monotonic maps of one number, which couplings and autoregressive bijectors apply everywhere."""

from tfp_distill.bijectors.transforms.additive import AdditiveTransform
from tfp_distill.bijectors.transforms.affine import AffineTransform
from tfp_distill.bijectors.transforms.named import make_transform
from tfp_distill.bijectors.transforms.scalar_transform import ScalarTransform
from tfp_distill.bijectors.transforms.spline import SplineTransform

__all__ = [
    "AdditiveTransform",
    "AffineTransform",
    "ScalarTransform",
    "SplineTransform",
    "make_transform",
]
