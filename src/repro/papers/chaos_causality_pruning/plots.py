"""The chapter's pictures, each from the table of an experiment, and the names that tables and pictures show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from repro.base import t_interval
from repro.papers._pictures import GREY, OTHER, OURS, PALETTE, legend_below, panels, where

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
    fig, axes = plt.subplots(3, 1, figsize=(6.6, 5.0), sharex=True, layout="constrained")
    ends = path.dropna()
    length = ends.index[0] + 1
    start = ends.index[len(ends) // 2] - length
    axes[0].plot(path["weight"], color=OURS, linewidth=0.7)
    axes[0].axvspan(start, start + length, color=OTHER, alpha=0.35, linewidth=0)
    axes[0].set(ylabel="weight")
    axes[1].plot(ends["exponent"], ".-", color=OTHER, linewidth=0.8, markersize=4)
    axes[1].set(ylabel="exponent,\nnats")
    axes[2].plot(100 * ends["error"], ".-", color=PALETTE[2], linewidth=0.8, markersize=4)
    axes[2].set(ylabel="wrong\nanswers, %", xlabel="updates")
    inset = axes[0].inset_axes((0.72, 0.12, 0.26, 0.5))
    inset.plot(path["weight"].iloc[start : start + length], color=OURS, linewidth=0.8)
    inset.set(xticks=[], yticks=[])
    return fig


def known_processes(table: pd.DataFrame) -> Figure:
    """The paper's exponent and a usual one, for processes whose exponent is known: medians, 5 to 95 %."""
    kinds = {"paper": "the paper's", "usual": "Rosenstein's, as usual"}
    long = table.rename(columns=kinds).melt(["process", "length"], [*kinds.values()], "estimate", "exponent")
    grid = sns.catplot(
        long, x="exponent", y="process", hue="length", col="estimate", kind="point", estimator="median",
        errorbar=("pi", 90), dodge=0.3, linestyle="none", palette=PALETTE[:2], height=3.2, aspect=1.3,
    )  # fmt: skip
    grid.refline(x=0, color=GREY, linestyle="-", linewidth=0.8)
    grid.refline(x=np.log(2), color=GREY, linestyle=":", linewidth=1.2)
    grid.legend.set_title("points")
    return grid.set(xlabel="exponent, nats a step", ylabel="").set_titles("{col_name}").figure


def exponents_of_weights(exponents: pd.DataFrame, growth_rates: pd.Series) -> Figure:
    """Exponents of iris weights and of their surrogates, with the rate at which the worst nudge grows."""
    names = {"weights": "weights", "shuffled": "steps shuffled", "linear": "same spectrum"}
    means = where(exponents, table="iris").groupby(["series", "seed"])["exponent"].mean()
    rows = {name: means[series].to_numpy() for series, name in names.items()}
    rows["worst nudge"] = growth_rates.to_numpy()
    fig, (axis,) = panels(1, height=2.6)
    colors = [*PALETTE[:3], PALETTE[4]]
    sns.stripplot(rows, orient="h", jitter=False, alpha=0.5, palette=colors, log_scale=True, ax=axis)
    axis.set(xlabel="rate, nats an update (one dot a seed)")
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


def _t_interval(values: pd.Series) -> tuple[float, float]:
    """The ends of the 95 % interval."""
    found = t_interval(values.tolist())
    return found.low, found.high


def _intervals(table: pd.DataFrame, rows: Mapping[str, Any], value: str) -> sns.FacetGrid:
    """Mean and interval over seeds, one line a row (name and conditions), one color a data set, by ``panel``."""
    chosen = pd.concat({name: where(table, **of) for name, of in rows.items()}, names=["row"])
    of_seeds = chosen.replace({"table": NAMES}).groupby(["panel", "row", "table", "seed"], sort=False)
    means = of_seeds[value].mean().dropna().reset_index()
    n_tables, wide = means["table"].nunique(), means["panel"].nunique() == 1
    grid = sns.catplot(
        means, x=value, y="row", hue="table", col="panel", order=list(rows), kind="point", errorbar=_t_interval,
        dodge=0.4 if n_tables > 1 else False, linestyle="none", palette=PALETTE[:n_tables], height=3.2,
        aspect=1.9 if wide else 1.3, col_order=sorted(means["panel"].unique()),
    )  # fmt: skip
    grid.legend.set_title("")
    return grid.set(ylabel="").set_titles("{col_name}")


