"""HEPMASS: simulated collisions that make an exotic particle of mass 1000 (21 dimensions)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from tfp_distill.data.tabular import builder, preprocessing

__all__ = [
    "Hepmass",
    "read_signal",
]

_NUM_FEATURES = 27
_SIGNAL = 1


class Hepmass(builder.TabularBuilder):
    """HEPMASS: 21 dimensions, about 315,000 training rows of the signal class."""

    DESCRIPTION = "Features of simulated particle collisions, signal class, mass 1000."
    HOMEPAGE = "https://archive.ics.uci.edu/dataset/347"
    CITATION = """\
@misc{whiteson2016hepmass,
  author = {Whiteson, Daniel},
  title = {HEPMASS},
  year = {2016},
  howpublished = {UCI Machine Learning Repository},
  doi = {10.24432/C5PP5W}
}"""
    ARCHIVES = {
        name: builder.Archive(f"{builder.UCI}/00347/{filename}", (filename,))
        for name, filename in (("train", "1000_train.csv.gz"), ("test", "1000_test.csv.gz"))
    }
    FEATURE_NAMES = tuple(f"x{i}" for i in range(21))

    def _preprocess(self, paths: Mapping[str, Any]) -> preprocessing.Splits:
        train, test = read_signal(paths["train"]), read_signal(paths["test"])
        continuous = ~preprocessing.repeats_its_smallest_value(train)
        train, test = train[:, continuous], test[:, continuous]
        num_train = len(train) - len(train) // 10
        splits = preprocessing.Splits(train[:num_train], train[num_train:], test)
        return preprocessing.standardize(splits, reference=train, ddof=1).as_float32()


def read_signal(path: Any) -> np.ndarray:
    """Reads the features of the signal class.

    Args:
      path: A gzipped CSV file as UCI publishes it: a header, then the class and 27 features. The
        published test file has a further column at the end, which is not a feature.

    Returns:
      The features of the rows of class 1 in the order of the file, float64 `[n, 27]`.
    """
    # Without `index_col=False` a longer row than the header would shift all columns by one.
    table = pd.read_csv(
        path,
        compression="gzip",
        index_col=False,
        usecols=range(1 + _NUM_FEATURES),
        dtype=np.float64,
    ).to_numpy()
    return table[table[:, 0] == _SIGNAL, 1:]
