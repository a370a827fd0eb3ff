"""Numbers from the authors' published training logs, to stand beside ours. None is a result of this library.

They come with the authors' code, not from the printed paper, whose figures were not at hand. Means over three
seeds (MNIST) or single runs (the rest).
"""

from __future__ import annotations

from io import StringIO

import pandas as pd

LIN_SEP = pd.DataFrame(
    {"steps": [653, 12284], "spread": [0.074, 0.037], "spread_wrong_sign": [0.888, 0.249]},
    index=pd.Index(["ewn", "swn"], name="method"),
)
"""One run to e^-300: steps, and spread of log|g| +- log|w| over three nodes that the authors chose."""

XOR = pd.DataFrame(
    {"top_share": [0.310, 0.397, 0.988], "gini": [0.111, 0.301, 0.737]},
    index=pd.Index(["plain", "swn", "ewn"], name="method"),
)
"""One run: share of squared length in the four longest neurons, Gini coefficient; from the logged lengths."""

_MNIST = """
percent plain_10 swn_10 ewn_10 plain_100 swn_100 ewn_100 plain_300 swn_300 ewn_300
50 97.62 96.16 95.20 97.93 97.86 98.22 98.06 98.07 98.24
60 97.01 94.45 93.82 97.23 97.14 97.87 97.34 97.30 98.11
70 95.69 92.60 88.95 96.02 95.27 96.96 96.33 95.37 97.82
80 92.21 85.90 82.64 91.76 91.34 94.06 92.87 91.87 97.19
90 82.53 73.34 71.78 78.49 74.90 82.70 78.04 73.94 93.03
95 64.13 54.76 53.10 56.36 52.54 64.72 56.15 54.17 74.69
"""


def mnist_pruning() -> pd.DataFrame:
    """The authors' MNIST accuracies after pruning by final length: pruned_percent, method, z, accuracy (per cent)."""
    wide = pd.read_csv(StringIO(_MNIST), sep=r"\s+")
    tall = wide.melt("percent", value_name="accuracy")
    method_and_z = tall.pop("variable").str.split("_", expand=True)
    return tall.rename(columns={"percent": "pruned_percent"}).assign(
        method=method_and_z[0], z=method_and_z[1].astype(float)
    )
