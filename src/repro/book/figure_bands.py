"""Lines with error bands that say what they are: the interval, and over how many seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from repro.book.errors import BadInput, nearest
from repro.book.figure_styles import styles as styles_of
from repro.intervals import Interval, bootstrap_median_interval, t_interval, wilson_interval

__all__ = ["INTERVALS", "band"]

INTERVALS: dict[str, tuple[str, Callable[[Any], Interval]]] = {
    "t 95 %": ("mean", t_interval),
    "bootstrap median 95 %": ("median", bootstrap_median_interval),
    "wilson 95 %": ("share", wilson_interval),
}


def band(
    ax: Axes,
    frame: pd.DataFrame,
    x: str,
    y: str,
    hue: str | None = None,
    *,
    interval: str = "t 95 %",
    seed: str = "seed",
    styles: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Draw, for each value of ``hue``, the line of estimates over seeds with its interval as a band.

    ``frame`` has one row for each x, hue and seed (columns ``x``, ``y``, ``hue``, ``seed``). The legend says
    what line and band are, and over how many seeds. Returns what is drawn, with the columns x, hue, estimate,
    low, high and n_seeds. Raises ``BadInput`` for an unknown interval or column, for missing or infinite
    values, for two rows of one seed at one point, and for a single seed, which has no interval: draw it as a line.
    """
    if interval not in INTERVALS:
        raise BadInput(f"there is no interval {interval!r}; {nearest(interval, INTERVALS)}")
    for column in [x, y, seed, *([hue] if hue else [])]:
        if column not in frame.columns:
            raise BadInput(f"the frame has no column {column!r}; {nearest(column, map(str, frame.columns))}")
    if not np.isfinite(frame[y].to_numpy(dtype=np.float64)).all():
        raise BadInput(
            f"column {y!r} holds values that are missing or infinite; leave their rows out and say so"
        )
    keys = [hue, x] if hue else [x]
    if frame.duplicated([*keys, seed]).any():
        raise BadInput(
            f"two rows of one {seed} at one point of {', '.join(keys)}; a band takes one value a seed"
        )

    what, function = INTERVALS[interval]
    drawn: list[dict[str, Any]] = []
    for key, group in frame.groupby(keys, sort=False):
        if len(group) < 2:
            at = ", ".join(f"{name} = {value}" for name, value in zip(keys, key, strict=True))
            raise BadInput(f"one seed at {at}: a single seed has no interval; draw it as a line of one run")
        found = function(group[y].to_numpy(dtype=np.float64))
        point = dict(zip(keys, key, strict=True))
        drawn.append(
            point | {"estimate": found.estimate, "low": found.low, "high": found.high, "n_seeds": len(group)}
        )
    table = pd.DataFrame(drawn)

    names = list(dict.fromkeys(frame[hue])) if hue else [y]
    chosen = styles or styles_of(map(str, names))
    for name in names:
        line = (table[table[hue] == name] if hue else table).sort_values(x)
        look = chosen[str(name)]
        ax.plot(line[x], line["estimate"], label=str(name), **look.line)
        ax.fill_between(line[x], line["low"], line["high"], color=look.colour, alpha=0.2, linewidth=0)
    fewest, most = int(table["n_seeds"].min()), int(table["n_seeds"].max())
    seeds = f"{fewest} seeds" if fewest == most else f"{fewest} to {most} seeds"
    ax.set(xlabel=ax.get_xlabel() or x, ylabel=ax.get_ylabel() or y)
    ax.legend(title=f"line: {what}; band: {interval} interval\nover {seeds}")
    return table
