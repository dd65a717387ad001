"""Bijectors: TensorFlow Probability subclasses whose weights Keras can see."""

from tfp_distill.bijectors.actnorm import ActNorm
from tfp_distill.bijectors.coupling import AdditiveCoupling, AffineCoupling
from tfp_distill.bijectors.invertible_linear import InvertibleLinear
from tfp_distill.bijectors.keras_bijector import KerasBijector
from tfp_distill.bijectors.masked_autoregressive import MaskedAutoregressive
from tfp_distill.bijectors.standardize import Standardize
from tfp_distill.bijectors.traced_chain import Trace, TracedChain

__all__ = [
    "ActNorm",
    "AdditiveCoupling",
    "AffineCoupling",
    "InvertibleLinear",
    "KerasBijector",
    "MaskedAutoregressive",
    "Standardize",
    "Trace",
    "TracedChain",
]
