"""Numbers from the authors' published training logs, to stand beside ours. None is a result of this library.

They come with the authors' code (github.com/DepenM/Exp-WN), not from the printed paper, whose figures were not at hand.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

_FOLDER = Path(__file__).parent

RUNS = pd.read_csv(_FOLDER / "authors_runs.csv").set_index(["run", "method"])
"""The logged runs on the synthetic sets: steps, and the longest neurons at the end, the longest first."""

XOR_SEED = 9156

SINGLE_RUNS = {
    ("E9", "ewn-count"): 4,
    ("E9", "swn-count"): 16,
    ("E9", "plain-count"): 20,
    ("E11", "ewn-depth-ratio"): 1.98,
    ("E11", "swn-depth-ratio"): 28.1,
    ("E11", "plain-depth-ratio"): 70.0,
}
"""What a claim's test finds in their one logged run: neurons longer than a fifth of the longest, ratios of losses."""


def pruning() -> pd.DataFrame:
    """Test accuracies after pruning, every logged seed and score: MNIST at three losses, CIFAR-10 at e^-300.

    Returns:
        As the second table of ``experiments.image_pruning`` (accuracy in per cent), with a column ``dataset``.
    """
    logged = pd.read_csv(_FOLDER / "authors_pruning.csv", dtype={"z": float})
    logged["accuracy"] = logged["accuracy"].str.split()
    logged["pruned_percent"] = logged["accuracy"].map(lambda levels: range(0, 5 * len(levels), 5))
    return logged.explode(["accuracy", "pruned_percent"], ignore_index=True).astype(
        {"accuracy": float, "pruned_percent": int}
    )
