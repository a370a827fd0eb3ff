"""The chapter's pictures. Each takes the table of an experiment and returns a figure; no computing here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from repro.papers._pictures import GREY, MARKERS, PALETTE, band, interval_bar, legend_below, panels, where
from repro.papers.granger_causal_sgd.experiments import _ARMS

_LOOKS = {
    arm: {"color": PALETTE[j], "marker": (MARKERS + "P")[j], "linestyle": ("-", "--", "-.", ":")[j % 4]}
    for j, arm in enumerate(_ARMS)
}


def predicted_and_observed(table: pd.DataFrame) -> Figure:
    """Loss changes against what the squared step predicts, a panel a condition."""
    look: dict[str, Any] = {"height": 3, "alpha": 0.6, "facet_kws": {"sharex": False, "sharey": False}}
    grid = sns.relplot(table, x="predicted", y="observed", col="condition", **look)
    for axis in grid.axes.flat:
        axis.axline((0, 0), slope=1, color=GREY, linestyle="--", linewidth=1.2)
        axis.locator_params(nbins=3)
    return grid.set(xlabel="−Σ(Δθ)²/η", ylabel="loss change").set_titles("{col_name}").figure


def intervals(
    table: pd.DataFrame,
    value: str,
    rows: str,
    label: str,
    *,
    hue: str | None = None,
    panel: str | None = None,
    at: float = 0.0,
) -> Figure:
    """Means over seeds with t 95 % intervals; a dotted line at a value to compare with.

    Args:
        table: one row a seed and condition, conditions in the order in which they are shown.
        value: column along x.
        rows, hue, panel: columns whose values are the lines of the picture, its colors and its panels.
        label: of x.
        at: where the dotted line stands.
    """
    table = table.dropna(subset=[value]).assign(**{"": ""})
    lines, colors, titles = (list(dict.fromkeys(table[name or ""])) for name in (rows, hue, panel))
    height = 0.9 + (0.36 if len(colors) < 3 else 0.16 * len(colors)) * len(lines) + 0.4 * (len(colors) > 1)
    fig, axes = panels(len(titles), 5.6 if len(titles) == 1 else 7.8 / len(titles), height, sharey=True)
    for axis, title in zip(axes, titles, strict=True):
        for (y, line), (j, each) in product(enumerate(lines), enumerate(colors)):
            values = where(table, **{rows: line, hue or "": each, panel or "": title})[value].to_numpy()
            if len(values):  # a placebo has no same-batch changes
                place = y + 0.7 * ((j + 0.5) / len(colors) - 0.5)
                interval_bar(axis, values, place, color=_color(each, j))
        axis.axvline(at, color=GREY, linestyle=":", linewidth=1.2)
        axis.set(title=title, xlabel=label, yticks=range(len(lines)), yticklabels=lines)
        axis.set_ylim(len(lines) - 0.5, -0.5)  # the first on top
    if hue:
        handles = [plt.Line2D([], [], color=_color(each, j), marker="o") for j, each in enumerate(colors)]
        fig.legend(handles, colors, loc="outside lower center", ncols=3)
    return fig


def _color(name: str, j: int) -> Any:
    """An arm has its own color in all pictures, others go by their place."""
    return _LOOKS[name]["color"] if name in _LOOKS else PALETTE[j]


def accuracy_against_sparsity(table: pd.DataFrame, groups: Sequence[Sequence[str]]) -> Figure:
    """Test accuracy against the share of weights left, on a logarithmic scale; a panel for each group of arms."""
    fig, axes = panels(len(groups), 3.9, 4.0, sharey=True)
    dense = 100 * where(table, arm="dense")["test_accuracy"].mean()
    for axis, arms in zip(axes, groups, strict=True):
        axis.axhline(dense, color="0.1", linewidth=1, label="dense")
        for arm in arms:
            chosen = where(table, arm=arm)
            curve = chosen.assign(left=100 * (1 - chosen["sparsity"]))
            _percent(axis, curve, "left", "test_accuracy", label=arm, **_LOOKS[arm])
        axis.set(xscale="log", xlabel="weights left, %")
        axis.set_xticks(ticks := [50, 20, 10, 5, 2, 1], [str(tick) for tick in ticks])
        axis.minorticks_off()
        axis.invert_xaxis()
        axis.legend(fontsize=9)
    axes[0].set_ylabel("test accuracy, %")
    return fig


def curves(table: pd.DataFrame, x: str, hue: str, titles: Mapping[str, str], *, log: bool = False) -> Figure:
    """Columns in percent against another one, a panel a column, a line for each value of ``hue``.

    Args:
        table: one row a seed and condition.
        x, hue: columns.
        titles: column to the title of its panel.
        log: whether x is logarithmic.
    """
    fig, axes = panels(len(titles), 3.9, 3.4, sharey=True)
    for axis, (column, title) in zip(axes, titles.items(), strict=True):
        for j, (name, rows) in enumerate(table.groupby(hue, sort=False)):
            _percent(axis, rows, x, column, color=PALETTE[j], marker=MARKERS[j], label=name)
        axis.set(xscale="log" if log else "linear", xlabel=x, title=f"{title}, %", ylim=(-4, 104))
    return legend_below(fig, 3)


def _percent(axis: Axes, table: pd.DataFrame, x: str, column: str, **look: Any) -> None:
    """A band of a column in percent."""
    band(axis, table.assign(percent=100 * table[column]), x, "percent", **look)
