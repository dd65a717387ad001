"""The rows of the benchmark sets and of the subset that comes with the library."""

from __future__ import annotations

import os
import pathlib
import sys
from typing import Any

import numpy as np

from tfp_distill.data.tables import user_tables

__all__ = [
    "NAMES",
    "load",
    "load_embedded",
    "prepare",
]

NAMES = ("power", "gas", "hepmass", "miniboone", "bsds300", "bsds300/small")

# The builders import TFDS, which takes over half a second: the functions here import them late.


def load_embedded() -> user_tables.Parts:
    """Returns the embedded subset of POWER, prepared as POWER is: 80,000/10,000/10,000 rows."""
    from tfp_distill.data import embedded
    from tfp_distill.data.tabular import power

    splits = power.preprocess(
        embedded.load_measurements(),
        num_validation=embedded.NUM_VALIDATION,
        num_test=embedded.NUM_TEST,
    )
    return user_tables.Parts(power.FEATURE_NAMES, splits.train, splits.validation, splits.test)


def load(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None,
    manual_dir: str | os.PathLike[str] | None,
) -> user_tables.Parts:
    """Reads a benchmark set, which is downloaded and prepared at its first use.

    Args:
      name: One of `NAMES`, the part after a slash being the name of the builder's configuration.
      data_dir: Where TFDS keeps prepared data, by default its own default.
      manual_dir: A directory with archives that were downloaded by hand.

    Returns:
      The rows in the order of the preprocessing.

    Raises:
      ValueError: If `manual_dir` is needed and not a directory.
      OSError: If an archive is neither in `manual_dir` nor can be downloaded.
    """
    from tfp_distill.data import tabular

    name, _, config = name.partition("/")
    builders = (tabular.Power, tabular.Gas, tabular.Hepmass, tabular.Miniboone, tabular.Bsds300)
    builder_class = {builder.name: builder for builder in builders}[name]
    builder = builder_class(data_dir=data_dir, config=config or None)
    prepare(builder, manual_dir)
    train, validation, test = (_read(builder, part) for part in ("train", "validation", "test"))
    return user_tables.Parts(builder.FEATURE_NAMES, train, validation, test)


def prepare(builder: Any, manual_dir: str | os.PathLike[str] | None) -> None:
    """Downloads and prepares the data of a TFDS builder, unless that was done before.

    Args:
      builder: A `tfds.core.DatasetBuilder`.
      manual_dir: A directory with archives that were downloaded by hand.

    Raises:
      ValueError: If `manual_dir` is needed and not a directory.
    """
    import tensorflow_datasets as tfds

    if builder.data_path.exists():  # The builder's own rule; `is_prepared` would log a warning.
        return
    if manual_dir is not None:
        manual_dir = pathlib.Path(manual_dir).expanduser()
        if not manual_dir.is_dir():
            raise ValueError(f"`manual_dir` must be an existing directory, got {manual_dir}.")
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()  # A bar would fill a log file.
    config = tfds.download.DownloadConfig(
        manual_dir=manual_dir,
        try_download_gcs=False,
        # Shared, it would mix up archives of one name: those of MNIST and Fashion-MNIST.
        extract_dir=builder.data_dir_root / "downloads" / "extracted" / builder.name,
    )
    builder.download_and_prepare(download_config=config)


def _read(builder: Any, part: str) -> np.ndarray:
    import tensorflow_datasets as tfds

    config = tfds.ReadConfig(try_autocache=False)  # The rows are read once.
    blocks = builder.as_dataset(split=part, read_config=config).as_numpy_iterator()
    return np.concatenate([block["features"] for block in blocks])
