"""Training: the one train_step, and the callbacks of `fit`."""

from tfp_distill.training.averaging import averaged_weights
from tfp_distill.training.batches import check_ordered_rows, placed_batches
from tfp_distill.training.callbacks.backup import Backup
from tfp_distill.training.callbacks.prefix_cache import PrefixCache
from tfp_distill.training.callbacks.schedule import MODES, PartSchedule
from tfp_distill.training.callbacks.skipped_steps import StopOnSkippedSteps
from tfp_distill.training.compiled_model import MEMORY
from tfp_distill.training.contracts import Handed, OrderedRows
from tfp_distill.training.learning_rates import HeldCosineDecay
from tfp_distill.training.memory import PeakMemory
from tfp_distill.training.parts.partition import BALANCES, Part, Partition
from tfp_distill.training.parts.pipeline import check_devices_exist
from tfp_distill.training.partwise_model import PartwiseModel
from tfp_distill.training.step_metrics import losses_by_name
from tfp_distill.training.step_random import StepRandom, sample_latents

__all__ = [
    "BALANCES",
    "Backup",
    "Handed",
    "HeldCosineDecay",
    "MEMORY",
    "MODES",
    "OrderedRows",
    "Part",
    "PartSchedule",
    "Partition",
    "PartwiseModel",
    "PeakMemory",
    "PrefixCache",
    "StepRandom",
    "StopOnSkippedSteps",
    "averaged_weights",
    "check_devices_exist",
    "check_ordered_rows",
    "losses_by_name",
    "placed_batches",
    "sample_latents",
]
