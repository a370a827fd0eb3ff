"""The papers, one package each, named like its chapter."""

from repro._extras import require

_NEEDED = "celer", "matplotlib", "mlxtend", "nolds", "seaborn", "sklearn", "statsmodels", "torchvision"
require("papers", *_NEEDED)
