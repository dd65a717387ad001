"""The names of partitions, and of the students that are trained in them."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["END_TO_END", "PartitionName", "split_model_name"]

END_TO_END = "end_to_end"
_SHARES = r"(?P<kind>by_block|across_blocks)_(?P<number>[2-9]|[1-9]\d+)"
_STEPS = r"(?P<at_steps>at_steps)(?P<ends>(?:_[1-9]\d*)+)"
_PATTERN = rf"{END_TO_END}|{_SHARES}|{_STEPS}"


class PartitionName(NamedTuple):
    """What a name says: "end_to_end", "by_block_2", "across_blocks_3" or "at_steps_48_80".

    Attributes:
      kind: "end_to_end", "by_block", "across_blocks" or "at_steps".
      num_parts: number of parts.
      boundaries: the last steps of all parts but the last one, of "at_steps".
    """

    kind: str
    num_parts: int
    boundaries: tuple[int, ...] = ()

    @classmethod
    def parse(cls, name: str) -> PartitionName | None:
        """Returns what a name says; None if it is not the name of a partition."""
        found = re.fullmatch(_PATTERN, name)
        if found is None:
            return None
        if found["at_steps"]:
            boundaries = tuple(map(int, found["ends"].split("_")[1:]))
            return cls("at_steps", len(boundaries) + 1, boundaries)
        return cls(found["kind"] or END_TO_END, int(found["number"] or 1))


def split_model_name(name: str, methods: tuple[str, ...]) -> tuple[str, PartitionName] | None:
    """Returns method and partition of a student of that name; None if it is not one."""
    for method in methods:
        found = re.fullmatch(rf"{method}(?:_(.+))?", name)
        partition = PartitionName.parse(found[1] or END_TO_END) if found else None
        if partition is not None:
            return method, partition
    return None
