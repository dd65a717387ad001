"""Which packages an installation has; everything else is in pyproject.toml.

`trainers/` and `flags/` are installed below `tfp_distill`, its only top-level name.
"""

from setuptools import setup

setup(
    packages=[
        "tfp_distill",
        "tfp_distill.bijectors",
        "tfp_distill.bijectors.transforms",
        "tfp_distill.data",
        "tfp_distill.data.embedded",
        "tfp_distill.data.images",
        "tfp_distill.data.tables",
        "tfp_distill.data.tabular",
        "tfp_distill.distillation",
        "tfp_distill.distillation.losses",
        "tfp_distill.evaluation",
        "tfp_distill.evaluation.figures",
        "tfp_distill.evaluation.images",
        "tfp_distill.evaluation.parts",
        "tfp_distill.evaluation.samples",
        "tfp_distill.flags",
        "tfp_distill.flows",
        "tfp_distill.networks",
        "tfp_distill.runs",
        "tfp_distill.runs.fitting",
        "tfp_distill.runs.racing",
        "tfp_distill.runs.recipe",
        "tfp_distill.trainers",
        "tfp_distill.training",
        "tfp_distill.training.callbacks",
        "tfp_distill.training.parts",
    ],
    package_dir={"tfp_distill.flags": "flags", "tfp_distill.trainers": "trainers"},
    package_data={
        "tfp_distill.data.embedded": ["ATTRIBUTION.md", "digits.npz", "power_100k.npz"],
        "tfp_distill.flags": ["*.flags"],
    },
)
