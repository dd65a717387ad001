"""Tests of dividing flows into parts."""

import itertools

import keras
import numpy as np
import pytest
from part_flows import CONFIGS

from tfp_distill import Flow, GlowConfig, Partition, TabularGlowConfig
from tfp_distill.training.parts import partition as partition_module
from tfp_distill.training.parts.step_cost import balanced_ends, measure_step_costs


@pytest.fixture(scope="module")
def glow():
    """Three levels of 4 steps, as the paper's figure 1."""
    config = GlowConfig(image_shape=(8, 8, 3), num_levels=3, steps_per_level=4, hidden_channels=8)
    return Flow(config, name="three_levels")


@pytest.fixture(scope="module")
def tabular():
    return Flow(TabularGlowConfig(dims=3, num_steps=5, hidden_units=4), name="tabular")


def _dims(partition):
    return [(part.dims_in, part.dims_out) for part in partition.parts]


def test_by_block_groups_the_last_levels(glow):
    assert [Partition.by_block(glow, n).ends for n in (1, 2, 3)] == [(12,), (4, 12), (4, 8, 12)]
    assert _dims(Partition.by_block(glow, 3)) == [(192, 96), (96, 48), (48, 48)]
    assert _dims(Partition.by_block(glow, 2)) == [(192, 96), (96, 48)]


def test_across_blocks_never_ends_with_a_level(glow):
    for num_parts in range(1, 8):
        partition = Partition.across_blocks(glow, num_parts)
        assert len(partition.parts) == num_parts
        assert not set(partition.ends[:-1]) & set(glow.level_ends)
        sizes = np.diff((0, *partition.ends))
        assert max(sizes) - min(sizes) <= 2
    # Level 1 and half of level 2, as figure 1b: what level 1 factors out has left inside part 0.
    assert Partition.across_blocks(glow, 2).ends == (6, 12)
    assert _dims(Partition.across_blocks(glow, 2)) == [(192, 96), (96, 48)]


def test_parts_hold_every_weight_once(glow, tabular):
    maf = Flow(CONFIGS["conditional_maf"])
    for flow, partition in (
        (glow, Partition.across_blocks(glow, 5)),
        (glow, Partition.by_block(glow, 3)),
        (tabular, Partition.at_steps(tabular, [2, 3])),
        (maf, Partition.across_blocks(maf, 2)),
    ):
        flow.compile("sgd", partition=partition)
        found = [id(w) for k in range(len(partition.parts)) for w in flow.part_weights(k)]
        assert found == [id(weight) for weight in flow.trainable_variables]
        assert sum(part.num_parameters for part in partition.parts) == flow.num_parameters


@pytest.mark.parametrize("seed", range(5))
def test_shares_are_the_most_equal_ones(seed):
    random = np.random.RandomState(seed)
    costs = random.exponential(size=8)
    allowed = sorted(random.choice(np.arange(1, 8), size=5, replace=False).tolist())
    for num_parts in range(1, 5):

        def unequal(ends):
            return sum(np.sum(costs[a:b]) ** 2 for a, b in itertools.pairwise((0, *ends, 8)))

        best = min(map(unequal, itertools.combinations(allowed, num_parts - 1)))
        assert np.isclose(unequal(balanced_ends(costs, num_parts, allowed)), best)


def test_shares_of_parameters(glow):
    partition = Partition.across_blocks(glow, 2, balance="parameters")
    shares = [part.num_parameters for part in partition.parts]
    others = [Partition.at_steps(glow, [step]) for step in (1, 2, 3, 5, 6, 7, 9, 10, 11)]
    differences = [abs(a.num_parameters - b.num_parameters) for a, b in (p.parts for p in others)]
    assert abs(shares[0] - shares[1]) == min(differences)
    assert partition.ends != Partition.across_blocks(glow, 2).ends


def test_shares_of_cost_are_measured(glow, monkeypatch):
    costs = measure_step_costs(glow)
    assert len(costs) == glow.num_steps
    assert min(costs) > 0
    measured = [4.0] * 4 + [2.0] * 4 + [1.0] * 4
    monkeypatch.setattr(partition_module, "measure_step_costs", lambda flow: measured)
    assert Partition.across_blocks(glow, 2, balance="cost").ends == (3, 12)


def test_costs_of_every_kind_of_flow():
    for name in ("glow", "conditional_maf"):
        costs = measure_step_costs(Flow(CONFIGS[name]))
        assert len(costs) == 4
        assert len(set(costs)) == 1  # All steps have the same shapes.


def test_end_to_end_is_the_partition_with_one_part(tabular):
    partition = Partition.end_to_end(tabular)
    assert partition == Partition.across_blocks(tabular, 1) == Partition.by_block(tabular, 1)
    assert (partition.ends, partition.parts[0].first_step) == ((5,), 1)


def test_a_partition_prints_as_a_table(glow):
    lines = str(Partition.by_block(glow, 2)).splitlines()
    assert lines[0].split() == ["part", "steps", "parameters", "dims", "in", "dims", "out"]
    assert [line.split()[:2] for line in lines[1:]] == [["0", "1-4"], ["1", "5-12"]]
    assert [line.split()[3:] for line in lines[1:]] == [["192", "96"], ["96", "48"]]
    assert len({len(line) for line in lines}) == 1


def test_a_partition_is_serialisable(glow):
    partition = Partition.across_blocks(glow, 3)
    config = keras.saving.serialize_keras_object(partition)
    assert keras.saving.deserialize_keras_object(config) == partition


ILLEGAL = {
    "no part": (
        lambda flow: Partition.across_blocks(flow, 0),
        r"`num_parts` must be an integer from 1 to 10, .* of 'three_levels' allow, got 0",
    ),
    "too many blocks": (
        lambda flow: Partition.by_block(flow, 4),
        r"`num_parts` must be an integer from 1 to 3, as the levels of 'three_levels' .*, got 4",
    ),
    "balance": (
        lambda flow: Partition.across_blocks(flow, 2, balance="time"),
        "`balance` must be one of steps, parameters, cost, got 'time'",
    ),
    "order": (
        lambda flow: Partition.at_steps(flow, [5, 3]),
        r"`boundaries` must be rising steps from 1 to 11 of 'three_levels', got \(5, 3\)",
    ),
    "last step": (
        lambda flow: Partition.at_steps(flow, [12]),
        r"must be rising steps from 1 to 11 of 'three_levels', got \(12,\)",
    ),
}


@pytest.mark.parametrize("case", ILLEGAL)
def test_errors_name_argument_rule_and_value(case, glow):
    make, message = ILLEGAL[case]
    with pytest.raises(ValueError, match=message):
        make(glow)


def test_one_level_is_one_block(tabular):
    with pytest.raises(ValueError, match="from 1 to 1, as the levels of 'tabular' allow, got 2"):
        Partition.by_block(tabular, 2)


def test_a_part_without_trainable_weights_is_refused():
    flow = Flow(CONFIGS["glow"], name="half_frozen")
    for layer in flow.bijector.layers_of(3, 4):
        layer.trainable = False
    with pytest.raises(ValueError, match="got none in steps 3 to 4 of 'half_frozen'"):
        Partition.at_steps(flow, [2])
    assert Partition.at_steps(flow, [1]).ends == (1, 4)
