"""The chapter's pictures. Each takes the table of an experiment and returns a figure; no computing here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repro.base import t_interval
from repro.papers.ewn_inductive_bias.synthetic import SIMPLE_TRAJ_STARTS
from repro.papers.ewn_inductive_bias.two_weights import exact_point, loser_limit

__all__ = [
    "COLOURS",
    "NAMES",
    "authors_pruning",
    "control",
    "depth_losses",
    "gradients_against_lengths",
    "identity",
    "lengths_over_training",
    "pruning",
    "rates",
    "sorted_lengths",
    "two_weights",
]

NAMES = {
    "plain": "plain",
    "swn": "SWN",
    "ewn": "EWN",
    "control": "plain, gradient × ‖w‖²",
    "random": "EWN, pruned at random",
}
_PALETTE = sns.color_palette("colorblind")
COLOURS = dict(zip(NAMES, (_PALETTE[0], _PALETTE[1], _PALETTE[2], _PALETTE[4], _PALETTE[7]), strict=True))
_MARKERS = {"plain": "o", "swn": "s", "ewn": "^", "control": "D", "random": "x"}


def _panels(n: int, height: float = 3.0, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    fig, axes = plt.subplots(
        1, n, figsize=(2.9 * n if n > 1 else 5.6, height), layout="constrained", sharey=sharey, squeeze=False
    )
    return fig, list(axes[0])


def two_weights(z_end: float = 50.0, n_points: int = 200) -> Figure:
    """Exact trajectories of the two-weight race from the authors' five starts, plain beside EWN."""
    fig, axes = _panels(2, 3.4, sharey=True)
    for axis, method in zip(axes, ("plain", "ewn"), strict=True):
        for start in SIMPLE_TRAJ_STARTS:
            z = np.linspace(2 * start[0] + start[1], z_end, n_points)
            axis.plot(*exact_point(start, z, method), color=COLOURS[method])
            axis.plot(*start, "o", color="0.2", markersize=4)
            if method == "ewn":
                first_wins = exact_point(start, z_end, method)[0] > start[0] * 3
                line = axis.axhline if first_wins else axis.axvline
                line(loser_limit(start), color="0.6", linestyle=":", linewidth=1)
        axis.set(title=NAMES[method], xlabel="$w_1$", xlim=(0, 12), ylim=(0, 12))
    axes[0].set_ylabel("$w_2$")
    return fig


def identity(table: pd.DataFrame) -> Figure:
    """Distances between flows, logarithmic: the right equation, the short form misused, the plain flow."""
    fig, (axis,) = _panels(1, 2.6)
    for x, (method, radius, column, _) in enumerate(rows := _identity_rows()):
        chosen = table[(table["method"] == method) & (table["radius"] == radius)][column]
        axis.semilogx(chosen, np.full(len(chosen), -x), _MARKERS[method], color=COLOURS[method], alpha=0.7)
    axis.axvline(1e-6, color="0.4", linestyle="--", linewidth=1)
    axis.set(yticks=[-x for x in range(len(rows))], yticklabels=[row[3] for row in rows])
    axis.set(xlabel="largest distance between the two flows (one mark a seed)")
    return fig


def _identity_rows() -> list[tuple[str, float, str, str]]:
    return [
        ("ewn", 1.0, "deviation", "EWN, its own equation"),
        ("swn", 1.0, "deviation", "SWN, its own equation"),
        ("swn", 2.0, "deviation", "SWN with ‖v‖ = 2, general form"),
        ("swn", 2.0, "short_form_deviation", "SWN with ‖v‖ = 2, short form (wrong)"),
        ("ewn", 1.0, "plain_distance", "EWN against plain flow (control)"),
    ]


def lengths_over_training(trajectories: pd.DataFrame, seed: int) -> Figure:
    """Length of every node of one seed as the loss falls, one panel a method; the output node is dashed."""
    methods = ("plain", "swn", "ewn")
    fig, axes = _panels(3, 2.9, sharey=True)
    chosen = trajectories[trajectories["seed"] == seed]
    for axis, method in zip(axes, methods, strict=True):
        for (_, layer), node in chosen[chosen["method"] == method].groupby(["node", "layer"]):
            axis.plot(node["z"], node["length"], color=COLOURS[method], linestyle="--" if layer else "-")
        axis.set(title=NAMES[method], xlabel=r"$z = -\log\mathcal{L}$")
    axes[0].set_ylabel(r"$\|w_u\|$")
    return fig


