"""Starts for students: in the frame of the teacher's latents, or with copies of its steps."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_distill.arrays import Array
from tfp_distill.bijectors import ActNorm, InvertibleLinear, KerasBijector, TracedChain
from tfp_distill.distillation.alignment import align_steps
from tfp_distill.distillation.teachers import TeacherLike, as_teacher, check_knowledge
from tfp_distill.flows import Flow
from tfp_distill.flows.adapting import ColumnStatistics
from tfp_distill.networks import MADE

__all__ = [
    "align_with_teacher",
    "copy_linear_maps",
    "copy_matching_steps",
    "have_same_linear_maps",
    "matching_steps",
    "rows_to_align",
]

_OUTLIER = 6.0
_SIZES = (
    *("num_steps", "num_levels", "steps_per_level", "seed"),
    *("hidden_units", "num_hidden_layers", "hidden_channels"),
)


def rows_to_align(student: Flow) -> int:
    """Returns how many rows `align_with_teacher` needs: twice the dimensions, or 2 images."""
    return 2 if len(student.event_shape) == 3 else 2 * student.latent_dims


def align_with_teacher(
    student: Flow,
    teacher: TeacherLike,
    x: Array,
    condition: Array | None = None,
    **statistics: ColumnStatistics | None,
) -> None:
    """Initialises a Glow student so that its latents start in the teacher's frame.

    A Glow step begins with a random rotation or permutation, so that the latents of two trained
    flows agree about no axis, and a loss between them first of all asks the student to undo its
    own. Here the linear map of each student step is instead the rotation that brings what arrives
    there nearest to the teacher's latent at the matched depth (`align_steps`), the solution of an
    orthogonal Procrustes problem (Schoenemann, 1966):

        R = argmin_R sum_n |g_n - R h_n|^2 = U V^T,   U S V^T = svd(sum_n g_n h_n^T)

    with h the student's and g the teacher's latents, both centred; rows with a value beyond 6
    standard deviations are left out. Of images, h and g are the channels at each position. It also
    adapts the student to the data. Call it for a new student, before `fit`, in the place of
    `student.adapt`.

    As measured (results/README.md), it closes a third of the gap on patches of photographs, with or
    without a loss on latents; on POWER it helps such losses in short trainings, not in long ones.

    Args:
      student: a flow whose steps have `InvertibleLinear` maps, as `TabularGlowConfig` and
        `GlowConfig` build them.
      teacher: a flow or another teacher with latents, as for `FlowDistiller`; for a student of
        images, a flow of images.
      x: data `[batch, ...]`, at least 2 D rows of vectors or 2 images.
      condition: `[batch, C]` for conditional flows.
      **statistics: `statistics` and `condition_statistics`, as for `Flow.adapt`.

    Raises:
      ValueError: if a step of the student has no `InvertibleLinear`, the teacher has no latents or
        that of a student of images no levels, or there are too few rows.
    """
    is_image = len(student.event_shape) == 3
    chain = student.bijector
    _check_steps(student)
    smallest = rows_to_align(student)
    if len(x) < smallest:
        rule = "images" if is_image else "rows, twice the dimensions"
        raise ValueError(f"`x` must have at least {smallest} {rule}, got {len(x)}.")
    teacher, x = as_teacher(teacher), _with_noise(student, x)
    check_knowledge(teacher, "latents", "`align_with_teacher`")
    if is_image and not getattr(teacher, "level_ends", ()):
        raise ValueError(
            "`teacher` must be a Glow of images, as the student, got one without levels."
        )
    matched = dict(align_steps(student, teacher))
    student.adapt(x, condition, **statistics)
    latents = teacher.trace(x, condition).latents
    if not all(np.isfinite(h).all() for h in latents):
        raise ValueError(
            f"`teacher` must have finite latents of `x`, got some of {len(x):,} rows that are not."
        )
    targets = {chain.bijectors[i].name: (i, latents[tap]) for i, tap in matched.items()}

    def initialize(step, h, condition):
        if step.name not in targets:
            return step.initialize(h, condition)
        index, g = targets[step.name]
        g = chain.image_at(index, g) if is_image else g

        def initialize_member(member, h, condition):
            if isinstance(member, InvertibleLinear):
                member.set_matrix(_rotation(h, g))
            return member.initialize(h, condition)

        return step.initialize(h, condition, initialize=initialize_member)

    inputs = (tf.cast(v, student.compute_dtype) for v in (x, condition) if v is not None)
    chain.initialize(*inputs, initialize=initialize)


def matching_steps(student: Flow, teacher: Flow) -> tuple[tuple[int, int], ...]:
    """Returns which steps of the teacher a student can take over as they are.

    Those that `align_steps` matches and whose layers are of the same kinds and shapes, in flows
    that differ in nothing but numbers of steps, widths and seeds.

    Args:
      student: a flow.
      teacher: another one.

    Returns:
      Pairs (student step, teacher step), counted from 1.

    Raises:
      ValueError: if there are none.
    """
    pairs = align_steps(student, teacher)
    fitting = tuple(
        (step, teacher_step)
        for step, teacher_step in pairs
        if _kind(student) == _kind(teacher)
        and _layers(student, step) == _layers(teacher, teacher_step)
    )
    if not fitting:
        raise ValueError(
            "`student` must have a step with weights of the shapes of the teacher's matched one, "
            f"got none of the steps {', '.join(f'{i} and {j}' for i, j in pairs)}."
        )
    return fitting


def copy_matching_steps(
    student: Flow,
    teacher: Flow,
    x: Array,
    condition: Array | None = None,
    **statistics: ColumnStatistics | None,
) -> tuple[tuple[int, int], ...]:
    """Initialises a student with copies of those steps of the teacher that fit it.

    The other steps are initialised from the data as it arrives there. Where the first step is a
    copy of the teacher's first, the statistics before it are copied too, so that a student of the
    teacher's architecture begins as the teacher. Call it for a new student, before `fit`, in the
    place of `student.adapt`.

    Args:
      student: a new flow.
      teacher: a trained one, see `matching_steps`.
      x: data `[batch, ...]`.
      condition: `[batch, C]` for conditional flows.
      **statistics: as `student.adapt` takes them.

    Returns:
      What was copied: pairs (student step, teacher step), counted from 1.

    Raises:
      ValueError: if no step fits.
    """
    pairs, x = matching_steps(student, teacher), _with_noise(student, x)
    _check_finite(teacher)
    student.adapt(x, condition, **statistics)
    chain, source = student.bijector, teacher.bijector
    copied = [*pairs, (0, 0)] if (1, 1) in pairs else pairs
    for step, teacher_step in copied:
        _copy(chain.layers_of(step, step), source.layers_of(teacher_step, teacher_step))
    own, theirs = chain.condition_bijector, source.condition_bijector
    if (1, 1) in pairs and own is not None and theirs is not None:
        _copy(own.keras_layers, theirs.keras_layers)
    kept = {chain.bijectors[step].name for step, _ in copied}

    def initialize(bijector, h, condition):
        if bijector.name in kept:
            return bijector.inverse_and_ildj(h, condition)[0]
        return bijector.initialize(h, condition)

    inputs = (tf.cast(v, student.compute_dtype) for v in (x, condition) if v is not None)
    chain.initialize(*inputs, initialize=initialize)
    return pairs


def copy_linear_maps(
    student: Flow,
    teacher: Flow,
    x: Array,
    condition: Array | None = None,
    **statistics: ColumnStatistics | None,
) -> None:
    """Initialises a student with the teacher's linear maps, and with statistics as the teacher's.

    For an IAF student of an MAF teacher with `mixing`, see `GuidedLoss`: what lies between two
    autoregressive maps, ActNorm and the invertible linear map, is then the same in both, so that
    every step of the student can become the inverse of the teacher's. They are trained on as all
    weights. The student's networks are left as they are: new ones are the identity. Call it for a
    new student, before `fit`, in the place of `student.adapt`.

    Args:
      student: a flow with as many steps as the teacher, each with such maps.
      teacher: a trained flow.
      x: data `[batch, ...]`.
      condition: `[batch, C]` for conditional flows.
      **statistics: as `student.adapt` takes them.

    Raises:
      ValueError: if the numbers of steps or the linear maps in them differ.
    """
    own, theirs = (_weights(_linear_maps(flow.bijector)) for flow in (student, teacher))
    if not have_same_linear_maps(student, teacher):
        raise ValueError(
            f"`student` must have the {teacher.num_steps} steps of `teacher`, with linear maps "
            f"where it has them (`mixing` of an MAF), got {student.num_steps} steps and "
            f"{len(own)} weights of such maps for {len(theirs)}."
        )
    _check_finite(teacher)
    student.adapt(x, condition, **statistics)
    for weight, other in zip(own, theirs, strict=True):
        weight.assign(other)


def have_same_linear_maps(student: Flow, teacher: Flow) -> bool:
    """Returns whether `copy_linear_maps` can copy the teacher's into the student."""
    weights = (_weights(_linear_maps(flow.bijector)) for flow in (student, teacher))
    own, theirs = ([tuple(weight.shape) for weight in of_flow] for of_flow in weights)
    return student.num_steps == teacher.num_steps and own == theirs


