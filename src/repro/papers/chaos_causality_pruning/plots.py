"""The chapter's pictures, each from the table of an experiment, and the names that tables and pictures show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from repro.papers._pictures import GREY, MARKERS, OTHER, OURS, PALETTE, band, interval_bar, panels, where
from repro.papers.chaos_causality_pruning.method import Decision

NAMES = {
    "iris": "iris",
    "wine": "wine",
    "breast_cancer_10": "breast cancer",
    "digits": "digits",
    "mnist": "MNIST",
    "cancer": "cancer (paper's)",
    "banknote": "banknote",
    "vowel": "vowel",
    "titanic": "Titanic",
    "iris_3f": "iris, 3 features",
    "ft": "FT",
    "pt": "PT",
    "noncausal": "LEGCNet",
    "causal": "most causal",
    "noise": "noise for exponents",
    "magnitude before": "smallest at start",
    "magnitude after": "smallest after training",
    "largest": "largest after training",
    "random": "random",
    "stranger": "other initial weights",
    "paper": "the paper's rule",
    "f_test": "F instead of chi-squared",
    "single_lag": "F at one lag",
    "honest": "F, corrected",
}
"""Data sets, variants, arms and rules."""

_COUNTERPARTS = {
    "own": "the weight's own exponents",
    "stranger": "another network's",
    "shifted": "shifted in time",
    "shuffled": "shuffled",
    "noise": "white noise",
    "reverse": "errors causing exponents",
    "reverse, stranger": "errors causing another's",
}
"""What stands in the place of the cause."""


def one_weight(path: pd.DataFrame) -> Figure:
    """A weight at every update, its exponents, and the network's error at the end of each window."""
    fig, axes = plt.subplots(3, 1, figsize=(6.6, 5.4), sharex=True, layout="constrained")
    ends = path.dropna()
    length = ends.index[0] + 1
    axes[0].plot(path["weight"], color=OURS, linewidth=0.7)
    start = ends.index[len(ends) // 2] - length
    axes[0].axvspan(start, start + length, color=OTHER, alpha=0.35, linewidth=0)
    beside = (start + length, 0.06)
    axes[0].annotate("one window", beside, (4, 0), ("data", "axes fraction"), "offset points")
    axes[0].set(ylabel="weight")
    axes[1].plot(ends["exponent"], ".-", color=OTHER, linewidth=0.8, markersize=4)
    axes[1].axhline(0, color=GREY, linewidth=0.8)
    axes[1].set(ylabel="exponent,\nnats an update")
    axes[2].plot(100 * ends["error"], ".-", color=PALETTE[2], linewidth=0.8, markersize=4)
    axes[2].set(ylabel="wrong answers, %", xlabel="updates")
    inset = axes[0].inset_axes((0.72, 0.12, 0.26, 0.5))
    inset.plot(path["weight"].to_numpy()[start : start + length], color=OURS, linewidth=0.8)
    inset.set(xticks=[], yticks=[])
    inset.set_title("the window", fontsize=8, pad=2)
    return fig


def causal_map(sizes: Sequence[int], decisions: dict[str, Decision]) -> Figure:
    """Which weights a rule calls causal, one row of matrices a source of exponents."""
    edges = np.cumsum([0] + [i * o for i, o in pairwise(sizes)])
    n_layers = len(sizes) - 1
    size = 2.1 * len(decisions), 0.24 * sum(sizes[1:]) + 1.0
    fig, axes = plt.subplots(
        n_layers, len(decisions), figsize=size, layout="constrained", squeeze=False, height_ratios=sizes[1:]
    )
    colours = ListedColormap([OTHER, OURS, (0.85, 0.85, 0.85)])
    for column, (name, decision) in enumerate(decisions.items()):
        state = np.where(decision.testable, decision.causal.astype(int), 2)
        for layer, axis in enumerate(axes[:, column]):
            matrix = state[edges[layer] : edges[layer + 1]].reshape(sizes[layer + 1], sizes[layer])
            axis.pcolormesh(matrix, cmap=colours, vmin=0, vmax=2, edgecolors="white", linewidth=1.5)
            axis.set(xticks=[], yticks=[], aspect="equal")
            axis.invert_yaxis()
            axes[layer, 0].set_ylabel(f"layer {layer + 1}")
        axes[0, column].set_title(name, fontsize=9)
    handles = [plt.Rectangle((0, 0), 1, 1, color=c) for c in (OURS, OTHER)]
    fig.legend(handles, ["causal: kept", "not causal: pruned"], loc="outside lower center", ncols=2)
    return fig


def known_processes(table: pd.DataFrame) -> Figure:
    """The paper's exponent and a usual one, for processes whose exponent is known: medians, 5 to 95 %."""
    titles = {"paper": "the paper's, S(1) − S(0)", "usual": "Rosenstein, 5 dimensions, 8 steps"}
    fig, axes = panels(2, 3.9, 3.3, sharey=True)
    for axis, (column, title) in zip(axes, titles.items(), strict=True):
        sns.pointplot(
            table, x=column, y="process", hue="length", estimator="median", errorbar=("pi", 90), dodge=0.3,
            linestyle="none", markers=["o", "s"], palette=PALETTE[:2], legend=axis is axes[0], ax=axis,
        )  # fmt: skip
        axis.axvline(0, color=GREY, linewidth=0.8)
        axis.axvline(np.log(2), color=GREY, linestyle=":", linewidth=1.2)
        axis.set(title=title, xlabel="exponent, nats a step", ylabel="")
    axes[0].legend(title="points; median, 5 to 95 %", loc="lower right")
    return fig


def exponents_of_weights(exponents: pd.DataFrame, growth_rates: pd.Series) -> Figure:
    """Exponents of iris weights and of their surrogates, with the rate at which the worst nudge grows."""
    names = {"weights": "weights", "shuffled": "steps shuffled", "linear": "same spectrum"}
    fig, axes = panels(2, 3.6, 3.2)
    iris = where(exponents, table="iris").replace({"series": names})
    sns.histplot(
        iris, x="exponent", hue="series", hue_order=list(names.values()), palette=PALETTE[:3], ax=axes[0],
        bins=np.linspace(-0.5, 3.5, 81), stat="percent", common_norm=False, element="poly", fill=False,
    )  # fmt: skip
    axes[0].axvline(0, color=GREY, linewidth=0.8)
    axes[0].set(xlabel="exponent, nats an update", ylabel="windows, %")
    sns.move_legend(axes[0], "best", title="")
    means = iris.groupby(["series", "seed"])["exponent"].mean()
    rows = {name: means[name].to_numpy() for name in names.values()} | {
        "worst nudge": growth_rates.to_numpy()
    }
    colors = [*PALETTE[:3], PALETTE[4]]
    sns.stripplot(rows, orient="h", jitter=False, alpha=0.5, palette=colors, log_scale=True, ax=axes[1])
    axes[1].set(xlabel="rate, nats an update (one dot a seed)")
    return fig


def growth(grown: pd.DataFrame) -> Figure:
    """Log growth of nudges over training; dotted, straight lines to the same ends."""
    fig, axes = panels(grown["table"].nunique(), 3.4, 3.0, sharey=True)
    for axis, (name, chosen) in zip(axes, grown.groupby("table", sort=False), strict=True):
        look = {"x": "updates", "y": "efolds", "hue": "direction", "palette": PALETTE[:2], "ax": axis}
        sns.lineplot(chosen, units="seed", estimator=None, alpha=0.7, legend=axis is axes[0], **look)
        ends = chosen[chosen["updates"].isin([0, chosen["updates"].max()])]
        sns.lineplot(ends, errorbar=None, linestyle=":", linewidth=1.2, legend=False, **look)
        axis.set(title=NAMES[str(name)], ylabel="log growth, e-folds")
    return fig


def _intervals(axis: Axes, table: pd.DataFrame, rows: Mapping[str, Any], value: str, spread: float) -> None:
    """Mean and interval over seeds, one line of the picture a row (name and conditions), one color a data set."""
    tables = list(dict.fromkeys(table["table"]))
    for y, conditions in enumerate(rows.values()):
        for j, name in enumerate(tables):
            at = y + spread * ((j + 0.5) / len(tables) - 0.5)
            means = where(table, table=name, **conditions).groupby("seed").mean(numeric_only=True)
            means = means.dropna(subset=[value])
            if len(means) > 1:
                interval_bar(axis, means[value].to_numpy(), at, color=PALETTE[j])
            if "expected" in means:
                axis.plot([means["expected"].mean()], [at], "|", color="0.2", markersize=9)
    axis.set(yticks=range(len(rows)), yticklabels=list(rows))


def _finished(fig: Figure, axis: Axes, table: pd.DataFrame) -> Figure:
    """With the first row on top, and below the picture which color is which data set."""
    axis.invert_yaxis()
    tables = list(dict.fromkeys(table["table"]))
    handles = [plt.Line2D([], [], color=PALETTE[j], marker="o") for j in range(len(tables))]
    fig.legend(handles, [NAMES[t] for t in tables], loc="outside lower center", ncols=len(tables))
    return fig


_DELETED = ("noncausal", "causal", "noise", "random", "magnitude after", "largest")
_ROWS = {
    "doublings": {NAMES[arm]: {"arm": arm} for arm in _DELETED},
    "jaccard": {
        "FT and PT": {"pair": "late and early"},
        "weights nudged\nby 1 in 10,000": {"pair": "nudged"},
        "other weights": {"pair": "stranger"},
    },
    "spearman": {
        "FT": {"variant": "ft", "arm": "noncausal"},
        "random, as many as FT": {"variant": "ft", "arm": "random"},
        "PT": {"variant": "pt", "arm": "noncausal"},
        "random, as many as PT": {"variant": "pt", "arm": "random"},
        "dense, other initial weights": {"variant": "dense", "arm": "stranger"},
    },
}
_AXES: dict[str, dict[str, Any]] = {
    "doublings": {"xlabel": "doublings of the training loss"},
    "jaccard": {"xlabel": "Jaccard index of the two sets (tick: by chance)", "xlim": (-0.05, 1)},
    "spearman": {"xlabel": "rank correlation with the dense network"},
}


def compared(table: pd.DataFrame, value: str) -> Figure:
    """Mean and 95 % interval over seeds of what was compared, for each data set.

    Args:
        table: deletions, overlaps or rankings of ``experiments.Runs``.
        value: its column: how often the loss doubles, ``"doublings"``; the index
            ``"jaccard"``, with a tick for random sets of these sizes; or the rank correlation ``"spearman"``.
    """
    fig, (axis,) = panels(1, height=3.1 if value == "spearman" else 2.9)
    _intervals(axis, table, _ROWS[value], value, spread=0.6)
    if value == "doublings":
        axis.axvline(0, color=GREY, linestyle=":", linewidth=1.2)
    axis.set(**_AXES[value])
    return _finished(fig, axis, table)


def causal_shares(decisions: pd.DataFrame, rule: str = "paper") -> Figure:
    """Share of weights called causal, with the own exponents and with counterparts that cannot cause anything."""
    chosen = where(decisions, rule=rule, part="validation")
    variants = [v for v in ("ft", "pt") if v in set(chosen["variant"])]
    fig, axes = panels(len(variants), 3.9, 3.6, sharey=True)
    for axis, variant in zip(axes, variants, strict=True):
        rows = {name: {"variant": variant, "series": series} for series, name in _COUNTERPARTS.items()}
        _intervals(axis, chosen.assign(causal=100 * chosen["causal"]), rows, "causal", spread=0.7)
        axis.axvline(5, color=GREY, linestyle=":", linewidth=1.2)
        windows = sorted(set(where(chosen, variant=variant)["windows"]))
        axis.set(
            title=f"{NAMES[variant]}: {' to '.join(map(str, windows[:: len(windows) - 1 or 1]))} windows"
        )
        axis.set(xlabel="called causal, %", xlim=(0, 100))
    return _finished(fig, axes[0], chosen)


def null_shares(table: pd.DataFrame) -> Figure:
    """Share of independent series called non-causal, by rule, for the shapes of the paper's runs."""
    shapes = table["windows"].astype(str) + ", " + table["max_lag"].astype(str)
    shown = table.assign(shape=shapes).replace({"rule": NAMES})
    grid = sns.relplot(
        shown, x="shape", y="non_causal", hue="rule", style="rule", col="process", kind="line", errorbar=None,
        sort=False, markers=True, dashes=False, palette="colorblind", height=3.0, aspect=1.2,
    )  # fmt: skip
    grid.refline(y=0.95, color=GREY, linestyle=":", linewidth=1.2)
    grid.set(xlabel="windows, lags", ylabel="share called non-causal", ylim=(0, 1.03))
    return grid.set_titles("{col_name}").figure


def ranks_among_random(shares: pd.DataFrame) -> Figure:
    """Distribution of LEGCNet's place among random masks of its size, beside that of a random mask.

    Args:
        shares: one row a table and seed: ``faster``, the share of random masks that are faster.
    """
    fig, (axis,) = panels(1, 4.6, 3.2)
    axis.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="a random mask")
    for j, (name, of_table) in enumerate(shares.groupby("table", sort=False)):
        axis.ecdf(
            of_table["faster"],
            color=PALETTE[j],
            linestyle=("-", "--", "-.", ":")[j % 4],
            label=NAMES[str(name)],
        )
    axis.set(xlabel="share of random masks that are faster", ylabel="share of runs at or below")
    axis.legend(fontsize=8)
    return fig


