"""Data sets and batches of rows: `load` knows every source.

data = load("embedded")
batches = training_batches(data.train, 4096)
"""

from tfp_distill.data.batches import evaluation_batches, training_batches
from tfp_distill.data.datasets import load, sources
from tfp_distill.data.flow_data import FlowData, Statistics
from tfp_distill.data.splits import SPLITS
from tfp_distill.data.tables.look import ColumnLook
from tfp_distill.data.tables.user_tables import read_rows
from tfp_distill.data.training_rows import TrainingRows

__all__ = [
    "SPLITS",
    "ColumnLook",
    "FlowData",
    "Statistics",
    "TrainingRows",
    "evaluation_batches",
    "load",
    "read_rows",
    "sources",
    "training_batches",
]
