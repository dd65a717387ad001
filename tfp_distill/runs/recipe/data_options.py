"""Which data a run is about."""

from __future__ import annotations

import dataclasses

from tfp_distill.runs.recipe.options import Options, option

__all__ = ["DataOptions"]


@dataclasses.dataclass(frozen=True)
class DataOptions(Options):
    """Where data come from, what of them is used, and how they are split."""

    data: str = option("embedded", "Name of a data set, or path of rows or images of yours.")
    data_dir: str = option("", "Where prepared benchmark data are kept; TFDS's default if empty.")
    manual_dir: str = option("", "Directory with published archives, to use instead of downloads.")
    condition_columns: tuple[str, ...] = option((), "Columns that condition the flow.")
    columns: tuple[str, ...] = option((), "Columns of a table of yours to use; all if empty.")
    drop_columns: tuple[str, ...] = option((), "Columns of a table of yours to leave out.")
    drop_missing: bool = option(False, "Whether to leave out a table's rows with missing values.")
    column_kinds: tuple[str, ...] = option(
        ("auto",),
        "What columns hold: auto, by the look of a table of yours (those of named data stay "
        "continuous); continuous; or NAME:KIND or NAME:KIND:LOW:HIGH of some, after auto or alone, "
        "KIND being continuous, integer or bounded.",
    )
    split: str = option("random", "How to split a table of yours: random or by_order, test last.")
    split_seed: int = option(0, "Seed of random splits, whatever the seed of a training.")
    validation_data: str = option("", "A table of yours to validate with; drawn if empty.")
    test_data: str = option("", "A table of yours to test with; drawn if empty.")
    train_rows: int = option(0, "Use only the first so many training rows; 0 for all.")
    num_bits: int = option(0, "Bits of a pixel's channel that are modelled; 0: all of the source.")
    padding: int = option(0, "Black pixels to add at each border of images.")
    image_size: int = option(0, "Crop images to a square and resize them to this; 0: as they are.")
    random_flip: bool = option(False, "Whether training images are mirrored at random.")

    def __post_init__(self) -> None:
        from tfp_distill.data import SPLITS

        super().__post_init__()
        self.check_at_least(0, "train_rows", "split_seed", "num_bits", "padding", "image_size")
        self.check("split", f"one of {', '.join(SPLITS)}", self.split in SPLITS)
