"""Numbers from the authors' published training logs, to stand beside ours. None is a result of this library.

They come with the authors' code, not from the printed paper, whose figures were not at hand. Means over three
seeds (MNIST) or single runs (the rest). Pruning accuracies under "best of scores" follow the authors' rule:
for each seed and level the highest *test* accuracy over two to four scores.
"""

from __future__ import annotations

from io import StringIO

import pandas as pd

__all__ = ["DEPTH_RATIOS", "LIN_SEP", "SEEDS", "SIMPLE_TRAJ", "XOR", "mnist_pruning"]

SEEDS: dict[str, tuple[int, ...]] = {
    "mnist": (9192, 3576, 2356),
    "cifar10": (9192, 2351, 4512, 3576, 6138),
}
"""The seeds of the authors' image runs; how a seed becomes weights and batches differs here."""

LIN_SEP = pd.DataFrame(
    {"steps": [653, 12284], "spread": [0.074, 0.037], "spread_wrong_sign": [0.888, 0.249]},
    index=pd.Index(["ewn", "swn"], name="method"),
)
"""One run to e^-300: steps, and spread of log|g| +- log|w| over three nodes that the authors chose."""

SIMPLE_TRAJ = pd.DataFrame(
    {
        "start": [0, 1, 2, 3, 4],
        "ewn_1": [24.671, 25.101, 2.723, 25.254, 1.577],
        "ewn_2": [1.970, 1.177, 45.573, 1.089, 48.216],
        "plain_1": [19.802, 20.202, 19.002, 20.603, 18.202],
        "plain_2": [10.401, 9.601, 12.001, 8.801, 13.601],
    }
).set_index("start")
"""Last logged weights of the two-weight race, by start."""

XOR = pd.DataFrame(
    {"top_share": [0.310, 0.397, 0.988], "gini": [0.111, 0.301, 0.737]},
    index=pd.Index(["plain", "swn", "ewn"], name="method"),
)
"""One run: share of squared length in the four longest neurons, Gini coefficient; from the logged lengths."""

DEPTH_RATIOS = pd.Series({"plain": 70.0, "swn": 28.0, "ewn": 1.98}, name="ratio")
"""Largest over smallest loss after 5,000 steps, depths 1 to 4 (computed from the logged losses)."""

_MNIST = """
percent plain_10 swn_10 ewn_10 plain_100 swn_100 ewn_100 plain_300 swn_300 ewn_300
"""
_BEST = """
0  98.39 98.48 98.47 98.52 98.53 98.52 98.53 98.56 98.34
50 97.73 96.16 95.69 98.04 98.06 98.30 98.10 98.14 98.27
60 97.25 94.45 94.40 97.31 97.39 97.94 97.56 97.59 98.14
70 95.71 92.60 89.22 96.28 96.10 97.03 96.42 95.64 97.90
80 92.21 85.90 84.87 92.41 92.95 94.42 93.09 92.53 97.24
90 82.53 73.89 71.78 79.87 77.19 83.75 79.25 75.87 93.23
95 66.59 58.08 54.32 57.04 55.53 65.15 57.71 55.79 76.28
"""
_LENGTH = """
50 97.62 96.16 95.20 97.93 97.86 98.22 98.06 98.07 98.24
60 97.01 94.45 93.82 97.23 97.14 97.87 97.34 97.30 98.11
70 95.69 92.60 88.95 96.02 95.27 96.96 96.33 95.37 97.82
80 92.21 85.90 82.64 91.76 91.34 94.06 92.87 91.87 97.19
90 82.53 73.34 71.78 78.49 74.90 82.70 78.04 73.94 93.03
95 64.13 54.76 53.10 56.36 52.54 64.72 56.15 54.17 74.69
"""


def mnist_pruning(score: str = "length") -> pd.DataFrame:
    """The authors' MNIST accuracies after pruning: pruned_percent, method, z, accuracy (per cent).

    Args:
        score: "length" (final length alone) or "best" (their best-of-scores rule).

    Raises:
        ValueError: for another score.
    """
    tables = {"length": _LENGTH, "best": _BEST}
    if score not in tables:
        raise ValueError(f"the authors' logs give the scores 'length' and 'best', got {score!r}")
    wide = pd.read_csv(StringIO(_MNIST.strip() + tables[score]), sep=r"\s+")
    tall = wide.melt("percent", value_name="accuracy")
    method_and_z = tall.pop("variable").str.split("_", expand=True)
    return tall.rename(columns={"percent": "pruned_percent"}).assign(
        method=method_and_z[0], z=method_and_z[1].astype(float)
    )
