"""The chapter's pictures. Each takes the table of an experiment and returns a figure; no computing here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from repro.papers._pictures import GREY, MARKERS, PALETTE, band, interval_bar, panels, where

__all__ = [
    "ARM_NAMES",
    "accuracy_against_alpha",
    "accuracy_against_sparsity",
    "flatness",
    "intervals",
    "mask_overlaps",
    "predicted_and_observed",
    "sparsity_by_iteration",
]

ARM_NAMES = {
    "dense": "dense",
    "causal": "causal",
    "causal_cross": "causal, cross-batch",
    "energy": "squared change alone",
    "permuted": "shuffled loss changes",
    "permuted_cross": "shuffled, cross-batch",
    "magnitude": "magnitude",
    "random": "random",
    "random_layerwise": "random within layers",
}
_TARGET_NAMES = {"same_batch": "same batch", "cross_batch": "cross-batch", "full_loss": "full loss"}
_LOOKS = {
    name: {"color": color, "marker": marker, "linestyle": line}
    for name, color, marker, line in zip(
        ARM_NAMES,
        ("0.1", *PALETTE[:8]),
        "." + MARKERS + "P",
        ("-", "-", "--", "-.", ":", "-", "--", "-.", ":"),
        strict=True,
    )
}


def predicted_and_observed(table: pd.DataFrame) -> Figure:
    """Loss changes against what the squared step predicts, a panel a condition."""
    fig, axes = panels(table["condition"].nunique(), 2.9, 3.1)
    for axis, (title, rows) in zip(axes, table.groupby("condition", sort=False), strict=True):
        axis.plot(rows["predicted"], rows["observed"], ".", color=PALETTE[0], alpha=0.6)
        ends = np.array([rows["predicted"].min(), 0.0])
        axis.plot(ends, ends, color=GREY, linestyle="--", linewidth=1.2)
        axis.set(title=title, xlabel="−Σ(Δθ)²/η")
        axis.locator_params(axis="x", nbins=3)
        axis.locator_params(axis="y", nbins=5)
    axes[0].set_ylabel("loss change")
    return fig


def intervals(values: Mapping[str, NDArray[np.float64]], xlabel: str, at: float = 0.0) -> Figure:
    """A dot with its interval for each name; a dotted line at a value to compare with."""
    fig, axes = panels(1, 5.6, 0.9 + 0.36 * len(values))
    for y, each in enumerate(values.values()):
        interval_bar(axes[0], each, y, color=PALETTE[0])
    axes[0].axvline(at, color=GREY, linestyle=":", linewidth=1.2)
    axes[0].set(xlabel=xlabel)
    _rows(axes[0], list(values))
    return fig


def mask_overlaps(table: pd.DataFrame) -> Figure:
    """Overlap of the authors' mask with other masks of its size beyond chance, a panel a loss change."""
    names = {
        "covariance": "threshold on the covariance",
        "reordered": "rows in another order",
        "energy": "largest squared changes",
        "permuted": "shuffled loss changes",
        "placebo": "steps never taken",
        "again": "another log",
    }
    levels, targets = sorted(table["wanted"].unique()), list(dict.fromkeys(table["target"]))
    fig, axes = panels(len(targets), 3.9, 3.6, sharey=True)
    for axis, target in zip(axes, targets, strict=True):
        for (y, other), (j, level) in product(enumerate(names), enumerate(levels)):
            values = where(table, target=target, wanted=level, other=other)["beyond"].to_numpy()
            at = y + 0.3 * (j - (len(levels) - 1) / 2)
            if len(values):  # a placebo has no same-batch changes
                interval_bar(axis, values, at, color=PALETTE[j])
        axis.axvline(0.5, color=GREY, linestyle=":", linewidth=1.2)
        axis.set(title=_TARGET_NAMES[str(target)], xlabel="overlap beyond chance", xlim=(-0.05, 1.05))
        _rows(axis, list(names.values()))
    handles = [plt.Line2D([], [], color=PALETTE[j], marker="o") for j in range(len(levels))]
    labels = [f"{100 * level:.0f} % sparsity" for level in levels]
    fig.legend(handles, labels, loc="outside lower center", ncols=2)
    return fig