def gradients_against_lengths(nodes: pd.DataFrame) -> Figure:
    r"""Active hidden nodes of all seeds, $\log\|g\|$ against $\log\|w\|$, centred seed by seed."""
    hidden = nodes[nodes["active"] & (nodes["layer"] == 0)]
    several = hidden.groupby(["method", "seed"])["node"].transform("size") > 1
    hidden = hidden[several].assign(x=lambda d: np.log(d["length"]), y=lambda d: np.log(d["gradient_norm"]))
    centred = hidden[["x", "y"]] - hidden.groupby(["method", "seed"])[["x", "y"]].transform("mean")
    fig, axes = _panels(3, 3.2, sharey=True)
    for axis, (method, slope) in zip(axes, (("plain", 1), ("swn", 1), ("ewn", -1)), strict=True):
        own = centred[hidden["method"] == method]
        reach = np.array([-1.0, 1.0]) * max(0.1, float(own["x"].abs().max()))
        axis.plot(reach, slope * reach, color="0.4", linestyle="--", linewidth=1, label=f"slope {slope:+d}")
        axis.plot(own["x"], own["y"], _MARKERS[method], color=COLOURS[method], markersize=4, alpha=0.6)
        axis.set(title=NAMES[method], xlabel=r"$\log\|w_u\|$, centred")
        axis.legend(loc="upper left" if slope > 0 else "upper right", fontsize="small")
    axes[0].set_ylabel(r"$\log\|g_u\|$, centred")
    return fig


def sorted_lengths(table: pd.DataFrame) -> Figure:
    """Neuron lengths over the longest, sorted: median over seeds with the quartiles as a band."""
    fig, (axis,) = _panels(1, 3.8)
    for method, own in table.groupby("method", sort=False):
        relative = np.stack([np.sort(one)[::-1] / np.max(one) for _, one in own.groupby("seed")["length"]])
        low, middle, high = np.quantile(relative, [0.25, 0.5, 0.75], axis=0)
        rank = np.arange(1, middle.size + 1)
        label = f"{NAMES[str(method)]} (quartiles, {len(relative)} seeds)"
        axis.fill_between(rank, low, high, color=COLOURS[str(method)], alpha=0.2, linewidth=0)
        axis.plot(
            rank, middle, _MARKERS[str(method)] + "-", color=COLOURS[str(method)], markersize=4, label=label
        )
    axis.axhline(0.2, color="0.5", linestyle=":", linewidth=1)
    axis.set(xlabel="neuron, by length", ylabel="length / longest", ylim=(0, 1.02), xticks=[1, 5, 10, 15, 20])
    _legend_below(fig, axis)
    return fig


def rates(table: pd.DataFrame) -> Figure:
    """Measured exponent of the loss rate against depth, with the theory's value as a line."""
    fig, (axis,) = _panels(1, 3.6)
    for method, own in table.groupby("method", sort=False):
        name, colour, expected = (
            NAMES[str(method)],
            COLOURS[str(method)],
            own.groupby("depth")["expected"].first(),
        )
        axis.plot(expected.index, expected, color=colour, linewidth=1, label=f"{name}, theory")
        label = f"{name}, a seed"
        axis.plot(own["depth"], own["exponent"], _MARKERS[str(method)], color=colour, alpha=0.5, label=label)
    axis.set(
        xlabel="depth $L$", ylabel="exponent $p$", xticks=sorted(table["depth"].unique()), ylim=(-0.1, 2.3)
    )
    _legend_below(fig, axis)
    return fig


def depth_losses(curves: pd.DataFrame) -> Figure:
    """Training loss against steps, one panel a method, one line a depth (geometric mean over seeds)."""
    methods = list(dict.fromkeys(curves["method"]))
    fig, axes = _panels(len(methods), 3.0, sharey=True)
    shades = sns.color_palette("viridis", curves["depth"].nunique())
    for axis, method in zip(axes, methods, strict=True):
        for shade, (depth, own) in zip(
            shades, curves[curves["method"] == method].groupby("depth"), strict=True
        ):
            mean = own[own["step"] > 0].groupby("step")["log_loss"].mean()
            axis.loglog(mean.index, np.exp(mean), color=shade, label=f"depth {depth}")
        axis.set(title=NAMES[method], xlabel="step")
    axes[0].set_ylabel("training loss")
    _legend_below(fig, axes[0])
    return fig


