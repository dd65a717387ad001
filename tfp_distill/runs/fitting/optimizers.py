"""The optimisers of a recipe, and how often they are called."""

from __future__ import annotations

import keras

from tfp_distill.runs.partitions import epochs_of_parts
from tfp_distill.runs.recipe import Recipe
from tfp_distill.training import HeldCosineDecay

__all__ = ["execution_steps", "make_optimizer", "optimizers_of_parts"]

_LARGEST_EXECUTION = 50
_AVERAGED_PART = 1 / 20


def execution_steps(report_steps: int) -> int:
    """Returns how many steps one call of the compiled function should take."""
    return max(n for n in range(1, _LARGEST_EXECUTION + 1) if report_steps % n == 0)


def make_optimizer(
    recipe: Recipe, learning_rate: float, steps: int, *, held_steps: int = 0
) -> keras.optimizers.Optimizer:
    """Returns Adam, clipped, decayed (as AdamW) and averaged as the recipe says.

    The rate rises in a warm-up, and decays by a cosine. Averages of the weights reach back over a
    twentieth of the steps at most: 0.999 would leave 5 % of the first weights in those of 3,000.

    Args:
      recipe: the recipe.
      learning_rate: the rate after the warm-up.
      steps: number of steps of the training.
      held_steps: how many of them go by before the rate decays.
    """
    warmup = min(recipe.warmup_steps, steps // 10)
    held = max(0, held_steps - warmup)
    schedule = HeldCosineDecay(
        learning_rate,
        decay_steps=steps - warmup - held,
        warmup_steps=warmup,
        held_steps=held,
        alpha=1e-3,
    )
    longest = max(0.0, 1 - 1 / (_AVERAGED_PART * steps))
    return keras.optimizers.Adam(
        schedule,
        weight_decay=recipe.weight_decay or None,  # With 0, Keras would subtract zeros.
        global_clipnorm=recipe.clip_norm,
        use_ema=recipe.ema_momentum > 0,
        ema_momentum=min(recipe.ema_momentum, longest),
    )


def optimizers_of_parts(
    recipe: Recipe, learning_rate: float, num_parts: int
) -> list[keras.optimizers.Optimizer]:
    """Returns optimisers whose rates are held in parts and decay end to end, if that follows.

    Args:
      recipe: the recipe.
      learning_rate: the rate, unless the recipe has one for parts.
      num_parts: number of parts.
    """
    rate = recipe.part_learning_rate or learning_rate
    in_parts, end_to_end = epochs_of_parts(recipe, num_parts)
    made = []
    for epochs in in_parts:
        held, decaying = (epochs, end_to_end) if end_to_end else (0, epochs)
        if recipe.fresh_optimizers:  # They begin twice.
            held, decaying = 0, max(epochs, end_to_end)
        steps = (held + decaying) * recipe.report_steps
        made.append(make_optimizer(recipe, rate, steps, held_steps=held * recipe.report_steps))
    return made
