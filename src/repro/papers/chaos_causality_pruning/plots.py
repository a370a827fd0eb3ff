"""Pictures of trajectories, exponents and decisions. Each takes the table of an experiment; no computing here."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from repro.papers._pictures import GREY, MARKERS, OTHER, OURS, PALETTE, THIRD, interval_bar, panels, where
from repro.papers.chaos_causality_pruning.comparisons import COUNTERPARTS
from repro.papers.chaos_causality_pruning.decisions import Decision
from repro.papers.chaos_causality_pruning.labels import (
    RULE_NAMES,
    TABLE_NAMES,
    VARIANT_NAMES,
    legend_of_tables,
)
from repro.papers.chaos_causality_pruning.trajectories import Path

__all__ = [
    "causal_map",
    "causal_shares",
    "exponents_of_weights",
    "known_processes",
    "null_shares",
    "one_weight",
    "twins",
]


def one_weight(path: Path) -> Figure:
    """A weight at every update, its exponents, and the network's error at the end of each window."""
    fig, axes = plt.subplots(3, 1, figsize=(6.6, 5.4), sharex=True, layout="constrained")
    axes[0].plot(path.weight, color=OURS, linewidth=0.7)
    start = path.window_ends[len(path.window_ends) // 2] - path.window
    axes[0].axvspan(start, start + path.window, color=OTHER, alpha=0.35, linewidth=0)
    axes[0].annotate(
        "one window",
        (start + path.window, 0.06),
        xycoords=("data", "axes fraction"),
        xytext=(4, 0),
        textcoords="offset points",
    )
    axes[0].set(ylabel="weight")
    axes[1].plot(path.window_ends, path.exponents, ".-", color=OTHER, linewidth=0.8, markersize=4)
    axes[1].axhline(0, color=GREY, linewidth=0.8)
    axes[1].set(ylabel="exponent,\nnats an update")
    axes[2].plot(path.window_ends, 100 * path.errors, ".-", color=THIRD, linewidth=0.8, markersize=4)
    axes[2].set(ylabel="wrong answers, %", xlabel="updates")
    inside = path.weight[start : start + path.window]
    inset = axes[0].inset_axes((0.72, 0.12, 0.26, 0.5))
    inset.plot(inside, color=OURS, linewidth=0.8)
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
    colours = ListedColormap([OTHER, OURS, (0.85, 0.85, 0.85)])
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
    handles = [plt.Rectangle((0, 0), 1, 1, color=c) for c in (OURS, OTHER)]
    fig.legend(handles, ["causal: kept", "not causal: pruned"], loc="outside lower center", ncols=2)
    return fig


def known_processes(table: pd.DataFrame) -> Figure:
    """The paper's exponent and a usual one, for processes whose exponent is known."""
    fig, axes = panels(2, 3.9, 3.3, sharey=True)
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
                colour = PALETTE[j]
                axis.plot([low, high], [at, at], color=colour, linewidth=2, solid_capstyle="butt")
                label = f"{length} points" if y == 0 else None
                axis.plot([middle], [at], MARKERS[j], color=colour, markersize=5, label=label)
        axis.axvline(0, color=GREY, linewidth=0.8)
        axis.axvline(np.log(2), color=GREY, linestyle=":", linewidth=1.2)
        axis.set(title=title, xlabel="exponent, nats a step", yticks=range(len(names)), yticklabels=names)
    axes[0].invert_yaxis()
    axes[0].legend(title="median, 5 to 95 %", loc="lower right")
    return fig


def exponents_of_weights(found: dict[str, NDArray[np.float64]], twin_rates: NDArray[np.float64]) -> Figure:
    """Exponents of weights and of surrogates, with the rate at which twin runs part."""
    names = {"weights": "weights", "walks": "random walks", "linear": "random phases"}
    fig, axes = panels(2, 3.6, 3.2)
    bins = np.linspace(-0.5, 3.5, 81)
    for (key, name), colour, dashes in zip(names.items(), PALETTE, ("-", "--", "-."), strict=False):
        share, edges = np.histogram(found[key], bins=bins)
        centre = (edges[1:] + edges[:-1]) / 2
        axes[0].plot(centre, 100 * share / found[key].size, dashes, color=colour, label=name)
    axes[0].axvline(0, color=GREY, linewidth=0.8)
    axes[0].set(xlabel="exponent, nats an update", ylabel="windows, %")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    means = {name: np.nanmean(found[key], axis=(1, 2)) for key, name in names.items()}
    rows = means | {"twin runs": np.abs(twin_rates)}
    for y, values in enumerate(rows.values()):
        colour = PALETTE[y] if y < 3 else PALETTE[4]
        axes[1].plot(values, np.full(len(values), y), "o", color=colour, alpha=0.5, markersize=5)
    axes[1].set(xscale="log", xlabel="rate, nats an update (one dot a seed)")
    axes[1].set(yticks=range(len(rows)), yticklabels=list(rows))
    axes[1].set_ylim(len(rows) - 0.5, -0.5)
    return fig


def twins(table: pd.DataFrame) -> Figure:
    """Distance of twin runs over the initial distance, for two sizes of the nudge."""
    tables = list(dict.fromkeys(table["table"]))
    fig, axes = panels(len(tables), 3.4, 3.0, sharey=True)
    for axis, name in zip(axes, tables, strict=True):
        chosen = table[table["table"] == name]
        for j, (delta, of_delta) in enumerate(chosen.groupby("delta", sort=False)):
            for k, (_, one) in enumerate(of_delta.groupby("seed")):
                label = f"nudge {delta:.0e}" if k == 0 else None
                axis.plot(
                    one["updates"],
                    one["ratio"],
                    "-" if j == 0 else ":",
                    color=PALETTE[j],
                    alpha=0.6,
                    label=label,
                )
        axis.axhline(np.exp(3), color=GREY, linestyle="--", linewidth=1)
        axis.set(yscale="log", title=TABLE_NAMES[name], xlabel="updates")
    axes[0].set_ylabel("distance over first distance")
    axes[0].legend(fontsize=8)
    return fig


def causal_shares(decisions: pd.DataFrame, rule: str = "paper") -> Figure:
    """Share of weights called causal, with the own exponents and with counterparts that cannot cause anything."""
    chosen = decisions[(decisions["rule"] == rule) & (decisions["part"] == "validation")]
    variants = [v for v in VARIANT_NAMES if v in set(chosen["variant"])]
    fig, axes = panels(len(variants), 3.9, 3.6, sharey=True)
    tables = list(dict.fromkeys(chosen["table"]))
    for axis, variant in zip(axes, variants, strict=True):
        for y, series in enumerate(COUNTERPARTS):
            for j, table in enumerate(tables):
                here = where(chosen, variant=variant, series=series, table=table)
                if here.empty:
                    continue
                at = y + 0.7 * ((j + 0.5) / len(tables) - 0.5)
                interval_bar(axis, 100 * here["causal"].to_numpy(), at, color=PALETTE[j])
        axis.axvline(5, color=GREY, linestyle=":", linewidth=1.2)
        windows = sorted({int(w) for w in where(chosen, variant=variant)["windows"]})
        axis.set(title=f"{VARIANT_NAMES[variant]}: {windows[0]} to {windows[-1]} windows", xlim=(0, 100))
        axis.set(xlabel="weights called causal, %")
        axis.set(yticks=range(len(COUNTERPARTS)), yticklabels=list(COUNTERPARTS.values()))
    axes[0].invert_yaxis()
    legend_of_tables(fig, tables)
    return fig


def null_shares(table: pd.DataFrame) -> Figure:
    """Share of independent series called non-causal, by rule, for the shapes of the paper's runs."""
    fig, axes = panels(2, 3.6, 3.2, sharey=True)
    shapes = list(dict.fromkeys(zip(table["windows"], table["max_lag"], strict=True)))
    for axis, (process, chosen) in zip(axes, table.groupby("process", sort=False), strict=True):
        for j, (rule, of_rule) in enumerate(chosen.groupby("rule", sort=False)):
            means = [where(of_rule, windows=w, max_lag=lag)["non_causal"].mean() for w, lag in shapes]
            axis.plot(means, f"{MARKERS[j]}-", color=PALETTE[j], label=RULE_NAMES[str(rule)])
        axis.axhline(0.95, color=GREY, linestyle=":", linewidth=1.2)
        axis.set(title=process, xlabel="windows, lags", ylim=(0, 1.03))
        axis.set(xticks=range(len(shapes)), xticklabels=[f"{w}, {lag}" for w, lag in shapes])
    axes[0].set_ylabel("share called non-causal")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    return fig
