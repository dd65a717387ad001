"""How every flow of a run is trained."""

from __future__ import annotations

import dataclasses

from tfp_distill.runs.recipe.options import Options, option

__all__ = ["TrainingOptions"]

_STRATEGIES = ("default", "mirrored", "multi_worker")
_JIT_COMPILE: dict[str, str | bool] = {"auto": "auto", "on": True, "off": False}


@dataclasses.dataclass(frozen=True)
class TrainingOptions(Options):
    """Batches, optimisers and reports."""

    batch_size: int = option(
        0,
        "Rows of a training batch, of all devices together; 0: 512 or 64 images, but no more than "
        "a quarter of the training rows.",
    )
    strategy: str = option(
        "default",
        "default, one device; mirrored, a share of each batch on every GPU; or multi_worker, on "
        "every process of TF_CONFIG.",
    )
    warmup_steps: int = option(500, "Steps of linear warm-up, at most a tenth of the training.")
    clip_norm: float = option(1.0, "Largest norm of the gradient.")
    ema_momentum: float = option(
        0.99,
        "Momentum of the average of the weights, which is of a twentieth of the steps at most; 0: "
        "no average.",
    )
    weight_decay: float = option(0.0, "Decoupled weight decay (AdamW).")
    jit_compile: str = option("auto", "Whether XLA compiles: on, off, or auto for where it pays.")
    memory: str = option(
        "plain",
        "plain, or reversible: gradients rebuild activations, which are not kept; it takes longer.",
    )
    report_steps: int = option(250, "Steps between two measurements on validation data.")

    def __post_init__(self) -> None:
        from tfp_distill.training import MEMORY

        super().__post_init__()
        self.check_at_least(1, "report_steps")
        self.check_at_least(0, "batch_size", "warmup_steps", "weight_decay")
        self.check_positive("clip_norm")
        self.check("ema_momentum", "at least 0 and less than 1", 0 <= self.ema_momentum < 1)
        rule = f"one of {', '.join(_STRATEGIES)}"
        self.check("strategy", rule, self.strategy in _STRATEGIES)
        self.check("jit_compile", "auto, on or off", self.jit_compile in _JIT_COMPILE)
        self.check("memory", f"one of {', '.join(MEMORY)}", self.memory in MEMORY)

    @property
    def uses_xla(self) -> str | bool:
        """`jit_compile` as Keras's `compile` takes it."""
        return _JIT_COMPILE[self.jit_compile]
