"""One number a seed from the tables of runs: what the ledger's tests are about."""

from __future__ import annotations

import numpy as np
import pandas as pd

_Arm = tuple[str, str]
"""Variant and arm of retrained networks, such as ``("ft", "noncausal")`` or ``("dense", "dense")``."""

_KEYS = ["table", "seed"]


def _by_seed(values: pd.Series) -> list[float]:
    """Average a series with index levels table and seed over the tables: one number a seed, in order.

    NaN says that a table has nothing to measure for a seed; a seed for which no table has anything is left out.
    """
    wide = values.astype(float).groupby(_KEYS).first().unstack("table")
    if len(values) != wide.size:
        raise ValueError("some seeds are missing from some tables; every table needs the same seeds")
    return wide.mean(axis=1).dropna().sort_index().tolist()


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
    beside = _arm(runs, (variant, "random"))[[*columns, "kept", "n_weights"]]
    for name, arm in (("ours", (variant, "noncausal")), ("dense", ("dense", "dense"))):
        beside = beside.merge(_arm(runs, arm)[columns], on=_KEYS, suffixes=("", f"_{name}"))
    return beside


def faster_random_share(runs: pd.DataFrame, variant: str) -> list[float]:
    """Return the share of random masks that reach the benchmark in fewer epochs, ties half, mean of the tables.

    Of runs in which LEGCNet removes anything: the others have no mask to compare.
    """
    beside = _beside_random(runs, variant)
    faster = (beside["epochs"] < beside["epochs_ours"]) + 0.5 * (beside["epochs"] == beside["epochs_ours"])
    empty = beside["kept"] == beside["n_weights"]
    return _by_seed(beside.assign(faster=faster.mask(empty)).groupby(_KEYS)["faster"].mean())


def failures(runs: pd.DataFrame, first: _Arm, second: _Arm) -> list[float]:
    """Return how much more often the first arm fails to reach the benchmark, percentage points, mean of the tables."""
    return difference(runs.assign(failed=~runs["reached"].astype(bool)), "failed", first, second)


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


def causal_share(decisions: pd.DataFrame, variant: str, series: str, rule: str) -> list[float]:
    """Return the share of testable weights that a rule calls causal with such series, mean of the tables."""
    chosen = decisions.query(
        "variant == @variant and rule == @rule and part == 'validation' and series == @series"
    )
    return _by_seed(chosen.set_index(_KEYS)["causal"])


def causal_excess(
    decisions: pd.DataFrame, variant: str, counterpart: str, rule: str, own: str = "own"
) -> list[float]:
    """Return the causal share with a network's own series minus that with a counterpart's, mean of the tables."""
    chosen = decisions.query("variant == @variant and rule == @rule and part == 'validation'")
    shares = chosen.set_index(["series", *_KEYS])["causal"]
    return _by_seed(shares.loc[own] - shares.loc[counterpart])


def non_causal_excess(decisions: pd.DataFrame, variant: str, counterpart: str) -> list[float]:
    """Return the weights that the paper's rule removes minus those with a counterpart, per cent, mean of the tables."""
    chosen = decisions.query("variant == @variant and rule == 'paper' and part == 'validation'")
    shares = 100 * chosen.set_index(["series", *_KEYS])["non_causal"]
    return _by_seed(shares.loc["own"] - shares.loc[counterpart])


def deletion(deletions: pd.DataFrame, arm: str, column: str, *, over_random: bool = False) -> list[float]:
    """Return a column of deletions, or what it exceeds random deletions by, mean of the tables."""
    of_arm = deletions.set_index(["arm", *_KEYS])[column]
    return _by_seed(of_arm.loc[arm] - (of_arm.loc["random"] if over_random else 0))


def exponent_excess(exponents: pd.DataFrame, series: str) -> list[float]:
    """Return the mean exponent of weights minus that of surrogates, mean of the tables."""
    means = exponents.groupby(["series", *_KEYS])["exponent"].mean()
    return _by_seed(means.loc["weights"] - means.loc[series])


def efolds(grown: pd.DataFrame, direction: str) -> pd.DataFrame:
    """Return log growth of nudges in the ``first`` and the ``second`` half of training, by table and seed."""
    wide = grown.query("direction == @direction").pivot(index=_KEYS, columns="epoch", values="efolds")
    halves = {}
    for table, of_table in wide.groupby("table"):
        last = int(of_table.dropna(axis=1).columns[-1])
        halves[table] = pd.DataFrame(
            {"first": of_table[last // 2], "second": of_table[last] - of_table[last // 2]}
        )
    return pd.concat(halves.values())


def late_growth(grown: pd.DataFrame, direction: str) -> list[float]:
    """Return the log growth in the second half of training minus that in the first, mean of the tables."""
    halves = efolds(grown, direction)
    return _by_seed(halves["second"] - halves["first"])


def overlap_of(overlaps: pd.DataFrame, pair: str, *, over_chance: bool) -> list[float]:
    """Return the Jaccard index of a pair of sets, or what it exceeds chance by, mean of the tables."""
    chosen = overlaps[overlaps["pair"] == pair].set_index(_KEYS)
    return _by_seed(chosen["jaccard"] - (chosen["expected"] if over_chance else 0))


def ranking_excess(rankings: pd.DataFrame, variant: str) -> list[float]:
    """Return LEGCNet's rank correlation with the dense network minus the mean of random masks, mean of the tables."""
    ours, random = (_mean(rankings, (variant, arm), "spearman") for arm in ("noncausal", "random"))
    return _by_seed(ours - random)


def overview(runs: pd.DataFrame) -> pd.DataFrame:
    """Return means over seeds of every arm: epochs, failures, accuracies, F1, weights removed."""
    counted = runs.assign(
        failures=100 * (1 - runs["reached"].astype(float)),
        accuracy=100 * runs["test_accuracy"],
        f1=100 * runs["macro_f1"],
        equal_budget=100 * runs["budget_accuracy"],
        removed=100 * (1 - runs["kept"] / runs["n_weights"]),
    )
    columns = ["epochs", "failures", "accuracy", "f1", "equal_budget", "removed"]
    return counted.groupby(["table", "variant", "arm"], sort=False)[columns].mean()
