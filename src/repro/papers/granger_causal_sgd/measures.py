"""From a table of an experiment to one number a seed: what the ledger judges."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import rankdata

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
    levels = {"dense": [0.0]}
    one, two = (table[name][levels.get(name, list(sparsities))].to_numpy() for name in (arm, other))
    return pd.Series(100 * (one - two).mean(axis=1), index=table.index)


def variance_shares(frame: pd.DataFrame, outcome: str, factors: Sequence[str]) -> pd.DataFrame:
    r"""Return each factor's share of the variance of an outcome, $SS_\text{factor}/SS_\text{total}$, by seed.

    Every factor is a set of levels (a penalty counts by its level, so on whatever scale), and $SS_\text{factor}$ the
    variance of their means. What no factor explains, interactions and chance, stands under ``"rest"``.

    Args:
        frame: of ``experiments.loop_runs``: all combinations of levels, once each.
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

_MAX_WIDTH = 1.0  # decades
_BETTER = 2.0  # of Akaike's criterion: less is no evidence
_WIDTH_OF_SCALE = 2 * np.log(9)  # from 10 % to 90 % of a logistic of scale 1
_EXACT = 1e-12  # mean squared residual below which a fit is exact


def phase_shifts(frame: pd.DataFrame) -> pd.DataFrame:
    r"""Fit curves with and without a transition to the accuracies of every arm and seed (claims G6, G14).

    Along $u = -\log_{10}(1-s)$, the decades of weights removed, all of the form $a(u) = h - d f(u)$ with $d \ge 0$, by
    least squares over a grid of shapes f. With a transition: the logistic
    $f = (1+e^{(u^*-u)/\tau})^{-1}$, of width $2\ln(9)\,\tau$. Without: a straight line $u$, powers $u^p$, level and
    then straight $(u-u_0)_+$, and an exponential that saturates in the share of weights kept,
    $f = e^{-(1-s)/\kappa}$, which falls by nature within about a decade and a third. Each has
    $\mathrm{AIC} = n\ln(\mathrm{RSS}/n) + 2k$ with k the parameters and the variance: 5, 3, 4, 4 and 4. Each curve
    begins with the dense network of its seed.

    Args:
        frame: of ``experiments.accuracy_runs``, with at least 7 sparsities an arm, the dense one's 0 included.

    Returns:
        By (arm, seed): ``midpoint`` $u^*$ and ``width`` in decades of 1 - s; ``gain``, the logistic's AIC minus the
        least of the others'; ``is_shift``, whether it is below -2 and the width at most one decade. How often curves
        without a transition pass is measured by ``false_alarms``.

    Raises:
        ValueError: fewer than 7 points.

    Source: ours; the paper's own definition of a phase shift is not known.
    """
    curves = _curves(frame, "test_accuracy")
    return _fitted(curves.columns.to_numpy(), curves.to_numpy()).set_index(curves.index)


