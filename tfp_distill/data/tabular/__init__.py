"""The five tabular density-estimation benchmarks as TensorFlow Datasets builders.

Importing this package registers them, so that `tfds.load("power")` works too. Each follows the
preprocessing of Papamakarios, Pavlakou and Murray, 2017, "Masked Autoregressive Flow for Density
Estimation", arXiv:1705.07057, from the archives that the sources publish; where that preprocessing
drew random rows without recording them, the builder's docstring says so.

No checksums are registered: the archives are validated by their contents.
"""

from tfp_distill.data.tabular.bsds300 import Bsds300, Bsds300Config
from tfp_distill.data.tabular.builder import TabularBuilder
from tfp_distill.data.tabular.gas import Gas
from tfp_distill.data.tabular.hepmass import Hepmass
from tfp_distill.data.tabular.miniboone import Miniboone
from tfp_distill.data.tabular.power import Power

__all__ = [
    "Bsds300",
    "Bsds300Config",
    "Gas",
    "Hepmass",
    "Miniboone",
    "Power",
    "TabularBuilder",
]
