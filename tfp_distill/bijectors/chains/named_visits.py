"""A walk along all bijectors of a flow, the members of its steps by name."""

from __future__ import annotations

from collections.abc import Iterator

import tensorflow as tf

from tfp_distill.bijectors.chains.trace import Visit
from tfp_distill.bijectors.chains.traced_chain import TracedChain
from tfp_distill.bijectors.keras_bijector import uninverted

__all__ = ["named_visits"]


def named_visits(
    chain: TracedChain, x: tf.Tensor, condition: tf.Tensor | None = None
) -> Iterator[tuple[str, Visit]]:
    """Visits all bijectors of a flow once, in the normalizing direction, within its steps too.

    Args:
      chain: the bijector of a flow; `bijectors[0]` standardises the data, the others are steps.
      x: data `[batch, ...]`.
      condition: optional `[batch, C]`.

    Yields:
      What to call a bijector, as "the Coupling 'step_1_coupling' of step 2 of 5", and its visit.
    """
    num_steps = len(chain.bijectors) - 1
    mapped = chain.map_condition(condition)
    for number, visit in enumerate(chain.walk(x, condition)):
        place = f" of step {number} of {num_steps}" if number else " of the data"
        for member in _members(visit, mapped):
            yield (
                f"the {type(uninverted(member.bijector)).__name__} {member.bijector.name!r}{place}",
                member,
            )


def _members(visit: Visit, condition: tf.Tensor | None) -> Iterator[Visit]:
    if not isinstance(visit.bijector, TracedChain):
        yield visit
        return
    for member in visit.bijector.walk(visit.x, condition):
        yield from _members(member, visit.bijector.map_condition(condition))
