"""From a table of an experiment to one number a seed: what the ledger judges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.special import expit
from scipy.stats import rankdata

__all__ = [
    "against_dense",
    "difference",
    "flatness_accuracy",
    "per_seed",
    "phase_shifts",
    "variance_shares",
]

_Vector = NDArray[np.float64]


# --- accuracy and sparsity --------------------------------------------------------------------------------------------


def difference(frame: pd.DataFrame, arm: str, other: str, sparsities: Sequence[float]) -> pd.Series:
    r"""Return the accuracy of one arm minus that of another, seed by seed at equal sparsity.

    $d = 100\,(a_\text{arm} - a_\text{other})$ in percentage points, mean over sparsities. What two networks of one seed
    share (data, $\theta_0$, batches) cancels. ``"dense"`` is compared with every sparsity.

    Args:
        frame: of ``experiments.accuracy_runs``.
        arm, other: names of arms, or ``"dense"``.
        sparsities: those that count.
    """
    table = frame.pivot(index="seed", columns=["arm", "sparsity"], values="test_accuracy")
    one, two = (
        table[name][[0.0] if name == "dense" else list(sparsities)].to_numpy() for name in (arm, other)
    )
    return pd.Series(100 * (one - two).mean(axis=1), index=table.index)


def variance_shares(frame: pd.DataFrame, outcome: str, factors: Sequence[str]) -> pd.DataFrame:
    r"""Return each factor's share of the variance of an outcome, $SS_\text{factor}/SS_\text{total}$, by seed.

    Every factor is a set of levels (a penalty counts by its level, so on whatever scale), and $SS_\text{factor}$ the
    variance of their means. What no factor explains, interactions and chance, stands under ``"rest"``.

    Args:
        frame: of ``experiments.alpha_runs``: all combinations of levels, once each.
        outcome: column.
        factors: columns.
    """
    rows = {}
    for seed, some in frame.groupby("seed"):
        total = some[outcome].var(ddof=0)
        shares = {f: some.groupby(f)[outcome].transform("mean").var(ddof=0) / total for f in factors}
        rows[seed] = shares | {"rest": 1 - sum(shares.values())}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(index="seed", columns="factor")


# --- phase shift ------------------------------------------------------------------------------------------------------

_MAX_WIDTH = 1.0
_WIDTH_OF_SCALE = 2 * np.log(9)  # from 10 % to 90 % of a logistic of scale 1
_GRID = 40  # midpoints, and as many widths, to start from
_EXACT = 1e-12  # mean squared residual below which a fit is exact
_NO_FALL = 1e-6


def phase_shifts(frame: pd.DataFrame) -> pd.DataFrame:
    r"""Fit three curves to the accuracies of every arm and seed, along $u = -\log_{10}(1-s)$ (claim G6).

    By least squares: $a(u) = \ell + \frac{h-\ell}{1+e^{(u-u^*)/\tau}}$ with $0\le\ell\le h\le1$, width $2\ln(9)\,\tau$
    and $u^*$ within the range of u; a straight line; a parabola. Each has $\mathrm{AIC} = n\ln(\mathrm{RSS}/n) + 2k$
    with k = 5, 3, 4 (the variance is counted), not corrected for small samples: with 7 or 8 points the correction
    would outweigh any fit. Mean squared residuals below $10^{-12}$ count as that, or exact curves would be told
    apart by rounding. Each curve begins with the dense network of its seed.

    That the logistic wins does not make an abrupt fall: a curve that is level and then slopes is closer to it
    than to a line. Hence the bound on the width. Of curves that are level but for noise, up to one in three
    passes as a shift all the same; claim G6 therefore asks for 4 seeds of 5, and ``high - low`` says how deep.

    Args:
        frame: of ``experiments.accuracy_runs``, with at least 7 sparsities an arm, the dense one's 0 included.

    Returns:
        By (arm, seed): ``midpoint`` $u^*$ in decades of 1 - s, NaN where accuracy never falls; ``width``, decades from
        10 % to 90 % of the fall (one between two neighbouring points has no width of its own and is given half the
        smallest distance of neighbours); ``high`` and ``low``, the levels; ``aic_logistic``, ``aic_line``,
        ``aic_quadratic``; ``is_shift``, whether the logistic has the lowest of the three and a width of at most one
        decade. ``knee`` (claim G7), the largest of the sparsities before the fall of the *validation* accuracies,
        $u(s) \le u^* - \text{width}$; 0 where the fall begins before all of them, so that nothing can be removed.
        ``difference`` of the test accuracy there to the dense network of the seed in percentage points. Both are NaN
        where validation accuracy never falls and there is nothing to stay away from.

    Raises:
        ValueError: fewer than 7 points.

    Source: ours; the paper's own definition of a phase shift is not known.
    """
    dense, pruned = (frame[(frame["arm"] == "dense") == is_dense] for is_dense in (True, False))
    rows = {}
    for (arm, seed), own in pruned.groupby(["arm", "seed"], sort=False):
        curve = pd.concat([dense[dense["seed"] == seed], own]).set_index("sparsity").sort_index()
        test = curve["test_accuracy"]
        fit, chosen = _fit_phase_shift(test), _fit_phase_shift(curve["validation_accuracy"])
        s = test.index.to_numpy()
        before = s[-np.log10(1 - s) <= chosen["midpoint"] - chosen["width"]].max(initial=0.0)
        knee = np.nan if np.isnan(chosen["midpoint"]) else before
        rows[arm, seed] = fit | {"knee": knee, "difference": 100 * (test.get(knee, np.nan) - test[0])}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["arm", "seed"])


def _fit_phase_shift(accuracies: pd.Series) -> dict[str, Any]:
    """Fit the accuracies at rising sparsities, the index; the first columns of ``phase_shifts``."""
    if (n := len(accuracies)) < 7:
        raise ValueError(f"a logistic has 4 parameters; at least 7 sparsities are needed, got {n}")
    u, a = -np.log10(1 - accuracies.index.to_numpy()), accuracies.to_numpy(dtype=np.float64)
    line, parabola = (_aic(a - np.polyval(np.polyfit(u, a, degree), u), degree + 2) for degree in (1, 2))
    midpoint, scale, high, low = _fit_logistic(u, a)
    logistic, width = _aic(a - _logistic(u, midpoint, scale, high, low), 5), _WIDTH_OF_SCALE * scale
    if high - low < _NO_FALL:
        midpoint = width = np.nan
    return {
        "midpoint": midpoint, "width": width, "high": high, "low": low,
        "aic_logistic": logistic, "aic_line": line, "aic_quadratic": parabola,
        "is_shift": bool(logistic < min(line, parabola) and width <= _MAX_WIDTH),
    }  # fmt: skip


def _aic(residuals: _Vector, n_parameters: int) -> float:
    n = len(residuals)
    return float(n * np.log(max(float(np.mean(residuals**2)), _EXACT)) + 2 * n_parameters)


def _logistic(u: _Vector, midpoint: float, scale: float, high: float, low: float) -> _Vector:
    fallen: _Vector = expit((u - midpoint) / scale)
    return high + (low - high) * fallen


def _fit_logistic(u: _Vector, a: _Vector) -> tuple[float, float, float, float]:
    """Return midpoint, scale, high and low of the least-squares logistic: the best of several starts."""
    narrowest, widest = np.diff(u).min() / 2, 10 * (u[-1] - u[0])
    bounds = (
        [u[0], np.log(narrowest / _WIDTH_OF_SCALE), 0, 0],
        [u[-1], np.log(widest / _WIDTH_OF_SCALE), 1, 1],
    )

    def residuals(p: _Vector) -> _Vector:  # low = p[3] * high, so that it cannot exceed it
        return _logistic(u, p[0], np.exp(p[1]), p[2], p[3] * p[2]) - a

    fits = [least_squares(residuals, start, bounds=bounds) for start in _starts(u, a, bounds)]
    midpoint, log_scale, high, share = (float(each) for each in min(fits, key=lambda fit: fit.cost).x)
    return midpoint, float(np.exp(log_scale)), high, share * high


def _starts(u: _Vector, a: _Vector, bounds: tuple[list[float], list[float]]) -> _Vector:
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


# --- flatness and accuracy --------------------------------------------------------------------------------------------

_SHARPNESS = ("largest", "noise")  # columns of ``experiments.flatness_runs``
_VARIABLES = ["flatness", "accuracy", "sparsity", "train_loss"]
_RESAMPLES = 1999


def against_dense(frame: pd.DataFrame) -> pd.DataFrame:
    r"""Compare each pruned network with the dense one of its seed and protocol.

    The change of flatness is $\log_{10}(c / c_\text{dense})$ of a measure c (``largest`` or ``noise``),
    negative where the pruned network is flatter; the change of accuracy is in percentage points.

    Args:
        frame: of ``experiments.flatness_runs``.

    Returns:
        One row a (seed, arm, sparsity, stopping, hessian, measure): flatness, accuracy, train_loss. Where a measure is
        not positive (a collapsed network, a rise lost in noise), flatness is NaN.
    """
    dense, pruned = frame[frame["arm"] == "dense"], frame[frame["arm"] != "dense"]
    both = pruned.merge(
        dense, on=["seed", "stopping", "hessian"], suffixes=("", "_dense"), validate="many_to_one"
    )
    both["accuracy"] = 100 * (both["test_accuracy"] - both["test_accuracy_dense"])
    parts = []
    for measure in _SHARPNESS:
        pairs = both[[measure, f"{measure}_dense"]].to_numpy(dtype=np.float64)
        logs = np.log10(np.where(pairs > 0, pairs, np.nan))
        columns = both[["seed", "arm", "sparsity", "stopping", "hessian", "accuracy", "train_loss"]]
        parts.append(columns.assign(measure=measure, flatness=logs[:, 0] - logs[:, 1]))
    return pd.concat(parts, ignore_index=True)


def per_seed(frame: pd.DataFrame) -> pd.DataFrame:
    """Correlate, within each seed, the change of flatness of pruned networks with that of test accuracy (claim G9).

    Args:
        frame: of ``experiments.flatness_runs``.

    Returns:
        One row a (measure, protocol, seed): ``partial``, with the ranks of sparsity and of training loss held fixed.
        ``protocol`` is stopping and Hessian, such as ``"epochs-kept"``.
    """
    rows = [
        names | {"seed": seed, "partial": _partial(values)}
        for names, clusters in _clusters(frame)
        for seed, values in clusters.items()
    ]
    return pd.DataFrame(rows)


def flatness_accuracy(frame: pd.DataFrame) -> pd.DataFrame:
    r"""Correlate, over all pruned networks, the change of flatness with the change of test accuracy (claim G9).

    Spearman's correlation as it is (``raw``), and with the ranks of sparsity and of training loss held fixed
    (``partial``): $\operatorname{corr}(r_x - \hat r_x, r_y - \hat r_y)$ with $\hat r$ by least squares on 1 and those
    ranks; equal values share their mean rank. The interval is of the partial correlation, from a percentile
    bootstrap that draws seeds with all their networks, because networks of one seed share data and initial weights.
    With few seeds it is too narrow: of unrelated values it holds 0 in about 86 of 100 cases over 5 seeds, in 92 over
    10 to 20.

    An association of two outcomes of one intervention: not to be confused with the effect of flatness on
    accuracy.

    Args:
        frame: of ``experiments.flatness_runs``.

    Returns:
        One row a (measure, protocol): raw, partial, low, high (95 %); NaN where flatness or accuracy is constant or
        determined by what is held fixed. Networks without a defined change of flatness are not counted.
    """
    rows = []
    for names, by_seed in _clusters(frame):
        clusters = list(by_seed.values())
        pooled = np.concatenate(clusters, axis=1)
        low, high = _over_seeds(clusters)
        raw = _partial(pooled[:2])
        rows.append(names | {"raw": raw, "partial": _partial(pooled), "low": low, "high": high})
    return pd.DataFrame(rows)


def _clusters(frame: pd.DataFrame) -> Iterator[tuple[dict[str, Any], dict[Any, _Vector]]]:
    """Yield for each measure and protocol the values ``(4, n)`` of ``_VARIABLES`` by seed."""
    changes = against_dense(frame)
    for (measure, stopping, hessian), some in changes.groupby(["measure", "stopping", "hessian"], sort=False):
        clusters = {}
        for seed, rows in some.groupby("seed"):
            values = rows[_VARIABLES].to_numpy(dtype=np.float64).T
            clusters[seed] = values[:, np.isfinite(values).all(axis=0)]
        yield {"measure": measure, "protocol": f"{stopping}-{hessian}"}, clusters


def _partial(values: _Vector) -> float:
    """Correlate the ranks of the first two rows of ``(k, n)``, those of the others held fixed."""
    if values.shape[1] < len(values) + 1:
        return float("nan")
    ranks = rankdata(values, axis=-1)
    centered = ranks - ranks.mean(axis=-1, keepdims=True)
    pair, controls = centered[:2], centered[2:]
    if len(controls):
        pair = pair - np.linalg.lstsq(controls.T, pair.T, rcond=1e-9)[0].T @ controls
    size = np.linalg.norm(pair, axis=-1)
    if (size < 1e-9 * values.shape[1] ** 1.5).any():
        return float("nan")
    return float(np.clip(pair[0] @ pair[1] / size.prod(), -1, 1))


def _over_seeds(clusters: list[_Vector]) -> tuple[float, float]:
    """Bootstrap interval of the pooled partial correlation; which seeds are drawn matters, their order not."""
    n = len(clusters)
    drawn = np.sort(np.random.default_rng(0).integers(n, size=(_RESAMPLES, n)), axis=1)
    distinct, counts = np.unique(drawn, axis=0, return_counts=True)
    values = [_partial(np.concatenate([clusters[i] for i in some], axis=1)) for some in distinct]
    draws = np.repeat(values, counts)
    low, high = np.nanquantile(draws, [0.025, 0.975]) if np.isfinite(draws).any() else (np.nan, np.nan)
    return float(low), float(high)
