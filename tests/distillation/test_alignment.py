"""Tests of which steps are matched with which."""

from types import SimpleNamespace

import pytest

from tfp_distill.distillation.alignment import (
    align_boundary,
    align_by_depth,
    align_flows,
    align_level_ends,
    check_taps,
)

PAIRS = [(3, 5), (3, 6), (8, 32), (5, 3), (1, 4), (3, 3), (2, 7), (7, 2)]


@pytest.mark.parametrize(
    ("depths", "taps"),
    {
        (3, 5): ((1, 2), (2, 3), (3, 5)),
        (3, 6): ((1, 2), (2, 4), (3, 6)),
        (5, 3): ((2, 1), (3, 2), (5, 3)),
        (1, 4): ((1, 4),),
        (3, 3): ((1, 1), (2, 2), (3, 3)),
        (8, 32): tuple((i, 4 * i) for i in range(1, 9)),
        (2, 5): ((1, 3), (2, 5)),  # A half is rounded up.
    }.items(),
)
def test_taps_written_out(depths, taps):
    assert align_by_depth(*depths) == taps


@pytest.mark.parametrize(("student", "teacher"), PAIRS)
def test_every_step_of_the_shallower_is_matched_with_the_nearest_fraction(student, teacher):
    taps = align_by_depth(student, teacher)
    assert taps[-1] == (student, teacher)
    shallow, deep = sorted((student, teacher))
    pairs = taps if student <= teacher else [pair[::-1] for pair in taps]
    assert [pair[0] for pair in pairs] == list(range(1, shallow + 1))
    for i, j in pairs:
        assert abs(i / shallow - j / deep) <= 0.5 / deep
    assert len({j for _, j in pairs}) == shallow


@pytest.mark.parametrize(
    ("taps", "message"),
    [
        ((), "must name at least one pair of steps, got none"),
        (((1, 1), (4, 5)), r"student step in 1\.\.3, teacher step in 1\.\.5\), got \(4, 5\)"),
        (((3, 6),), r"got \(3, 6\)"),
        (((0, 1),), r"got \(0, 1\)"),
    ],
)
def test_taps_that_do_not_exist_are_named(taps, message):
    with pytest.raises(ValueError, match=message):
        check_taps(taps, student_steps=3, teacher_steps=5)


def test_legal_taps_are_kept():
    assert check_taps([[1, 2], [3, 5]], student_steps=3, teacher_steps=5) == ((1, 2), (3, 5))


@pytest.mark.parametrize(
    ("ends", "taps"),
    {
        ((8, 16, 24), (32, 64, 96)): ((8, 32), (16, 64), (24, 96)),
        ((16, 32, 48), (32, 64, 96, 128)): ((16, 32), (32, 64), (48, 128)),
        ((2, 4, 6), (5, 10)): ((2, 5), (6, 10)),
        ((3,), (4, 8)): ((3, 8),),
    }.items(),
)
def test_levels_are_matched_where_the_resolutions_are_the_same(ends, taps):
    assert align_level_ends(*ends) == taps


def test_flows_with_several_levels_are_matched_at_their_ends_and_others_by_depth():
    glow = SimpleNamespace(num_steps=4, level_ends=(2, 4))
    deep_glow = SimpleNamespace(num_steps=9, level_ends=(3, 6, 9))
    one_level = SimpleNamespace(num_steps=3, level_ends=(3,))
    tabular = SimpleNamespace(num_steps=2, level_ends=())
    distribution = SimpleNamespace(num_steps=1)
    assert align_flows(glow, deep_glow) == ((2, 3), (4, 9))
    for student, teacher in ((glow, one_level), (tabular, glow), (glow, distribution)):
        expected = align_by_depth(student.num_steps, teacher.num_steps)
        assert align_flows(student, teacher) == expected


def _flow(num_steps, level_ends=()):
    return SimpleNamespace(num_steps=num_steps, level_ends=level_ends)


@pytest.mark.parametrize(("student", "teacher"), PAIRS)
def test_any_step_is_matched_with_the_nearest_fraction(student, teacher):
    for step in range(1, student + 1):
        depth = align_boundary(_flow(student), _flow(teacher), step)
        assert abs(step / student - depth / teacher) <= 0.5 / teacher or depth == 1
    matched = dict(align_by_depth(student, teacher))
    if student <= teacher:
        assert {s: align_boundary(_flow(student), _flow(teacher), s) for s in matched} == matched


def test_any_step_within_levels_is_matched_within_the_level():
    student, teacher = _flow(6, (2, 4, 6)), _flow(24, (8, 16, 24))
    depths = [align_boundary(student, teacher, step) for step in range(1, 7)]
    assert depths == [4, 8, 12, 16, 20, 24]
    deeper = _flow(32, (8, 16, 24, 32))  # Its last two levels are beside the student's last one.
    assert [align_boundary(student, deeper, step) for step in (4, 5, 6)] == [16, 24, 32]
    with pytest.raises(ValueError, match="`step` must be at most 6, got 7"):
        align_boundary(student, teacher, 7)
