"""Tests of which steps are matched with which."""

import pytest

from tfp_distill.distillation.alignment import align_by_depth, check_taps

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
