"""Confidence intervals over seeds: one place for the ledger, the curves and the chapters.

The arithmetic is SciPy's and statsmodels'; this module fixes the conventions: two-sided, 95 % unless said
otherwise, and a defined answer for the degenerate cases (one value, no spread).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

__all__ = ["Interval", "bootstrap_median_interval", "t_interval", "wilson_interval"]


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval, in the unit of the values it was computed from."""

    estimate: float
    low: float
    high: float
    kind: str
    level: float = 0.95


def _checked(values: ArrayLike, level: float) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(
            f"an interval needs a list of at least one number, got an array of shape {array.shape}"
        )
    if not np.isfinite(array).all():
        where = int(np.flatnonzero(~np.isfinite(array))[0])
        raise ValueError(f"an interval needs finite numbers, got {array[where]} at position {where}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level}")
    return array


def t_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    r"""Student's interval of a mean, $\bar x \pm t_{n-1}\, s/\sqrt n$.

    One value has no spread to estimate: its interval is the whole line. Equal values give an interval of
    width zero.
    """
    array = _checked(values, level)
    mean = float(array.mean())
    if array.size == 1:
        return Interval(mean, -np.inf, np.inf, "t", level)
    half = float(stats.t.ppf((1 + level) / 2, array.size - 1) * array.std(ddof=1) / np.sqrt(array.size))
    return Interval(mean, mean - half, mean + half, "t", level)


def bootstrap_median_interval(
    values: ArrayLike, level: float = 0.95, n_resamples: int = 9999, seed: int = 0
) -> Interval:
    """Percentile bootstrap interval of a median; seeded, so that a rerun gives the same digits."""
    array = _checked(values, level)
    median = float(np.median(array))
    if array.size == 1:
        return Interval(median, -np.inf, np.inf, "bootstrap median", level)
    draws = np.random.default_rng(seed).choice(array, size=(n_resamples, array.size), replace=True)
    low, high = np.quantile(np.median(draws, axis=1), [(1 - level) / 2, (1 + level) / 2])
    return Interval(median, float(low), float(high), "bootstrap median", level)


def wilson_interval(successes: Sequence[bool] | ArrayLike, level: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion; ``successes`` holds one 0 or 1 a trial."""
    array = _checked(np.asarray(successes, dtype=np.float64), level)
    if not np.isin(array, (0.0, 1.0)).all():
        raise ValueError(f"a proportion needs zeros and ones, got {array[~np.isin(array, (0.0, 1.0))][0]}")
    low, high = proportion_confint(array.sum(), array.size, alpha=1 - level, method="wilson")
    return Interval(float(array.mean()), float(low), float(high), "wilson", level)
