"""BSDS300: grey 8 x 8 patches of natural photographs (63 dimensions)."""

from __future__ import annotations

import dataclasses
import pathlib
import tarfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from tfp_distill.data.tabular import builder, preprocessing

__all__ = [
    "Bsds300",
    "Bsds300Config",
    "draw_patches",
    "read_photographs",
]

_SIDE = 8
_GREY_LEVELS = 256
_SEED = 42


@dataclasses.dataclass
class Bsds300Config(tfds.core.BuilderConfig):
    """How many patches to draw.

    Attributes:
      num_train: From nine tenths of the training photographs.
      num_validation: From the other training photographs.
      num_test: From the test photographs.
    """

    num_train: int = 1_000_000
    num_validation: int = 50_000
    num_test: int = 250_000


class Bsds300(builder.TabularBuilder):
    """BSDS300: 63 dimensions, 1,000,000 training patches by default.

    The patches of the published benchmark were drawn once and their places were not recorded, so
    these are a draw of our own, by a fixed seed, from the same photographs by the same recipe and
    in the same numbers. Log-likelihoods are comparable with published ones only up to that draw
    (and up to the JPEG decoder's rounding).

    Validation patches come from photographs that no training patch comes from: a tenth of the
    training photographs (20 of 200), chosen by the seed.

    The columns are not standardised, as in the papers.
    """

    DESCRIPTION = "Grey 8 x 8 patches of BSDS300 photographs without their mean and last pixel."
    HOMEPAGE = "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/bsds/"
    CITATION = """\
@inproceedings{martin2001database,
  author = {Martin, David and Fowlkes, Charless and Tal, Doron and Malik, Jitendra},
  title = {A Database of Human Segmented Natural Images and its Application to Evaluating
           Segmentation Algorithms and Measuring Ecological Statistics},
  booktitle = {International Conference on Computer Vision},
  year = {2001}
}"""
    BUILDER_CONFIGS = [
        Bsds300Config(name="full", description="As many patches as in the papers."),
        Bsds300Config(
            name="small",
            description="A fifth of the training and test patches.",
            num_train=200_000,
            num_validation=20_000,
            num_test=50_000,
        ),
    ]
    ARCHIVES = {
        "photographs": builder.Archive(
            "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/bsds/BSDS300-images.tgz",
            ("BSDS300-images.tgz",),
        )
    }
    FEATURE_NAMES = tuple(
        f"pixel_{row}_{column}" for row in range(_SIDE) for column in range(_SIDE)
    )[:-1]

    def _preprocess(self, paths: Mapping[str, Any]) -> preprocessing.Splits:
        photographs = read_photographs(paths["photographs"])
        rng = np.random.RandomState(_SEED)
        order = rng.permutation(len(photographs["train"]))
        num_held_out = max(1, len(order) // 10)
        held_out = [photographs["train"][i] for i in order[:num_held_out]]
        training = [photographs["train"][i] for i in order[num_held_out:]]
        config = self.builder_config
        return preprocessing.Splits(
            train=draw_patches(training, config.num_train, rng=rng),
            validation=draw_patches(held_out, config.num_validation, rng=rng),
            test=draw_patches(photographs["test"], config.num_test, rng=rng),
        )


def read_photographs(path: Any) -> dict[str, list[np.ndarray]]:
    """Reads the luma of the photographs.

    Args:
      path: The gzipped tar file that Berkeley publishes, with `images/train` and `images/test`.

    Returns:
      The photographs of `"train"` and of `"test"` in the order of their names, uint8
      `[height, width]` each.

    Raises:
      ValueError: If there are fewer than two training or no test photographs.
    """
    encoded: dict[str, dict[str, bytes]] = {"train": {}, "test": {}}
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            name = pathlib.PurePosixPath(member.name)
            if name.suffix == ".jpg" and name.parent.name in encoded:
                file = archive.extractfile(member)
                if file is not None:  # A folder has no content.
                    encoded[name.parent.name][name.name] = file.read()
    if len(encoded["train"]) < 2 or not encoded["test"]:
        raise ValueError(
            "the archive must hold at least 2 training and 1 test photographs, got "
            f"{len(encoded['train'])} and {len(encoded['test'])}."
        )
    return {
        part: [_decode_grey(files[name]) for name in sorted(files)]
        for part, files in encoded.items()
    }


def draw_patches(
    photographs: list[np.ndarray], num_patches: int, *, rng: np.random.RandomState
) -> np.ndarray:
    """Draws 8 x 8 patches at uniform places of uniformly chosen photographs.

        y = (patch + u) / 256,   u uniform in [0, 1);   x = (y - mean(y)) without its last pixel

    Source: Uria, Murray and Larochelle, 2013, "RNADE: The real-valued neural autoregressive
    density-estimator", arXiv:1306.0186, section 4.2; Zoran and Weiss, 2011.

    Args:
      photographs: Grey photographs, uint8 `[height, width]` each, sizes may differ.
      num_patches: How many patches.
      rng: The source of places and noise.

    Returns:
      The patches in random order, float32 `[num_patches, 63]`.
    """
    patches = np.empty([num_patches, _SIDE * _SIDE], np.float32)
    owners = rng.randint(len(photographs), size=num_patches)
    for index, photograph in enumerate(photographs):
        (places,) = np.nonzero(owners == index)
        windows = np.lib.stride_tricks.sliding_window_view(photograph, (_SIDE, _SIDE))
        tops = rng.randint(windows.shape[0], size=len(places))
        lefts = rng.randint(windows.shape[1], size=len(places))
        noisy = windows[tops, lefts].reshape(len(places), -1) + rng.rand(len(places), _SIDE**2)
        noisy /= _GREY_LEVELS
        patches[places] = noisy - noisy.mean(axis=1, keepdims=True)
    return np.ascontiguousarray(patches[:, :-1])


def _decode_grey(encoded: bytes) -> np.ndarray:
    # One channel asks the JPEG decoder for luma (ITU-R BT.601); the exact transform repeats.
    return tf.io.decode_jpeg(encoded, channels=1, dct_method="INTEGER_ACCURATE").numpy()[..., 0]
