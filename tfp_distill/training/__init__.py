"""Training: the one train_step, and the callbacks of `fit`."""

from tfp_distill.training.averaging import averaged_weights
from tfp_distill.training.partwise_model import PartwiseModel
from tfp_distill.training.step_random import StepRandom

__all__ = ["PartwiseModel", "StepRandom", "averaged_weights"]
