"""Real data that come with the library: 100,000 rows of POWER and 1,797 images of digits.

The rows are from "Individual Household Electric Power Consumption" by Georges Hebrail and Alice
Berard, UCI Machine Learning Repository, 2012, https://doi.org/10.24432/C58K54, licensed under
CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/). Changes: rows with missing values, three
columns (date, global reactive power, global intensity) and all but 100,000 rows, drawn at random,
were left out; the time is in minutes since midnight. `make` holds the exact procedure.

The images are the test set of "Optical Recognition of Handwritten Digits" by E. Alpaydin and
C. Kaynak, UCI Machine Learning Repository, 1998, https://doi.org/10.24432/C50P49, licensed under
CC BY 4.0 too. Changes: the labels were left out; `make_digits` writes the file.
"""

from __future__ import annotations

import importlib.resources

import numpy as np

__all__ = [
    "DIGITS_FILE_NAME",
    "FILE_NAME",
    "NUM_HELD_OUT_DIGITS",
    "NUM_TEST",
    "NUM_VALIDATION",
    "UNITS",
    "load_digits",
    "load_measurements",
]

DIGITS_FILE_NAME = "digits.npz"
NUM_HELD_OUT_DIGITS = 180  # To validate with, and as many to test with.
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


def load_digits() -> np.ndarray:
    """Returns the images as published, uint8 `[1797, 8, 8]` with values from 0 to 16."""
    resource = importlib.resources.files(__name__).joinpath(DIGITS_FILE_NAME)
    with resource.open("rb") as file, np.load(file) as stored:
        return stored["images"]
