"""A process that builds the flows of one library and times them, a request at a time.

It runs in the environment of that library, where `tfp_distill` is not installed.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["Case", "Operations", "serve"]

Case = Mapping[str, Any]
# For each operation, what prepares a batch of a size and returns the call that is timed. The call
# ends when its result is there.
Operations = Mapping[str, Callable[[int], Callable[[], object]]]


def serve(build: Callable[[Case], tuple[Operations, int] | None]) -> None:
    """Says that it is ready, and answers requests on standard input until it ends.

    A request is a line `{"case": ..., "operation": ..., "batch": ..., "number": ...}`; the answer
    has the seconds of so many calls, one after the other, the number of parameters of the flow and
    the peak of the process's memory in MiB. It has nothing where the library has no such flow, or
    fails.

    Args:
      build: makes the operations and the number of parameters of a case; None if it has none.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # What a library prints is no answer.
    built: dict[str, tuple[Operations, int] | None] = {}
    calls: dict[tuple[str, str, int], Callable[[], object]] = {}

    def answer_to(request):
        case, operation, batch = request["case"], request["operation"], request["batch"]
        if case["name"] not in built:
            built[case["name"]] = build(case)
        if built[case["name"]] is None:
            return {}
        operations, parameters = built[case["name"]]
        key = (case["name"], operation, batch)
        if key not in calls:
            calls[key] = operations[operation](batch)
        seconds = [_seconds(calls[key]) for _ in range(request["number"])]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {"seconds": seconds, "parameters": parameters, "peak_mib": round(peak)}

    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        try:
            answer = answer_to(json.loads(line))
        except Exception:
            # Whatever a compiler of theirs stumbles over: the other operations go on.
            traceback.print_exc()
            answer = {}
        print(json.dumps(answer), file=answers, flush=True)


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
