"""How students are cut into parts."""

from __future__ import annotations

import dataclasses

from tfp_distill.runs.recipe.options import Options, option
from tfp_distill.runs.recipe.partition_names import END_TO_END, PartitionName

__all__ = ["PartOptions"]


@dataclasses.dataclass(frozen=True)
class PartOptions(Options):
    """Partitions, and how the parts take turns."""

    partitions: tuple[str, ...] = option(
        (END_TO_END,),
        "How to divide each student: end_to_end, by_block_N, across_blocks_N, at_steps_I_J...",
    )
    part_balance: str = option("steps", "What across_blocks shares: steps, parameters or cost.")
    part_mode: str = option("alternating", "sequential, alternating or simultaneous.")
    prefix_cache_gib: float = option(
        0.0, "GiB to keep what frozen parts hand on in, with sequential; 0: they run every time."
    )
    prefix_cache_epochs: int = option(
        0, "Times report_steps after which that is computed again, with new noise; 0: once a part."
    )
    devices: tuple[str, ...] = option(
        (), "The device of each part, with simultaneous: they then work at the same time."
    )
    part_learning_rate: float = option(
        0.0, "Learning rate of parts, which decays end to end; 0: the peak of students."
    )
    end_to_end_fraction: float = option(
        1 / 3, "Part of the training of a divided student that is end to end, at its end."
    )
    fresh_optimizers: bool = option(
        False, "Whether the end-to-end part of the training has new optimisers."
    )

    def __post_init__(self) -> None:
        from tfp_distill.training import BALANCES, MODES

        super().__post_init__()
        is_legal = 0 <= self.end_to_end_fraction < 1
        self.check("end_to_end_fraction", "at least 0 and less than 1", is_legal)
        for name in ("part_learning_rate", "prefix_cache_gib", "prefix_cache_epochs"):
            self.check(name, "at least 0", getattr(self, name) >= 0)
        choices = {"part_mode": MODES, "part_balance": BALANCES}
        for name, values in choices.items():
            self.check(name, f"one of {', '.join(values)}", getattr(self, name) in values)
        parsed = [known for name in self.partitions if (known := PartitionName.parse(name))]
        self.check(
            "partitions",
            "different ones of end_to_end, by_block_N, across_blocks_N and at_steps_I_J..., with "
            "a number of parts N of at least 2",
            bool(parsed) and len(set(parsed)) == len(self.partitions),
        )
        is_legal = not self.prefix_cache_gib or self.part_mode == "sequential"
        self.check("prefix_cache_gib", "0 unless `part_mode` is sequential", is_legal)
        is_legal = not self.prefix_cache_epochs or self.prefix_cache_gib > 0
        self.check("prefix_cache_epochs", "0 unless `prefix_cache_gib` is not", is_legal)
        is_legal = not self.devices or self.part_mode == "simultaneous"
        self.check("devices", "empty unless `part_mode` is simultaneous", is_legal)
        numbers = {name.num_parts for name in parsed} - {1}
        rule = "one for each part of all `partitions`"
        self.check("devices", rule, not self.devices or numbers <= {len(self.devices)})
