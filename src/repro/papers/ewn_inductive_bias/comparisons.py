"""Differences between methods on the same seed: what claims E13 to E17 are about."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from repro.papers.ewn_inductive_bias.image_experiments import ImageTables
from repro.papers.ewn_inductive_bias.pruning import best_of_scores

__all__ = ["accuracy_by_score", "accuracy_price", "pruned_at", "pruning_advantage"]


def pruned_at(table: pd.DataFrame, z: float, percent: float, score: str = "length") -> pd.DataFrame:
    """Accuracy (per cent) at one loss level and share of removed neurons: a row a seed, a column a method.

    Args:
        table: `ImageTables.accuracy`.
        z: the loss level; it must have been a target of the training.
        percent: of the hidden neurons removed.
        score: by which they were chosen.

    Raises:
        ValueError: nothing was measured there; the message names what was.
    """
    chosen = table[(table["z"] == z) & (table["pruned_percent"] == percent) & (table["score"] == score)]
    if chosen.empty:
        there = "; ".join(
            f"{column}: {', '.join(map(str, table[column].unique()))}"
            for column in ("z", "pruned_percent", "score")
        )
        raise ValueError(
            f"nothing measured at z = {z}, {percent} % removed, score {score!r}; there is {there}"
        )
    return chosen.pivot(index="seed", columns="method", values="accuracy")


def pruning_advantage(
    tables: ImageTables,
    z: float,
    percent: float = 90.0,
    against: Sequence[str] = ("plain", "swn"),
    score: str = "length",
) -> pd.Series:
    """EWN minus the best of the other methods after pruning, in points of test accuracy, one value a seed.

    Seeds that one of the methods did not train to `z` are left out: there is no pair to compare.

    Args:
        tables: of `image_pruning`.
        z: the loss level.
        percent: of the hidden neurons removed.
        against: the methods to beat, seed by seed.
        score: which neurons go; `"best"` is the authors' best-of-scores rule.
    """
    accuracy = tables.accuracy
    if score == "best":
        accuracy = best_of_scores(accuracy)
        score = str(accuracy["score"].iloc[0])
    found = pruned_at(accuracy, z, percent, score)
    return (found["ewn"] - found[list(against)].max(axis=1, skipna=False)).dropna()


def accuracy_price(tables: ImageTables, z: float, against: str = "plain") -> pd.Series:
    """What EWN costs before pruning: the other's test accuracy minus EWN's, in points, one value a seed."""
    found = pruned_at(tables.accuracy, z, 0.0)
    return (found[against] - found["ewn"]).dropna()


def accuracy_by_score(tables: ImageTables, z: float, percent: float = 90.0) -> pd.DataFrame:
    """Mean test accuracy over seeds after pruning by every score, and by the authors' best-of-scores rule.

    Returns:
        One row a score, one column a method; per cent.
    """
    accuracy = pd.concat([tables.accuracy, best_of_scores(tables.accuracy)], ignore_index=True)
    chosen = accuracy[(accuracy["z"] == z) & (accuracy["pruned_percent"] == percent)]
    return chosen.pivot_table(index="score", columns="method", values="accuracy", sort=False)
