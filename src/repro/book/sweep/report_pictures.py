"""Pictures of a sweep: parallel coordinates, and each result against each parameter.

Each function returns a ``Picture``, or None where there is nothing to draw.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from repro.base import t_interval
from repro.book.markup import number
from repro.book.sweep.report_scale import Colors, Scale, color_map, told
from repro.book.sweep.report_table import FEW, Sweep, is_numeric

__all__ = ["Picture", "facets", "finished", "parallel", "wrapped"]

_FEWEST = 3  # the t interval of two values is twelve times as wide as their standard error


@dataclass(frozen=True)
class Picture:
    """A figure, what it shows, and what one would see, in words."""

    figure: Figure
    caption: str
    alt: str


def short(result: str) -> str:
    """``E13.digits.mean`` as ``E13 digits``: the mean goes without saying."""
    return result.removesuffix(".mean").replace(".", " ")


def finished(runs: pd.DataFrame) -> str:
    """How many runs there are, in words."""
    return f"{len(runs)} finished run{'s' * (len(runs) != 1)}"


def wrapped(name: str, width: int) -> str:
    """A long name on several lines, broken at spaces, hyphens and underscores."""
    return textwrap.fill(name.replace("_", "_ "), width, break_long_words=False).replace("_ ", "_")


def parallel(sweep: Sweep) -> Picture | None:
    """Every finished run as one line over parallel axes, each from its least to its greatest value.

    Parameters stand on the left, the chosen results on the right. A run in which a result is missing has a gap there.
    """
    columns = [*sweep.axes, *sweep.results]
    runs = sweep.done
    if runs.empty or len(columns) < 2:
        return None
    scales = [
        Scale.of(sweep.runs[name]) if name in sweep.axes else Scale.of(runs[name], wide_is_log=True)
        for name in columns
    ]
    places = np.column_stack([scale.place(runs[name]) for scale, name in zip(scales, columns, strict=True)])
    colors = Colors.of(sweep)
    figure, ax = plt.subplots(figsize=(max(7.0, 1.5 * len(columns)), 4.4), layout="constrained")
    width = 2.0 if len(runs) <= 50 else 1.0
    for line, color in zip(places, colors.of_runs(runs), strict=True):
        ax.plot(
            range(len(columns)),
            line,
            color=color,
            lw=width,
            alpha=0.75,
            marker="o",
            ms=2 * width,
            clip_on=False,
        )
    for at, (name, scale) in enumerate(zip(columns, scales, strict=True)):
        ax.axvline(at, color="#444444", lw=1, zorder=1)
        _write_ticks(ax, at, scale, name in sweep.axes)
    if sweep.axes and sweep.results:
        ax.axvspan(len(sweep.axes) - 0.5, len(columns) - 0.4, color="#f2f4f7", zorder=0, lw=0)
    ax.set(xlim=(-0.4, len(columns) - 0.4), ylim=(-0.06, 1.06), yticks=[])
    ax.set_xticks(range(len(columns)), [wrapped(short(name), 13) for name in columns])
    ax.grid(False)
    ax.spines[:].set_visible(False)
    _explain_colors(figure, ax, sweep, colors)
    logs = [short(name) for name, scale in zip(columns, scales, strict=True) if scale.kind == "log"]
    caption = f"One line a run, {finished(runs)}"
    caption += (
        f", colored by `{sweep.color}`" if sweep.color and (colors.legend or colors.is_continuous) else ""
    )
    caption += (
        ". Parameters on white, means of results on gray" if sweep.axes and sweep.results else ""
    ) + "."
    caption += f" Logarithmic: {', '.join(f'`{name}`' for name in logs)}." if logs else ""
    alt = f"Parallel axes with one line a run, {finished(runs)}: {_ranges(columns, scales)}. "
    return Picture(figure, caption, alt + " ".join(_trends(sweep)))


def _write_ticks(ax: Axes, at: int, scale: Scale, is_axis: bool) -> None:
    ticks = scale.ticks if is_axis else scale.ticks[:1] + scale.ticks[1:][-1:]
    kind = float if scale.kind != "words" else object
    for value, place in zip(ticks, scale.place(pd.Series(ticks, dtype=kind)), strict=True):
        text = told(value) if is_axis else number(value)
        ax.annotate(
            wrapped(text, 12),
            (at, place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=10,
            zorder=5,
            bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.8},
        )


def _explain_colors(figure: Figure, ax: Axes | np.ndarray, sweep: Sweep, colors: Colors) -> None:
    """A legend for few colors, a bar for many, nothing for one."""
    if colors.is_continuous and colors.scale is not None:
        low, high = colors.scale.values[0], colors.scale.values[-1]
        norm = (
            mpl.colors.LogNorm(low, high) if colors.scale.kind == "log" else mpl.colors.Normalize(low, high)
        )
        figure.colorbar(mpl.cm.ScalarMappable(norm, color_map()), ax=ax, label=sweep.color)
    elif colors.legend:
        handles = [
            Line2D([], [], color=c, marker="o", ms=5, label=label) for label, c in colors.legend.items()
        ]
        figure.legend(handles=handles, title=sweep.color, loc="outside right upper", fontsize=10)


def _ranges(columns: list[str], scales: list[Scale]) -> str:
    return ", ".join(
        f"{short(name)} ({'; '.join(map(str, scale.values))})"
        if scale.kind == "words"
        else f"{short(name)} ({number(scale.values[0])} to {number(scale.values[-1])})"
        for name, scale in zip(columns, scales, strict=True)
        if scale.values
    )


def _trends(sweep: Sweep) -> list[str]:
    """For each result, a sentence on how it goes with the coloring parameter."""
    if sweep.color is None:
        return []
    few = len(sweep.values(sweep.color)) <= FEW
    return [_means_told(sweep, name) if few else _rank_told(sweep, name) for name in sweep.results]


def _means_told(sweep: Sweep, name: str) -> str:
    finite = np.isfinite(sweep.done[name].to_numpy(dtype=np.float64))
    means = sweep.done[finite].groupby(str(sweep.color), sort=False)[name].mean()
    if len(means) < 2:
        return ""
    at = [
        f"{sweep.color} = {told(value)} ({number(means[value])})"
        for value in (means.idxmin(), means.idxmax())
    ]
    return f"{short(name)} is on average lowest at {at[0]} and highest at {at[1]}."


def _rank_told(sweep: Sweep, name: str) -> str:
    if not is_numeric(sweep.runs[str(sweep.color)]):
        return ""
    finite = np.isfinite(sweep.done[name].to_numpy(dtype=np.float64))
    runs = sweep.done[finite]
    rank = float(runs[str(sweep.color)].corr(runs[name], method="spearman"))
    return (
        f"The rank correlation of {short(name)} with {sweep.color} is {number(rank)}."
        if np.isfinite(rank)
        else ""
    )


def facets(sweep: Sweep) -> Picture | None:
    """Each chosen result against each swept parameter: all runs as points, and their mean with its t interval.

    The mean is over all runs with that value of the parameter, whatever their other parameters; it is drawn where
    there are at least three.
    """
    runs = sweep.done
    if runs.empty or not sweep.axes or not sweep.results:
        return None
    shape = (len(sweep.results), len(sweep.axes))
    size = (max(7.0, 2.9 * shape[1] + 0.8), 2.4 * shape[0] + 0.9)
    figure, panels = plt.subplots(*shape, figsize=size, sharey="row", squeeze=False, layout="constrained")
    colors = Colors.of(sweep)
    for row, result in zip(panels, sweep.results, strict=True):
        for ax, axis in zip(row, sweep.axes, strict=True):
            _facet(ax, sweep, axis, result, colors.of_runs(runs))
        row[0].set_ylabel(wrapped(short(result), 18), fontsize=11)
    for ax, axis in zip(panels[-1], sweep.axes, strict=True):
        ax.set_xlabel(axis, fontsize=11)
    for ax in panels[:-1].flat:
        ax.tick_params(labelbottom=False)
    _explain_colors(figure, panels, sweep, colors)
    caption = (
        f"Each point is a run, {finished(runs)}; diamonds are means over at least three runs with that value, "
        "whatever their other parameters, bars the 95 % t interval of that mean (of the logarithms, where the axis "
        "of a result is logarithmic)."
    )
    names = " and ".join(short(result) for result in sweep.results)
    alt = f"A grid of scatter plots: {names}, each against {', '.join(sweep.axes)}. "
    return Picture(figure, caption, alt + " ".join(_trends(sweep)))


def _facet(ax: Axes, sweep: Sweep, axis: str, result: str, colors: list[Any]) -> None:
    scale, runs = Scale.of(sweep.runs[axis]), sweep.done
    heights = Scale.of(runs[result], wide_is_log=True)
    if heights.kind == "log":
        ax.set_yscale("log")
    if scale.kind == "words":
        x = scale.place(runs[axis]) * len(scale.values) - 0.5
        ax.set(xlim=(-0.5, len(scale.values) - 0.5))
        ax.set_xticks(range(len(scale.values)), [wrapped(told(word), 12) for word in scale.values])
    else:
        x = runs[axis].to_numpy(dtype=np.float64)
        if scale.kind == "log":
            ax.set_xscale("log")
        if len(scale.values) <= FEW:
            ticks = scale.ticks
            ax.set_xticks(ticks, [told(value) for value in ticks])
            ax.minorticks_off()
        ax.margins(x=0.12)
    ax.tick_params(labelsize=10)
    y = runs[result].to_numpy(dtype=np.float64)
    seen = np.isfinite(y)
    ax.scatter(x[seen], y[seen], c=[c for c, s in zip(colors, seen, strict=True) if s], s=30, alpha=0.6, lw=0)
    for value in np.unique(x[seen]):
        there = y[seen & (x == value)]
        if there.size >= _FEWEST:
            mean, low, high = _mean(there, heights.kind)
            ax.errorbar(value, mean, [[mean - low], [high - mean]], color="#222222", marker="D", ms=5, lw=1.5)


def _mean(values: np.ndarray, kind: str) -> tuple[float, float, float]:
    """Mean and 95 % t interval; on a logarithmic axis of the logarithms, so that the interval stays positive."""
    if kind != "log":
        found = t_interval(values)
        return found.estimate, found.low, found.high
    found = t_interval(np.log(values))
    return float(np.exp(found.estimate)), float(np.exp(found.low)), float(np.exp(found.high))
