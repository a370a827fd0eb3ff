"""What the chapter's pictures share: colors, markers, panels, dots with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from repro.intervals import t_interval
from repro.papers.chaos_causality_pruning.labels import TABLE_NAMES

PALETTE = sns.color_palette("colorblind")
OURS, OTHER, THIRD, GREY = PALETTE[0], PALETTE[1], PALETTE[2], "0.55"
MARKERS = "osD^vPX"


def panels(
    n: int, width: float = 2.9, height: float = 3.0, *, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    fig, axes = plt.subplots(
        1, n, figsize=(max(width * n, 5.6), height), layout="constrained", squeeze=False, sharey=sharey
    )
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


def legend_of_tables(fig: Figure, tables: Sequence[str]) -> None:
    """Say below the picture which color is which table."""
    handles = [plt.Line2D([], [], color=PALETTE[j], marker="o") for j in range(len(tables))]
    fig.legend(handles, [TABLE_NAMES[t] for t in tables], loc="outside lower center", ncols=len(tables))
