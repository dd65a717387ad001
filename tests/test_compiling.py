"""Tests of what is compiled: when XLA pays, and passes that are traced once."""

import numpy as np
import pytest
import tensorflow as tf

from tfp_distill import GlowConfig, MAFConfig, TabularGlowConfig
from tfp_distill.compiling import CompiledPasses, inlined, uses_xla, xla_pays


class _Counted:
    """Doubles rows, and counts how often it runs as Python, that is, is traced."""

    def __init__(self):
        self.runs = 0

    def __call__(self, x):
        self.runs += 1
        return 2 * x


def _rows(number):
    return tf.reshape(tf.range(3.0 * number), [number, 3])


def test_xla_pays_on_gpus_and_on_cpus_where_it_suits(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    assert (xla_pays(True), xla_pays(False)) == (True, False)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    assert (xla_pays(True), xla_pays(False)) == (True, True)


def test_all_but_convolutions_suits_xla():
    for name in ("affine", "spline"):
        assert TabularGlowConfig(2, coupling=name).suits_xla
        assert MAFConfig(2, transform=name).suits_xla
    assert not GlowConfig((4, 4, 1), num_levels=1).suits_xla


def test_the_user_has_the_last_word_about_xla():
    assert uses_xla(True, suits_xla=False)
    assert not uses_xla(False, suits_xla=True)
    assert uses_xla("auto", suits_xla=True) == xla_pays(True)
    with pytest.raises(ValueError, match='`jit_compile` must be True, False or "auto", got .on'):
        uses_xla("on", suits_xla=True)


@pytest.mark.parametrize("suits_xla", [True, False])
def test_a_pass_is_traced_once_for_batches_of_all_sizes(suits_xla):
    function, passes = _Counted(), CompiledPasses(suits_xla=suits_xla)
    for number in (3, 1, 0, 300, 256, 1000, 3):
        np.testing.assert_array_equal(passes("double", function, _rows(number)), 2 * _rows(number))
    # Where equal steps may share a trace, XLA has one of its own for single rows.
    assert function.runs == (1 if suits_xla else 2)


@pytest.mark.parametrize(
    "suits_xla, expected", [(True, [1, 256, 1000, 1024, 4096, 10_000]), (False, [1])]
)
def test_xla_compiles_for_round_sizes_only(suits_xla, expected, monkeypatch):
    used = []

    passes = CompiledPasses(suits_xla=suits_xla)
    passes("double", _Counted(), _rows(2))
    (made,) = passes._passes.values()
    monkeypatch.setattr(made, "_xla", lambda x: used.append(int(x.shape[0])))
    for number in (0, 1, 2, 16, 255, 256, 257, 384, 1000, 1024, 4096, 5000, 10_000):
        passes("double", _Counted(), _rows(number))
    assert used == expected


def test_graphs_of_thousands_of_operations_stay_plain_graphs():
    shared = tf.function(lambda x: x + 1)

    def of_calls(x):
        for _ in range(3000):
            x = shared(x)
        return x

    for function, is_large in ((lambda x: shared(x), False), (of_calls, True)):
        passes = CompiledPasses(suits_xla=False)
        passes("add", function, _rows(2))
        (made,) = passes._passes.values()
        assert (made._xla is made._graph) == is_large


def test_an_argument_with_a_default_costs_nothing(monkeypatch):
    passes = CompiledPasses(suits_xla=False)
    passes("double", lambda x, condition=None: 2 * x, _rows(2))
    # TensorFlow would print the tensors of what it takes for a faulty call.
    monkeypatch.setattr(type(_rows(2)), "__repr__", lambda self: pytest.fail("a tensor is printed"))
    np.testing.assert_array_equal(
        passes("double", lambda x, condition=None: 2 * x, _rows(2)).numpy(), 2 * _rows(2).numpy()
    )


def test_a_batch_that_is_too_large_for_the_caches_runs_in_pieces(monkeypatch):
    passes, used = CompiledPasses(suits_xla=True), []

    def function(x):
        return x + 1, (tf.reduce_sum(x, axis=-1),)

    x = _rows(600)
    found = passes("sum", function, x, rows_at_once=256)
    tf.nest.map_structure(np.testing.assert_array_equal, found, function(x))
    (made,) = passes._passes.values()
    for name in ("_xla", "_graph"):
        monkeypatch.setattr(made, name, lambda x, name=name: used.append((name, len(x))) or x)
    passes("sum", function, x, rows_at_once=256)
    passes("sum", function, x[:256], rows_at_once=256)
    assert used == [("_xla", 256), ("_xla", 256), ("_graph", 88), ("_xla", 256)]


def test_wide_splines_run_in_pieces_where_a_pass_is_one_of_the_networks(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    maf = MAFConfig(63, transform="spline")
    iaf = MAFConfig(63, transform="spline", inverse_autoregressive=True)
    for config, expected in (
        (maf, (1024, None)),
        (iaf, (None, 1024)),
        (TabularGlowConfig(63, coupling="spline"), (2048, 2048)),
        (TabularGlowConfig(6, coupling="spline"), (None, None)),
        (MAFConfig(63), (None, None)),
        (GlowConfig((4, 4, 1), num_levels=1), (None, None)),
    ):
        assert tuple(config.rows_at_once(generative=way) for way in (False, True)) == expected
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    assert maf.rows_at_once(generative=False) is None


def test_within_another_function_a_pass_becomes_part_of_it():
    function, passes = _Counted(), CompiledPasses(suits_xla=True)
    outer = tf.function(lambda x: passes("double", function, x) + 1)
    np.testing.assert_array_equal(outer(_rows(2)), 2 * _rows(2) + 1)
    operations = outer.get_concrete_function(_rows(2)).graph.get_operations()
    assert not [o.type for o in operations if "PartitionedCall" in o.type]
    with inlined():
        passes("double", function, _rows(2))
        passes("double", function, _rows(2))
    assert function.runs == 3
