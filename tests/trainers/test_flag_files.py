"""Tests of the recipes in flags/."""

import pathlib

import pytest
from jobs import parse

from tfp_distill import Flow, PixelFormat
from tfp_distill.domains import ImageDomain
from tfp_distill.runs.recipe import define_recipe_flags, recipe_from_flags

FLAGS = pathlib.Path(__file__).parents[2] / "flags"
DIMS = {"power": 6, "gas": 8, "hepmass": 21, "miniboone": 43, "bsds300": 63}
# Walton et al., 2023, Table 2, to the last parameter: teacher, student.
PARAMETERS = {
    "power_glow": (86_670, 13_794),
    "gas_glow": (87_800, 14_184),
    "hepmass_glow": (96_285, 17_355),
    "miniboone_glow": (114_215, 24_945),
    "bsds300_glow": (134_715, 34_365),
    "power_maf": (10_056, 5_028),
    "gas_maf": (11_232, 5_616),
    "hepmass_maf": (18_876, 9_438),
    "miniboone_maf": (31_812, 15_906),
    "bsds300_maf": (43_572, 21_786),
}


# Shape and format of the examples, and the presets or numbers of parameters of teacher and student.
IMAGES = {
    "cifar10_glow": ((32, 32, 3), PixelFormat(), 44_052_720, 11_015_664),
    "celeba_glow": ((64, 64, 3), PixelFormat(), 60_781_392, 7_896_816),
    "fashion_mnist_glow": ((28, 28, 1), PixelFormat(), 307_280, 51_728),
    "digits_glow": ((8, 8, 1), PixelFormat(num_bits=4), 153_680, 15_424),
}


def _recipe(name):
    path = FLAGS / f"{name}.flags"
    return recipe_from_flags(parse(define_recipe_flags, f"--flagfile={path}"))


def test_there_is_one_recipe_for_each_pair_of_the_paper():
    assert {path.stem for path in FLAGS.glob("*.flags")} >= set(PARAMETERS)


@pytest.mark.parametrize("path", sorted(FLAGS.glob("*.flags")), ids=lambda path: path.stem)
def test_every_recipe_is_legal(path):
    assert _recipe(path.stem).students


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_recipes_have_the_papers_sizes(name):
    recipe = _recipe(name)
    data, architecture = name.split("_")
    assert recipe.data == data
    assert (recipe.teacher_architecture, recipe.student_architecture) == (architecture,) * 2
    shape = (DIMS[data],)
    configs = recipe.teacher_config(shape), recipe.student_config(shape)
    assert tuple(Flow(config).num_parameters for config in configs) == PARAMETERS[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", IMAGES)
def test_the_recipes_of_images_say_their_sizes(name):
    shape, pixel_format, *expected = IMAGES[name]
    recipe = _recipe(name)
    configs = [
        make(shape, domain=ImageDomain(pixel_format))
        for make in (recipe.teacher_config, recipe.student_config)
    ]
    assert [Flow(config).num_parameters for config in configs] == expected
    head = (FLAGS / f"{name}.flags").read_text().split("--")[0]
    assert all(f"{number:,}" in head for number in expected)