def _linear_maps(chain: TracedChain) -> list[KerasBijector]:
    """Returns what standardises data and condition, and the linear maps of every step."""
    first = [b for b in (chain.condition_bijector, chain.bijectors[0]) if b is not None]
    steps = (step.bijectors if isinstance(step, TracedChain) else () for step in chain.bijectors)
    members = itertools.chain.from_iterable(steps)
    return [*first, *(b for b in members if isinstance(b, (ActNorm, InvertibleLinear)))]


def _weights(bijectors: Sequence[KerasBijector]) -> list[keras.Variable]:
    return [w for bijector in bijectors for layer in bijector.keras_layers for w in layer.weights]


def _check_finite(teacher: Flow) -> None:
    if not all(np.isfinite(weight).all() for weight in teacher.get_weights()):
        raise ValueError("`teacher` must have finite weights, got some that are not.")


def _with_noise(flow: Flow, x: Array) -> Any:
    """Returns data as the flow models them; its `adapt` draws the same noise."""
    columns = flow.config.columns
    return x if columns is None else columns.dequantize(np.asarray(x, flow.compute_dtype), seed=0)


def _copy(layers: Sequence[keras.layers.Layer], others: Sequence[keras.layers.Layer]) -> None:
    for layer, other in zip(layers, others, strict=True):
        layer.set_weights(other.get_weights())


