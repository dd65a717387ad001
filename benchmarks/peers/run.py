"""Times tfp_distill beside other libraries of flows.

    python benchmarks/peers/run.py --environments=DIRECTORY --out=peers.json

Each library works in a process of its own, in an environment that is made at the first run:
PyTorch for zuko, nflows and normflows, as they come and by `torch.compile`, JAX for flowjax;
tfp_distill and TensorFlow Probability are those of the Python that runs this. For every operation
the processes take turns, one at a time, so that what slows the machine slows all of them; printed
are medians in ms, and beside them how often tfp_distill is as fast. The first calls, with what they
trace and compile, are in the file alone, as are parameters, peak memory (of the process, after all
that it did before) and the seconds of a start with the imports. What a library says of a failure is
in `DIRECTORY/NAME.log`. Quiet machine required.
"""

from __future__ import annotations

import contextlib
import functools
import json
import pathlib
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Iterator, Mapping
from typing import Any

from absl import app, flags

HERE = pathlib.Path(__file__).parent
OURS = "tfp_distill"
# For each library the environment, and its worker.
PEERS = {
    OURS: ("", ["of_tfp_distill.py"]),
    "TFP": ("", ["of_tfp.py"]),
    "TFP, XLA": ("", ["of_tfp.py", "--xla"]),
    "zuko": ("torch", ["of_zuko.py"]),
    "nflows": ("torch", ["of_nflows.py"]),
    "normflows": ("torch", ["of_normflows.py"]),
    "zuko, compiled": ("torch", ["of_zuko.py", "--compile"]),
    "nflows, compiled": ("torch", ["of_nflows.py", "--compile"]),
    "normflows, compiled": ("torch", ["of_normflows.py", "--compile"]),
    "flowjax": ("jax", ["of_flowjax.py"]),
}
ROWS = (("step", 16_384), *(("log_prob", n) for n in (1, 256, 16_384)), ("sample", 4096))
IMAGES = (("step", 32), *((way, n) for way in ("log_prob", "sample") for n in (1, 32)))
WIDE_IMAGES = (("step", 8), ("log_prob", 8), ("sample", 8))
_MAF = {"kind": "maf", "hidden": 32}
_GLOW = {"kind": "glow", "shape": (32, 32, 3), "levels": 3, "steps": 4}
# A flow, and what is done with it.
CASES = (
    ({"name": "MAF D=6", "dims": 6, "steps": 6, **_MAF}, ROWS),
    ({"name": "MAF D=63", "dims": 63, "steps": 3, **_MAF}, ROWS),
    ({"name": "spline coupling D=6", "kind": "spline", "dims": 6, "steps": 4, "hidden": 24}, ROWS),
    (
        {"name": "Glow D=43", "kind": "affine", "dims": 43, "steps": 5, "hidden": 64, "layers": 5},
        ROWS,
    ),
    ({"name": "Glow 32x32x3", "hidden": 64, **_GLOW}, IMAGES),
    ({"name": "Glow 32x32x3, 512 channels", "hidden": 512, **_GLOW}, WIDE_IMAGES),
)
TURNS, SECONDS = 15, 3.0

_ENVIRONMENTS = flags.DEFINE_string("environments", None, "Where environments are.", required=True)
_OUT = flags.DEFINE_string("out", None, "The JSON file to write.")
_TORCH = flags.DEFINE_string("torch", "torch", "What pip installs of PyTorch.")
_NAMES = [case["name"] for case, _ in CASES]
_CASES = flags.DEFINE_multi_enum("case", _NAMES, _NAMES, "One of the flows; all, if none is named.")


class Worker:
    """The process of one library."""

    def __init__(self, name: str, python: str, command: list[str]) -> None:
        self._name, self._ended = name, False
        began = time.perf_counter()
        self._log = (pathlib.Path(_ENVIRONMENTS.value) / f"{name}.log").open("w")
        self._process = subprocess.Popen(
            [python, *command],
            cwd=HERE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self._process.stdout.readline()
        self.start_up_seconds = round(time.perf_counter() - began, 2)

    def __call__(self, case: Mapping[str, Any], operation: str, batch: int, number: int) -> dict:
        """Returns what the worker answers: nothing where it fails or its process has ended."""
        request = {"case": case, "operation": operation, "batch": batch, "number": number}
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(request), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer and not self._ended:
            print(f"{self._name}: its process ended at {request}", file=sys.stderr)
            self._ended = True
        return json.loads(answer or "{}")

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()
        self._log.close()


@functools.cache
def _python_of(environment: str) -> str:
    """Returns the interpreter of an environment, which is made where it is not there."""
    if not environment:
        return sys.executable
    folder = pathlib.Path(_ENVIRONMENTS.value) / environment
    python = str(folder / "bin" / "python")
    packages = {"torch": [_TORCH.value, "zuko", "nflows", "normflows"], "jax": ["flowjax", "optax"]}
    if not folder.exists():
        venv.create(folder, with_pip=True)
    # Again, if an installation was cut off; where all is there, it is done in a second.
    install = [python, "-m", "pip", "install", "--quiet", *packages[environment]]
    subprocess.run(install, check=True)
    return python


def _measure(
    workers: Mapping[str, Worker], case: Mapping[str, Any], operation: str, batch: int
) -> dict[str, dict[str, Any]]:
    """Returns the answers of the libraries that have the flow, with the median of their turns."""
    found = {name: worker(case, operation, batch, 1) for name, worker in workers.items()}
    found = {name: answer for name, answer in found.items() if answer}
    for answer in found.values():
        answer["first_seconds"] = answer.pop("seconds")[0]
    again = {name: workers[name](case, operation, batch, 2)["seconds"][1] for name in found}
    turns = max(3, min(TURNS, round(SECONDS / max(again.values()))))
    times: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(turns):
        for name in found:
            # The second of two: the first finds caches that another process has filled.
            times[name].append(workers[name](case, operation, batch, 2)["seconds"][1])
    for name, answer in found.items():
        answer["median_ms"] = round(1e3 * statistics.median(times[name]), 3)
    ours = found[OURS]["median_ms"]
    return {
        n: {**answer, "times_ours": round(answer["median_ms"] / ours, 2)}
        for n, answer in found.items()
    }


@contextlib.contextmanager
def _workers() -> Iterator[dict[str, Worker]]:
    pathlib.Path(_ENVIRONMENTS.value).mkdir(parents=True, exist_ok=True)
    workers = {
        name: Worker(name, _python_of(environment), command)
        for name, (environment, command) in PEERS.items()
    }
    try:
        yield workers
    finally:
        for worker in workers.values():
            worker.close()


def main(argv: list[str]) -> None:
    """Prints a line for each case, operation and batch, and writes all figures."""
    del argv
    rows = []
    with _workers() as workers:
        start_ups = {name: worker.start_up_seconds for name, worker in workers.items()}
        print(f"Seconds of a start: {start_ups}", flush=True)
        for case, operations in CASES:
            if case["name"] not in _CASES.value:
                continue
            for operation, batch in operations:
                found = _measure(workers, case, operation, batch)
                rows.append({"case": case["name"], "operation": operation, "batch": batch, **found})
                parts = (
                    f"{n} {a['median_ms']:.2f} ({a['times_ours']:.2f})" for n, a in found.items()
                )
                print(f"{case['name']}, {operation} {batch:,}: {';  '.join(parts)}", flush=True)
    if _OUT.value:
        figures = {"start_up_seconds": start_ups, "rows": rows}
        pathlib.Path(_OUT.value).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    app.run(main)
