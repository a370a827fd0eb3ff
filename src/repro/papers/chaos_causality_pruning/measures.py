"""One number a seed from the tables of runs: what the ledger's tests are about."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from repro.papers._pictures import where

_Rows = Mapping[str, str] | None
_KEYS = ["table", "seed"]


def by_seed(table: pd.DataFrame, column: str, rows: _Rows = None, less: _Rows = None) -> pd.Series:
    """Return the mean of a column over some rows, or what it exceeds that over other rows by, one number a seed.

    First the mean over the rows of one table and seed, such as random draws, then over the tables. NaN says that a
    table has nothing to measure for a seed; a seed for which no table has anything is left out.

    Args:
        table: of an experiment, with the columns ``table`` and ``seed``.
        column: of numbers, or of yes and no for a share.
        rows: what the other columns are in the rows to average, such as ``{"variant": "ft", "arm": "noncausal"}``.
        less: what is different in the rows that these are compared with, such as ``{"arm": "random"}``.

    Raises:
        ValueError: a table lacks a seed that another one has.
    """
    chosen = dict(rows or {})
    values = where(table, **chosen).groupby(_KEYS)[column].mean()
    if less is not None:
        values = values - where(table, **chosen | dict(less)).groupby(_KEYS)[column].mean()
    wide = values.unstack("table")
    if len(values) != wide.size:
        raise ValueError("some seeds are missing from some tables; every table needs the same seeds")
    return wide.mean(axis=1).dropna().sort_index()


def causal(
    decisions: pd.DataFrame, variant: str, rule: str, series: str = "own", less: str | None = None
) -> pd.Series:
    """Return the share of testable weights that a rule calls causal, or what it exceeds that with a counterpart by.

    Args:
        decisions: of ``experiments.runs_of``; those by errors on the validation part count.
        variant, rule: which decisions.
        series: what stands in the place of the cause.
        less: the counterpart that it is compared with.
    """
    chosen = {"variant": variant, "rule": rule, "part": "validation", "series": series}
    return by_seed(decisions, "causal", chosen, {"series": less} if less else None)


def beside_random(runs: pd.DataFrame, variant: str) -> pd.DataFrame:
    """Set LEGCNet's network beside those of random masks of its size, one row a random mask.

    A network wins if it is at least as accurate as the dense one on the test part and faster.

    Returns:
        Besides table and seed: ``faster``, whether the random mask reaches the benchmark in fewer epochs, 1/2 for a
        tie, NaN where LEGCNet removes nothing; ``excess``, whether LEGCNet's network wins minus whether the random
        mask's does.
    """
    columns = [*_KEYS, "epochs", "test_accuracy"]
    b = where(runs, variant=variant, arm="random")[[*columns, "removed"]]
    for name, of in (("ours", (variant, "noncausal")), ("dense", ("dense", "dense"))):
        other = where(runs, variant=of[0], arm=of[1])[columns]
        b = b.merge(other, on=_KEYS, suffixes=("", f"_{name}"))
    faster = (b["epochs"] < b["epochs_ours"]) + 0.5 * (b["epochs"] == b["epochs_ours"])
    wins = [
        (b[f"test_accuracy{whose}"] >= b["test_accuracy_dense"]) & (b[f"epochs{whose}"] < b["epochs_dense"])
        for whose in ("_ours", "")
    ]
    excess = wins[0].astype(float) - wins[1]
    return b[_KEYS].assign(faster=faster.mask(b["removed"] == 0), excess=excess)


def efolds(grown: pd.DataFrame, direction: str) -> pd.DataFrame:
    """Return log growth of nudges in the ``first`` and the ``second`` half of training, one row a (table, seed).

    ``late``: how much more there is in the second.
    """
    chosen = where(grown, direction=direction)
    last = chosen.groupby("table")["epoch"].transform("max")
    first, whole = (chosen[chosen["epoch"] == end].set_index(_KEYS)["efolds"] for end in (last // 2, last))
    halves = pd.DataFrame({"first": first, "second": whole - first}).reset_index()
    return halves.assign(late=halves["second"] - halves["first"])


def overview(runs: pd.DataFrame) -> pd.DataFrame:
    """Return means over seeds of every arm, in columns that a reader sees: epochs, and shares in per cent."""
    shares = {
        "failed, %": 1 - runs["reached"].astype(float),
        "accuracy at the stop, %": runs["test_accuracy"],
        "F1, %": runs["macro_f1"],
        "accuracy at equal budget, %": runs["budget_accuracy"],
        "removed, %": runs["removed"],
    }
    columns = runs[["epochs"]].join(100 * pd.DataFrame(shares))
    return columns.groupby([runs[by] for by in ("table", "variant", "arm")], sort=False).mean()
