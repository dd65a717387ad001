"""POWER: the electricity a household used, minute by minute (6 dimensions)."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from tfp_distill.data.tabular import builder, preprocessing

__all__ = [
    "FEATURE_NAMES",
    "Power",
    "preprocess",
    "read_archive",
]

FEATURE_NAMES = (
    "global_active_power",
    "voltage",
    "sub_metering_1",
    "sub_metering_2",
    "sub_metering_3",
    "time",
)

_MEASUREMENTS = (
    "Global_active_power",
    "Voltage",
    "Sub_metering_1",
    "Sub_metering_2",
    "Sub_metering_3",
)
_TEXT_NAME = "household_power_consumption.txt"
_SHUFFLE_AND_NOISE_SEED = 42


class Power(builder.TabularBuilder):
    """POWER: 6 dimensions, about 1.66 million training rows."""

    DESCRIPTION = "Electric power consumption of one household, one row a minute, 2006 to 2010."
    HOMEPAGE = "https://archive.ics.uci.edu/dataset/235"
    CITATION = """\
@misc{hebrail2012individual,
  author = {Hebrail, Georges and Berard, Alice},
  title = {Individual Household Electric Power Consumption},
  year = {2012},
  howpublished = {UCI Machine Learning Repository},
  doi = {10.24432/C58K54},
  note = {CC BY 4.0}
}"""
    ARCHIVES = {
        "measurements": builder.Archive(
            f"{builder.UCI}/00235/household_power_consumption.zip",
            (
                "household_power_consumption.zip",
                "individual+household+electric+power+consumption.zip",
            ),
        )
    }
    FEATURE_NAMES = FEATURE_NAMES

    def _preprocess(self, paths: Mapping[str, Any]) -> preprocessing.Splits:
        return preprocess(read_archive(paths["measurements"]))


def read_archive(path: Any) -> np.ndarray:
    """Reads the measurements out of the archive that UCI publishes.

    Args:
      path: The zip file; its text has a header, `;` between fields and `?` for missing values.

    Returns:
      The complete rows in the order of the file, float64 `[n, 6]`: `FEATURE_NAMES` in the file's
      units (kW, V, three times Wh, and minutes since midnight).
    """
    with zipfile.ZipFile(path) as archive, archive.open(_TEXT_NAME) as text:
        table = pd.read_csv(
            text,
            sep=";",
            na_values="?",
            usecols=["Time", *_MEASUREMENTS],
            dtype={"Time": "category"},
        )
    table = table.dropna()
    # A day has only 1,440 distinct times, so each is parsed once.
    minutes = table["Time"].cat.rename_categories(_minutes_since_midnight).astype(np.float64)
    return np.column_stack([table[list(_MEASUREMENTS)].to_numpy(np.float64), minutes])


def preprocess(
    measurements: np.ndarray, *, num_validation: int | None = None, num_test: int | None = None
) -> preprocessing.Splits:
    """Shuffles, dequantises, splits and standardises the measurements.

    Every measurement is a multiple of its meter's resolution, so uniform noise of one resolution
    fills the gaps: 0.001 kW, 0.01 V and 1 Wh. The time gets none.

    Source: Papamakarios, Pavlakou and Murray, 2017, arXiv:1705.07057, appendix D, with the order
    of random numbers of the authors' released data sets (one generator of seed 42 for the shuffle,
    then the noise of the voltage, of the power and of the three sub-meters).

    Args:
      measurements: What `read_archive` returned, `[n, 6]`.
      num_validation: How many validation rows, by default a tenth of what the test rows leave.
      num_test: How many test rows, by default a tenth.

    Returns:
      The splits, float32, in units of training and validation rows together.
    """
    rng = np.random.RandomState(_SHUFFLE_AND_NOISE_SEED)
    order = np.arange(len(measurements))
    rng.shuffle(order)  # The same permutation as shuffling the rows themselves, but fast.
    values = measurements[order]
    num_rows = len(values)
    voltage = 0.01 * rng.rand(num_rows, 1)
    active_power = 0.001 * rng.rand(num_rows, 1)
    sub_metering = rng.rand(num_rows, 3)
    values[:, :5] += np.hstack([active_power, voltage, sub_metering])
    splits = preprocessing.split_from_the_end(
        values, num_validation=num_validation, num_test=num_test
    )
    reference = np.concatenate([splits.train, splits.validation])
    return preprocessing.standardize(splits, reference=reference).as_float32()


def _minutes_since_midnight(time: str) -> float:
    hours, minutes, _ = time.split(":")
    return 60.0 * int(hours) + int(minutes)
