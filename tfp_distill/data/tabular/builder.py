"""The TFDS builder that the five tabular benchmarks share."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from tfp_distill.data.tabular import preprocessing

__all__ = [
    "ROWS_PER_EXAMPLE",
    "UCI",
    "Archive",
    "TabularBuilder",
]

UCI = "https://archive.ics.uci.edu/ml/machine-learning-databases"
ROWS_PER_EXAMPLE = 8192


@dataclasses.dataclass(frozen=True)
class Archive:
    """A file as its source publishes it.

    Attributes:
      url: Where it is downloaded from.
      filenames: The names under which it is accepted in `manual_dir`, the first found being taken.
    """

    url: str
    filenames: tuple[str, ...]


# The base class, which is untyped, takes the argument.
class TabularBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Downloads (or finds) published archives and stores preprocessed rows.

    One TFDS example is a block of up to `ROWS_PER_EXAMPLE` rows, `{"features": [n, D]}`, because a
    row of a few floats costs far more to write and parse than it holds. `dataset.unbatch()` gives
    single rows; the rows stay in the order of the preprocessing.

    A subclass sets the class attributes and `_preprocess`.

    Attributes:
      DESCRIPTION: One sentence on what a row is.
      HOMEPAGE: Where the source describes the data.
      CITATION: BibTeX of the source.
      ARCHIVES: The files that `_preprocess` reads, by a name of our own.
      FEATURE_NAMES: The names of the D columns after preprocessing.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "The preprocessing of arXiv:1705.07057."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Optional. A published archive found in `manual_dir` under its published name is used in "
        "place of a download."
    )
    DESCRIPTION: ClassVar[str]
    HOMEPAGE: ClassVar[str]
    CITATION: ClassVar[str]
    ARCHIVES: ClassVar[Mapping[str, Archive]]
    FEATURE_NAMES: ClassVar[tuple[str, ...]]

    def _info(self) -> tfds.core.DatasetInfo:
        shape = (None, len(self.FEATURE_NAMES))
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.DESCRIPTION,
            features=tfds.features.FeaturesDict(
                {"features": tfds.features.Tensor(shape=shape, dtype=np.float32)}
            ),
            homepage=self.HOMEPAGE,
            citation=self.CITATION,
            disable_shuffling=True,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, np.ndarray]]]]:
        splits = self._preprocess(
            {name: self._find(dl_manager, archive) for name, archive in self.ARCHIVES.items()}
        )
        num_dims = splits.train.shape[1]
        if num_dims != len(self.FEATURE_NAMES):
            raise ValueError(
                f"`{self.name}` must have {len(self.FEATURE_NAMES)} dimensions after "
                f"preprocessing, got {num_dims}: the archive is not the published one."
            )
        return {
            "train": self._generate_examples(splits.train),
            "validation": self._generate_examples(splits.validation),
            "test": self._generate_examples(splits.test),
        }

    def _generate_examples(self, rows: np.ndarray) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        for start in range(0, len(rows), ROWS_PER_EXAMPLE):
            block = np.ascontiguousarray(rows[start : start + ROWS_PER_EXAMPLE], np.float32)
            yield start, {"features": block}

    def _find(self, dl_manager: tfds.download.DownloadManager, archive: Archive) -> Any:
        """Returns the path of the archive in `manual_dir`, else of its download."""
        try:
            manual_dir = dl_manager.manual_dir
        except AssertionError:  # TFDS's way to say that the directory is absent or empty.
            pass
        else:
            for filename in archive.filenames:
                if (manual_dir / filename).exists():
                    return manual_dir / filename
        try:
            return dl_manager.download(archive.url)
        except (OSError, tfds.download.DownloadError) as error:
            raise OSError(
                f"`{self.name}` needs {archive.url}, which could not be downloaded ({error}). "
                f"Put the file into a directory as {' or '.join(archive.filenames)} and pass that "
                "directory as `manual_dir`."
            ) from error

    @abc.abstractmethod
    def _preprocess(self, paths: Mapping[str, Any]) -> preprocessing.Splits:
        """Reads the archives and returns the float32 splits.

        Args:
          paths: Where the `ARCHIVES` lie, by name.
        """
