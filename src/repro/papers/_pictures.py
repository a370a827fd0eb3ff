"""What the chapters' pictures share: colors, markers, panels, dots with intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from repro.base import t_interval

PALETTE = sns.color_palette("colorblind")
OURS, OTHER, THIRD, GREY = PALETTE[0], PALETTE[1], PALETTE[2], "0.55"
MARKERS = "osD^vPX"


def panels(
    n: int, width: float = 2.9, height: float = 3.0, *, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A row of n panels of this size in inches; one panel is at least as wide as two narrow ones."""
    size = max(width * n, 5.6), height
    fig, axes = plt.subplots(1, n, figsize=size, layout="constrained", squeeze=False, sharey=sharey)
    return fig, list(axes[0])


def where(frame: pd.DataFrame, **equal: object) -> pd.DataFrame:
    """Rows in which the columns have these values."""
    for column, value in equal.items():
        frame = frame[frame[column] == value]
    return frame


def interval_bar(axis: Axes, values: NDArray[np.float64], y: float, color: Any) -> None:
    """A dot at the mean with its 95 % interval, along x."""
    if len(values) < 2:
        axis.plot(values, [y], "o", markersize=5, color=color)
        return
    found = t_interval(values.tolist())
    axis.plot([found.low, found.high], [y, y], linewidth=2, solid_capstyle="butt", color=color)
    axis.plot([found.estimate], [y], "o", markersize=5, color=color)


def band(axis: Axes, curves: pd.DataFrame, x: str, y: str, **look: Any) -> None:
    """The mean of ``y`` at each ``x`` as a line, with its t 95 % interval over the rows as a band."""
    rows = []
    for at, values in curves.groupby(x)[y]:
        found = t_interval(values.tolist()) if len(values) > 1 else None
        rows.append((at, values.mean(), found.low if found else np.nan, found.high if found else np.nan))
    at, mean, low, high = np.array(rows, dtype=float).T
    (line,) = axis.plot(at, mean, **{"markersize": 4, **look})
    axis.fill_between(at, low, high, color=line.get_color(), alpha=0.2, linewidth=0)


def legend_below(fig: Figure, ncols: int, panel: int = 0, **look: Any) -> Figure:
    """Put the legend of one panel, the first by default, below all panels."""
    handles = fig.axes[panel].get_legend_handles_labels()
    fig.legend(*handles, loc="outside lower center", ncols=ncols, **look)
    return fig
