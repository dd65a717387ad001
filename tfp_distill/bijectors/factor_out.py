"""The end of a level: the half of the channels that leaves the flow, whitened."""

from __future__ import annotations

import keras

from tfp_distill.bijectors.coupling import Coupling
from tfp_distill.bijectors.transforms import AffineTransform

__all__ = ["FactorOut"]


class FactorOut(Coupling):
    """Whitens the half that leaves the flow by a Gaussian that the kept half determines.

        x = (a, b),  p(b | a) = N(mean, exp(log_scale)^2),  (mean, raw) = prior(a)
        normalizing:  z = (a, (b - mean) * exp(-log_scale))     ildj = -sum(log_scale)
        generative:   x = (a, mean + b' * exp(log_scale))       fldj =  sum(log_scale)

    As b' is standard normal where b has the density p(b | a),

        log N(b'; 0, I) + ildj = log p(b | a),

    so that the latents which a multi-scale flow factors out (Dinh, Sohl-Dickstein and Bengio, 2017,
    arXiv:1605.08803, section 3.6; Kingma and Dhariwal, 2018, arXiv:1807.03039) are part of one
    standard-normal z, and no density is left to be added to the likelihood. The map is that of an
    affine coupling, with the same bound of the log-scale. b leaves in `MultiScaleChain`.

    Args:
      prior: Keras layer or model, `[..., H, W, C/2] -> [..., H, W, C]`: first all means, then all
        raw log-scales.
      channels: size C of the last axis, even.
      log_scale_bound: the bound of the log-scale, in nats.
      name: name of the bijector.
    """

    def __init__(
        self,
        prior: keras.layers.Layer,
        channels: int,
        *,
        log_scale_bound: float = 3.0,
        name: str = "factor_out",
    ) -> None:
        if channels % 2:
            raise ValueError(f"`channels` must be even, got {channels}.")
        transform = AffineTransform(log_scale_bound)
        super().__init__(prior, channels, transform=transform, event_ndims=3, name=name)
