"""A subset of real data that comes with the library: 100,000 rows of POWER.

The data are from "Individual Household Electric Power Consumption" by Georges Hebrail and Alice
Berard, UCI Machine Learning Repository, 2012, https://doi.org/10.24432/C58K54, licensed under
CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/). Changes: rows with missing values, three
columns (date, global reactive power, global intensity) and all but 100,000 rows, drawn at random,
were left out; the time is in minutes since midnight. `make` holds the exact procedure.
"""

from __future__ import annotations

import importlib.resources

import numpy as np

__all__ = [
    "FILE_NAME",
    "NUM_TEST",
    "NUM_VALIDATION",
    "UNITS",
    "load_measurements",
]

FILE_NAME = "power_100k.npz"
NUM_VALIDATION = 10_000
NUM_TEST = 10_000

# Stored integers times `1 / UNITS[name]` are the values of the published text, in its order.
UNITS = {
    "global_active_power": 1000,
    "voltage": 100,
    "sub_metering_1": 1,
    "sub_metering_2": 1,
    "sub_metering_3": 1,
    "time": 1,
}


def load_measurements() -> np.ndarray:
    """Returns the measurements as published, without noise, float64 `[100000, 6]`.

    The columns are those of `UNITS`, in kW, V, three times Wh and minutes since midnight.
    """
    resource = importlib.resources.files(__name__).joinpath(FILE_NAME)
    with resource.open("rb") as file, np.load(file) as stored:
        return np.column_stack([stored[name] / unit for name, unit in UNITS.items()])
