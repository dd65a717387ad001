"""How much longer a call takes than the compiled pass behind it.

    python benchmarks/as_called.py

Both get the same batch, and take turns in one process; `first` is the first call of that size, with
what is traced and compiled for it. The compiled pass is one for the batch's very shape, made by XLA
where it pays. Quiet machine required; only the ratios mean anything elsewhere.
"""

from __future__ import annotations

import tensorflow as tf
from absl import app, flags
from turns import medians, seconds

from tfp_distill import Flow, GlowConfig, MAFConfig, TabularGlowConfig
from tfp_distill.compiling import compiled, xla_pays

TURNS, SECONDS = 15, 3.0
ROWS, IMAGES = (1, 256, 1000, 16_384), (1, 64)
FLOWS = {
    "MAF D=6": (MAFConfig(dims=6, num_steps=6, hidden_units=32), ROWS),
    "Glow D=6": (TabularGlowConfig(dims=6, num_steps=5, hidden_units=64), ROWS),
    "MAF D=63": (MAFConfig(dims=63, num_steps=3, hidden_units=32), ROWS),
    "Glow 8x8": (
        GlowConfig((8, 8, 1), num_levels=2, steps_per_level=4, hidden_channels=32),
        IMAGES,
    ),
}
_NAMES = flags.DEFINE_list("flows", list(FLOWS), "Which of them.")


def _measure(name: str, flow: Flow, direction: str, batch: tf.Tensor) -> None:
    call = getattr(flow, direction)
    use_xla = xla_pays(flow.suits_xla)
    first = seconds(lambda: call(batch))
    reference = compiled(call, batch, jit_compile=use_xla)
    longest = seconds(lambda: reference(batch))
    longest = max(seconds(lambda: call(batch)), seconds(lambda: reference(batch)))
    turns = max(TURNS, min(200, round(SECONDS / longest / 2)))
    a, b = medians(lambda: call(batch), lambda: reference(batch), turns=turns)
    print(
        f"{name:<9} {direction:<9} {len(batch):>6,} rows  called {1e3 * a:8.2f} ms  "
        f"{'XLA' if use_xla else 'graph':<5} {1e3 * b:8.2f} ms  ratio {a / b:4.2f}  "
        f"first {first:5.2f} s",
        flush=True,
    )


def main(argv: list[str]) -> None:
    """Prints both medians, their ratio and the time of the first call."""
    del argv
    for name in _NAMES.value:
        config, sizes = FLOWS[name]
        flow = Flow(config)
        for size in sizes:
            z = tf.random.stateless_normal([size, flow.latent_dims], [0, 0])
            _measure(name, flow, "log_prob", tf.reshape(0.3 * z, [size, *flow.event_shape]))
            _measure(name, flow, "to_data", z)


if __name__ == "__main__":
    app.run(main)
