"""The chapter's pictures. Each takes the table of an experiment and returns a figure; the potentials are a formula."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from repro.papers._pictures import GREY, MARKERS, PALETTE, band, interval_bar, panels, where
from repro.papers.implicit_sparsification.diagonal import FAMILIES
from repro.papers.implicit_sparsification.method import METHODS
from repro.papers.implicit_sparsification.theory import Potential


def _legend_below(fig: Figure, ncols: int) -> Figure:
    """One legend for all panels, of the first one's labels."""
    fig.legend(*fig.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=ncols)
    return fig


def _log_ticks(axis: Axes, places: Sequence[float], labels: Sequence[str]) -> None:
    """A logarithmic x axis with these ticks alone."""
    axis.set_xscale("log")
    axis.set_xticks(places, labels)
    axis.minorticks_off()


# --- flows --------------------------------------------------------------------------------------------------------


def potentials() -> Figure:
    r"""Potentials of one weight between -1 and 1 ($\beta=1$) by dose, a panel a start; beside them $|x|$ and $x^2$.

    Each is shown from 0 at its minimum, $e^{-4A}x_0$, to 1 at x = 1.

    Source: figure 1c of the paper's first version.
    """
    fig, axes = panels(2, 3.6, 3.9, sharey=True)
    x, doses = np.linspace(-1.0, 1.0, 201), (0.0, 0.25, 0.5, 1.0, 4.0, 32.0)
    for axis, x0 in zip(axes, (0.0, 0.5), strict=True):
        for dose, color, marker in zip(doses, sns.color_palette("viridis", 6), MARKERS, strict=False):
            potential = Potential.after(dose, x0)
            least, height = potential([np.exp(-4 * dose) * x0, 1.0])
            look = {"color": color, "marker": marker, "markevery": 25, "markersize": 4}
            axis.plot(x, (potential(x) - least) / (height - least), label=f"A = {dose:g}", **look)
        axis.plot(x, x**2, color="0.1", linestyle=":", linewidth=1.8, label="x²")
        axis.plot(x, np.abs(x), color="0.1", linestyle="--", linewidth=1.4, label="|x|")
        axis.set(title=f"start at {x0:g}", xlabel="weight x", ylim=(-0.05, 1.6))
    axes[0].set_ylabel("potential above its minimum,\nin units of that at x = 1")
    return _legend_below(fig, 4)


