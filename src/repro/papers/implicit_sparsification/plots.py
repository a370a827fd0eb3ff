"""The chapter's pictures. Each takes the table of an experiment and returns a figure; the potentials are a formula."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from scipy.stats import gmean

from repro.papers._pictures import GREY, MARKERS, PALETTE, band, legend_below, panels, where
from repro.papers.implicit_sparsification.method import METHODS
from repro.papers.implicit_sparsification.theory import Potential

LABELS = {name: how.label for name, how in METHODS.items()} | {
    "pilot_constant": "PILoT, constant",
    "pilot_half": "PILoT, dying out",
    "str_native": "STR, its own zeros",
    "x_plain": "x, rate 0.1",
    "x_doubled": "x, rate 0.2",
    "mw_doubled": "m ⊙ w, rate 0.2",
}
"""Methods, arms of ``experiments.one_shot`` and families of diagonal networks in pictures and tables."""


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
    return legend_below(fig, 4)


def distances_over_time(table: pd.DataFrame, crossings: pd.DataFrame) -> Figure:
    """Distances to the L2-closest and least-L1 points of the same predictions, and where they cross."""
    fig, (axis,) = panels(1, 6.2, 3.4)
    looks = {"l2": ("nearest to the shrunken start", "o", "-"), "l1": ("least L1 norm", "s", "--")}
    for color, (name, (label, marker, line)) in zip(PALETTE, looks.items(), strict=False):
        band(axis, table, "time", f"{name}_distance", color=color, marker=marker, linestyle=line, label=label)
    lines = axis.vlines(crossings["time"], 0, 1, transform=axis.get_xaxis_transform())
    lines.set(color=GREY, linewidth=0.8, linestyle=":", label="crossing, one a seed")
    axis.set(xscale="log", xlabel="time", ylabel="distance, relative to |x|")
    axis.set_ylim(bottom=0)
    rate = (table["dose"] / table["time"]).iloc[0]
    doses = axis.secondary_xaxis("top", functions=(lambda time: rate * time, lambda dose: dose / rate))
    doses.set_xlabel("dose A")
    return legend_below(fig, 2)


def error_against_dose(table: pd.DataFrame) -> Figure:
    """Distance from the truth against the dose, one line a seed, geometric means in bold."""
    fig, (axis,) = panels(1, 6.2, 3.4)
    look = {"x": "dose", "y": "error", "hue": "beta", "palette": "colorblind", "ax": axis}
    sns.lineplot(table, units="seed", estimator=None, linewidth=0.8, alpha=0.4, legend=False, **look)
    sns.lineplot(table, estimator=gmean, errorbar=None, style="beta", markers=True, linewidth=2, **look)
    axis.legend(title="β")
    axis.set(yscale="log", xlabel="dose A", ylabel="distance from the truth")
    return fig


# --- diagonal networks --------------------------------------------------------------------------------------------


def distances(table: pd.DataFrame) -> Figure:
    """Distances to the truth after so many steps, a curve a family; bands hold all seeds: they differ by decades.

    Args:
        table: the best ones of ``best_schedules``.
    """
    shown = table.replace({"family": LABELS})
    grid = sns.relplot(
        shown, x="horizon", y="distance", hue="family", style="family", kind="line", estimator="median",
        errorbar=("pi", 100), markers=True, palette="colorblind", height=2.8, aspect=1.6,
    )  # fmt: skip
    grid.set(xscale="log", yscale="log", xlabel="steps in all", ylabel="distance to the truth")
    places = sorted(shown["horizon"].unique())
    grid.set(xticks=places, xticklabels=[f"{place:,}" for place in places])
    grid.ax.xaxis.set_minor_formatter("")
    return grid.figure


# --- pruned networks ----------------------------------------------------------------------------------------------

_COLORS = [*PALETTE[:8], "0.1", PALETTE[9]]  # the ninth is a light yellow


def errors_by_arm(tables: Mapping[str, pd.DataFrame], x: str, level: float | None = None) -> Figure:
    """Test error of each arm after pruning, means over seeds with 95 % intervals; a panel a table, under its title.

    The error stands on a logarithmic axis: good methods differ by a point and bad ones by fifty. An arm looks
    the same in all pictures.

    Args:
        tables: rows with arm, seed, sparsity and test_accuracy.
        x: ``"sparsity"``, shown by the share of weights that are left, or ``"strength"``.
        level: of the accuracy, shown as a line.
    """
    fig, axes = panels(len(tables), 4.1, 3.9, sharey=True)
    left = x == "sparsity"
    for axis, (title, table) in zip(axes, tables.items(), strict=True):
        rows = table[table["sparsity"] > 0].round({"sparsity": 6})
        rows = rows.assign(error=100 * (1 - rows["test_accuracy"]), at=1 - rows[x] if left else rows[x])
        for name in rows["arm"].unique():
            look = list(LABELS).index(name)
            band(
                axis, where(rows, arm=name), "at", "error", label=LABELS[name], color=_COLORS[look % 10],
                marker=MARKERS[look % 7], linestyle=("-", "--", "-.")[look % 3],
            )  # fmt: skip
        if level is not None:
            axis.axhline(100 * (1 - level), color=GREY, linestyle=":", linewidth=1)
        axis.set(title=title, xscale="log", yscale="log", ylim=(2, 100))
        axis.set_xlabel("weights removed (%)" if left else "strength α (L1: λ = 2α)")
        places = sorted(rows["at"].unique())
        axis.set_xticks(places, [f"{100 * (1 - p):.3g}" if left else f"{p:g}" for p in places], fontsize=8)
        axis.set_yticks([3, 5, 10, 20, 40, 80], ["3", "5", "10", "20", "40", "80"])
        axis.minorticks_off()
        axis.xaxis.set_inverted(left)
        axis.legend(fontsize=8)
    axes[0].set_ylabel("test error (%)")
    return fig
