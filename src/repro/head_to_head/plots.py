"""The pictures of the chapter: tables in, figures out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from repro.head_to_head.measures import beyond_its_layers
from repro.papers._pictures import GREY, MARKERS, PALETTE, band, interval_bar, panels, where

_GROUPS: dict[str, tuple[str, ...]] = {
    "the four ideas": ("magnitude", "causal", "causal (same batch)", "chaos-causality", "EWN", "PILoT"),
    "penalties and steps": ("magnitude", "magnitude (stepwise)", "PILoT (constant)", "L1", "spred", "STR"),
    "before training": ("magnitude", "SNIP", "GraSP", "SynFlow", "random"),
}
"""The panels of ``curves``."""


def curves(accuracy: pd.DataFrame, groups: Mapping[str, Sequence[str]] = _GROUPS) -> Figure:
    """Test accuracy against the share of weights left, means over seeds with 95 % intervals; a panel a group."""
    fig, axes = panels(len(groups), 4.0, 4.0, sharey=True)
    rows = accuracy[~accuracy["shuffled"] & (accuracy["sparsity"] > 0)]
    rows = rows.assign(percent=100 * rows["test_accuracy"], left=100 * (1 - rows["sparsity"]))
    dense = where(accuracy, method="magnitude", sparsity=0)["test_accuracy"].mean()
    ticks = sorted(rows["left"].unique())
    for axis, (title, names) in zip(axes, groups.items(), strict=True):
        there = set(rows["method"])
        for i, name in enumerate(name for name in names if name in there):
            color = GREY if name == "magnitude" else PALETTE[i - 1]
            look = {"color": color, "marker": MARKERS[i % len(MARKERS)]}
            band(axis, rows[rows["method"] == name], "left", "percent", label=name, **look)
        if np.isfinite(dense):
            axis.axhline(100 * dense, color=GREY, linestyle=":", linewidth=1)
        axis.set(title=title, xscale="log", xlabel="weights removed (%)", ylim=(0, 102))
        axis.invert_xaxis()
        axis.set_xticks(ticks, [f"{100 - tick:g}" for tick in ticks])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.legend(fontsize=8, loc="lower left")
    axes[0].set_ylabel("test accuracy (%)")
    return fig


def shuffled(accuracy: pd.DataFrame, sparsities: Sequence[float]) -> Figure:
    """What each criterion gains over its own mask shuffled within layers, points with 95 % intervals."""
    names = accuracy[accuracy["shuffled"]]["method"].unique().tolist()
    fig, axes = panels(len(sparsities), 4.2, 3.0, sharey=True)
    for axis, p in zip(axes, sparsities, strict=True):
        for y, name in enumerate(names):
            interval_bar(axis, beyond_its_layers(accuracy, name, p), y, PALETTE[0])
        axis.axvline(0, color=GREY, linestyle=":", linewidth=1.2)
        axis.set(title=f"{100 * p:g} % removed", xlabel="points above it shuffled")
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    return fig


def overlaps(table: pd.DataFrame) -> Figure:
    """How far the masks of each pair of methods agree within layers: 0 by chance, 1 as far as can be."""
    means = table.groupby(["first", "second"], sort=False)["beyond"].mean().unstack()
    names = list(dict.fromkeys([*table["first"], *table["second"]]))
    square = means.reindex(index=names, columns=names).to_numpy()
    square = np.where(np.isnan(square), square.T, square).round(1) + 0.0  # no zero below zero
    fig, (axis,) = panels(1, 7.6, 6.4)
    sns.heatmap(
        pd.DataFrame(square, names, names),
        ax=axis, vmin=0, vmax=1, cmap="crest", square=True, annot=True, fmt=".1f", annot_kws={"fontsize": 7},
        cbar_kws={"label": "overlap beyond chance"},
    )  # fmt: skip
    return fig


def flatness(accuracy: pd.DataFrame, sparsity: float) -> Figure:
    """Test accuracy against noise sensitivity at one sparsity, a dot a method, means over seeds."""
    rows = where(accuracy, sparsity=sparsity, shuffled=False)
    means = rows.groupby("method")[["noise", "test_accuracy"]].mean()
    rise, percent = means["noise"], 100 * means["test_accuracy"]
    return _scatter(rise, percent, "rise of the loss under noise on the weights", "test accuracy (%)")


def carried_over(first: pd.DataFrame, second: pd.DataFrame, sparsity: float, tasks: Sequence[str]) -> Figure:
    """Test accuracy on one task against that on another, a dot a method, means over seeds."""
    rows = (where(table, sparsity=sparsity, shuffled=False).groupby("method") for table in (first, second))
    here, there = (100 * own["test_accuracy"].mean() for own in rows)
    both = here.index.intersection(there.index)
    return _scatter(here[both], there[both], *(f"test accuracy on {task} (%)" for task in tasks))


def _scatter(x: pd.Series, y: pd.Series, xlabel: str, ylabel: str) -> Figure:
    fig, (axis,) = panels(1, 6.4, 4.2)
    for i, name in enumerate(y.sort_values(ascending=False).index):
        axis.plot(x[name], y[name], MARKERS[i % len(MARKERS)], color=PALETTE[i % 10], label=name)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return fig
