"""Pictures of what pruning does. Each takes the table of an experiment; no computing here."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from repro.papers._pictures import (
    GREY,
    MARKERS,
    OTHER,
    OURS,
    PALETTE,
    THIRD,
    band,
    interval_bar,
    panels,
    where,
)
from repro.papers.chaos_causality_pruning.arms import ARMS
from repro.papers.chaos_causality_pruning.labels import TABLE_NAMES, legend_of_tables

__all__ = [
    "agreement_of_rankings",
    "authors_epochs",
    "deletions",
    "overlaps",
    "ranks_among_random",
    "sparsity_curves",
]


def ranks_among_random(shares: dict[str, NDArray[np.float64]]) -> Figure:
    """Distribution of LEGCNet's place among random masks of its size, beside that of a random mask."""
    fig, axes = panels(1, 4.6, 3.2)
    axis = axes[0]
    axis.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="a random mask")
    for j, (name, values) in enumerate(shares.items()):
        ordered = np.sort(values)
        axis.step(
            np.concatenate([[0], ordered, [1]]),
            np.concatenate([[0], np.arange(1, len(ordered) + 1) / len(ordered), [1]]),
            where="post",
            color=PALETTE[j],
            linestyle=("-", "--", "-.", ":")[j % 4],
            label=name,
        )
    axis.set(xlabel="share of random masks that are faster", ylabel="share of runs at or below")
    axis.legend(fontsize=8)
    return fig


def deletions(table: pd.DataFrame, variant: str = "ft") -> Figure:
    """Place of deletions among random ones of the same size, by what was deleted."""
    chosen = table[table["variant"] == variant]
    arms = [arm for arm in ARMS if arm in set(chosen["arm"])]
    tables = list(dict.fromkeys(chosen["table"]))
    fig, axes = panels(1, 5.2, 2.9)
    for y, arm in enumerate(arms):
        for j, name in enumerate(tables):
            values = where(chosen, arm=arm, table=name)["share_below"].to_numpy()
            interval_bar(axes[0], values, y + 0.6 * ((j + 0.5) / len(tables) - 0.5), color=PALETTE[j])
    axes[0].axvline(0.5, color=GREY, linestyle=":", linewidth=1.2)
    axes[0].set(xlabel="share of random deletions that hurt less", xlim=(0, 1))
    axes[0].set(yticks=range(len(arms)), yticklabels=[ARMS[arm] for arm in arms])
    axes[0].invert_yaxis()
    legend_of_tables(fig, tables)
    return fig


def sparsity_curves(table: pd.DataFrame, name: str) -> Figure:
    """Test accuracy against the share of weights removed, by what was removed."""
    names = {"noncausal": "least causal", "magnitude after": "smallest after training", "random": "random"}
    fig, axes = panels(1, 4.6, 3.2)
    for j, (score, chosen) in enumerate(table.groupby("score", sort=False)):
        look = {"marker": MARKERS[j], "color": PALETTE[j], "label": names[str(score)]}
        band(axes[0], 100 * chosen[["sparsity", "test_accuracy"]], "sparsity", "test_accuracy", **look)
    n_seeds = table["seed"].nunique()
    axes[0].set(xlabel="weights removed, %", ylabel="test accuracy, %", title=TABLE_NAMES[name])
    axes[0].legend(title=f"band: t 95 % interval, {n_seeds} seeds", fontsize=8)
    return fig


def overlaps(table: pd.DataFrame) -> Figure:
    """Jaccard index of pairs of non-causal sets, beside its expectation for random sets of these sizes."""
    names = {
        "late and early": "FT and PT",
        "nudged": "weights nudged\nby 1 in 10,000",
        "stranger": "other weights",
    }
    pairs = [pair for pair in names if pair in set(table["pair"])]
    tables = list(dict.fromkeys(table["table"]))
    fig, axes = panels(1, 5.0, 2.9)
    for y, pair in enumerate(pairs):
        for j, name in enumerate(tables):
            chosen = where(table, pair=pair, table=name)
            at = y + 0.6 * ((j + 0.5) / len(tables) - 0.5)
            interval_bar(axes[0], chosen["jaccard"].to_numpy(), at, color=PALETTE[j])
            axes[0].plot([chosen["expected"].mean()], [at], "|", color="0.2", markersize=9)
    axes[0].set(xlabel="Jaccard index of the two sets (tick: by chance)", xlim=(-0.05, 1))
    axes[0].set(yticks=range(len(pairs)), yticklabels=[names[p] for p in pairs])
    axes[0].invert_yaxis()
    legend_of_tables(fig, tables)
    return fig


def agreement_of_rankings(table: pd.DataFrame) -> Figure:
    """Rank correlation of feature attributions with the dense network's, by what was pruned."""
    names = {
        ("ft", "noncausal"): "FT",
        ("ft", "random"): "random, as many as FT",
        ("pt", "noncausal"): "PT",
        ("pt", "random"): "random, as many as PT",
        ("dense", "stranger"): "dense, other initial weights",
    }
    tables = list(dict.fromkeys(table["table"]))
    fig, axes = panels(1, 5.2, 3.1)
    for y, (variant, arm) in enumerate(names):
        for j, name in enumerate(tables):
            chosen = where(table, variant=variant, arm=arm, table=name)
            values = chosen.groupby("seed")["spearman"].mean().to_numpy()
            if len(values):
                interval_bar(axes[0], values, y + 0.6 * ((j + 0.5) / len(tables) - 0.5), color=PALETTE[j])
    axes[0].set(xlabel="rank correlation with the dense network")
    axes[0].set(yticks=range(len(names)), yticklabels=list(names.values()))
    axes[0].invert_yaxis()
    legend_of_tables(fig, tables)
    return fig


def authors_epochs(tables: dict[str, pd.DataFrame], printed: dict[str, int]) -> Figure:
    """Epochs to the benchmark for the authors' five initialisations, with random masks of FT's size beside them.

    Args:
        tables: by data set, one row a (trial, arm, draw) with epochs, counted from 0.
        printed: by data set, the trial that the paper prints.
    """
    fig, axes = panels(len(tables), 3.6, 3.2)
    for axis, (name, table) in zip(axes, tables.items(), strict=True):
        trials = sorted(table["trial"].unique())
        random = table[table["arm"] == "random ft"]
        axis.plot(
            random["trial"], random["epochs"], "_", color=GREY, markersize=9, label="random, as many as FT"
        )
        for arm, colour, marker, shift in (
            ("dense", "0.1", "o", -0.2),
            ("ft", OURS, "s", 0.0),
            ("pt", OTHER, "D", 0.2),
        ):
            chosen = table[table["arm"] == arm].set_index("trial")["epochs"].reindex(trials)
            x = np.array(trials) + shift
            axis.plot(
                x,
                chosen,
                marker,
                color=colour,
                markersize=5,
                label=arm.upper() if arm != "dense" else "dense",
            )
        axis.axvspan(printed[name] - 0.4, printed[name] + 0.4, color=THIRD, alpha=0.18, linewidth=0, zorder=0)
        axis.set(title=TABLE_NAMES[name], xlabel="initialisation", xticks=trials)
    axes[0].set_ylabel("epochs to the benchmark")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    return fig