def _curves(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """A row an (arm, seed), a column a sparsity from the dense network's 0 on."""
    dense = frame[frame["arm"] == "dense"].set_index("seed")[column]
    pruned = frame[frame["arm"] != "dense"]
    table = pruned.pivot(index=["arm", "seed"], columns="sparsity", values=column)
    table[0.0] = dense.loc[table.index.get_level_values("seed")].to_numpy()
    return table.sort_index(axis=1).reindex(pruned["arm"].unique(), level="arm")


def _fitted(s: _Vector, curves: _Vector) -> pd.DataFrame:
    """Fit accuracies ``(M, n)`` at sparsities ``(n,)``; the columns of ``phase_shifts``."""
    if (n := len(s)) < 7:
        raise ValueError(f"a logistic has 4 parameters; at least 7 sparsities are needed, got {n}")
    u = -np.log10(1 - s)
    all_widths = np.geomspace(np.diff(u).min() / 2, 4 * u[-1], 101)
    midpoints, widths = map(np.ravel, np.meshgrid(np.linspace(u[0], u[-1], 201), all_widths))
    logistic, which = _best(expit(_WIDTH_OF_SCALE * (u - midpoints[:, None]) / widths[:, None]), curves, 5)
    others = [
        _best(u[None], curves, 3)[0],
        _best(u ** np.geomspace(0.25, 8, 401)[:, None], curves, 4)[0],
        _best(np.maximum(u - np.linspace(0, u[-2], 401)[:, None], 0), curves, 4)[0],
        _best(np.exp(-(1 - s) / np.geomspace(1e-3, 10, 801)[:, None]), curves, 4)[0],
    ]
    found = pd.DataFrame({"midpoint": midpoints[which], "width": widths[which]})
    found["gain"] = logistic - np.min(others, axis=0)
    found["is_shift"] = (found["gain"] < -_BETTER) & (found["width"] <= _MAX_WIDTH)
    return found


def _best(shapes: _Vector, curves: _Vector, n_parameters: int) -> tuple[_Vector, NDArray[np.intp]]:
    """Akaike's criterion ``(M,)`` of the best falling multiple of the shapes ``(G, n)``, and which shape it is."""
    shapes = shapes - shapes.mean(axis=1, keepdims=True)
    shapes = shapes / np.maximum(np.linalg.norm(shapes, axis=1, keepdims=True), 1e-9)
    centered, n = curves - curves.mean(axis=1, keepdims=True), curves.shape[1]
    drops = -centered @ shapes.T
    which = drops.argmax(axis=1)
    best = np.maximum(drops[np.arange(len(drops)), which], 0)
    rss = (centered**2).sum(axis=1) - best**2
    return n * np.log(np.maximum(rss / n, _EXACT)) + 2 * n_parameters, np.where(best > 0, which, 0)


# Accuracy against the share of weights kept, 1 - s, and the decades removed, u: high without pruning, low at the end.
_SHAPES: dict[str, Callable[[_Vector, _Vector], _Vector]] = {
    "step of half a decade": lambda left, u: expit(_WIDTH_OF_SCALE * (1.2 - u) / 0.5),
    "saturating exponential": lambda left, u: 1 - np.exp(-left / 0.02),
    "level, then straight": lambda left, u: 1 - np.maximum(u - 1, 0) / (u.max() - 1),
    "straight": lambda left, u: 1 - u / u.max(),
    "parabola": lambda left, u: 1 - (u / u.max()) ** 2,
    "level": lambda left, u: np.ones_like(u),
}


def false_alarms(sparsities: Sequence[float], noises: Sequence[float], n: int = 500) -> pd.DataFrame:
    """Count how often curves of known shape, of which the first alone has a transition, are called a phase shift.

    Args:
        sparsities: of the curves, beside the dense network's 0.
        noises: standard deviations of the normal noise on every accuracy.
        n: curves of each kind.

    Returns:
        Shares in [0, 1] of ``is_shift`` of ``phase_shifts``, a row a shape, a column a noise.
    """
    s, draw = np.array([0.0, *sparsities]), np.random.default_rng(0)
    shares = {}
    for name, shape in _SHAPES.items():
        curve = 0.1 + 0.87 * shape(1 - s, -np.log10(1 - s))
        noisy = (curve + draw.normal(0, noise, (n, len(s))) for noise in noises)
        shares[name] = [_fitted(s, each)["is_shift"].mean() for each in noisy]
    return pd.DataFrame.from_dict(shares, orient="index", columns=list(noises))


def knees(frame: pd.DataFrame, tolerances: Sequence[float]) -> pd.DataFrame:
    r"""How far each arm can go before accuracy falls (claim G7).

    Args:
        frame: of ``experiments.accuracy_runs``.
        tolerances: $\tau$, percentage points of validation accuracy below the dense network's.

    Returns:
        By (tolerance, arm, seed): ``decades`` $-\log_{10}(1-s)$ of the largest sparsity whose validation accuracy is
        within $\tau$ of the dense network's, 0 where none is; ``difference``, the test accuracy there minus the dense
        network's in percentage points.
    """
    validation, test = (_curves(frame, f"{part}_accuracy") for part in ("validation", "test"))
    lost, frames = 100 * validation.rsub(validation[0.0], axis=0), {}
    for tolerance in tolerances:
        last = lost.le(tolerance).mul(lost.columns).max(axis=1)
        there = test.to_numpy()[np.arange(len(test)), test.columns.get_indexer(pd.Index(last))]
        difference = 100 * (there - test[0.0])
        frames[tolerance] = pd.DataFrame({"decades": -np.log10(1 - last), "difference": difference})
    return pd.concat(frames, names=["tolerance"])


def steepest(frame: pd.DataFrame, within: float) -> pd.Series:
    """Return the largest fall of test accuracy in percentage points between penalties so many decades apart, by seed.

    Over all pairs of a fine grid, so that it does not hang on where the grid begins.

    Args:
        frame: of ``experiments.alpha_runs``, one loss change.
        within: decades.
    """
    table = 100 * frame.pivot(index="seed", columns="alpha", values="test_accuracy")
    u = np.log10(table.columns.to_numpy(dtype=np.float64))
    falls = table.to_numpy()[:, :, None] - table.to_numpy()[:, None, :]
    near = (u[None] - u[:, None] > 0) & (u[None] - u[:, None] <= within + 1e-9)
    return pd.Series(falls[:, near].max(axis=1), index=table.index)


# --- flatness and accuracy --------------------------------------------------------------------------------------------


def against_dense(frame: pd.DataFrame) -> pd.DataFrame:
    r"""Compare each pruned network with the dense one of its seed and stopping.

    Args:
        frame: of ``experiments.flatness_runs``.

    Returns:
        One row a (seed, stopping, arm, sparsity): ``all``, ``kept``, ``noise``, $\log_{10}(c / c_\text{dense})$ of each
        measure c, negative where the pruned network is flatter, NaN where one of the two is not positive (a collapsed
        network, a rise lost in noise); ``accuracy``, the change in percentage points; ``train_loss``.
    """
    dense, pruned = frame[frame["arm"] == "dense"], frame[frame["arm"] != "dense"]
    keys = ["seed", "stopping"]
    both = pruned.merge(dense, on=keys, suffixes=("", "_dense"), validate="many_to_one")
    found = both[[*keys, "arm", "sparsity", "train_loss"]].copy()
    found["accuracy"] = 100 * (both["test_accuracy"] - both["test_accuracy_dense"])
    for measure in ("all", "kept", "noise"):
        pair = both[[measure, f"{measure}_dense"]].to_numpy(dtype=np.float64)
        logs = np.log10(np.where(pair > 0, pair, np.nan))
        found[measure] = logs[:, 0] - logs[:, 1]
    return found


def associations(changes: pd.DataFrame, measure: str) -> pd.DataFrame:
    r"""Correlate, within each seed, the change of flatness of pruned networks with that of test accuracy (claim G9).

    Spearman's correlation as it is (``raw``), and with the ranks of sparsity and of training loss held fixed
    (``partial``): $\operatorname{corr}(r_x - \hat r_x, r_y - \hat r_y)$ with $\hat r$ by least squares on 1 and those
    ranks; equal values share their mean rank. An association of two outcomes of one intervention: not to be confused
    with the effect of flatness on accuracy.

    Args:
        changes: of ``against_dense``, one stopping.
        measure: ``"all"``, ``"kept"`` or ``"noise"``.

    Returns:
        By seed: raw, partial; NaN where flatness or accuracy is constant or determined by what is held fixed. Networks
        without a defined change of flatness are not counted.
    """
    rows = {}
    for seed, some in changes.groupby("seed"):
        values = some[[measure, "accuracy", "sparsity", "train_loss"]].to_numpy(dtype=np.float64).T
        values = values[:, np.isfinite(values).all(axis=0)]
        rows[seed] = {"raw": _partial(values[:2]), "partial": _partial(values)}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("seed")


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
