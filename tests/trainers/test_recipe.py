"""Tests of recipes: their rules, their flags, their files."""

import dataclasses
import math

import pytest
from absl import flags
from jobs import parse

from tfp_distill.distillation import (
    ForwardKLLoss,
    GuidedLoss,
    IntermediateLatentLoss,
    LatentLoss,
    ReverseKLLoss,
    SynthesizedLoss,
)
from tfp_distill.domains import ImageDomain
from tfp_distill.flows import GlowConfig, MAFConfig, TabularGlowConfig
from tfp_distill.pixels import PixelFormat
from tfp_distill.runs.recipe import METHODS, Recipe, define_recipe_flags, recipe_from_flags

PARTS = dict(students=("student", "ilkd"), end_to_end_fraction=0.5)
RULES = [
    (dict(teacher_training_steps=0), "`teacher_training_steps` must be at least 1, got 0"),
    (dict(student_training_steps=-1), "`student_training_steps` must be at least 1, got -1"),
    (dict(batch_size=-1), "`batch_size` must be at least 0, got -1"),
    (dict(report_steps=0), "`report_steps` must be at least 1, got 0"),
    (dict(train_rows=-1), "`train_rows` must be at least 0, got -1"),
    (dict(split_seed=-1), "`split_seed` must be at least 0, got -1"),
    (dict(split="last"), "`split` must be one of random, by_order, got 'last'"),
    (dict(seed=-1), "`seed` must be at least 0, got -1"),
    (dict(jit_compile="yes"), "`jit_compile` must be auto, on or off, got 'yes'"),
    (dict(warmup_steps=-1), "`warmup_steps` must be at least 0, got -1"),
    (dict(weight_decay=-0.1), "`weight_decay` must be at least 0, got -0.1"),
    (dict(teacher_learning_rate=-0.1), "`teacher_learning_rate` must be at least 0, got -0.1"),
    (dict(student_learning_rate=-1.0), "`student_learning_rate` must be at least 0, got -1.0"),
    (dict(clip_norm=float("nan")), "`clip_norm` must be finite, got nan"),
    (dict(synthesized_start=1.5), "`synthesized_start` must be between 0 and 1, got 1.5"),
    (dict(fade_out=-0.5), "`fade_out` must be between 0 and 1, got -0.5"),
    (dict(partitions=()), r"`partitions` must be different ones of end_to_end, .*, got \(\)"),
    (dict(partitions=("across_blocks_1",)), r"`partitions` must be .*, got \('across_blocks_1',\)"),
    (dict(partitions=("at_steps",)), r"`partitions` must be .*, got \('at_steps',\)"),
    (dict(partitions=("by_block_2",) * 2), r"`partitions` must be different ones of"),
    (
        dict(partitions=("by_block_2",)),
        "`partitions` must be end_to_end where `students` are not of student, lkd, ilkd, got",
    ),
    (dict(part_mode="random"), "`part_mode` must be one of sequential, alternating, sim.*'random'"),
    (dict(part_balance="time"), "`part_balance` must be one of steps, parameters, cost, got 'time"),
    (dict(part_learning_rate=-1.0), "`part_learning_rate` must be at least 0, got -1.0"),
    (dict(prefix_cache_gib=1.0), "`prefix_cache_gib` must be 0 unless `part_mode` is sequential"),
    (dict(prefix_cache_epochs=2), "`prefix_cache_epochs` must be 0 unless `prefix_cache_gib` is"),
    (dict(end_to_end_fraction=1.0), "`end_to_end_fraction` must be at least 0 and less than 1, go"),
    (
        dict(PARTS, partitions=("across_blocks_3",), student_training_steps=900),
        "`end_to_end_fraction` must be so small that 3 of the 4 times `report_steps` are left",
    ),
    (dict(ema_momentum=1.0), "`ema_momentum` must be at least 0 and less than 1, got 1.0"),
    (dict(teacher_architecture="nvp"), "`teacher_architecture` must be one of glow, maf, iaf, got"),
    (dict(student_architecture=""), "`student_architecture` must be one of glow, maf, iaf, got ''"),
    (dict(students=("a",)), r"`students` must be different names out of student, lkd, .*, got"),
    (dict(race_methods=("lkd",) * 2), "`race_methods` must be different names out of lkd, .*, got"),
    (dict(students=("lkd", "lkd")), r"different names out of .*, got \('lkd', 'lkd'\)"),
    (dict(students=("kd",)), r"different names out of .*, got \('kd',\)"),
    (dict(lkd_weights=(1.0,)), r"`lkd_weights` must be 2 numbers, none negative .* got \(1.0,\)"),
    (dict(skd_weights=(1.0, 1.0)), "`skd_weights` must be 3 numbers"),
    (dict(ilkd_weights=(1.0, -1.0)), "`ilkd_weights` must be 2 numbers, none negative"),
    (dict(reverse_kl_weights=(0.0, 0.0)), "`reverse_kl_weights` must be 2 numbers, .* not all 0"),
    (dict(forward_kl_weights=()), r"`forward_kl_weights` must be 2 numbers, .* got \(\)"),
    (dict(mixture_weights=(0, 1, 1)), r"`mixture_weights` must be positive for nll .* got \(0, 1"),
    (dict(mixture_weights=(1.0, 1.0)), "`mixture_weights` must be 3 numbers"),
    (dict(mixture_tolerance=0.0), "`mixture_tolerance` must be positive, got 0.0"),
    (dict(student_start="old"), "`student_start` must be one of new, aligned, copied, got 'old'"),
    (
        dict(student_start="copied", student_path="a.keras"),
        "`student_path` must be empty where `student_start` is copied, got 'a.keras'",
    ),
    (dict(teacher_depth=0), "`teacher_depth` must be at least 1, got 0"),
    (dict(student_width=0), "`student_width` must be at least 1, got 0"),
    (dict(distance="cosine"), "`distance` must be one of l1, l2, huber, got 'cosine'"),
    (dict(synthesized_space="h"), "`synthesized_space` must be one of data, latent, got 'h'"),
    (dict(lkd_weights=(1.0, math.nan)), "`lkd_weights` must be finite, got .1.0, nan."),
    (dict(teacher_learning_rate=math.inf), "`teacher_learning_rate` must be finite, got inf"),
    (dict(temperature=math.inf), "`temperature` must be finite, got inf"),
    (dict(weight_decay=math.inf), "`weight_decay` must be finite, got inf"),
    (dict(within=math.nan), "`within` must be finite, got nan"),
    (dict(temperature=0.0), "`temperature` must be positive, got 0.0"),
    (
        dict(students=("ilkd",), ilkd_weights=(0.0, 1.0), fade_out=0.5),
        "`fade_out` must be 0 where `ilkd_weights` gives the nll no weight, got 0.5",
    ),
    (
        dict(students=("skd",), fade_out=0.2, synthesized_start=0.2),
        r"`synthesized_start` must be less than `fade_out` \(0.2\), got 0.2",
    ),
    (
        dict(students=("skd",), skd_weights=(0.0, 0.0, 1.0), fade_out=0.0),
        "`synthesized_start` must be 0 where `skd_weights` gives nothing but SKD a weight, got 0.1",
    ),
]