def sparsity_curves(table: pd.DataFrame, name: str) -> Figure:
    """Test accuracy against the share of weights removed, by what was removed."""
    fig, (axis,) = panels(1, 4.6, 3.2)
    for j, (score, chosen) in enumerate(table.groupby("score", sort=False)):
        label = "least causal" if score == "noncausal" else NAMES[str(score)]
        look = {"marker": MARKERS[j], "color": PALETTE[j], "label": label}
        band(axis, 100 * chosen[["sparsity", "test_accuracy"]], "sparsity", "test_accuracy", **look)
    n_seeds = table["seed"].nunique()
    axis.set(xlabel="weights removed, %", ylabel="test accuracy, %", title=NAMES[name])
    axis.legend(title=f"band: t 95 % interval, {n_seeds} seeds", fontsize=8)
    return fig


def authors_epochs(table: pd.DataFrame) -> Figure:
    """Epochs to the benchmark for the authors' five initialisations, with random masks of FT's size beside them."""
    looks: dict[str, tuple[str, str, float, dict[str, Any]]] = {
        "random, as many as FT": ("ft", "random", 0.0, {"marker": "_", "color": GREY, "markersize": 9}),
        "dense": ("dense", "dense", -0.2, {"marker": "o", "color": "0.1"}),
        "FT": ("ft", "published", 0.0, {"marker": "s", "color": OURS}),
        "PT": ("pt", "published", 0.2, {"marker": "D", "color": OTHER}),
    }
    fig, axes = panels(table["data"].nunique(), 3.6, 3.2)
    for axis, (name, runs) in zip(axes, table.groupby("data", sort=False), strict=True):
        for label, (variant, arm, shift, look) in looks.items():
            chosen = where(runs, variant=variant, arm=arm)
            style = {"linestyle": "none", "markersize": 5, "label": label, **look}
            axis.plot(chosen["trial"] + shift, chosen["epochs"], **style)
        at = runs.loc[runs["printed"], "trial"].iloc[0]
        axis.axvspan(at - 0.4, at + 0.4, color=PALETTE[2], alpha=0.18, linewidth=0, zorder=0)
        axis.set(title=NAMES[str(name)], xlabel="initialisation", xticks=sorted(runs["trial"].unique()))
    axes[0].set_ylabel("epochs to the benchmark")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    return fig
