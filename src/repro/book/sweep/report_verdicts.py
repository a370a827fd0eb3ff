"""The verdicts of a sweep, counted by the value of each parameter."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from repro.book.sweep.report_pictures import Picture, finished, wrapped
from repro.book.sweep.report_scale import told
from repro.book.sweep.report_table import FEW, Sweep
from repro.book.verdicts import VERDICTS

__all__ = ["count_verdicts", "verdicts"]

_VERDICT_COLORS = dict(zip(VERDICTS, ("#0b6e4f", "#c98a1b", "#8a94a6", "#a8201a", "#d7dbe2"), strict=True))
_DARK = ("reproduced", "not reproduced")


def verdicts(sweep: Sweep) -> Picture | None:
    """How many claims got each verdict, by the value of each parameter: bars as long as all runs together."""
    axes = [axis for axis in sweep.axes if len(sweep.values(axis)) <= FEW]
    counts = [(axis, count_verdicts(sweep, axis)) for axis in axes] or [("", count_verdicts(sweep))]
    if sweep.done.empty or not sweep.claims:
        return None
    heights = [len(frame) for _, frame in counts]
    figure, panels = plt.subplots(
        len(counts),
        1,
        figsize=(7.0, 0.36 * sum(heights) + 0.7 * len(counts) + 0.6),
        squeeze=False,
        layout="constrained",
        height_ratios=heights,
    )
    for ax, (axis, frame) in zip(panels[:, 0], counts, strict=True):
        _bars(ax, frame)
        ax.set_title(axis, loc="left", fontsize=11, pad=2)
    handles = [Patch(color=_VERDICT_COLORS[word], label=word) for word in VERDICTS]
    figure.legend(handles=handles, ncols=len(VERDICTS), loc="outside upper left", fontsize=10, frameon=False)
    caption = (
        f"Verdicts of {len(sweep.claims)} claims over {finished(sweep.done)}, "
        "counted by the value of each parameter."
    )
    left_out = [axis for axis in sweep.axes if axis not in axes]
    caption += f" Left out, with too many values: {', '.join(f'`{axis}`' for axis in left_out)}." * bool(
        left_out
    )
    told_of = "; ".join(
        f"{axis} = {_row_told(value, row)}" for axis, f in counts for value, row in f.iterrows()
    )
    return Picture(
        figure, caption, f"Stacked bars of verdicts: {told_of}." if axes else f"A bar: {told_of[3:]}."
    )


def _row_told(value: Any, row: pd.Series) -> str:
    return f"{value}: " + ", ".join(f"{count} {word}" for word, count in row.items() if count)


def count_verdicts(sweep: Sweep, axis: str | None = None) -> pd.DataFrame:
    """How often each verdict was given in the finished runs: a row a value of the parameter, or one for all."""
    words = sweep.done[[f"{claim}.verdict" for claim in sweep.claims]]
    groups = (
        [("all runs", words)]
        if axis is None
        else [(told(value), words[sweep.done[axis] == value]) for value in sweep.values(axis)]
    )
    return pd.DataFrame(
        {word: [int((group == word).to_numpy().sum()) for _, group in groups] for word in VERDICTS},
        index=[name for name, _ in groups],
    )


def _bars(ax: Axes, counts: pd.DataFrame) -> None:
    left = np.zeros(len(counts))
    total = max(1, int(counts.sum(axis=1).max()))
    for word in VERDICTS:
        here = counts[word].to_numpy()
        ax.barh(range(len(counts)), here, left=left, color=_VERDICT_COLORS[word], height=0.8)
        for at, (count, start) in enumerate(zip(here, left, strict=True)):
            if count >= 0.03 * total:
                color = "white" if word in _DARK else "black"
                ax.text(start + count / 2, at, str(count), ha="center", va="center", color=color, fontsize=10)
        left += here
    ax.set_yticks(range(len(counts)), [wrapped(str(name), 16) for name in counts.index], fontsize=10)
    ax.set(xticks=[], xlim=(0, total), ylim=(len(counts) - 0.5, -0.5))
    ax.grid(False)
    ax.spines[:].set_visible(False)
