"""Conditioners: plain Keras networks that know nothing of bijectors."""

from tfp_distill.networks.conv import ConvConditioner, ZeroConv
from tfp_distill.networks.dense import dense_conditioner
from tfp_distill.networks.made import MADE

__all__ = ["MADE", "ConvConditioner", "ZeroConv", "dense_conditioner"]