@pytest.mark.parametrize(("values", "message"), RULES)
def test_every_rule_names_its_value(values, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**values)


def test_trainings_end_with_a_measurement():
    recipe = Recipe(teacher_training_steps=751, student_training_steps=10)
    assert (recipe.training_steps("teacher"), recipe.training_steps("student")) == (1000, 250)


def test_values_at_the_edge_are_legal():
    Recipe(**PARTS, partitions=("end_to_end", "at_steps_2_13", "across_blocks_2"))
    Recipe(**PARTS, partitions=("by_block_9",), part_mode="simultaneous")
    Recipe(synthesized_start=0.9, fade_out=1.0, ema_momentum=0.0, warmup_steps=0)
    Recipe(skd_weights=(0.0, 0.0, 1.0), synthesized_start=0.0, fade_out=0.0)
    Recipe(skd_weights=(0.0, 1.0, 1.0), fade_out=0.0)
    Recipe(students=("forward_kl", "reverse_kl"))  # their weights do not fade


def test_losses_and_weights_of_the_methods():
    recipe = Recipe(distance="l2", temperature=0.7, synthesized_space="latent")
    latent, drawn = dict(distance="l2"), dict(temperature=0.7)
    expected = {
        "student": ((), (1.0,)),
        "lkd": ((LatentLoss(**latent),), (1.0, 0.5)),
        "ilkd": ((IntermediateLatentLoss(**latent),), (1.0, 0.5)),
        "skd": (
            (
                IntermediateLatentLoss(**latent),
                SynthesizedLoss(**latent, **drawn, space="latent"),
            ),
            (1.0, 0.5, 0.05),
        ),
        "forward_kl": ((ForwardKLLoss(**drawn),), (0.0, 1.0)),
        "reverse_kl": ((ReverseKLLoss(**drawn),), (0.0, 1.0)),
        "guided": ((GuidedLoss(**latent, **drawn),), (0.0, 1.0)),
        "mixture": ((ForwardKLLoss(**drawn), IntermediateLatentLoss(**latent)), (0.5, 0.5, 0.5)),
    }
    assert tuple(expected) == METHODS
    for method, (losses, weights) in expected.items():
        assert recipe.losses(method) == losses
        assert recipe.weights(method) == weights


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (dict(), {"student": "new", "skd": "aligned", "mixture": "aligned", "forward_kl": "new"}),
        (dict(student_architecture="iaf"), {"guided": "linear_maps", "reverse_kl": "new"}),
        (dict(student_architecture="maf"), {"skd": "new"}),
        (dict(student_start="new"), {"skd": "new"}),
        (
            dict(student_start="copied", student_architecture="maf"),
            {"student": "new", "skd": "copied", "mixture": "copied"},
        ),
        (dict(student_path="a.keras"), {"student": "new", "skd": "new"}),
    ],
)
def test_where_students_start(values, expected):
    recipe = Recipe(**values)
    assert {method: recipe.start(method) for method in expected} == expected


