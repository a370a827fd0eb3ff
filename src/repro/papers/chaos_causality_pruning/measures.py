"""One number a seed from the tables of runs: what the ledger's tests are about."""

from __future__ import annotations

import numpy as np
import pandas as pd

__all__ = [
    "always_reached",
    "by_seed",
    "causal_excess",
    "deletion_rank",
    "difference",
    "faster_random_share",
    "faster_shares",
    "honest_share",
    "log2_epochs",
    "overlap_of",
    "overview",
    "removed_share",
    "winning_ticket_excess",
]

Arm = tuple[str, str]
"""Variant and arm of retrained networks, such as ``("ft", "noncausal")`` or ``("dense", "dense")``."""


def by_seed(values: pd.Series) -> list[float]:
    """Average a series with index levels table and seed over the tables: one number a seed, in order."""
    wide = values.astype(float).unstack("table")
    if wide.isna().any().any():
        raise ValueError("some seeds are missing from some tables; every table needs the same seeds")
    return wide.mean(axis=1).sort_index().tolist()


def _arm(runs: pd.DataFrame, arm: Arm) -> pd.DataFrame:
    chosen = runs[(runs["variant"] == arm[0]) & (runs["arm"] == arm[1])]
    if chosen.empty:
        known = sorted(set(zip(runs["variant"], runs["arm"], strict=True)))
        raise ValueError(f"no arm {arm}; known: {known}")
    return chosen


def _mean(runs: pd.DataFrame, arm: Arm, column: str) -> pd.Series:
    """Values of an arm by (table, seed), random draws averaged."""
    return _arm(runs, arm).groupby(["table", "seed"])[column].mean()


def difference(runs: pd.DataFrame, metric: str, first: Arm, second: Arm) -> list[float]:
    """Return ``metric`` of the first arm minus the second, in percentage points, mean of the tables."""
    return by_seed(100 * (_mean(runs, first, metric) - _mean(runs, second, metric)))


def log2_epochs(runs: pd.DataFrame, first: Arm, second: Arm) -> list[float]:
    """Return log2 of the epochs of the first arm over the second's, mean of the tables.

    Epochs counted from 1 here, so that none is 0; networks that never reach the benchmark count as the cap.
    """
    counted = runs.assign(log2=np.log2(runs["epochs"] + 1))
    return by_seed(_mean(counted, first, "log2") - _mean(counted, second, "log2"))


def _beside_random(runs: pd.DataFrame, variant: str) -> pd.DataFrame:
    """Random masks of a variant, each beside LEGCNet's network and the dense one of its table and seed."""
    keys = ["table", "seed"]
    columns = [*keys, "epochs", "reached", "test_accuracy"]
    random = _arm(runs, (variant, "random"))[columns]
    ours = _arm(runs, (variant, "noncausal"))[columns]
    dense = _arm(runs, ("dense", "dense"))[columns]
    return random.merge(ours, on=keys, suffixes=("", "_ours")).merge(dense, on=keys, suffixes=("", "_dense"))


def faster_shares(runs: pd.DataFrame, variant: str) -> pd.Series:
    """Return the share of random masks that reach the benchmark in fewer epochs, ties half, by (table, seed)."""
    beside = _beside_random(runs, variant)
    faster = (beside["epochs"] < beside["epochs_ours"]) + 0.5 * (beside["epochs"] == beside["epochs_ours"])
    return beside.assign(faster=faster).groupby(["table", "seed"])["faster"].mean()


def faster_random_share(runs: pd.DataFrame, variant: str) -> list[float]:
    """Return ``faster_shares``, mean of the tables."""
    return by_seed(faster_shares(runs, variant))


def always_reached(runs: pd.DataFrame, arm: Arm) -> list[bool]:
    """Return whether an arm's network reaches the benchmark on every table."""
    return [share == 1 for share in by_seed(_mean(runs.astype({"reached": float}), arm, "reached"))]


def winning_ticket_excess(runs: pd.DataFrame, variant: str) -> list[float]:
    """Return whether LEGCNet's network wins minus the share of random masks that do, mean of the tables.

    A network wins if it is at least as accurate as the dense one on the test part and faster.
    """
    b = _beside_random(runs, variant)
    ours = (b["test_accuracy_ours"] >= b["test_accuracy_dense"]) & (b["epochs_ours"] < b["epochs_dense"])
    chance = (b["test_accuracy"] >= b["test_accuracy_dense"]) & (b["epochs"] < b["epochs_dense"])
    excess = ours.astype(float) - chance.astype(float)
    return by_seed(b.assign(excess=excess).groupby(["table", "seed"])["excess"].mean())


def removed_share(runs: pd.DataFrame, variant: str) -> list[float]:
    """Return the weights that LEGCNet removes, per cent of all, mean of the tables."""
    return by_seed(
        _mean(
            runs.assign(removed=100 * (1 - runs["kept"] / runs["n_weights"])),
            (variant, "noncausal"),
            "removed",
        )
    )


def causal_excess(decisions: pd.DataFrame, variant: str, counterpart: str) -> list[float]:
    """Return the causal share under the paper's rule minus the counterpart's, mean of the tables."""
    chosen = decisions[
        (decisions["variant"] == variant)
        & (decisions["rule"] == "paper")
        & (decisions["part"] == "validation")
    ]
    shares = chosen.set_index(["series", "table", "seed"])["causal"]
    return by_seed(shares.loc["own"] - shares.loc[counterpart])


def honest_share(decisions: pd.DataFrame, series: str = "own") -> list[float]:
    """Return the causal share under the honest rule, mean of the tables."""
    chosen = decisions[(decisions["rule"] == "honest") & (decisions["series"] == series)]
    return by_seed(chosen.set_index(["table", "seed"])["causal"])


def deletion_rank(deletions: pd.DataFrame, variant: str, arm: str) -> list[float]:
    """Return the share of random deletions that hurt less than an arm's, mean of the tables."""
    chosen = deletions[(deletions["variant"] == variant) & (deletions["arm"] == arm)]
    return by_seed(chosen.set_index(["table", "seed"])["share_below"])


def overlap_of(overlaps: pd.DataFrame, pair: str, *, over_chance: bool) -> list[float]:
    """Return the Jaccard index of a pair of sets, or what it exceeds chance by, mean of the tables."""
    chosen = overlaps[overlaps["pair"] == pair].set_index(["table", "seed"])
    return by_seed(chosen["jaccard"] - (chosen["expected"] if over_chance else 0))


def overview(runs: pd.DataFrame) -> pd.DataFrame:
    """Return means over seeds of the dense network and every arm: epochs, failures, accuracy, F1, weights left."""
    counted = runs.assign(
        failures=100 * (1 - runs["reached"].astype(float)),
        accuracy=100 * runs["test_accuracy"],
        f1=100 * runs["macro_f1"],
        removed=100 * (1 - runs["kept"] / runs["n_weights"]),
    )
    columns = ["epochs", "failures", "accuracy", "f1", "removed"]
    return counted.groupby(["table", "variant", "arm"], sort=False)[columns].mean()
