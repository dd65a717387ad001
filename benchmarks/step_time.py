"""How much longer a training step takes with each distillation than without.

    python benchmarks/step_time.py --architecture=glow

Flows of the POWER presets, random data, batch 4,096; the methods take turns in one process. Those
with pairs draw the teacher's samples from a table that is made beforehand, as many as rows or one
for every four; those with traces get the teacher's latents of their rows, made beforehand too.
Quiet machine required; only the ratios mean anything elsewhere.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
from absl import app, flags

import tfp_distill
from tfp_distill.data import TrainingRows

ROWS, BATCH, STEPS_PER_TURN, TURNS = 65_536, 4096, 20, 7
LOSSES = {
    "student": (),
    "lkd": (tfp_distill.LatentLoss(),),
    "ilkd": (tfp_distill.IntermediateLatentLoss(),),
    "skd": (tfp_distill.SynthesizedLoss(),),
    "skd, latent space": (tfp_distill.SynthesizedLoss(space="latent"),),
    "ilkd and skd": (tfp_distill.IntermediateLatentLoss(), tfp_distill.SynthesizedLoss()),
    "forward_kl": (tfp_distill.ForwardKLLoss(),),
}
PAIRS = ("skd", "skd, latent space", "ilkd and skd", "forward_kl")
FEW = 4
TRACES = {"lkd": 0, "ilkd": 0, "ilkd and skd": FEW}
_ARCHITECTURE = flags.DEFINE_enum("architecture", "glow", ["glow", "maf"], "Which presets.")


def main(argv: list[str]) -> None:
    """Prints the median time of a step and its ratio to that of maximum likelihood."""
    del argv
    x = np.random.RandomState(0).normal(size=(ROWS, 6)).astype(np.float32)
    rows = TrainingRows(x, BATCH)
    teacher = tfp_distill.Flow.from_preset(f"power_{_ARCHITECTURE.value}_teacher")
    teacher.adapt(x)
    traces = tfp_distill.TeacherTraces(teacher, rows)
    variants = [(name, name, 0, rows) for name in LOSSES]
    variants += [(f"{name}, pairs", name, 1, rows) for name in PAIRS]
    variants += [(f"{name}, pairs, few", name, FEW, rows) for name in PAIRS]
    variants += [
        (f"{name}, {'pairs, few, ' * bool(n)}traces", name, n, traces) for name, n in TRACES.items()
    ]
    models, batches = {}, {}
    for label, name, rows_per_sample, source in variants:
        model = tfp_distill.Flow.from_preset(f"power_{_ARCHITECTURE.value}_student")
        if LOSSES[name]:
            model = tfp_distill.FlowDistiller(
                student=model,
                teacher=teacher,
                distillation_losses=LOSSES[name],
                rows_per_sample=max(rows_per_sample, 1),
            )
        if rows_per_sample:
            table = tfp_distill.TeacherPairs()
            table.set_model(model)
            table.on_train_begin()  # It stays for all turns.
        model.compile("adam", steps_per_execution=STEPS_PER_TURN)
        models[label], batches[label] = model, source.batches()
        model.fit(batches[label], steps_per_epoch=STEPS_PER_TURN, verbose=0)
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(TURNS):
        for name, model in models.items():
            began = time.perf_counter()
            model.fit(batches[name], steps_per_epoch=STEPS_PER_TURN, verbose=0)
            times[name].append((time.perf_counter() - began) / STEPS_PER_TURN)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, value in medians.items():
        print(f"{name:<34} {1e3 * value:6.2f} ms  ratio {value / medians['student']:.2f}")


if __name__ == "__main__":
    app.run(main)
