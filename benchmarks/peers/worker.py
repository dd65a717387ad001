"""A process that builds the flows of one library and times them, a request at a time.

It runs in the environment of that library, where `tfp_distill` is not installed.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["Case", "Operations", "serve"]

Case = Mapping[str, Any]
# For each operation, what prepares a batch of a size and returns the call that is timed. The call
# ends when its result is there.
Operations = Mapping[str, Callable[[int], Callable[[], object]]]


def serve(build: Callable[[Case], tuple[Operations, int] | None]) -> None:
    """Answers requests on standard input until it ends.

    A request is a line `{"case": ..., "operation": ..., "batch": ..., "number": ...}`; the answer
    has the seconds of so many calls, one after the other, the number of parameters of the flow and
    the peak of the process's memory in MiB; or nothing, where the library has no such flow.

    Args:
      build: makes the operations and the number of parameters of a case; None if it has none.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # What a library prints is no answer.
    built: dict[str, tuple[Operations, int] | None] = {}
    calls: dict[tuple[str, str, int], Callable[[], object]] = {}
    for line in sys.stdin:
        request = json.loads(line)
        case, operation, batch = request["case"], request["operation"], request["batch"]
        if case["name"] not in built:
            built[case["name"]] = build(case)
        answer = {}
        if built[case["name"]] is not None:
            operations, parameters = built[case["name"]]
            key = (case["name"], operation, batch)
            if key not in calls:
                calls[key] = operations[operation](batch)
            seconds = [_seconds(calls[key]) for _ in range(request["number"])]
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            answer = {"seconds": seconds, "parameters": parameters, "peak_mib": round(peak)}
        print(json.dumps(answer), file=answers, flush=True)


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
