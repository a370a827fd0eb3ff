"""The papers, one package each, named like its chapter."""

from repro._extras import require

require(
    "papers",
    *("celer", "matplotlib", "mlxtend", "nolds", "seaborn", "sklearn", "statsmodels", "torchvision"),
)