def pruning(
    table: pd.DataFrame, depths: Sequence[float], methods: Sequence[str] = ("plain", "swn", "ewn")
) -> Figure:
    """Accuracy against the share of neurons removed, one panel a loss level; bands: t 95 % over seeds.

    Args:
        table: columns method, seed, z, pruned_percent, accuracy (in per cent); one score only.
        depths: the loss levels z to show.
        methods: in this order.
    """
    fig, axes = _panels(len(depths), 3.4, sharey=True)
    for axis, z in zip(axes, depths, strict=True):
        for method in methods:
            _curve(axis, table[(table["method"] == method) & (table["z"] == z)], method)
        _pruning_axis(axis, rf"$\mathcal{{L}} = e^{{-{z:g}}}$")
    axes[0].set_ylabel("test accuracy (%)")
    _legend_below(fig, axes[0])
    return fig


def _pruning_axis(axis: Axes, title: str = "") -> None:
    axis.set(title=title, xlabel="neurons removed (%)", ylim=(0, 102), xticks=[0, 25, 50, 75, 100])


def _legend_below(fig: Figure, axis: Axes) -> None:
    """One legend for all panels, outside them, so that it hides no curve."""
    handles, labels = axis.get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=2 if len(labels) > 3 else len(labels))


def authors_pruning(table: pd.DataFrame) -> Figure:
    """The authors' logged means in the same layout; no interval, since only means are at hand."""
    depths = sorted(table["z"].unique())
    fig, axes = _panels(len(depths), 3.4, sharey=True)
    for axis, z in zip(axes, depths, strict=True):
        for method in ("plain", "swn", "ewn"):
            own = table[(table["method"] == method) & (table["z"] == z)]
            style = {"color": COLOURS[method], "label": f"{NAMES[method]} (authors' mean)"}
            axis.plot(own["pruned_percent"], own["accuracy"], _MARKERS[method] + ":", markersize=4, **style)
        _pruning_axis(axis, rf"$\mathcal{{L}} = e^{{-{z:g}}}$")
    axes[0].set_ylabel("test accuracy (%)")
    _legend_below(fig, axes[0])
    return fig


def control(table: pd.DataFrame, depth: float) -> Figure:
    """The curves at one loss level, with the control and EWN pruned at random beside the methods.

    Args:
        table: as for `pruning`, with the scores `length` and `random` and the method `control`.
        depth: the loss level z.
    """
    fig, (axis,) = _panels(1, 4.2)
    here = table[table["z"] == depth]
    for method in ("plain", "swn", "ewn", "control"):
        _curve(axis, here[(here["method"] == method) & (here["score"] == "length")], method)
    _curve(axis, here[(here["method"] == "ewn") & (here["score"] == "random")], "random")
    _pruning_axis(axis)
    axis.set_ylabel("test accuracy (%)")
    _legend_below(fig, axis)
    return fig


def _curve(axis: Axes, own: pd.DataFrame, method: str) -> None:
    """Mean over seeds with a t interval, its label saying over how many seeds; a single seed gets no band."""
    by_level = own.groupby("pruned_percent")["accuracy"]
    found = {level: t_interval(values) for level, values in by_level}
    n_seeds = own["seed"].nunique()
    levels = [float(str(level)) for level in found]
    mean = [i.estimate for i in found.values()]
    band = f"t 95 %, {n_seeds} seeds" if n_seeds > 1 else "1 seed, no interval"
    axis.plot(
        levels,
        mean,
        _MARKERS[method] + "-",
        color=COLOURS[method],
        markersize=3,
        label=f"{NAMES[method]} ({band})",
    )
    if n_seeds > 1:
        low, high = [i.low for i in found.values()], [i.high for i in found.values()]
        axis.fill_between(levels, low, high, color=COLOURS[method], alpha=0.2, linewidth=0)
