"""Learning rates of parts."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

__all__ = ["HeldCosineDecay"]


@keras.saving.register_keras_serializable("tfp_distill")
class HeldCosineDecay(keras.optimizers.schedules.CosineDecay):
    """Keras's cosine decay with a linear warm-up, whose peak lasts for some steps.

        rate(s) = peak * s / warmup_steps                                 for s < warmup_steps,
                  peak                            for the `held_steps` steps that come then,
                  peak * (alpha + (1 - alpha) * (1 + cos(pi * t)) / 2)    in the end,

    where t rises from 0 to 1 in `decay_steps` steps. For the optimiser of a part: it keeps its rate
    while the part is trained by itself, and decays end to end, so that parts which have to find
    together can still move.

    Args:
      peak: the learning rate after the warm-up.
      decay_steps: number of steps of the decay.
      warmup_steps: number of steps of the warm-up, 0 for none.
      held_steps: number of steps between warm-up and decay.
      alpha: the last learning rate, as a fraction of `peak`.
      name: name of the operations.

    Raises:
      ValueError: if a number of steps breaks its rule.
    """

    def __init__(
        self,
        peak: float,
        decay_steps: int,
        *,
        warmup_steps: int = 0,
        held_steps: int = 0,
        alpha: float = 0.0,
        name: str = "HeldCosineDecay",
    ) -> None:
        for key, value in {"warmup_steps": warmup_steps, "held_steps": held_steps}.items():
            if value < 0:
                raise ValueError(f"`{key}` must be at least 0, got {value}.")
        super().__init__(
            initial_learning_rate=0.0 if warmup_steps else peak,
            decay_steps=decay_steps,
            alpha=alpha,
            name=name,
            warmup_target=peak if warmup_steps else None,
            warmup_steps=warmup_steps,
        )
        self._peak = peak
        self._held_steps = held_steps

    def __call__(self, step: Any) -> tf.Tensor:
        """Returns the learning rate of a step, counted from 0."""
        step = tf.cast(step, tf.float32)
        warmup = float(self.warmup_steps)
        held = tf.clip_by_value(step - warmup, 0.0, float(self._held_steps))
        return super().__call__(step - held)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments, for Keras serialisation."""
        return {
            "peak": self._peak,
            "decay_steps": self.decay_steps,
            "warmup_steps": self.warmup_steps,
            "held_steps": self._held_steps,
            "alpha": self.alpha,
            "name": self.name,
        }
