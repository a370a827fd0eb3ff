"""One number a seed from the tables of runs: what the ledger's tests are about."""

from __future__ import annotations

import numpy as np
import pandas as pd

_Arm = tuple[str, str]
"""Variant and arm of retrained networks, such as ``("ft", "noncausal")`` or ``("dense", "dense")``."""

_KEYS = ["table", "seed"]


def _by_seed(values: pd.Series) -> list[float]:
    """Average a series with index levels table and seed over the tables: one number a seed, in order."""
    wide = values.astype(float).unstack("table")
    if wide.isna().any().any():
        raise ValueError("some seeds are missing from some tables; every table needs the same seeds")
    return wide.mean(axis=1).sort_index().tolist()


def _arm(runs: pd.DataFrame, arm: _Arm) -> pd.DataFrame:
    return runs[(runs["variant"] == arm[0]) & (runs["arm"] == arm[1])]


def _mean(runs: pd.DataFrame, arm: _Arm, column: str) -> pd.Series:
    """Values of an arm by (table, seed), random draws averaged."""
    return _arm(runs, arm).groupby(_KEYS)[column].mean()


def difference(runs: pd.DataFrame, metric: str, first: _Arm, second: _Arm) -> list[float]:
    """Return ``metric`` of the first arm minus the second, in percentage points, mean of the tables."""
    return _by_seed(100 * (_mean(runs, first, metric) - _mean(runs, second, metric)))


def log2_epochs(runs: pd.DataFrame, first: _Arm, second: _Arm) -> list[float]:
    """Return log2 of the epochs of the first arm over the second's, mean of the tables.

    Epochs counted from 1 here, so that none is 0; networks that never reach the benchmark count as the cap.
    """
    counted = runs.assign(log2=np.log2(runs["epochs"] + 1))
    return _by_seed(_mean(counted, first, "log2") - _mean(counted, second, "log2"))


def _beside_random(runs: pd.DataFrame, variant: str) -> pd.DataFrame:
    """Random masks of a variant, each beside LEGCNet's network and the dense one of its table and seed."""
    columns = [*_KEYS, "epochs", "test_accuracy"]
    beside = _arm(runs, (variant, "random"))[columns]
    for name, arm in (("ours", (variant, "noncausal")), ("dense", ("dense", "dense"))):
        beside = beside.merge(_arm(runs, arm)[columns], on=_KEYS, suffixes=("", f"_{name}"))
    return beside


def faster_random_share(runs: pd.DataFrame, variant: str) -> list[float]:
    """Return the share of random masks that reach the benchmark in fewer epochs, ties half, mean of the tables."""
    beside = _beside_random(runs, variant)
    faster = (beside["epochs"] < beside["epochs_ours"]) + 0.5 * (beside["epochs"] == beside["epochs_ours"])
    return _by_seed(beside.assign(faster=faster).groupby(_KEYS)["faster"].mean())


def always_reached(runs: pd.DataFrame, arm: _Arm) -> list[bool]:
    """Return whether an arm's network reaches the benchmark on every table."""
    return [share == 1 for share in _by_seed(_mean(runs.astype({"reached": float}), arm, "reached"))]


def winning_ticket_excess(runs: pd.DataFrame, variant: str) -> list[float]:
    """Return whether LEGCNet's network wins minus the share of random masks that do, mean of the tables.

    A network wins if it is at least as accurate as the dense one on the test part and faster.
    """
    b = _beside_random(runs, variant)
    ours = (b["test_accuracy_ours"] >= b["test_accuracy_dense"]) & (b["epochs_ours"] < b["epochs_dense"])
    chance = (b["test_accuracy"] >= b["test_accuracy_dense"]) & (b["epochs"] < b["epochs_dense"])
    excess = ours.astype(float) - chance.astype(float)
    return _by_seed(b.assign(excess=excess).groupby(_KEYS)["excess"].mean())


def removed_share(runs: pd.DataFrame, variant: str) -> list[float]:
    """Return the weights that LEGCNet removes, per cent of all, mean of the tables."""
    removed = runs.assign(removed=100 * (1 - runs["kept"] / runs["n_weights"]))
    return _by_seed(_mean(removed, (variant, "noncausal"), "removed"))


def causal_excess(decisions: pd.DataFrame, variant: str, counterpart: str) -> list[float]:
    """Return the causal share under the paper's rule minus the counterpart's, mean of the tables."""
    chosen = decisions.query("variant == @variant and rule == 'paper' and part == 'validation'")
    shares = chosen.set_index(["series", *_KEYS])["causal"]
    return _by_seed(shares.loc["own"] - shares.loc[counterpart])


def honest_share(decisions: pd.DataFrame) -> list[float]:
    """Return the share that the honest rule calls causal with the weights' own exponents, mean of the tables."""
    return _by_seed(decisions.query("rule == 'honest' and series == 'own'").set_index(_KEYS)["causal"])


def deletion_rank(deletions: pd.DataFrame, variant: str, arm: str) -> list[float]:
    """Return the share of random deletions that hurt less than an arm's, mean of the tables."""
    return _by_seed(_arm(deletions, (variant, arm)).set_index(_KEYS)["share_below"])


def overlap_of(overlaps: pd.DataFrame, pair: str, *, over_chance: bool) -> list[float]:
    """Return the Jaccard index of a pair of sets, or what it exceeds chance by, mean of the tables."""
    chosen = overlaps[overlaps["pair"] == pair].set_index(_KEYS)
    return _by_seed(chosen["jaccard"] - (chosen["expected"] if over_chance else 0))


def ranking_excess(rankings: pd.DataFrame, variant: str) -> list[float]:
    """Return LEGCNet's rank correlation with the dense network minus the mean of random masks, mean of the tables."""
    ours, random = (_mean(rankings, (variant, arm), "spearman") for arm in ("noncausal", "random"))
    return _by_seed(ours - random)


def overview(runs: pd.DataFrame) -> pd.DataFrame:
    """Return means over seeds of the dense network and every arm: epochs, failures, accuracy, F1, weights removed."""
    counted = runs.assign(
        failures=100 * (1 - runs["reached"].astype(float)),
        accuracy=100 * runs["test_accuracy"],
        f1=100 * runs["macro_f1"],
        removed=100 * (1 - runs["kept"] / runs["n_weights"]),
    )
    columns = ["epochs", "failures", "accuracy", "f1", "removed"]
    return counted.groupby(["table", "variant", "arm"], sort=False)[columns].mean()
