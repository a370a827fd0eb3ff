"""Whether accuracy falls at once as the pruned share grows: a logistic against a line and a parabola (G6, G7)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares
from scipy.special import expit

__all__ = ["PhaseShift", "fit_phase_shift", "knee", "knees", "phase_shifts"]

Vector = NDArray[np.float64]

_MIN_POINTS = 7
_MAX_WIDTH = 1.0
_WIDTH_OF_SCALE = 2 * np.log(9)  # from 10 % to 90 % of a logistic of scale 1
_GRID = 40  # midpoints, and as many widths, to start from
_EXACT = 1e-12  # mean squared residual below which a fit is exact
_NO_FALL = 1e-6


@dataclass(frozen=True)
class PhaseShift:
    r"""How one network's accuracy falls with sparsity s, along $u = -\log_{10}(1-s)$, decades of $1-s$.

    Attributes:
        midpoint: $u^*$, where the fitted logistic is half way down; NaN where accuracy never falls.
        sparsity: $s^* = 1-10^{-u^*}$.
        width: decades from 10 % to 90 % of the fall. A fall between two neighbouring points has no width of its
            own and is given half the smallest distance of neighbours.
        high: level before the fall.
        low: level after it.
        aic_logistic: of the logistic, as in ``fit_phase_shift``.
        aic_line: of the straight line.
        aic_quadratic: of the parabola.
        is_shift: whether the logistic has the lowest of the three and a width of at most one decade.
    """

    midpoint: float
    sparsity: float
    width: float
    high: float
    low: float
    aic_logistic: float
    aic_line: float
    aic_quadratic: float
    is_shift: bool


def fit_phase_shift(sparsities: ArrayLike, accuracies: ArrayLike) -> PhaseShift:
    r"""Fit three curves to the accuracies of one network by least squares.

    $a(u) = \ell + \frac{h-\ell}{1+e^{(u-u^*)/\tau}}$ with $0\le\ell\le h\le1$, width $2\ln(9)\,\tau$ and $u^*$
    within the range of u; a straight line; a parabola. Each has $\mathrm{AIC} = n\ln(\mathrm{RSS}/n) + 2k$ with
    k = 5, 3, 4 (the variance is counted), not corrected for small samples: with 7 or 8 points the correction
    would outweigh any fit. Mean squared residuals below $10^{-12}$ count as that, or exact curves would be told
    apart by rounding.

    That the logistic wins does not make an abrupt fall: a curve that is level and then slopes is closer to it
    than to a line. Hence the bound on the width. Of curves that are level but for noise, up to one in three
    passes as a shift all the same; claim G6 therefore asks for 4 seeds of 5, and ``high - low`` says how deep.

    Args:
        sparsities: shares of weights removed ``(n,)``, in [0, 1), all different, at least 7.
        accuracies: shares ``(n,)``, in [0, 1].

    Raises:
        ValueError: fewer points, values out of range or not finite, or lengths that differ.

    Source: ours; the paper's own definition of a phase shift is not known.
    """
    u, a = _checked(sparsities, accuracies)
    line, parabola = (_aic(a - np.polyval(np.polyfit(u, a, degree), u), degree + 2) for degree in (1, 2))
    midpoint, width, high, low = _fit_logistic(u, a)
    scale = width / _WIDTH_OF_SCALE
    logistic = _aic(a - _logistic(u, midpoint, scale, high, low), 5)
    if high - low < _NO_FALL:
        midpoint = width = float("nan")
    is_shift = bool(logistic < min(line, parabola) and width <= _MAX_WIDTH)
    return PhaseShift(
        midpoint, 1 - 10**-midpoint, width, high, low, logistic, line, parabola, is_shift
    )  # fmt: skip


def knee(sparsities: ArrayLike, accuracies: ArrayLike, *, margin: float = 1.0) -> float:
    r"""Return the largest of the sparsities before the fall, $u(s) \le u^* - \text{margin}\cdot\text{width}$.

    Args:
        sparsities: as in ``fit_phase_shift``.
        accuracies: on the validation part; the test part must not choose.
        margin: widths of the fall to stay away from its middle, 0 or above.

    Returns:
        One of the sparsities; 0 where the fall begins before all of them, so that nothing can be removed; NaN
        where accuracy never falls and there is nothing to stay away from.

    Raises:
        ValueError: a margin below 0 or not finite, or as ``fit_phase_shift``.

    Source: ours.
    """
    if not 0 <= margin < np.inf:
        raise ValueError(f"margin counts widths, 0 or above and finite; got {margin!r}")
    shift = fit_phase_shift(sparsities, accuracies)
    if np.isnan(shift.midpoint):
        return float("nan")
    s = np.asarray(sparsities, dtype=np.float64)
    before = s[-np.log10(1 - s) <= shift.midpoint - margin * shift.width]
    return float(before.max(initial=0.0))


def phase_shifts(frame: pd.DataFrame, *, value: str = "test_accuracy") -> pd.DataFrame:
    """Fit the curve of every arm and seed (claim G6).

    Args:
        frame: of ``comparisons.accuracy_runs``; each arm's curve begins with the dense network of its seed, where
            there is one.
        value: column of accuracies.

    Returns:
        One row an (arm, seed): ``seed``, ``arm``, the fields of ``PhaseShift`` (``sparsity`` as
        ``midpoint_sparsity``), ``collapsed_from`` (least sparsity at which a layer has no weight left; NaN where
        none).

    Raises:
        ValueError: as ``fit_phase_shift``.
    """
    rows = []
    for arm, seed, curve in _curves(frame):
        fields = asdict(fit_phase_shift(curve["sparsity"], curve[value]))
        fields["midpoint_sparsity"] = fields.pop("sparsity")
        collapsed_from = curve.loc[curve["collapsed"] > 0, "sparsity"].min()
        rows.append({"seed": seed, "arm": arm} | fields | {"collapsed_from": collapsed_from})
    return pd.DataFrame(rows)


def knees(frame: pd.DataFrame, *, margin: float = 1.0) -> pd.DataFrame:
    """Choose each arm's sparsity from its validation accuracies, and look up the test accuracy there (claim G7).

    Args:
        frame: of ``comparisons.accuracy_runs``, dense networks included.
        margin: as in ``knee``.

    Returns:
        One row an (arm, seed): ``seed``, ``arm``, ``knee``, ``test_accuracy`` there, ``difference`` to the dense
        network of the seed in percentage points; NaN in all three where ``knee`` is NaN.

    Raises:
        ValueError: a curve without its dense network, or as ``knee``.
    """
    rows = []
    for arm, seed, curve in _curves(frame):
        test = curve.set_index("sparsity")["test_accuracy"]
        if 0 not in test:
            raise ValueError(f"arm {arm!r}, seed {seed}, has no dense network to compare with")
        chosen = knee(curve["sparsity"], curve["validation_accuracy"], margin=margin)
        there = test.get(chosen, np.nan)
        rows.append(
            {"seed": seed, "arm": arm, "knee": chosen, "test_accuracy": there}
            | {"difference": 100 * (there - test[0])}
        )
    return pd.DataFrame(rows)


def _curves(frame: pd.DataFrame) -> Iterator[tuple[str, int, pd.DataFrame]]:
    """Yield arm, seed and rows, the dense network's among them."""
    dense = frame[frame["arm"] == "dense"]
    pruned = frame[frame["arm"] != "dense"]
    for arm, seed in pruned[["arm", "seed"]].drop_duplicates().itertuples(index=False):
        own = pruned[(pruned["arm"] == arm) & (pruned["seed"] == seed)]
        yield arm, seed, pd.concat([dense[dense["seed"] == seed], own])


