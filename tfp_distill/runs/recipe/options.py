"""Options of a run: fields of frozen dataclasses with a text of help, and their checks."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

__all__ = ["Options", "option"]


def option(default: Any, help_text: str) -> Any:
    """Returns a field of `Options`, of the type of its default, with the help of its flag."""
    return dataclasses.field(default=default, metadata={"help": help_text})


@dataclasses.dataclass(frozen=True)
class Options:
    """Values that a run is made of; each field has a flag of its name.

    A subclass checks its own fields in `__post_init__`, after those of its bases.

    Raises:
      ValueError: if a value breaks its rule.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            values = value if isinstance(value, tuple) else (value,)
            finite = all(math.isfinite(item) for item in values if isinstance(item, float))
            self.check(field.name, "finite", finite)

    def check(self, name: str, rule: str, is_legal: bool) -> None:
        """Raises `ValueError` with the name, rule and value of an option that breaks it."""
        if not is_legal:
            raise ValueError(f"`{name}` must be {rule}, got {getattr(self, name)!r}.")

    def check_at_least(self, minimum: int, *names: str) -> None:
        """Checks that numbers are at least `minimum`."""
        for name in names:
            self.check(name, f"at least {minimum}", getattr(self, name) >= minimum)

    def check_positive(self, *names: str) -> None:
        """Checks that numbers are positive."""
        for name in names:
            self.check(name, "positive", getattr(self, name) > 0)
