"""Which rows a flow was trained on, in a file beside it."""

from __future__ import annotations

import dataclasses
import os
import pathlib

from tfp_distill.data import FlowData
from tfp_distill.files import DamagedFileError, copy_file, read_json, write_json

__all__ = ["DataRecord"]

_FILE = "data.json"


@dataclasses.dataclass(frozen=True)
class DataRecord:
    """Fingerprints of data.

    Attributes:
      name: of the data.
      rows: numbers of rows to train, to validate and to test with.
      train: fingerprint of the rows to train with.
      held_out: fingerprint of the others.
    """

    name: str
    rows: tuple[int, ...]
    train: str
    held_out: str

    @property
    def sizes(self) -> str:
        """The numbers of rows, as messages have them."""
        return "/".join(f"{number:,}" for number in self.rows)

    @classmethod
    def of(cls, data: FlowData) -> DataRecord:
        """Returns the record of data."""
        rows = tuple(map(len, (data.train, data.validation, data.test)))
        return cls(data.name, rows, data.fingerprint, data.held_out_fingerprint)

    @classmethod
    def read(cls, directory: pathlib.Path) -> DataRecord | None:
        """Returns the record in a directory, or None.

        Raises:
          DamagedFileError: if its file is damaged.
        """
        path = directory / _FILE
        if not path.is_file():
            return None
        values = read_json(path)
        try:
            return cls(**{**values, "rows": tuple(values["rows"])})
        except (KeyError, TypeError) as error:
            raise DamagedFileError(f"{str(path)!r} holds no fingerprints: {error}.") from error

    @classmethod
    def beside(cls, flow_path: str | os.PathLike[str]) -> DataRecord | None:
        """Returns the record of what the flow in a file was trained on, or None."""
        return cls.read(pathlib.Path(flow_path).expanduser().parent)

    @staticmethod
    def copy(flow_path: str | os.PathLike[str], directory: pathlib.Path) -> None:
        """Copies the record that lies beside a flow, if any."""
        path = pathlib.Path(flow_path).expanduser().parent / _FILE
        if path.is_file():
            copy_file(path, directory / _FILE)

    def write(self, directory: pathlib.Path) -> None:
        """Writes the record into a directory."""
        write_json(directory / _FILE, dataclasses.asdict(self))

    def may_have_trained_on_test_rows(self, here: DataRecord) -> bool:
        """Returns whether a flow of this record may have seen the test rows of another one.

        It has not where it was trained on the same rows, or held the same rows out.
        """
        return self.train != here.train and self.held_out != here.held_out