def distances_over_time(table: pd.DataFrame, crossings: pd.DataFrame) -> Figure:
    """Distances to the L2-closest and least-L1 points of the same predictions, and where they cross."""
    fig, (axis,) = panels(1, 6.2, 3.4)
    looks = {"l2": ("nearest to the shrunken start", "o", "-"), "l1": ("least L1 norm", "s", "--")}
    for color, (name, (label, marker, line)) in zip(PALETTE, looks.items(), strict=False):
        band(axis, table, "time", f"{name}_distance", color=color, marker=marker, linestyle=line, label=label)
    crossing: dict[str, Any] = {"color": GREY, "linewidth": 0.8, "linestyle": ":"}
    for time in crossings["time"].dropna():
        axis.axvline(time, **crossing)
    axis.plot([], [], label="crossing, one a seed", **crossing)
    axis.set(xscale="log", xlabel="time", ylabel="distance, relative to |x|")
    axis.set_ylim(bottom=0)
    steps = table.drop_duplicates("time").sort_values("time").iloc[:: max(1, table["time"].nunique() // 5)]
    above = axis.twiny()
    above.set(xscale="log", xlim=axis.get_xlim(), xlabel="dose A")
    _log_ticks(above, steps["time"].to_list(), [f"{dose:.2g}" for dose in steps["dose"]])
    return _legend_below(fig, 2)


def error_against_dose(table: pd.DataFrame) -> Figure:
    """Distance from the truth against the dose, one line a seed, geometric means in bold."""
    fig, (axis,) = panels(1, 6.2, 3.4)
    for (beta, of_beta), color, marker in zip(table.groupby("beta"), PALETTE, MARKERS, strict=False):
        by_seed = of_beta.pivot_table(index="dose", columns="seed", values="error")
        axis.plot(by_seed.index, by_seed, color=color, linewidth=0.8, alpha=0.4)
        middle = np.exp(np.log(by_seed).mean(axis=1))
        axis.plot(middle.index, middle, color=color, marker=marker, markersize=5, linewidth=2)
        end = (middle.index[-1], middle.iloc[-1])
        axis.annotate(f"β = {beta:g}", end, (6, 0), textcoords="offset points", va="center", color=color)
    axis.set(yscale="log", xlabel="dose A", ylabel="distance from the truth")
    axis.margins(x=0.12)
    return fig


def late_rates(table: pd.DataFrame) -> Figure:
    """Fitted late rates of the loss against the bound; below the line the bound fails."""
    fig, (axis,) = panels(1, 5.6, 3.6)
    decays = {"switched off": "decay switched off", "slow": "decay dies out slowly"}
    for (name, label), color, marker in zip(decays.items(), PALETTE, MARKERS, strict=False):
        chosen = where(table, decay=name)
        axis.plot(chosen["bound"], chosen["slope"], marker, color=color, alpha=0.7, label=label)
    ends = np.array([table["bound"].min(), table["bound"].max()])
    axis.plot(ends, ends, color=GREY, linestyle="--", linewidth=1.2, label="rate = bound")
    axis.set(xscale="log", yscale="log", xlabel="bound 2aλ, per unit of time", ylabel="late rate of the loss")
    return _legend_below(fig, 3)


# --- diagonal networks --------------------------------------------------------------------------------------------

_DISTANCE = "distance to the truth, ‖x − x*‖₂"
_FAMILIES: dict[str, dict[str, Any]] = {
    key: {"color": PALETTE[j], "marker": MARKERS[j], "linestyle": line, "label": FAMILIES[key].name}
    for key, j, line in (("pilot", 0, "-"), ("spred", 1, "--"), ("mask_l1", 2, "-."), ("weights", 4, "-"))
}
_SCHEDULES = {"constant": "constant", "harmonic": "∝ 1/k", "geometric": "∝ 0.95ᵏ"}


def _median_and_range(axis: Axes, rows: pd.DataFrame, x: str, **look: Any) -> None:
    """The median distance over seeds at each x, with all seeds inside the band: they can differ by decades."""
    found = rows.dropna(subset="distance").groupby(x)["distance"].agg(["median", "min", "max"])
    (line,) = axis.plot(found.index, found["median"], markersize=4, linewidth=1.4, **look)
    axis.fill_between(
        found.index, found["min"], found["max"], color=line.get_color(), alpha=0.15, linewidth=0
    )


def distance_by_horizon(best: pd.DataFrame) -> Figure:
    """Distance of each family against the steps allowed, medians over seeds and bands that hold all seeds.

    Args:
        best: the best ones of ``best_schedules``.
    """
    fig, (axis,) = panels(1, 6.6, 4.0)
    for key, look in _FAMILIES.items():
        _median_and_range(axis, where(best, family=key), "horizon", **look)
    axis.set(yscale="log", xlabel="steps in all", ylabel=_DISTANCE)
    horizons = sorted(best["horizon"].unique())
    _log_ticks(axis, horizons, [f"{horizon:,}" for horizon in horizons])
    return _legend_below(fig, 3)


def distance_by_amplitude(grid: pd.DataFrame, horizon: int) -> Figure:
    """Distance at a step against the amplitude, a panel a family of the paper and a curve a schedule.

    Amplitudes at which a seed diverged are left out.
    """
    families = ("pilot", "mask_l1", "weights")
    fig, axes = panels(len(families), 3.1, 3.7, sharey=True)
    for axis, key in zip(axes, families, strict=True):
        for j, (schedule, name) in enumerate(_SCHEDULES.items()):
            rows = where(grid, step=horizon, family=key, schedule=schedule)
            complete = rows.groupby("amplitude")["diverged"].transform("any").eq(False)
            if complete.any():
                look = {"color": PALETTE[j], "marker": MARKERS[j], "label": name}
                _median_and_range(axis, rows[complete], "amplitude", **look)
        axis.set(xscale="log", yscale="log", title=FAMILIES[key].name, xlabel="amplitude α₀")
    axes[0].set_ylabel(_DISTANCE)
    return _legend_below(fig, 4)


def coordinates(paths: pd.DataFrame) -> Figure:
    """Weights of ``weight_paths`` at the truth's non-zeros against steps, a panel a family; dotted: the truth."""
    shown = [key for key in FAMILIES if key in set(paths["family"])]
    fig, axes = panels(len(shown), 3.7, 3.4, sharey=True)
    colors = dict(zip(sorted(paths["coordinate"].unique()), cycle(PALETTE), strict=False))
    for axis, key in zip(axes, shown, strict=True):
        for value in sorted(paths["x_star"].unique()):
            axis.axhline(value, color=GREY, linestyle=":", linewidth=1.2)
        axis.axhline(0, color=GREY, linewidth=0.8)
        last = where(paths, family=key, step=paths["step"].max()).sort_values("x")
        for j, place in enumerate(last["coordinate"]):
            rows, color = where(paths, family=key, coordinate=place), colors[place]
            aim = "^" if rows["x_star"].iloc[0] > 0 else "v"
            axis.plot(rows["step"], rows["x"], color=color, linewidth=1.3)
            axis.plot(0, rows["x"].iloc[0], aim, color=color, markersize=6, clip_on=False)
            beside: dict[str, Any] = {"transform": axis.transAxes, "fontsize": 8, "va": "center"}
            axis.text(1.02, (j + 0.5) / len(last), f"x{place}", color=color, **beside)
        axis.set(xscale="symlog", title=FAMILIES[key].name, xlabel="step")
        axis.set_xlim(0, paths["step"].max())
    axes[0].set_ylabel("weight (▲ ▼ at the start: sign of the truth)")
    return fig


# --- pruned networks ----------------------------------------------------------------------------------------------

LABELS = {name: how.label for name, how in METHODS.items()} | {
    "pilot_constant": "PILoT, constant",
    "pilot_half": "PILoT, dying out",
    "str_native": "STR, its own zeros",
    "x_plain": "x, rate 0.1",
    "x_doubled": "x, rate 0.2",
    "mw_doubled": "m ⊙ w, rate 0.2",
}
"""The arms of ``experiments.one_shot`` in pictures and tables."""

_LOOKS: dict[str, dict[str, Any]] = {
    "x": {"color": "0.1", "marker": "o", "linestyle": "-"},
    "mw": {"color": PALETTE[0], "marker": "s", "linestyle": "-"},
    "pilot": {"color": PALETTE[1], "marker": "D", "linestyle": "-"},
    "pilot_algorithm": {"color": PALETTE[2], "marker": "^", "linestyle": "--"},
    "pilot_constant": {"color": PALETTE[1], "marker": "D", "linestyle": ":"},
    "l1_x": {"color": PALETTE[3], "marker": "v", "linestyle": "-."},
    "l1_m": {"color": PALETTE[4], "marker": "P", "linestyle": ":"},
    "spred": {"color": PALETTE[5], "marker": "X", "linestyle": "--"},
    "str": {"color": PALETTE[6], "marker": "p", "linestyle": "-."},
}


def _curves(axis: Axes, rows: pd.DataFrame, names: Sequence[str], x: str, y: str) -> None:
    """A band an arm: its look is the same on all pictures, and counts up outside the main comparison."""
    for position, name in enumerate(names):
        other = {"color": PALETTE[(position + 3) % 10], "marker": MARKERS[position], "linestyle": "-"}
        look = _LOOKS.get(name, other)
        band(axis, where(rows, arm=name), x, y, linewidth=1.4, label=LABELS[name], **look)


def _density_axis(axis: Axes, sparsities: Sequence[float]) -> None:
    """A logarithmic axis of the share of weights left, labelled by the share removed."""
    axis.invert_xaxis()
    _log_ticks(axis, [1 - s for s in sparsities], [f"{100 * s:.4g}" for s in sparsities])
    axis.set_xlabel("weights removed (%)")


def error_by_sparsity(chosen: pd.DataFrame, groups: Sequence[tuple[str, Sequence[str]]]) -> Figure:
    """Test error against sparsity, means over seeds with 95 % intervals; a panel for each group of methods.

    The error stands on a logarithmic axis: good methods differ by a point and bad ones by fifty.

    Args:
        chosen: of ``experiments.one_shot``.
        groups: titles and arms.
    """
    fig, axes = panels(len(groups), 4.1, 3.9, sharey=True)
    pruned = chosen[chosen["sparsity"] > 0].assign(percent=lambda t: 100 * (1 - t["test_accuracy"]))
    pruned["density"] = 1 - pruned["sparsity"]
    for axis, (title, names) in zip(axes, groups, strict=True):
        _curves(axis, pruned, names, "density", "percent")
        _density_axis(axis, sorted(pruned["sparsity"].unique()))
        axis.set_title(title)
        axis.legend(fontsize=8, loc="upper left")
        axis.set_yscale("log")
        axis.set_yticks([3, 5, 10, 20, 40, 80], ["3", "5", "10", "20", "40", "80"])
        axis.yaxis.set_minor_locator(NullLocator())
    axes[0].set_ylabel("test error (%)")
    return fig


def accuracy_by_strength(table: pd.DataFrame, level: float) -> Figure:
    """Test accuracy against the strength of the penalty, of each arm of ``strengths_that_serve``; a line at a level."""
    fig, (axis,) = panels(1, 5.6, 3.6)
    rows = table.assign(percent=100 * table["test_accuracy"])
    _curves(axis, rows, rows["arm"].unique().tolist(), "strength", "percent")
    strengths = sorted(rows["strength"].unique())
    _log_ticks(axis, strengths, [f"{strength:g}" for strength in strengths])
    axis.axhline(100 * level, color=GREY, linestyle=":", linewidth=1)
    axis.set(xlabel="strength α (L1: λ = 2α)", ylabel="test accuracy (%)", ylim=(0, 102))
    axis.legend(fontsize=8)
    return fig


def flips_and_accuracy(table: pd.DataFrame, names: Sequence[str]) -> Figure:
    """Share of flipped signs, and accuracy, of the starts: means over seeds with 95 % intervals.

    Args:
        table: columns arm, seed, flips (a share), accuracy (of pruned networks, per cent).
        names: of arms, from above.
    """
    fig, axes = panels(2, 4.0, 0.5 * len(names) + 1.4, sharey=True)
    shown = table.assign(flips=100 * table["flips"])
    labels = {"flips": "largest weights with a flipped sign (%)", "accuracy": "test accuracy (%)"}
    for axis, (column, label) in zip(axes, labels.items(), strict=True):
        for y, name in enumerate(names):
            interval_bar(axis, where(shown, arm=name)[column].to_numpy(), y, color=PALETTE[0])
        axis.set(xlabel=label)
        axis.grid(axis="x", color=GREY, alpha=0.3)
    axes[0].set(yticks=range(len(names)), yticklabels=[LABELS[name] for name in names])
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    return fig


def accuracy_by_cycle(cycles: pd.DataFrame) -> Figure:
    """Test accuracy against sparsity, one line a method of ``iterative``, a panel for each way to rewind."""
    fig, axes = panels(2, 4.1, 3.9, sharey=True)
    rows = cycles[cycles["cycle"] > 0].assign(percent=lambda t: 100 * t["test_accuracy"])
    rows["density"] = 1 - rows["sparsity"].round(6)
    titles = {"rates": "rewound rates (LRR)", "weights": "rewound weights (WR)"}
    for axis, (rewind, title) in zip(axes, titles.items(), strict=True):
        of_rewind = where(rows, rewind=rewind)
        _curves(axis, of_rewind, of_rewind["arm"].unique().tolist(), "density", "percent")
        _density_axis(axis, sorted(rows["sparsity"].round(6).unique())[::2])
        axis.set_title(title)
        axis.legend(fontsize=8, loc="lower left")
    axes[0].set(ylabel="test accuracy (%)", ylim=(0, 102))
    return fig
