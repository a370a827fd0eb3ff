"""Pictures of the flows and their potentials. Each takes the table of an experiment and returns a figure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repro.papers._pictures import GREY, MARKERS, PALETTE, band, panels, where

__all__ = ["distances_over_time", "error_against_dose", "flow_paths", "late_rates", "potentials"]

_DECAYS = {"switched off": "decay switched off", "slow": "decay dies out slowly"}


def potentials(tables: Sequence[pd.DataFrame]) -> Figure:
    r"""Potentials of one weight by dose, a panel a table of ``potential_curves``; beside them $|x|$ and $x^2$."""
    fig, axes = panels(len(tables), 3.6, 3.9, sharey=True)
    for axis, table in zip(axes, tables, strict=True):
        doses = table["dose"].unique()
        colors = sns.color_palette("viridis", len(doses))
        for dose, color, marker in zip(doses, colors, MARKERS, strict=False):
            curve = where(table, dose=dose)
            axis.plot(
                curve["x"],
                curve["value"],
                color=color,
                marker=marker,
                markevery=25,
                markersize=4,
                label=f"A = {dose:g}",
            )
        x = np.linspace(-1, 1, 201)
        axis.plot(x, x**2, color="0.1", linestyle=":", linewidth=1.8, label="x²")
        axis.plot(x, np.abs(x), color="0.1", linestyle="--", linewidth=1.4, label="|x|")
        axis.set(title=f"start at {table['x0'].iloc[0]:g}", xlabel="weight x", ylim=(-0.05, 1.6))
    axes[0].set_ylabel("potential above its minimum,\nin units of that at x = 1")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return fig


def flow_paths(tables: Sequence[tuple[str, pd.DataFrame]]) -> Figure:
    """Coordinates over time, a panel for each titled table of ``trajectories``: factors as lines, mirror as dots."""
    fig, axes = panels(len(tables), 3.9, 3.4, sharey=True)
    for axis, (title, table) in zip(axes, tables, strict=True):
        for _, path in table.groupby("coordinate"):
            color = PALETTE[0] if path["true"].iloc[0] else GREY
            axis.plot(path["time"], path["factors"], color=color, linewidth=1.4)
            axis.plot(
                path["time"], path["mirror"], "o", color=color, markersize=4, markevery=8, fillstyle="none"
            )
        axis.set(title=title, xscale="log", xlabel="time")
    axes[0].set_ylabel("weight")
    axes[0].plot([], [], color=PALETTE[0], label="non-zero in truth")
    axes[0].plot([], [], color=GREY, label="zero in truth")
    axes[0].plot([], [], color="0.1", label="flow of the factors")
    axes[0].plot([], [], "o", color="0.1", fillstyle="none", label="mirror flow")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return fig


def distances_over_time(table: pd.DataFrame, crossings: pd.DataFrame) -> Figure:
    """Distances to the L2-closest and least-L1 points of the same predictions, and where they cross."""
    fig, axes = panels(1, 6.2, 3.4)
    axis = axes[0]
    looks = {"l2": ("nearest to the shrunken start", "o", "-"), "l1": ("least L1 norm", "s", "--")}
    for color, (name, (label, marker, line)) in zip(PALETTE, looks.items(), strict=False):
        band(axis, table, "time", f"{name}_distance", color=color, marker=marker, linestyle=line, label=label)
    for time in crossings["time"].dropna():
        axis.axvline(time, color=GREY, linewidth=0.8, linestyle=":")
    axis.plot([], [], color=GREY, linewidth=0.8, linestyle=":", label="crossing, one a seed")
    axis.set(xscale="log", xlabel="time", ylabel="distance, relative to |x|")
    axis.set_ylim(bottom=0)
    _against_dose(axis, table)
    fig.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def _against_dose(axis: Axes, table: pd.DataFrame) -> None:
    """A second axis above: the dose at some of the times."""
    steps = table.drop_duplicates("time").sort_values("time").iloc[:: max(1, table["time"].nunique() // 5)]
    above = axis.twiny()
    above.set(xscale="log", xlim=axis.get_xlim(), xlabel="dose A")
    above.set_xticks(steps["time"].to_list(), [f"{dose:.2g}" for dose in steps["dose"]])
    above.minorticks_off()


def error_against_dose(table: pd.DataFrame) -> Figure:
    """Distance from the truth against the dose, one line a seed, geometric means in bold."""
    fig, axes = panels(1, 6.2, 3.4)
    axis = axes[0]
    for (beta, of_beta), color, marker in zip(table.groupby("beta"), PALETTE, MARKERS, strict=False):
        for _, curve in of_beta.groupby("seed"):
            axis.plot(curve["dose"], curve["error"], color=color, linewidth=0.8, alpha=0.4)
        middle = np.exp(np.log(of_beta["error"]).groupby(of_beta["dose"]).mean())
        axis.plot(middle.index, middle, color=color, marker=marker, markersize=5, linewidth=2)
        axis.annotate(
            f"β = {beta:g}",
            (middle.index[-1], middle.iloc[-1]),
            (6, 0),
            textcoords="offset points",
            va="center",
            color=color,
        )
    axis.set(yscale="log", xlabel="dose A", ylabel="distance from the truth")
    axis.margins(x=0.12)
    return fig


def late_rates(table: pd.DataFrame) -> Figure:
    """Fitted late rates of the loss against the bound; below the line the bound fails."""
    fig, axes = panels(1, 5.6, 3.6)
    axis = axes[0]
    for (name, label), color, marker in zip(_DECAYS.items(), PALETTE, MARKERS, strict=False):
        chosen = where(table, decay=name)
        axis.plot(chosen["bound"], chosen["slope"], marker, color=color, alpha=0.7, label=label)
    ends = np.array([table["bound"].min(), table["bound"].max()])
    axis.plot(ends, ends, color=GREY, linestyle="--", linewidth=1.2, label="rate = bound")
    axis.set(xscale="log", yscale="log", xlabel="bound 2aλ, per unit of time", ylabel="late rate of the loss")
    fig.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig
