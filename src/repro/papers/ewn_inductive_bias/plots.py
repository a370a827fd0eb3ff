"""The chapter's pictures. Each takes the table of an experiment and returns a figure; no computing here."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repro.papers._pictures import PALETTE, band, legend_below, panels, where
from repro.papers.ewn_inductive_bias.method import _METHODS
from repro.papers.ewn_inductive_bias.settings import _SIMPLE_TRAJ_STARTS
from repro.papers.ewn_inductive_bias.theory import _conserved, exact_point

NAMES = {"plain": "plain", "swn": "SWN", "ewn": "EWN", "control": "plain, gradient × ‖w‖²"}
"""The methods, as pictures and tables call them."""
_COLORS = dict(zip(NAMES, (PALETTE[i] for i in (0, 1, 2, 4)), strict=True))
_MARKERS = dict(zip(NAMES, "os^D", strict=True))
_SCORES = {"length": "final length, fixed in advance", "best of scores": "best of several, on the test set"}


def two_weights() -> Figure:
    """Exact trajectories of the two-weight race from the authors' five starts, plain beside EWN."""
    fig, by_method = _by_method(3.4, "$w_1$", "$w_2$", ("plain", "ewn"))
    for method, axis in by_method.items():
        for start in _SIMPLE_TRAJ_STARTS:
            z = np.linspace(2 * start[0] + start[1], 50.0, 200)
            axis.plot(*exact_point(start, z, method), color=_COLORS[method])
            axis.plot(*start, "o", color="0.2", markersize=4)
            if method == "ewn":
                k = float(_conserved(*start))
                line, limit = (axis.axhline, 1 / k) if k > 0 else (axis.axvline, -1 / (2 * k))
                line(limit, color="0.6", linestyle=":", linewidth=1)
        axis.set(xlim=(0, 12), ylim=(0, 12))
    return fig


def lengths(nodes: pd.DataFrame, x: str) -> Figure:
    """Length of every node of one network, one panel a method; an output node is dashed.

    Args:
        nodes: rows of ``experiments.lin_sep_flows``, ``lin_sep_descent`` or ``xor_sparsity`` of one seed.
        x: ``"z"`` or ``"steps"``.
    """
    methods = [method for method in _METHODS if method in set(nodes["method"])]
    label = r"$z = -\log\mathcal{L}$" if x == "z" else "step"
    fig, by_method = _by_method(2.9, label, r"$\|w_u\|$", methods)
    for method, axis in by_method.items():
        for _, path in where(nodes, method=method).groupby("node"):
            dashed = "layer" in path and path["layer"].any()
            axis.plot(path[x], path["length"], "--" if dashed else "-", color=_COLORS[method], linewidth=1)
    return fig


def gradients_against_lengths(nodes: pd.DataFrame) -> Figure:
    r"""Active hidden nodes of all seeds, $\log\|g\|$ against $\log\|w\|$, centred seed by seed."""
    hidden = where(nodes, active=True, layer=0)
    several = hidden.groupby(["method", "seed"])["node"].transform("size") > 1
    hidden = hidden[several].assign(x=lambda d: np.log(d["length"]), y=lambda d: np.log(d["gradient_norm"]))
    centred = hidden[["x", "y"]] - hidden.groupby(["method", "seed"])[["x", "y"]].transform("mean")
    fig, by_method = _by_method(3.2, r"$\log\|w_u\|$, centred", r"$\log\|g_u\|$, centred")
    for method, axis in by_method.items():
        own, slope = centred[hidden["method"] == method], -1 if method == "ewn" else 1
        reach = np.array([-1.0, 1.0]) * max(0.1, float(own["x"].abs().max()))
        axis.plot(reach, slope * reach, color="0.4", linestyle="--", linewidth=1, label=f"slope {slope:+d}")
        axis.plot(own["x"], own["y"], _MARKERS[method], color=_COLORS[method], markersize=4, alpha=0.6)
        axis.legend(loc="upper left" if slope > 0 else "upper right", fontsize="small")
    return fig


def sorted_lengths(table: pd.DataFrame) -> Figure:
    """Neuron lengths over the longest, sorted: median over seeds with the quartiles as a band."""
    runs = where(table, end=True).groupby(["method", "seed"])["length"]
    table = where(table, end=True).assign(rank=runs.rank(ascending=False, method="first"))
    table["relative"] = table["length"] / runs.transform("max")
    fig, (axis,) = panels(1, height=3.8)
    for method in _METHODS:
        own = where(table, method=method)
        sns.lineplot(
            own, x="rank", y="relative", estimator="median", errorbar=("pi", 50), ax=axis, color=_COLORS[method],
            marker=_MARKERS[method], label=f"{NAMES[method]} (quartiles, {own['seed'].nunique()} seeds)", legend=False,
        )  # fmt: skip
    axis.axhline(0.2, color="0.5", linestyle=":", linewidth=1)
    axis.set(xlabel="neuron, by length", ylabel="length / longest", ylim=(0, 1.02), xticks=[1, 5, 10, 15, 20])
    return legend_below(fig, 3)


def rates(table: pd.DataFrame) -> Figure:
    """Exponent of the loss rate minus the theory's, by range of z; a mark a seed, a line through the means."""
    methods, labels = ("ewn", "plain", "swn"), ("$z$, middle of the range", "exponent $p$ minus theory")
    fig, by_method = _by_method(3.0, *labels, methods)
    shades = sns.color_palette("viridis", table["depth"].max())
    off = table.assign(z=np.sqrt(table["low"] * table["high"]), off=table["exponent"] - table["expected"])
    for method, axis in by_method.items():
        for depth, own in where(off, method=method).groupby("depth"):
            shade = shades[int(str(depth)) - 1]
            axis.semilogx(own["z"], own["off"], "o", color=shade, markersize=3, alpha=0.5)
            mean = own.groupby("z")["off"].mean()
            axis.plot(mean.index, mean, color=shade, label=f"depth {depth}")
        for bound in (-0.1, 0.1):
            axis.axhline(bound, color="0.4", linestyle="--", linewidth=1)
        axis.set(xlim=(80, 15_000), ylim=(-0.2, 0.2))
    return legend_below(fig, 2)


def depth_losses(curves: pd.DataFrame) -> Figure:
    """Training loss against steps, one panel a method, one line a depth (geometric mean over seeds)."""
    fig, by_method = _by_method(3.0, "step", "training loss")
    shades = sns.color_palette("viridis", curves["depth"].nunique())
    for method, axis in by_method.items():
        moved = curves[(curves["method"] == method) & (curves["step"] > 0)]
        for shade, (depth, own) in zip(shades, moved.groupby("depth"), strict=True):
            mean = own.groupby("step")["log_loss"].mean()
            axis.loglog(mean.index, np.exp(mean), color=shade, label=f"depth {depth}")
    return legend_below(fig, 2)


def pruning(
    accuracy: pd.DataFrame,
    levels: Sequence[float],
    methods: Sequence[str] = _METHODS,
    scores: Sequence[str] = ("length",),
) -> Figure:
    """Accuracy after pruning, against the share of units removed; bands: t 95 % over seeds.

    Args:
        accuracy: of ``experiments.image_pruning``, or of ``measures.with_best_of_scores``.
        levels: the loss levels z to show, one panel each.
        methods: in this order.
        scores: by which units are chosen; more than one have a panel each.
    """
    fig, axes = panels(len(levels) * len(scores), 2.9 if len(scores) == 1 else 3.6, 3.4, sharey=True)
    for axis, (z, score) in zip(axes, product(levels, scores), strict=True):
        for method in methods:
            own = where(accuracy, method=method, z=z, score=score)
            n_seeds = own["seed"].nunique()
            interval = f"t 95 %, {n_seeds} seeds" if n_seeds > 1 else "1 seed, no interval"
            look = {"color": _COLORS[method], "marker": _MARKERS[method], "markersize": 3}
            band(axis, own, "pruned_percent", "accuracy", label=f"{NAMES[method]} ({interval})", **look)
        title = _SCORES[score] if len(scores) > 1 else rf"$\mathcal{{L}} = e^{{-{z:g}}}$"
        axis.set(title=title, xlabel="removed (%)", ylim=(0, 102))
    axes[0].set_ylabel("test accuracy (%)")
    return legend_below(fig, 2 if len(methods) > 3 else len(methods), panel=-1)


def _by_method(
    height: float, xlabel: str, ylabel: str, methods: Sequence[str] = _METHODS
) -> tuple[Figure, dict[str, Axes]]:
    """A row of panels, one a method."""
    fig, axes = panels(len(methods), height=height, sharey=True)
    for axis, method in zip(axes, methods, strict=True):
        axis.set(title=NAMES[method], xlabel=xlabel)
    axes[0].set_ylabel(ylabel)
    return fig, dict(zip(methods, axes, strict=True))
