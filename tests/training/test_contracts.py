"""Flows and rows have what training asks of them; mypy knows little of what a Keras model has."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from part_flows import make_flow

from tfp_distill.data import TrainingRows
from tfp_distill.training import Partition, contracts


def _compiled_flow():
    flow = make_flow("glow")
    flow.compile(optimizer="adam", partition=Partition.across_blocks(flow, 2))
    return flow


_IMPLEMENTATIONS = {
    contracts.SteppedFlow: _compiled_flow,
    contracts.PartedModel: _compiled_flow,
    contracts.OrderedRows: lambda: TrainingRows(np.zeros([4, 2], np.float32), 2),
}


@pytest.mark.parametrize("contract", _IMPLEMENTATIONS)
def test_implementations_have_what_the_contract_names(contract):
    made = _IMPLEMENTATIONS[contract]()
    for name, asked in vars(contract).items():
        if name.startswith("_"):
            continue
        own = getattr(made, name)
        if not isinstance(asked, property):
            _, *parameters = inspect.signature(asked).parameters
            assert list(inspect.signature(own).parameters) == parameters, name
