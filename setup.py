"""Which packages an installation has; everything else is in pyproject.toml.

`trainers/` and `flags/` are installed below `tfp_distill`, its only top-level name.
"""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["tfp_distill", "tfp_distill.*"]),
        "tfp_distill.flags",
        "tfp_distill.trainers",
    ],
    package_dir={"tfp_distill.flags": "flags", "tfp_distill.trainers": "trainers"},
    package_data={
        "tfp_distill.data.embedded": ["ATTRIBUTION.md", "digits.npz", "power_100k.npz"],
        "tfp_distill.flags": ["*.flags"],
    },
)