def test_a_mixture_has_hints_where_its_student_starts_aligned():
    recipe = Recipe(student_start="new")
    assert recipe.losses("mixture") == (ForwardKLLoss(),)
    assert recipe.weights("mixture") == (0.5, 0.5)


def test_architectures():
    recipe = Recipe(student_architecture="iaf", student_depth=2, student_width=7, seed=3)
    student = recipe.student_config((4,), condition_dims=1)
    assert dataclasses.replace(student, seed=3) == MAFConfig(
        4,
        num_steps=2,
        hidden_units=7,
        mixing=True,
        inverse_autoregressive=True,
        condition_dims=1,
        seed=3,
    )
    assert recipe.teacher_config((4,)) == TabularGlowConfig(
        4, num_steps=5, hidden_units=64, num_hidden_layers=2, coupling="spline", seed=3
    )
    affine = dataclasses.replace(recipe, teacher_coupling="affine")
    assert affine.teacher_config((4,)) == TabularGlowConfig(4, num_steps=5, hidden_units=64, seed=3)


def test_usual_learning_rates_suit_the_widest_linear_map():
    recipe = Recipe(student_architecture="maf", mixing=False)
    assert [recipe.learning_rate("teacher", (dims,)) for dims in (6, 64, 256)] == [
        1e-2,
        1e-2,
        25e-4,
    ]
    assert [recipe.learning_rate("student", (dims,)) for dims in (6, 256)] == [2e-2, 2e-2]
    mixing = dataclasses.replace(recipe, mixing=True)
    assert mixing.learning_rate("student", (256,)) == 5e-3
    assert recipe.learning_rate("student", (8, 8, 3)) == 3e-3
    asked = Recipe(teacher_learning_rate=0.7)
    assert asked.learning_rate("teacher", (256,)) == 0.7


def test_splines_of_all_architectures():
    recipe = Recipe(
        teacher_architecture="maf",
        teacher_coupling="spline",
        student_hidden_layers=3,
        num_bins=5,
        tail_bound=3.0,
        min_slope=0.02,
    )
    splines = dict(num_bins=5, tail_bound=3.0, min_slope=0.02)
    teacher, student = recipe.teacher_config((4,)), recipe.student_config((4,))
    assert teacher == MAFConfig(
        4, num_steps=5, hidden_units=64, transform="spline", mixing=True, **splines
    )
    assert (student.coupling, student.num_hidden_layers) == ("spline", 3)
    with pytest.raises(ValueError, match="`student_coupling` must be one of affine, spline, got"):
        Recipe(student_architecture="maf", student_coupling="additive")