def _checked(sparsities: ArrayLike, accuracies: ArrayLike) -> tuple[Vector, Vector]:
    s, a = (np.asarray(values, dtype=np.float64) for values in (sparsities, accuracies))
    if s.ndim != 1 or s.shape != a.shape:
        raise ValueError(
            f"a curve needs as many accuracies as sparsities; got shapes {a.shape} and {s.shape}"
        )
    if len(s) < _MIN_POINTS:
        raise ValueError(
            f"a logistic has 4 parameters; at least {_MIN_POINTS} sparsities are needed, got {len(s)}: {s.tolist()}"
        )
    for name, values, bad in (
        ("sparsities lie in [0, 1)", s, ~((s >= 0) & (s < 1))),
        ("accuracies lie in [0, 1]", a, ~((a >= 0) & (a <= 1))),
    ):
        if bad.any():
            raise ValueError(f"{name}; got {values[bad][0]}")
    if len(np.unique(s)) < len(s):
        raise ValueError(f"sparsities must be different; got {s.tolist()}")
    order = np.argsort(s)
    return -np.log10(1 - s[order]), a[order]


def _aic(residuals: Vector, n_parameters: int) -> float:
    n = len(residuals)
    return float(n * np.log(max(float(np.mean(residuals**2)), _EXACT)) + 2 * n_parameters)


def _logistic(u: Vector, midpoint: float, scale: float, high: float, low: float) -> Vector:
    fallen: Vector = expit((u - midpoint) / scale)
    return high + (low - high) * fallen


def _fit_logistic(u: Vector, a: Vector) -> tuple[float, float, float, float]:
    """Return midpoint, width, high and low of the least-squares logistic: the best of several starts."""
    narrowest, widest = np.diff(u).min() / 2, 10 * (u[-1] - u[0])
    bounds = (
        [u[0], np.log(narrowest / _WIDTH_OF_SCALE), 0, 0],
        [u[-1], np.log(widest / _WIDTH_OF_SCALE), 1, 1],
    )

    def residuals(p: Vector) -> Vector:  # low = p[3] * high, so that it cannot exceed it
        return _logistic(u, p[0], np.exp(p[1]), p[2], p[3] * p[2]) - a

    fits = [least_squares(residuals, start, bounds=bounds) for start in _starts(u, a, bounds)]
    midpoint, log_scale, high, share = min(fits, key=lambda fit: fit.cost).x
    return float(midpoint), float(_WIDTH_OF_SCALE * np.exp(log_scale)), float(high), float(share * high)


def _starts(u: Vector, a: Vector, bounds: tuple[list[float], list[float]]) -> Vector:
    """Return the best few points of a grid of midpoints and scales, each with the levels that suit it: ``(5, 4)``."""
    midpoints, scales = (np.linspace(bounds[0][i], bounds[1][i], _GRID) for i in (0, 1))
    m, t = (grid.ravel() for grid in np.meshgrid(midpoints, scales))
    fallen = expit((u - m[:, None]) / np.exp(t)[:, None])
    centered = fallen - fallen.mean(axis=1, keepdims=True)
    variation = np.maximum((centered**2).sum(axis=1), np.finfo(float).tiny)
    drop = np.maximum(-(centered @ a) / variation, 0)
    high = np.clip(a.mean() + drop * fallen.mean(axis=1), 1e-9, 1)
    low = np.clip(high - drop, 0, high)
    errors = ((high[:, None] + (low - high)[:, None] * fallen - a) ** 2).sum(axis=1)
    best = np.argsort(errors)[:5]
    return np.stack([m, t, high, low / high], axis=1)[best]
