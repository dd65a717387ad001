"""Chains of bijectors, which show every value on the way."""

from tfp_distill.bijectors.chains.multi_scale_chain import MultiScaleChain
from tfp_distill.bijectors.chains.named_visits import named_visits
from tfp_distill.bijectors.chains.trace import (
    Segment,
    State,
    Trace,
    Visit,
    standard_normal_log_prob,
)
from tfp_distill.bijectors.chains.traced_chain import TracedChain

__all__ = [
    "MultiScaleChain",
    "Segment",
    "State",
    "Trace",
    "TracedChain",
    "Visit",
    "named_visits",
    "standard_normal_log_prob",
]
