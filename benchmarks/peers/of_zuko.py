"""zuko (Rozet et al.): MAF, and splines by coupling."""

from __future__ import annotations

import zuko
from torch_operations import operations_of
from worker import Case, Operations, serve


def build(case: Case) -> tuple[Operations, int] | None:
    """Makes the flow; there is none for images, and no linear maps for couplings."""
    if case["kind"] in ("affine", "glow"):
        return None
    of_both = dict(transforms=case["steps"], hidden_features=[case["hidden"]] * 2)
    if case["kind"] == "maf":
        flow = zuko.flows.MAF(case["dims"], **of_both)
    else:
        flow = zuko.flows.NSF(case["dims"], bins=8, passes=2, **of_both)
    return operations_of(
        flow, (case["dims"],), lambda x: flow().log_prob(x), lambda n: flow().sample((n,))
    )


if __name__ == "__main__":
    serve(build)