def accuracy_against_sparsity(table: pd.DataFrame, groups: Sequence[Sequence[str]]) -> Figure:
    """Test accuracy against the share of weights left, on a logarithmic scale; a panel for each group of arms."""
    fig, axes = panels(len(groups), 3.9, 4.0, sharey=True)
    dense = 100 * where(table, arm="dense")["test_accuracy"].mean()
    for axis, arms in zip(axes, groups, strict=True):
        axis.axhline(dense, color="0.1", linewidth=1, label=ARM_NAMES["dense"])
        for arm in arms:
            chosen = where(table, arm=arm)
            curve = chosen.assign(left=100 * (1 - chosen["sparsity"]), accuracy=100 * chosen["test_accuracy"])
            band(axis, curve, "left", "accuracy", label=ARM_NAMES[arm], **_LOOKS[arm])
        axis.set(xscale="log", xlabel="weights left, %")
        axis.set_xticks(ticks := [50, 20, 10, 5, 2, 1], [str(tick) for tick in ticks])
        axis.minorticks_off()
        axis.invert_xaxis()
        axis.legend(fontsize=9)
    axes[0].set_ylabel("test accuracy, %")
    return fig


def accuracy_against_alpha(table: pd.DataFrame) -> Figure:
    """Sparsity and test accuracy against the penalty; crosses where a layer is gone."""
    fig, axes = panels(2, 3.9, 3.6)
    for axis, column in zip(axes, ("sparsity", "test_accuracy"), strict=True):
        for j, (target, chosen) in enumerate(table.groupby("target", sort=False)):
            _percent(axis, chosen, "alpha", column, j, _TARGET_NAMES[str(target)])
        gone = table[table["collapsed"].astype(bool)]
        axis.plot(gone["alpha"], 100 * gone[column], "x", color="0.1", markersize=7, markeredgewidth=1.2)
        axis.set(xscale="log", xlabel="penalty α", ylabel=f"{column.replace('_', ' ')}, %", ylim=(-4, 104))
    axes[0].plot([], [], "x", color="0.1", markeredgewidth=1.2, label="a layer is gone")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


def sparsity_by_iteration(runs: Mapping[str, pd.DataFrame]) -> Figure:
    """Sparsity after each iteration, a panel a loss change, a line for each table of ``experiments.loop_runs``."""
    targets = list(dict.fromkeys(next(iter(runs.values()))["target"]))
    fig, axes = panels(len(targets), 3.6, 3.2, sharey=True)
    for axis, target in zip(axes, targets, strict=True):
        for j, (name, table) in enumerate(runs.items()):
            _percent(axis, where(table, target=target), "iteration", "sparsity", j, name)
        axis.set(title=_TARGET_NAMES[str(target)], xlabel="iteration", ylim=(-4, 104))
    axes[0].set_ylabel("sparsity, %")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def flatness(table: pd.DataFrame, measures: Mapping[str, str]) -> Figure:
    """How much sharper than the dense network of the same seed, in decades; a panel a measure, an arm a color.

    Args:
        table: columns arm, sparsity, and one for each measure: the decimal logarithm of pruned over dense.
        measures: column to title.
    """
    n_rows = -(-(len(measures) + 1) // 3)
    size = (7.6, 2.5 * n_rows)
    fig, grid = plt.subplots(n_rows, 3, figsize=size, layout="constrained", sharey=True, squeeze=False)
    axes = grid.ravel()
    arms = [arm for arm in ARM_NAMES if arm in set(table["arm"])]
    levels = sorted(table["sparsity"].unique())
    for axis, (column, title) in zip(axes, measures.items(), strict=False):
        for y, level in enumerate(levels):
            for j, arm in enumerate(arms):
                values = where(table, arm=arm, sparsity=level)[column].dropna().to_numpy()
                at = y + 0.7 * ((j + 0.5) / len(arms) - 0.5)
                interval_bar(axis, values, at, color=_LOOKS[arm]["color"])
        axis.axvline(0, color=GREY, linestyle=":", linewidth=1.2)
        axis.set_title(title, fontsize=11)
        _rows(axis, [f"{100 * level:.0f} %" for level in levels])
    for row in grid:
        row[0].set_ylabel("sparsity")
    for axis in axes[len(measures) :]:
        axis.axis("off")
    handles = [plt.Line2D([], [], color=_LOOKS[arm]["color"], marker="o") for arm in arms]
    title = "log10 of pruned over dense:\nleft flatter, right sharper"
    axes[-1].legend(handles, [ARM_NAMES[arm] for arm in arms], loc="center", title=title)
    return fig


def _percent(axis: Axes, table: pd.DataFrame, x: str, column: str, j: int, label: str) -> None:
    """A band of a column in percent, in the look of number j."""
    percent = table.assign(percent=100 * table[column])
    band(axis, percent, x, "percent", color=PALETTE[j], marker=MARKERS[j], label=label)


def _rows(axis: Axes, labels: Sequence[str]) -> None:
    """A label for each row, the first on top."""
    axis.set(yticks=range(len(labels)), yticklabels=labels, ylim=(len(labels) - 0.5, -0.5))
