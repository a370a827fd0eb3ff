"""The chapter's pictures. Each takes the table of an experiment and returns a figure; no computing here."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from repro.intervals import t_interval
from repro.papers.chaos_causality_pruning.arms import ARMS
from repro.papers.chaos_causality_pruning.comparisons import COUNTERPARTS
from repro.papers.chaos_causality_pruning.decisions import Decision
from repro.papers.chaos_causality_pruning.trajectories import Path

__all__ = [
    "ARM_NAMES",
    "TABLE_NAMES",
    "agreement_of_rankings",
    "authors_epochs",
    "causal_map",
    "causal_shares",
    "deletions",
    "exponents_of_weights",
    "known_processes",
    "null_shares",
    "one_weight",
    "overlaps",
    "ranks_among_random",
    "sparsity_curves",
    "twins",
]

TABLE_NAMES = {
    "iris": "iris",
    "wine": "wine",
    "breast_cancer_10": "breast cancer",
    "digits": "digits",
    "mnist5k": "MNIST, small",
    "mnist": "MNIST",
    "cancer": "cancer (paper's)",
    "banknote": "banknote",
    "vowel": "vowel",
    "titanic": "Titanic",
    "iris_3f": "iris, 3 features",
}
VARIANT_NAMES = {"ft": "FT", "pt": "PT"}
ARM_NAMES = ARMS | VARIANT_NAMES | {"stranger": "other initial weights"}
RULE_NAMES = {
    "paper": "the paper's rule",
    "f_test": "F instead of chi-squared",
    "single_lag": "F at one lag",
    "honest": "F, corrected",
}
_PALETTE = sns.color_palette("colorblind")
_OURS, _OTHER, _THIRD, _GREY = _PALETTE[0], _PALETTE[1], _PALETTE[2], "0.55"
_MARKERS = "osD^vPX"


def _panels(
    n: int, width: float = 2.9, height: float = 3.0, *, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    fig, axes = plt.subplots(
        1, n, figsize=(max(width * n, 5.6), height), layout="constrained", squeeze=False, sharey=sharey
    )
    return fig, list(axes[0])


def _where(frame: pd.DataFrame, **equal: object) -> pd.DataFrame:
    """Rows in which the columns have these values."""
    for column, value in equal.items():
        frame = frame[frame[column] == value]
    return frame


def _interval_bar(axis: Axes, values: NDArray[np.float64], y: float, color: Any) -> None:
    """A dot at the mean with its 95 % interval, along x."""
    if len(values) < 2:
        axis.plot(values, [y], "o", markersize=5, color=color)
        return
    found = t_interval(values.tolist())
    axis.plot([found.low, found.high], [y, y], linewidth=2, solid_capstyle="butt", color=color)
    axis.plot([found.estimate], [y], "o", markersize=5, color=color)


def one_weight(path: Path) -> Figure:
    """A weight at every update, its exponents, and the network's error at the end of each window."""
    fig, axes = plt.subplots(3, 1, figsize=(6.6, 5.4), sharex=True, layout="constrained")
    axes[0].plot(path.weight, color=_OURS, linewidth=0.7)
    start = path.window_ends[len(path.window_ends) // 2] - path.window
    axes[0].axvspan(start, start + path.window, color=_OTHER, alpha=0.35, linewidth=0)
    axes[0].annotate(
        "one window",
        (start + path.window, 0.06),
        xycoords=("data", "axes fraction"),
        xytext=(4, 0),
        textcoords="offset points",
    )
    axes[0].set(ylabel="weight")
    axes[1].plot(path.window_ends, path.exponents, ".-", color=_OTHER, linewidth=0.8, markersize=4)
    axes[1].axhline(0, color=_GREY, linewidth=0.8)
    axes[1].set(ylabel="exponent,\nnats an update")
    axes[2].plot(path.window_ends, 100 * path.errors, ".-", color=_THIRD, linewidth=0.8, markersize=4)
    axes[2].set(ylabel="wrong answers, %", xlabel="updates")
    inside = path.weight[start : start + path.window]
    inset = axes[0].inset_axes((0.72, 0.12, 0.26, 0.5))
    inset.plot(inside, color=_OURS, linewidth=0.8)
    inset.set(xticks=[], yticks=[])
    inset.set_title("the window", fontsize=8, pad=2)
    return fig


def causal_map(sizes: Sequence[int], decisions: dict[str, Decision]) -> Figure:
    """Which weights a rule calls causal, one row of matrices a source of exponents."""
    edges = np.cumsum([0] + [i * o for i, o in pairwise(sizes)])
    n_layers = len(sizes) - 1
    fig, axes = plt.subplots(
        n_layers,
        len(decisions),
        figsize=(2.1 * len(decisions), 0.24 * sum(sizes[1:]) + 1.0),
        layout="constrained",
        squeeze=False,
        height_ratios=sizes[1:],
    )
    colours = ListedColormap([_OTHER, _OURS, (0.85, 0.85, 0.85)])
    for column, (name, decision) in enumerate(decisions.items()):
        state = np.where(decision.testable, decision.causal.astype(int), 2)
        for layer in range(n_layers):
            matrix = state[edges[layer] : edges[layer + 1]].reshape(sizes[layer + 1], sizes[layer])
            axis = axes[layer, column]
            axis.pcolormesh(matrix, cmap=colours, vmin=0, vmax=2, edgecolors="white", linewidth=1.5)
            axis.set(xticks=[], yticks=[], aspect="equal")
            axis.invert_yaxis()
            if column == 0:
                axis.set_ylabel(f"layer {layer + 1}")
        axes[0, column].set_title(name, fontsize=9)
    handles = [plt.Rectangle((0, 0), 1, 1, color=c) for c in (_OURS, _OTHER)]
    fig.legend(handles, ["causal: kept", "not causal: pruned"], loc="outside lower center", ncols=2)
    return fig


def known_processes(table: pd.DataFrame) -> Figure:
    """The paper's exponent and a usual one, for processes whose exponent is known."""
    fig, axes = _panels(2, 3.9, 3.3, sharey=True)
    names = list(dict.fromkeys(table["process"]))
    for axis, column, title in zip(
        axes,
        ("paper", "usual"),
        ("the paper's, S(1) − S(0)", "Rosenstein, 5 dimensions, 8 steps"),
        strict=True,
    ):
        for j, length in enumerate(sorted(table["length"].unique())):
            chosen = table[table["length"] == length]
            for y, name in enumerate(names):
                values = chosen[chosen["process"] == name][column].dropna()
                low, middle, high = values.quantile([0.05, 0.5, 0.95])
                at = y + 0.16 * (2 * j - 1)
                colour = _PALETTE[j]
                axis.plot([low, high], [at, at], color=colour, linewidth=2, solid_capstyle="butt")
                label = f"{length} points" if y == 0 else None
                axis.plot([middle], [at], _MARKERS[j], color=colour, markersize=5, label=label)
        axis.axvline(0, color=_GREY, linewidth=0.8)
        axis.axvline(np.log(2), color=_GREY, linestyle=":", linewidth=1.2)
        axis.set(title=title, xlabel="exponent, nats a step", yticks=range(len(names)), yticklabels=names)
    axes[0].invert_yaxis()
    axes[0].legend(title="median, 5 to 95 %", loc="lower right")
    return fig


def exponents_of_weights(found: dict[str, NDArray[np.float64]], twin_rates: NDArray[np.float64]) -> Figure:
    """Exponents of weights and of surrogates, with the rate at which twin runs part."""
    names = {"weights": "weights", "walks": "random walks", "linear": "random phases"}
    fig, axes = _panels(2, 3.6, 3.2)
    bins = np.linspace(-0.5, 3.5, 81)
    for (key, name), colour, dashes in zip(names.items(), _PALETTE, ("-", "--", "-."), strict=False):
        share, edges = np.histogram(found[key], bins=bins)
        centre = (edges[1:] + edges[:-1]) / 2
        axes[0].plot(centre, 100 * share / found[key].size, dashes, color=colour, label=name)
    axes[0].axvline(0, color=_GREY, linewidth=0.8)
    axes[0].set(xlabel="exponent, nats an update", ylabel="windows, %")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    means = {name: np.nanmean(found[key], axis=(1, 2)) for key, name in names.items()}
    rows = means | {"twin runs": np.abs(twin_rates)}
    for y, values in enumerate(rows.values()):
        colour = _PALETTE[y] if y < 3 else _PALETTE[4]
        axes[1].plot(values, np.full(len(values), y), "o", color=colour, alpha=0.5, markersize=5)
    axes[1].set(xscale="log", xlabel="rate, nats an update (one dot a seed)")
    axes[1].set(yticks=range(len(rows)), yticklabels=list(rows))
    axes[1].set_ylim(len(rows) - 0.5, -0.5)
    return fig


def twins(table: pd.DataFrame) -> Figure:
    """Distance of twin runs over the initial distance, for two sizes of the nudge."""
    tables = list(dict.fromkeys(table["table"]))
    fig, axes = _panels(len(tables), 3.4, 3.0, sharey=True)
    for axis, name in zip(axes, tables, strict=True):
        chosen = table[table["table"] == name]
        for j, (delta, of_delta) in enumerate(chosen.groupby("delta", sort=False)):
            for k, (_, one) in enumerate(of_delta.groupby("seed")):
                label = f"nudge {delta:.0e}" if k == 0 else None
                axis.plot(
                    one["updates"],
                    one["ratio"],
                    "-" if j == 0 else ":",
                    color=_PALETTE[j],
                    alpha=0.6,
                    label=label,
                )
        axis.axhline(np.exp(3), color=_GREY, linestyle="--", linewidth=1)
        axis.set(yscale="log", title=TABLE_NAMES[name], xlabel="updates")
    axes[0].set_ylabel("distance over first distance")
    axes[0].legend(fontsize=8)
    return fig


def causal_shares(decisions: pd.DataFrame, rule: str = "paper") -> Figure:
    """Share of weights called causal, with the own exponents and with counterparts that cannot cause anything."""
    chosen = decisions[(decisions["rule"] == rule) & (decisions["part"] == "validation")]
    variants = [v for v in VARIANT_NAMES if v in set(chosen["variant"])]
    fig, axes = _panels(len(variants), 3.9, 3.6, sharey=True)
    tables = list(dict.fromkeys(chosen["table"]))
    for axis, variant in zip(axes, variants, strict=True):
        for y, series in enumerate(COUNTERPARTS):
            for j, table in enumerate(tables):
                here = _where(chosen, variant=variant, series=series, table=table)
                if here.empty:
                    continue
                at = y + 0.7 * ((j + 0.5) / len(tables) - 0.5)
                _interval_bar(axis, 100 * here["causal"].to_numpy(), at, color=_PALETTE[j])
        axis.axvline(5, color=_GREY, linestyle=":", linewidth=1.2)
        windows = sorted({int(w) for w in _where(chosen, variant=variant)["windows"]})
        axis.set(title=f"{VARIANT_NAMES[variant]}: {windows[0]} to {windows[-1]} windows", xlim=(0, 100))
        axis.set(xlabel="weights called causal, %")
        axis.set(yticks=range(len(COUNTERPARTS)), yticklabels=list(COUNTERPARTS.values()))
    axes[0].invert_yaxis()
    handles = [plt.Line2D([], [], color=_PALETTE[j], marker="o") for j in range(len(tables))]
    fig.legend(handles, [TABLE_NAMES[t] for t in tables], loc="outside lower center", ncols=len(tables))
    return fig


def null_shares(table: pd.DataFrame) -> Figure:
    """Share of independent series called non-causal, by rule, for the shapes of the paper's runs."""
    fig, axes = _panels(2, 3.6, 3.2, sharey=True)
    shapes = list(dict.fromkeys(zip(table["windows"], table["max_lag"], strict=True)))
    for axis, (process, chosen) in zip(axes, table.groupby("process", sort=False), strict=True):
        for j, (rule, of_rule) in enumerate(chosen.groupby("rule", sort=False)):
            means = [_where(of_rule, windows=w, max_lag=lag)["non_causal"].mean() for w, lag in shapes]
            axis.plot(means, f"{_MARKERS[j]}-", color=_PALETTE[j], label=RULE_NAMES[str(rule)])
        axis.axhline(0.95, color=_GREY, linestyle=":", linewidth=1.2)
        axis.set(title=process, xlabel="windows, lags", ylim=(0, 1.03))
        axis.set(xticks=range(len(shapes)), xticklabels=[f"{w}, {lag}" for w, lag in shapes])
    axes[0].set_ylabel("share called non-causal")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    return fig


def ranks_among_random(shares: dict[str, NDArray[np.float64]]) -> Figure:
    """Distribution of LEGCNet's place among random masks of its size, beside that of a random mask."""
    fig, axes = _panels(1, 4.6, 3.2)
    axis = axes[0]
    axis.plot([0, 1], [0, 1], color=_GREY, linestyle="--", label="a random mask")
    for j, (name, values) in enumerate(shares.items()):
        ordered = np.sort(values)
        axis.step(
            np.concatenate([[0], ordered, [1]]),
            np.concatenate([[0], np.arange(1, len(ordered) + 1) / len(ordered), [1]]),
            where="post",
            color=_PALETTE[j],
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
    fig, axes = _panels(1, 5.2, 2.9)
    for y, arm in enumerate(arms):
        for j, name in enumerate(tables):
            values = _where(chosen, arm=arm, table=name)["share_below"].to_numpy()
            _interval_bar(axes[0], values, y + 0.6 * ((j + 0.5) / len(tables) - 0.5), color=_PALETTE[j])
    axes[0].axvline(0.5, color=_GREY, linestyle=":", linewidth=1.2)
    axes[0].set(xlabel="share of random deletions that hurt less", xlim=(0, 1))
    axes[0].set(yticks=range(len(arms)), yticklabels=[ARMS[arm] for arm in arms])
    axes[0].invert_yaxis()
    handles = [plt.Line2D([], [], color=_PALETTE[j], marker="o") for j in range(len(tables))]
    fig.legend(handles, [TABLE_NAMES[t] for t in tables], loc="outside lower center", ncols=len(tables))
    return fig


def sparsity_curves(table: pd.DataFrame, name: str) -> Figure:
    """Test accuracy against the share of weights removed, by what was removed."""
    names = {"noncausal": "least causal", "magnitude after": "smallest after training", "random": "random"}
    fig, axes = _panels(1, 4.6, 3.2)
    for j, (score, chosen) in enumerate(table.groupby("score", sort=False)):
        rows = []
        for sparsity, one in chosen.groupby("sparsity")["test_accuracy"]:
            values = (100 * one).tolist()
            ends = (np.nan, np.nan)
            if len(values) > 1:
                found = t_interval(values)
                ends = (found.low, found.high)
            rows.append((sparsity, np.mean(values), *ends))
        x, mean, low, high = np.array(rows).T
        axes[0].plot(
            100 * x, mean, f"{_MARKERS[j]}-", color=_PALETTE[j], label=names[str(score)], markersize=4
        )
        axes[0].fill_between(100 * x, low, high, color=_PALETTE[j], alpha=0.2, linewidth=0)
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
    fig, axes = _panels(1, 5.0, 2.9)
    for y, pair in enumerate(pairs):
        for j, name in enumerate(tables):
            chosen = _where(table, pair=pair, table=name)
            at = y + 0.6 * ((j + 0.5) / len(tables) - 0.5)
            _interval_bar(axes[0], chosen["jaccard"].to_numpy(), at, color=_PALETTE[j])
            axes[0].plot([chosen["expected"].mean()], [at], "|", color="0.2", markersize=9)
    axes[0].set(xlabel="Jaccard index of the two sets (tick: by chance)", xlim=(-0.05, 1))
    axes[0].set(yticks=range(len(pairs)), yticklabels=[names[p] for p in pairs])
    axes[0].invert_yaxis()
    handles = [plt.Line2D([], [], color=_PALETTE[j], marker="o") for j in range(len(tables))]
    fig.legend(handles, [TABLE_NAMES[t] for t in tables], loc="outside lower center", ncols=len(tables))
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
    fig, axes = _panels(1, 5.2, 3.1)
    for y, (variant, arm) in enumerate(names):
        for j, name in enumerate(tables):
            chosen = _where(table, variant=variant, arm=arm, table=name)
            values = chosen.groupby("seed")["spearman"].mean().to_numpy()
            if len(values):
                _interval_bar(axes[0], values, y + 0.6 * ((j + 0.5) / len(tables) - 0.5), color=_PALETTE[j])
    axes[0].set(xlabel="rank correlation with the dense network")
    axes[0].set(yticks=range(len(names)), yticklabels=list(names.values()))
    axes[0].invert_yaxis()
    handles = [plt.Line2D([], [], color=_PALETTE[j], marker="o") for j in range(len(tables))]
    fig.legend(handles, [TABLE_NAMES[t] for t in tables], loc="outside lower center", ncols=len(tables))
    return fig


def authors_epochs(tables: dict[str, pd.DataFrame], printed: dict[str, int]) -> Figure:
    """Epochs to the benchmark for the authors' five initialisations, with random masks of FT's size beside them.

    Args:
        tables: by data set, one row a (trial, arm, draw) with epochs, counted from 0.
        printed: by data set, the trial that the paper prints.
    """
    fig, axes = _panels(len(tables), 3.6, 3.2)
    for axis, (name, table) in zip(axes, tables.items(), strict=True):
        trials = sorted(table["trial"].unique())
        random = table[table["arm"] == "random ft"]
        axis.plot(
            random["trial"], random["epochs"], "_", color=_GREY, markersize=9, label="random, as many as FT"
        )
        for arm, colour, marker, shift in (
            ("dense", "0.1", "o", -0.2),
            ("ft", _OURS, "s", 0.0),
            ("pt", _OTHER, "D", 0.2),
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
        axis.axvspan(
            printed[name] - 0.4, printed[name] + 0.4, color=_THIRD, alpha=0.18, linewidth=0, zorder=0
        )
        axis.set(title=TABLE_NAMES[name], xlabel="initialisation", xticks=trials)
    axes[0].set_ylabel("epochs to the benchmark")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    return fig