def _kind(flow: Flow) -> dict[str, Any]:
    values = {n: v for n, v in flow.config.get_config().items() if n not in _SIZES}
    return {"kind": type(flow.config), **values}


def _layers(flow: Flow, step: int) -> list[list[Any]]:
    """Returns what each layer of a step is, the shapes of its weights, and its order of inputs."""
    return [
        [
            type(layer),
            isinstance(layer, MADE) and layer.get_config()["reverse"],
            *(tuple(weight.shape) for weight in layer.weights),
        ]
        for layer in flow.bijector.layers_of(step, step)
    ]


def _check_steps(student: Flow) -> None:
    for index, step in enumerate(student.bijector.bijectors[1:], start=1):
        members = step.bijectors if isinstance(step, TracedChain) else (step,)
        if not any(isinstance(member, InvertibleLinear) for member in members):
            raise ValueError(
                "`student` must have an InvertibleLinear in every step, got none in step "
                f"{index} of {student.name!r}."
            )


def _rotation(source: tf.Tensor, target: tf.Tensor) -> np.ndarray:
    """Returns the orthogonal matrix R for which R source is nearest to target."""
    h, g = (np.asarray(v, np.float64).reshape(-1, v.shape[-1]) for v in (source, target))
    h, g = h - h.mean(axis=0), g - g.mean(axis=0)
    limits = (_OUTLIER * v.std(axis=0) for v in (h, g))
    usable = np.all(
        [np.all(np.abs(v) <= s, axis=1) for v, s in zip((h, g), limits, strict=True)], axis=0
    )
    u, _, v = np.linalg.svd(g[usable].T @ h[usable])
    return u @ v