def test_teacher_and_student_of_one_recipe_start_with_different_weights():
    same = dict(architecture="glow", depth=2, width=8)
    recipe = Recipe(
        **{f"{role}_{k}": v for role in ("teacher", "student") for k, v in same.items()}
    )
    teacher, student = recipe.teacher_config((4,)), recipe.student_config((4,))
    assert teacher == dataclasses.replace(student, seed=teacher.seed) != student


@pytest.mark.parametrize(("asked", "uses_xla"), [("auto", "auto"), ("on", True), ("off", False)])
def test_xla_is_on_off_or_where_it_pays(asked, uses_xla):
    assert Recipe(jit_compile=asked).uses_xla == uses_xla


def test_architectures_of_images():
    recipe = Recipe(
        teacher_levels=2, teacher_depth=6, teacher_width=5, teacher_coupling="additive", seed=3
    )
    pixel_format = PixelFormat(num_bits=5, padding=1)
    assert recipe.teacher_config((8, 8, 3), domain=ImageDomain(pixel_format)) == GlowConfig(
        (8, 8, 3),
        num_levels=2,
        steps_per_level=6,
        hidden_channels=5,
        coupling="additive",
        num_bits=5,
        padding=1,
        seed=3,
    )
    with pytest.raises(ValueError, match="divisible by 4 for 2 levels, got .6, 8, 1"):
        recipe.teacher_config((6, 8, 1), domain=ImageDomain())
    with pytest.raises(
        ValueError, match="`student_architecture` must be glow for images, got 'maf'"
    ):
        Recipe(student_architecture="maf").student_config((8, 8, 1), domain=ImageDomain())


@pytest.mark.parametrize(
    ("size", "levels"), [((64, 32), 3), ((28, 28), 2), ((24, 20), 2), ((6, 8), 1)]
)
def test_levels_follow_from_the_size_of_images(size, levels):
    config = Recipe().student_config((*size, 1), domain=ImageDomain())
    assert isinstance(config, GlowConfig) and config.num_levels == levels


def test_images_that_cannot_be_halved_are_refused_with_what_helps():
    with pytest.raises(ValueError, match="even height and width, got 17 x 24: `image_size` bri"):
        Recipe().teacher_config((17, 24, 1), domain=ImageDomain())


def test_flags_are_the_fields_and_their_defaults():
    assert recipe_from_flags(parse(define_recipe_flags)) == Recipe()
    flag_values = parse(
        define_recipe_flags,
        "--students=skd,student",
        "--skd_weights=1,0.5,0.25",
        "--condition_columns=a,b",
        "--seed=4",
        "--temperature=0.5",
    )
    assert recipe_from_flags(flag_values) == Recipe(
        students=("skd", "student"),
        skd_weights=(1.0, 0.5, 0.25),
        condition_columns=("a", "b"),
        seed=4,
        temperature=0.5,
    )
    for field in dataclasses.fields(Recipe):
        assert flag_values[field.name].help == field.metadata["help"]


def test_flags_that_were_not_given_leave_a_base_alone():
    base = Recipe(seed=7, student_depth=2)
    assert recipe_from_flags(parse(define_recipe_flags), base=base) == base
    changed = recipe_from_flags(parse(define_recipe_flags, "--student_depth=3"), base=base)
    assert changed == Recipe(seed=7, student_depth=3)


@pytest.mark.parametrize(
    ("argument", "error", "message"),
    [
        ("--skd_weights=1,x,2", ValueError, "`skd_weights` must be numbers, got '1,x,2'"),
        ("--batch_size=1.5", flags.Error, "batch_size"),
        ("--student_learning_rate=fast", flags.Error, "student_learning_rate"),
        ("--nonsense=1", flags.Error, "nonsense"),
    ],
)
def test_wrong_flags(argument, error, message):
    with pytest.raises(error, match=message):
        recipe_from_flags(parse(define_recipe_flags, argument))


def test_a_written_recipe_is_read_as_it_was(tmp_path):
    recipe = Recipe(
        condition_columns=("a",), lkd_weights=(0.5, 0.25), data="x.csv", students=METHODS
    )
    recipe.write(tmp_path / "recipe.json")
    assert Recipe.read(tmp_path / "recipe.json") == recipe
