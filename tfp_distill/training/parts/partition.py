"""Where gradients stop: the contiguous parts of a flow."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tfp_distill.training.contracts import SteppedFlow
from tfp_distill.training.parts.step_cost import balanced_ends, measure_step_costs

__all__ = ["BALANCES", "Part", "Partition"]

BALANCES = ("steps", "parameters", "cost")
_HEADER = ("part", "steps", "parameters", "dims in", "dims out")


@dataclasses.dataclass(frozen=True)
class Part:
    """A contiguous range of a flow's steps, which is optimised by itself.

    Attributes:
      first_step: its first step, counted from 1.
      last_step: its last step.
      num_parameters: number of trainable parameters.
      dims_in: dimensions that it receives.
      dims_out: dimensions that it hands on; the others it has factored out.
    """

    first_step: int
    last_step: int
    num_parameters: int
    dims_in: int
    dims_out: int

    @property
    def steps(self) -> tuple[int, int]:
        """Its first and its last step."""
        return self.first_step, self.last_step


@keras.saving.register_keras_serializable("tfp_distill")
@dataclasses.dataclass(frozen=True)
class Partition:
    """The division of a flow f = f_n o ... o f_1 into n contiguous parts, data's end first.

    A part is trained as a flow of its own, on what it receives from the parts before it, which is a
    constant (PARTS, eq. 3):

        L_k = -log N(f_k(h_{k-1}); 0, I) - log|det df_k / dh_{k-1}|,  h_{k-1} = f_{k-1} o ... o f_1

    where f_k(h) is all that it yields: what it hands on and what it factors out. End to end is the
    partition with one part. `print(partition)` shows a table; it is saved with the model.

    Parts are counted from 0, as the optimisers of `compile`; steps from 1, as everywhere.

    Attributes:
      parts: the parts; make them by `by_block`, `across_blocks`, `at_steps` or `end_to_end`.
    """

    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("`parts` must hold at least one part, got none.")

    @classmethod
    def by_block(cls, flow: SteppedFlow, num_parts: int) -> Partition:
        """Divides at the ends of levels; the last part holds all levels that are left.

        The half of the dimensions that a level factors out is finished with its part (PARTS,
        figure 1a).

        Args:
          flow: a `Flow`.
          num_parts: number of parts, at most the number of levels.
        """
        ends = flow.level_ends or (flow.num_steps,)
        _check_num_parts(num_parts, len(ends), f"the levels of {flow.name!r}")
        return cls.at_steps(flow, ends[: num_parts - 1])

    @classmethod
    def across_blocks(cls, flow: SteppedFlow, num_parts: int, balance: str = "steps") -> Partition:
        """Divides into equal shares, never at the end of a level.

        So what a level factors out lies inside a part, which goes on with the other half (PARTS,
        figure 1b). Shares are as equal as that allows: the sum of their squares is least.

        Args:
          flow: a `Flow`.
          num_parts: number of parts.
          balance: equal shares of "steps", of trainable "parameters", or of "cost", the time of a
            step forward and backward as measured on this machine.
        """
        if balance not in BALANCES:
            raise ValueError(f"`balance` must be one of {', '.join(BALANCES)}, got {balance!r}.")
        steps = range(1, flow.num_steps + 1)
        allowed = [step for step in steps[:-1] if step not in flow.level_ends]
        _check_num_parts(num_parts, len(allowed) + 1, f"the places inside levels of {flow.name!r}")
        if balance == "cost":
            costs = measure_step_costs(flow)
        elif balance == "parameters":
            costs = [_count(flow, step, step) for step in steps]
        else:
            costs = [1.0] * flow.num_steps
        return cls.at_steps(flow, balanced_ends(costs, num_parts, allowed))

    @classmethod
    def at_steps(cls, flow: SteppedFlow, boundaries: Sequence[int]) -> Partition:
        """Divides behind the given steps.

        Args:
          flow: a `Flow`.
          boundaries: the last step of every part but the last one, rising, counted from 1.
        """
        boundaries = tuple(boundaries)
        ends = (*boundaries, flow.num_steps)
        if not all(a < b for a, b in itertools.pairwise((0, *ends))):
            raise ValueError(
                f"`boundaries` must be rising steps from 1 to {flow.num_steps - 1} of "
                f"{flow.name!r}, got {boundaries}."
            )
        dims = [math.prod(shape) for shape in flow.bijector.arriving_shapes(flow.event_shape)]
        dims.append(dims[-1])  # Of the latent, what is left after the last step.
        parts = tuple(
            Part(begin + 1, end, _count(flow, begin + 1, end), dims[begin + 1], dims[end + 1])
            for begin, end in itertools.pairwise((0, *ends))
        )
        if fixed := [part for part in parts if not part.num_parameters and len(parts) > 1]:
            raise ValueError(
                "`boundaries` must leave trainable weights in every part, got none in steps "
                f"{fixed[0].first_step} to {fixed[0].last_step} of {flow.name!r}."
            )
        return cls(parts)

    @classmethod
    def end_to_end(cls, flow: SteppedFlow) -> Partition:
        """One part: the gradients of plain maximum likelihood."""
        return cls.at_steps(flow, ())

    @property
    def ends(self) -> tuple[int, ...]:
        """The last step of every part, counted from 1; no gradient crosses them."""
        return tuple(part.last_step for part in self.parts)

    def check(self, flow: SteppedFlow) -> None:
        """Raises `ValueError` if this is not a partition of the flow."""
        ends = self.ends
        if ends[-1] == flow.num_steps and Partition.at_steps(flow, ends[:-1]) == self:
            return
        raise ValueError(
            f"`partition` must be one of {flow.name!r}, with {flow.num_steps} steps and "
            f"{_count(flow, 1, flow.num_steps):,} trainable parameters, got one with {ends[-1]} "
            f"steps and {sum(part.num_parameters for part in self.parts):,}."
        )

    def __str__(self) -> str:
        rows = [
            (
                str(index),
                f"{part.first_step}-{part.last_step}",
                f"{part.num_parameters:,}",
                f"{part.dims_in:,}",
                f"{part.dims_out:,}",
            )
            for index, part in enumerate(self.parts)
        ]
        widths = [max(map(len, column)) for column in zip(_HEADER, *rows, strict=True)]
        lines = [
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            for row in (_HEADER, *rows)
        ]
        return "\n".join(lines)

    def get_config(self) -> dict[str, Any]:
        """Returns the fields, for Keras serialisation."""
        return {"parts": [dataclasses.astuple(part) for part in self.parts]}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Partition:
        """Makes the partition from `get_config`'s result."""
        return cls(tuple(Part(*fields) for fields in config["parts"]))


def _count(flow: SteppedFlow, first_step: int, last_step: int) -> int:
    weights = flow.step_weights(first_step, last_step)
    return int(sum(np.prod(weight.shape) for weight in weights))


def _check_num_parts(num_parts: int, maximum: int, of: str) -> None:
    if not isinstance(num_parts, int) or not 1 <= num_parts <= maximum:
        raise ValueError(
            f"`num_parts` must be an integer from 1 to {maximum}, as {of} allow, got {num_parts!r}."
        )
