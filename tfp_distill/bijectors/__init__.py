"""Bijectors: TensorFlow Probability subclasses whose weights Keras can see."""

from tfp_distill.bijectors.actnorm import ActNorm
from tfp_distill.bijectors.chains import (
    MultiScaleChain,
    Segment,
    State,
    Trace,
    TracedChain,
    Visit,
    named_visits,
    standard_normal_log_prob,
)
from tfp_distill.bijectors.coupling import Coupling
from tfp_distill.bijectors.factor_out import FactorOut
from tfp_distill.bijectors.invertible_linear import InvertibleLinear
from tfp_distill.bijectors.keras_bijector import (
    KerasBijector,
    forward_and_fldj,
    inverse_and_ildj,
    recompute_passes,
    uninverted,
)
from tfp_distill.bijectors.masked_autoregressive import MaskedAutoregressive
from tfp_distill.bijectors.shared_passes import share_passes
from tfp_distill.bijectors.squeeze import Squeeze
from tfp_distill.bijectors.standardize import Standardize
from tfp_distill.bijectors.standardize_bounded import StandardizeBounded
from tfp_distill.bijectors.transforms import (
    AdditiveTransform,
    AffineTransform,
    ScalarTransform,
    SplineTransform,
)

__all__ = [
    "ActNorm",
    "AdditiveTransform",
    "AffineTransform",
    "Coupling",
    "FactorOut",
    "InvertibleLinear",
    "KerasBijector",
    "MaskedAutoregressive",
    "MultiScaleChain",
    "Segment",
    "State",
    "ScalarTransform",
    "SplineTransform",
    "Squeeze",
    "Standardize",
    "StandardizeBounded",
    "Trace",
    "TracedChain",
    "Visit",
    "forward_and_fldj",
    "inverse_and_ildj",
    "named_visits",
    "recompute_passes",
    "share_passes",
    "standard_normal_log_prob",
    "uninverted",
]
