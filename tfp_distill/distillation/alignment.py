"""Which step of the teacher a step of the student should match."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Protocol

__all__ = [
    "HasSteps",
    "Taps",
    "align_boundary",
    "align_by_depth",
    "align_flows",
    "align_level_ends",
    "align_steps",
    "check_taps",
]

# Pairs of a step of the student and one of the teacher, counted from 1.
Taps = tuple[tuple[int, int], ...]


class HasSteps(Protocol):
    """A flow or a teacher, whose `level_ends` count where it has some."""

    @property
    def num_steps(self) -> int:
        """Number of steps."""


def align_by_depth(student_steps: int, teacher_steps: int) -> Taps:
    """Matches fractions of depth: student step i with teacher step round(i K_t / K_s).

    Halves are rounded up. The last steps, which give the final latents, are always matched with
    each other. Where the student is the deeper one the roles are swapped, so that every step of the
    shallower flow is matched once.

    Args:
      student_steps: number of steps K_s.
      teacher_steps: number of steps K_t.

    Returns:
      Pairs (student step, teacher step), counted from 1.
    """
    if student_steps > teacher_steps:
        return tuple((s, t) for t, s in align_by_depth(teacher_steps, student_steps))
    return tuple(
        (i, (2 * i * teacher_steps + student_steps) // (2 * student_steps))
        for i in range(1, student_steps + 1)
    )


def align_level_ends(student_ends: tuple[int, ...], teacher_ends: tuple[int, ...]) -> Taps:
    """Matches the ends of the levels of multi-scale flows (Walton et al., 2023, section 3.2).

    Level i with level i, where the resolutions are the same, as long as neither of them is the
    last; and the last steps, which give the final latents, with each other.

    Args:
      student_ends: the last step of each level of the student, counted from 1.
      teacher_ends: the same of the teacher.

    Returns:
      Pairs (student step, teacher step), counted from 1.
    """
    before_last = zip(student_ends[:-1], teacher_ends[:-1], strict=False)
    return (*before_last, (student_ends[-1], teacher_ends[-1]))


def align_flows(student: HasSteps, teacher: HasSteps) -> Taps:
    """Matches level ends where both flows have several levels, fractions of depth otherwise.

    Args:
      student: has `num_steps`, and `level_ends` where it has levels.
      teacher: the same.

    Returns:
      Pairs (student step, teacher step), counted from 1.
    """
    ends = [tuple(getattr(flow, "level_ends", ())) for flow in (student, teacher)]
    if min(map(len, ends)) > 1:
        return align_level_ends(*ends)
    return align_by_depth(student.num_steps, teacher.num_steps)


def align_steps(student: HasSteps, teacher: HasSteps) -> Taps:
    """Matches as many steps as can be: by fractions of depth, of each level where there are levels.

    The n-th level is matched with the n-th, where the resolutions are the same.

    Args:
      student: has `num_steps`, and `level_ends` where it has levels.
      teacher: the same.

    Returns:
      Pairs (student step, teacher step), counted from 1.
    """
    levels = [list(itertools.pairwise((0, *_ends(flow)))) for flow in (student, teacher)]
    return tuple(
        (student_start + i, teacher_start + j)
        for (student_start, student_end), (teacher_start, teacher_end) in zip(*levels, strict=False)
        for i, j in align_by_depth(student_end - student_start, teacher_end - teacher_start)
    )


def align_boundary(student: HasSteps, teacher: HasSteps, step: int) -> int:
    """Returns the step of the teacher that lies as deep as a step of the student.

    As `align_flows` matches, but for any step of the student: ends of levels with ends of levels
    where both flows have several, and fractions of the depth between them,

        t_0 + round((step - s_0) (t_1 - t_0) / (s_1 - s_0))    for matched (s_0, t_0), (s_1, t_1)

    with halves rounded up, and at least 1.

    Args:
      student: has `num_steps`, and `level_ends` where it has levels.
      teacher: the same.
      step: a step of the student, counted from 1.
    """
    matched: Taps = ((student.num_steps, teacher.num_steps),)
    ends = [_ends(flow) for flow in (student, teacher)]
    if min(map(len, ends)) > 1:
        matched = align_level_ends(*ends)
    for (s_0, t_0), (s_1, t_1) in itertools.pairwise(((0, 0), *matched)):
        if step <= s_1:
            length = s_1 - s_0
            return max(1, t_0 + (2 * (step - s_0) * (t_1 - t_0) + length) // (2 * length))
    raise ValueError(f"`step` must be at most {student.num_steps}, got {step}.")


def _ends(flow: HasSteps) -> tuple[int, ...]:
    return tuple(getattr(flow, "level_ends", ())) or (flow.num_steps,)


def check_taps(taps: Iterable[tuple[int, int]], *, student_steps: int, teacher_steps: int) -> Taps:
    """Returns the taps as a tuple.

    Raises:
      ValueError: if there are none, or one names a step that its flow does not have.
    """
    taps = tuple((int(student), int(teacher)) for student, teacher in taps)
    if not taps:
        raise ValueError("`taps` must name at least one pair of steps, got none.")
    for student, teacher in taps:
        if not 1 <= student <= student_steps or not 1 <= teacher <= teacher_steps:
            raise ValueError(
                f"`taps` must be pairs (student step in 1..{student_steps}, teacher step in "
                f"1..{teacher_steps}), got {(student, teacher)}."
            )
    return taps
