"""How a column of a sweep is laid along an axis: evenly, by logarithms, or word by word; and how runs are colored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd

from repro.book.figures import PALETTE
from repro.book.sweep.report_table import FEW, Sweep, is_numeric

__all__ = ["Colors", "Scale", "color_map", "is_geometric", "told"]

_WIDE = 100.0


def is_geometric(values: Sequence[float] | np.ndarray) -> bool:
    r"""Whether different values are spaced like $a q^k$ rather than like $a + d k$.

    They are when all are positive, there are at least three, and the steps between their logarithms differ less
    (standard deviation over mean) than the steps between the values themselves.
    """
    distinct = np.unique(np.asarray(values, dtype=np.float64))
    if distinct.size < 3 or distinct[0] <= 0 or not np.isfinite(distinct).all():
        return False
    return _unevenness(np.log(distinct)) < _unevenness(distinct) - 1e-9


def _unevenness(rising: np.ndarray) -> float:
    steps = np.diff(rising)
    return float(steps.std() / steps.mean())


@dataclass(frozen=True)
class Scale:
    """An axis from ``values[0]`` at 0 to ``values[-1]`` at 1; words stand at even distances.

    ``values`` are the different values in their order on the axis. Missing and infinite numbers are left out.
    """

    kind: Literal["linear", "log", "words"]
    values: tuple[Any, ...]

    @classmethod
    def of(cls, column: pd.Series, *, wide_is_log: bool = False) -> Scale:
        """The scale of a column; ``wide_is_log`` takes positive numbers over two decades as geometric too."""
        if not is_numeric(column):
            return cls("words", tuple(column.drop_duplicates()))
        numbers = column.to_numpy(dtype=np.float64)
        distinct = np.unique(numbers[np.isfinite(numbers)])
        wide = wide_is_log and distinct.size > 1 and distinct[0] > 0 and distinct[0] <= distinct[-1] / _WIDE
        evenly = not wide and (wide_is_log or not is_geometric(distinct))
        return cls("linear" if evenly else "log", tuple(float(value) for value in distinct))

    def place(self, column: pd.Series) -> np.ndarray:
        """Where the values of a column lie between 0 and 1, NaN where they have no place. Shape (n,)."""
        if self.kind == "words":
            at = {word: index for index, word in enumerate(self.values)}
            places = np.array([at[word] for word in column], dtype=np.float64)
            return (places + 0.5) / len(self.values)
        numbers = column.to_numpy(dtype=np.float64)
        numbers = np.where(np.isfinite(numbers), numbers, np.nan)
        if len(self.values) < 2:
            return np.where(np.isnan(numbers), np.nan, 0.5)
        ends = np.array([self.values[0], self.values[-1]])
        if self.kind == "log":
            numbers, ends = np.log(numbers), np.log(ends)
        return (numbers - ends[0]) / (ends[1] - ends[0])

    @property
    def ticks(self) -> list[Any]:
        """The values to write at the axis: both ends, and those between as long as they are few and apart."""
        if self.kind == "words":
            return list(self.values)
        if len(self.values) > FEW:
            return [self.values[0], self.values[-1]] if self.values else []
        places = self.place(pd.Series(self.values, dtype=np.float64))
        near = [high - low for low, high in pairwise(places)]
        crowded = bool(near) and min(near) < 0.06
        return [self.values[0], self.values[-1]] if crowded else list(self.values)


@dataclass(frozen=True)
class Colors:
    """The color of each run of a sweep: palette for words, dark to light for numbers."""

    sweep: Sweep
    scale: Scale | None

    @classmethod
    def of(cls, sweep: Sweep) -> Colors:
        """Colors by the sweep's ``color``; one for all without one, or with more words than the palette has."""
        if sweep.color is None:
            return cls(sweep, None)
        scale = Scale.of(sweep.runs[sweep.color])
        too_many = scale.kind == "words" and len(scale.values) > len(PALETTE)
        return cls(sweep, None if too_many else scale)

    @property
    def is_continuous(self) -> bool:
        """Whether the colors are too many for a legend and need a bar."""
        return self.scale is not None and self.scale.kind != "words" and len(self.scale.values) > FEW

    def of_runs(self, runs: pd.DataFrame) -> list[Any]:
        """One color a run."""
        if self.scale is None:
            return [PALETTE[0]] * len(runs)
        column = runs[str(self.sweep.color)]
        if self.scale.kind == "words":
            return [PALETTE[self.scale.values.index(word)] for word in column]
        return list(color_map()(self.scale.place(column)))

    @property
    def legend(self) -> dict[str, Any]:
        """Color by value, for a legend; empty where a bar is needed or all runs look alike."""
        if self.scale is None or self.is_continuous:
            return {}
        looks = self.of_runs(pd.DataFrame({str(self.sweep.color): self.scale.values}))
        return dict(zip(map(told, self.scale.values), looks, strict=True))


def color_map() -> mpl.colors.Colormap:
    """Viridis without its end, whose yellow is too pale on white paper."""
    return mpl.colors.ListedColormap(mpl.colormaps["viridis"](np.linspace(0.0, 0.88, 256)))


def told(value: object) -> str:
    """A value of a parameter as an axis shows it, with all its digits."""
    return f"{value:.10g}" if isinstance(value, Real) and not isinstance(value, bool) else str(value)
