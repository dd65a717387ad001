"""Tests of configurations and presets: sizes, serialisation, errors."""

import dataclasses

import keras
import pytest

from tfp_distill import Flow, MAFConfig, TabularGlowConfig
from tfp_distill.flows import FlowConfig, preset_config, preset_names

# Walton et al., 2023, Table 2, as printed and as derived from the architecture.
PARAMETERS = {
    "power_glow_student": 13_794,
    "gas_glow_student": 14_184,
    "hepmass_glow_student": 17_355,
    "miniboone_glow_student": 24_945,
    "bsds300_glow_student": 34_365,
    "power_glow_teacher": 86_670,
    "gas_glow_teacher": 87_800,
    "hepmass_glow_teacher": 96_285,
    "miniboone_glow_teacher": 114_215,
    "bsds300_glow_teacher": 134_715,
    "power_maf_student": 5_028,
    "gas_maf_student": 5_616,
    "hepmass_maf_student": 9_438,
    "miniboone_maf_student": 15_906,
    "bsds300_maf_student": 21_786,
    "power_maf_teacher": 10_056,
    "gas_maf_teacher": 11_232,
    "hepmass_maf_teacher": 18_876,
    "miniboone_maf_teacher": 31_812,
    "bsds300_maf_teacher": 43_572,
    # Neural spline flows: from the formula of `TabularGlowConfig`.
    "power_spline_student": 12_948,
    "power_spline_teacher": 167_592,
    "gas_spline_student": 16_048,
    "gas_spline_teacher": 189_536,
    "hepmass_spline_student": 38_344,
    "hepmass_spline_teacher": 343_680,
    "miniboone_spline_student": 76_844,
    "miniboone_spline_teacher": 593_864,
    "bsds300_spline_student": 115_204,
    "bsds300_spline_teacher": 828_024,
    # Images: Table 5, with the free entries of L and U only.
    "cifar10_glow_student": 11_015_664,
    "cifar10_glow_teacher": 44_052_720,
    "celeba_glow_student": 7_896_816,
    "celeba_glow_teacher": 60_781_392,
    "fashion_mnist_glow_student": 51_728,
    "fashion_mnist_glow_teacher": 307_280,
    "digits_glow_student": 15_424,
    "digits_glow_teacher": 153_680,
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "parameters"), PARAMETERS.items())
def test_presets_have_the_papers_parameter_counts(name, parameters):
    flow = Flow.from_preset(name)
    assert flow.num_parameters == parameters
    assert sum(v.shape.num_elements() for v in flow.bijector.trainable_variables) == parameters
    assert flow.name == name
    assert name in preset_names()
    assert flow.config == preset_config(name)


@pytest.mark.parametrize(("name", "parameters"), PARAMETERS.items())
def test_most_weights_are_known_before_a_flow_is_built(name, parameters):
    fewest = preset_config(name).fewest_weights
    assert fewest <= parameters <= 4 * fewest


def test_every_preset_is_counted():
    assert set(preset_names()) == set(PARAMETERS)


@pytest.mark.parametrize("name", ["power", "power_glow", "mnist_glow_teacher", ""])
def test_an_unknown_preset_is_refused(name):
    with pytest.raises(ValueError, match=f"`name` must be one of power_glow_.*, got '{name}'"):
        Flow.from_preset(name)


@pytest.mark.parametrize(
    "config",
    [
        TabularGlowConfig(dims=5, coupling="additive", condition_dims=2, activation="tanh"),
        MAFConfig(dims=3, num_steps=2, inverse_autoregressive=True, log_scale_bound=2.0),
        MAFConfig(dims=3, transform="spline", mixing=True, num_bins=4, tail_bound=3.0),
    ],
)
def test_configurations_are_values(config):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(config))
    assert again == config
    assert hash(again) == hash(config)
    assert dataclasses.replace(config, seed=1) != config
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.dims = 4


@pytest.mark.parametrize("config_class", [TabularGlowConfig, MAFConfig])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(dims=0), "`dims` must be an integer of at least 1, got 0"),
        (dict(dims=2.0), "`dims` must be an integer of at least 1, got 2.0"),
        (dict(dims=2, num_steps=0), "`num_steps` must be an integer of at least 1, got 0"),
        (dict(dims=2, hidden_units=0), "`hidden_units` must be an integer of at least 1, got 0"),
        (
            dict(dims=2, num_hidden_layers=True),
            "`num_hidden_layers` must be an integer of at least 1, got True",
        ),
        (dict(dims=2, condition_dims=-1), "`condition_dims` must be an integer of at least 0"),
        (dict(dims=2, seed=0.5), "`seed` must be an integer, got 0.5"),
        (dict(dims=2, num_bins=1), "`num_bins` must be an integer from 2 to 100, got 1"),
        (dict(dims=2, tail_bound=0.0), "`tail_bound` must be positive and finite, got 0.0"),
        (dict(dims=2, log_scale_bound=0), r"`log_scale_bound` must be in \(0, 20\], got 0"),
    ],
)
def test_errors_name_argument_rule_and_value(config_class, options, message):
    with pytest.raises(ValueError, match=message):
        config_class(**options)


def test_the_kind_of_transform_is_checked():
    with pytest.raises(
        ValueError, match='`coupling` must be "affine", "additive" or "spline", got'
    ):
        TabularGlowConfig(dims=2, coupling="cubic")
    with pytest.raises(ValueError, match='`transform` must be "affine" or "spline", got .additive'):
        MAFConfig(dims=2, transform="additive")


def test_configurations_share_a_base():
    assert isinstance(MAFConfig(dims=2), FlowConfig)
    with pytest.raises(ValueError, match="`config` must be a FlowConfig, got dict"):
        Flow({"dims": 2})
