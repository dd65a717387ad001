"""MINIBOONE: a detector's view of electron neutrinos (43 dimensions)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from tfp_distill.data.tabular import builder, preprocessing

__all__ = [
    "Miniboone",
    "read_signal",
]

_NUM_FEATURES = 50
_OUTLIER_BELOW = -100.0  # A failed event has -999 in every column.


class Miniboone(builder.TabularBuilder):
    """MINIBOONE: 43 dimensions, about 29,600 training rows of the signal class."""

    DESCRIPTION = "Particle identification variables of electron neutrino events of MiniBooNE."
    HOMEPAGE = "https://archive.ics.uci.edu/dataset/199"
    CITATION = """\
@misc{roe2005miniboone,
  author = {Roe, Byron},
  title = {MiniBooNE Particle Identification},
  year = {2005},
  howpublished = {UCI Machine Learning Repository},
  doi = {10.24432/C5QC87}
}"""
    ARCHIVES = {
        "events": builder.Archive(f"{builder.UCI}/00199/MiniBooNE_PID.txt", ("MiniBooNE_PID.txt",))
    }
    FEATURE_NAMES = tuple(f"x{i}" for i in range(43))

    def _preprocess(self, paths: Mapping[str, Any]) -> preprocessing.Splits:
        events = read_signal(paths["events"])
        events = events[events[:, 0] >= _OUTLIER_BELOW]
        events = events[:, ~preprocessing.repeats_its_smallest_value(events)]
        splits = preprocessing.split_from_the_end(events)
        reference = np.concatenate([splits.train, splits.validation])
        return preprocessing.standardize(splits, reference=reference).as_float32()


def read_signal(path: Any) -> np.ndarray:
    """Reads the signal events.

    Args:
      path: The text file that UCI publishes. Its first line holds the numbers of signal and of
        background events; an event is a line of 50 numbers, signal first.

    Returns:
      The signal events in the order of the file, float64 `[n, 50]`.
    """
    counts = pd.read_csv(path, sep=r"\s+", header=None, nrows=1)
    num_signal = int(counts.iloc[0, 0])
    return pd.read_csv(
        path,
        sep=r"\s+",
        header=None,
        skiprows=1,
        nrows=num_signal,
        names=range(_NUM_FEATURES),
        dtype=np.float64,
    ).to_numpy()