_DELETED = ("noncausal", "causal", "noise", "random", "magnitude after", "largest")
_COMPARED: dict[str, tuple[str, dict[str, Any]]] = {
    "doublings": ("doublings of the training loss", {NAMES[arm]: {"arm": arm} for arm in _DELETED}),
    "jaccard": ("Jaccard index of the two sets", {
        "FT and PT": {"pair": "late and early"},
        "by chance": {"pair": "late and early, by chance"},
        "FT, and FT after a nudge": {"pair": "nudged"},
        "by chance ": {"pair": "nudged, by chance"},
        "FT from other weights": {"pair": "stranger"},
        "by chance  ": {"pair": "stranger, by chance"},
    }),
    "spearman": ("rank correlation with the dense network", {
        "FT": {"variant": "ft", "arm": "noncausal"},
        "random, as many as FT": {"variant": "ft", "arm": "random"},
        "PT": {"variant": "pt", "arm": "noncausal"},
        "random, as many as PT": {"variant": "pt", "arm": "random"},
        "dense, other initial weights": {"variant": "dense", "arm": "stranger"},
    }),
}  # fmt: skip
"""What is compared: the label of its axis, and the lines of its picture."""


def compared(table: pd.DataFrame, value: str) -> Figure:
    """Mean and 95 % interval over seeds of what was compared, for each data set.

    Args:
        table: deletions, overlaps or rankings of ``experiments.runs_of``.
        value: its column: how often the loss doubles, ``"doublings"``; the index ``"jaccard"``, with that of random
            sets of these sizes; or the rank correlation ``"spearman"``.
    """
    if value == "jaccard":
        chance = table.assign(jaccard=table["expected"], pair=table["pair"] + ", by chance")
        table = pd.concat([table, chance])
    label, rows = _COMPARED[value]
    grid = _intervals(table.assign(panel=""), rows, value)
    return grid.refline(x=0, color=GREY, linestyle=":").set(xlabel=label).figure


def causal_shares(decisions: pd.DataFrame, rule: str = "paper") -> Figure:
    """Share of weights called causal, with the own exponents and with counterparts that cannot cause anything."""
    chosen = where(decisions, rule=rule, part="validation")
    rows = {name: {"series": series} for series, name in _COUNTERPARTS.items()}
    shares = chosen.assign(causal=100 * chosen["causal"], panel=chosen["variant"].replace(NAMES))
    grid = _intervals(shares, rows, "causal").refline(x=5, color=GREY, linestyle=":")
    return grid.set(xlabel="called causal, %", xlim=(0, 101), xticks=range(0, 100, 20)).figure


def null_shares(table: pd.DataFrame) -> Figure:
    """Share of independent series called non-causal, by rule, for the shapes of the paper's runs."""
    shapes = table["windows"].astype(str) + ", " + table["max_lag"].astype(str)
    shown = table[table["max_lag"] > 1].assign(shape=shapes).replace({"rule": NAMES})
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
    axis.plot([0, 1], [0, 1], color=GREY, linestyle="--")
    sns.ecdfplot(shares.replace({"table": NAMES}), x="faster", hue="table", palette="colorblind", ax=axis)
    axis.set(xlabel="share of random masks that are faster", ylabel="share of runs at or below")
    sns.move_legend(axis, "lower right", title="")
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
    return legend_below(fig, 4, fontsize=8)
