r"""From $L_2$ to $L_1$: which points with the same predictions a flow is near, and how near the truth it ends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linprog

from repro.geometry.interpolators import least_l1, least_l2, least_potential
from repro.geometry.mirror_flows import Constant, Strength, dual_flow
from repro.geometry.potentials import hyperbolic_entropy
from repro.papers._pictures import where
from repro.papers.implicit_sparsification.flow_experiments import potential_of
from repro.papers.implicit_sparsification.regression import SparseRegression, sparse_regression

__all__ = ["certified_rate", "crossings", "error_rates", "potential_curves", "recovery", "transition"]

Array = NDArray[np.float64]


def potential_curves(
    doses: Sequence[float] = (0.0, 0.25, 0.5, 1.0, 4.0, 32.0),
    *,
    x0: float = 0.0,
    beta: float = 1.0,
    n_points: int = 201,
) -> pd.DataFrame:
    r"""The potential of one weight between -1 and 1, at several doses, from 0 at its minimum to 1 at x = 1.

    Args:
        doses: A, 0 or above.
        x0: where the weight starts, between -1 and 1; the minimum is at $e^{-4A}x_0$.
        beta: $m_0^2-w_0^2$, positive.
        n_points: equally spaced values of x.

    Returns:
        One row a (dose, x): ``x0``, ``value``.

    Raises:
        ValueError: a start outside (-1, 1), where the unit of the curves is lost.

    Source: figure 1c of the paper's first version.
    """
    if not -1 < x0 < 1:
        raise ValueError(f"x0 must lie between -1 and 1, got {x0}")
    x = np.linspace(-1.0, 1.0, n_points)
    curves = []
    for dose in doses:
        scale, centre = beta / 2 * np.exp(-4 * dose), np.arcsinh(2 * x0 / beta)
        least = hyperbolic_entropy(np.exp(-4 * dose) * x0, scale, centre)
        height = hyperbolic_entropy(1.0, scale, centre) - least
        value = (hyperbolic_entropy(x, scale, centre) - least) / height
        curves.append(pd.DataFrame({"dose": dose, "x0": x0, "x": x, "value": value}))
    return pd.concat(curves, ignore_index=True)


def transition(
    seeds: Sequence[int],
    beta: float = 1.0,
    strength: Strength | None = None,
    times: ArrayLike | None = None,
) -> pd.DataFrame:
    r"""Follow a flow and compare it, at every time, with two points of the same predictions (claim M4).

    $x_t$ minimizes $R_{a_t}$ among all x with $Zx=Zx_t$, so that the comparison needs no convergence. The two points
    are those of least $\|x-e^{-4A_t}x_0\|_2$ and of least $\|x\|_1$.

    Args:
        seeds: of the problems.
        beta: $m_0^2-w_0^2$, positive.
        strength: of weight decay; None takes 0.05, constant.
        times: ascending, above 0; None takes 21 from 0.5 to 50, equally spaced in the logarithm.

    Returns:
        One row a (seed, time): ``dose``, ``l2_distance`` and ``l1_distance``, relative to $\|x_t\|_2$,
        ``l2_cosine`` and ``l1_cosine``.
    """
    strength = Constant(0.05) if strength is None else strength
    times = np.geomspace(0.5, 50.0, 21) if times is None else np.asarray(times, dtype=np.float64)
    rows = []
    for seed in seeds:
        problem = sparse_regression(seed)
        path = dual_flow(problem.Z, problem.y, problem.x0, beta, strength, times=times)
        for time, x, dose in zip(path.times, path.x, path.dose, strict=True):
            row: dict[str, float] = {"seed": seed, "beta": beta, "time": time, "dose": dose}
            predictions = problem.Z @ x
            points = {
                "l2": least_l2(problem.Z, predictions, np.exp(-4 * dose) * problem.x0),
                "l1": least_l1(problem.Z, predictions),
            }
            for name, point in points.items():
                row[f"{name}_distance"] = float(np.linalg.norm(x - point) / np.linalg.norm(x))
                row[f"{name}_cosine"] = _cosine(x, point)
            rows.append(row)
    return pd.DataFrame(rows)


def crossings(table: pd.DataFrame) -> pd.DataFrame:
    """How often the two distances of ``transition`` change their order, and the cosines at both ends.

    Args:
        table: of ``transition``.

    Returns:
        One row a seed: ``crossings``; ``time`` and ``dose`` where the $L_1$ point first is the nearer one (not numbers
        where it never is), ``l2_rises`` whether the distance to the $L_2$ point rises throughout, ``l1_falls`` whether
        that to the $L_1$ point falls from there on, ``l2_cosine_first`` and ``l1_cosine_last``.
    """
    rows = []
    for seed, one in table.sort_values("time").groupby("seed"):
        nearer = (one["l1_distance"] < one["l2_distance"]).to_numpy()
        first = one.iloc[int(nearer.argmax())] if nearer.any() else None
        rows.append(
            {
                "seed": seed,
                "crossings": int((nearer[1:] != nearer[:-1]).sum()),
                "time": np.nan if first is None else first["time"],
                "dose": np.nan if first is None else first["dose"],
                "l1_falls": bool((one["l1_distance"][nearer].diff().iloc[1:] < 0).all()),
                "l2_rises": bool((one["l2_distance"].diff().iloc[1:] > 0).all()),
                "l2_cosine_first": one["l2_cosine"].iloc[0],
                "l1_cosine_last": one["l1_cosine"].iloc[-1],
            }
        )
    return pd.DataFrame(rows)


def recovery(
    seeds: Sequence[int],
    betas: Sequence[float] = (1.0, 100.0),
    doses: Sequence[float] = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0),
) -> pd.DataFrame:
    r"""Compare the limits of flows, by dose, with interpolators of three kinds and with the truth (claims M4, M5).

    Limits are $\arg\min\{R_{a_\infty}(x):Zx=y\}$, which ``flow_experiments.optimality`` shows to be where flows end.

    Args:
        seeds: of the problems.
        betas: $m_0^2-w_0^2$, positive.
        doses: $A_\infty$, 0 or above.

    Returns:
        One row a (seed, beta, dose): ``scale``, $a_\infty$; cosines with the interpolators of least $L_1$ norm
        (``l1_cosine``), of least $L_2$ norm (``l2_cosine``) and nearest to $x_0$ (``start_cosine``); ``error``,
        $\|x-x^*\|_2$; ``least_l1_error``, that of the interpolator of least $L_1$ norm, to which the error tends.
    """
    rows = []
    for seed in seeds:
        problem = sparse_regression(seed)
        Z, y = problem.Z, problem.y
        points = {
            "l1_cosine": least_l1(Z, y),
            "l2_cosine": least_l2(Z, y, np.zeros_like(problem.x0)),
            "start_cosine": least_l2(Z, y, problem.x0),
        }
        floor = float(np.linalg.norm(points["l1_cosine"] - problem.x_star))
        for beta in betas:
            for dose in doses:
                scale, centre = potential_of(problem, beta, dose)
                x = least_potential(Z, y, scale, centre)
                row: dict[str, float] = {"seed": seed, "beta": beta, "dose": dose, "scale": scale}
                row |= {name: _cosine(x, point) for name, point in points.items()}
                row |= {"error": float(np.linalg.norm(x - problem.x_star)), "least_l1_error": floor}
                rows.append(row)
    return pd.DataFrame(rows)


def certified_rate(problem: SparseRegression) -> float:
    r"""Rate at which the error falls with the dose once a is small, $4(1-\rho)$, from a linear program.

    On the support S of $x^*$, $\mathrm{arcsinh}(x/a)$ grows as $\log(1/a)\,\mathrm{sign}(x^*)$; elsewhere
    $x_i=a\sinh(2(Z^\top\nu)_i+c_i)$ is of size $a^{1-\rho_i}$, and least potential asks for the smallest of these:
    $\rho=\min_\nu\max_{i\notin S}|Z_i^\top\nu|$ among the $\nu$ with $Z_S^\top\nu=\mathrm{sign}(x^*_S)$. With
    $\rho\ge1$ the interpolator of least $L_1$ norm is not $x^*$, nor is the limit.

    Raises:
        ValueError: no such $\nu$: the columns of the support are too many or dependent.

    Source: own; the paper has no rate.
    """
    support = problem.x_star != 0
    inside, outside = problem.Z.T[support], problem.Z.T[~support]
    bound = np.ones((len(outside), 1))
    found = linprog(
        np.append(np.zeros(len(problem.y)), 1.0),
        A_ub=np.block([[outside, -bound], [-outside, -bound]]),
        b_ub=np.zeros(2 * len(outside)),
        A_eq=np.hstack([inside, np.zeros((len(inside), 1))]),
        b_eq=np.sign(problem.x_star[support]),
        bounds=(None, None),
    )
    if found.x is None:
        raise ValueError(f"no dual vector has the signs of the {support.sum()} non-zeros: {found.message}")
    return 4 * (1 - float(found.x[-1]))


def error_rates(table: pd.DataFrame, from_dose: float = 3.0) -> pd.DataFrame:
    r"""Fit $\log\|x-x^*\|=\text{const}-\text{rate}\cdot A$ to ``recovery`` (claim M5).

    Args:
        table: of ``recovery``.
        from_dose: smaller doses are left out: the fall is not exponential while a is not small.

    Returns:
        One row a (seed, beta): ``rate``; ``r2``, the share of variance of the log error that the line explains;
        ``certified``, of ``certified_rate``.

    Raises:
        ValueError: fewer than three doses to fit a line to.
    """
    late = table[table["dose"] >= from_dose]
    if late["dose"].nunique() < 3:
        raise ValueError(
            f"a line needs three doses from {from_dose} on, the table has {late['dose'].nunique()}"
        )
    rows = []
    for seed, beta in late[["seed", "beta"]].drop_duplicates().itertuples(index=False):
        one = where(late, seed=seed, beta=beta)
        log_error = np.log(one["error"])
        slope = np.polyfit(one["dose"], log_error, 1)[0]
        correlation = np.corrcoef(one["dose"], log_error)[0, 1]
        rows.append(
            {"seed": seed, "beta": beta, "rate": -slope, "r2": correlation**2}
            | {"certified": certified_rate(sparse_regression(seed))}
        )
    return pd.DataFrame(rows)


def _cosine(x: Array, y: Array) -> float:
    return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))
