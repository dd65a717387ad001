"""Data sets and batches of rows: `load` knows every source.

data = load("embedded")
batches = training_batches(data.train, 4096)
"""

from tfp_distill.data.batches import evaluation_batches, training_batches
from tfp_distill.data.datasets import FlowData, Statistics, load, sources
from tfp_distill.data.training_rows import TrainingRows

__all__ = [
    "FlowData",
    "Statistics",
    "TrainingRows",
    "evaluation_batches",
    "load",
    "sources",
    "training_batches",
]
