r"""The flow of the factors against the mirror flow, and its points against those of least potential (M1, M3).

All flows are those of $f(m\odot w)+\alpha_t(\|m\|^2+\|w\|^2)$ in continuous time, without momentum or mini-batches.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from repro.geometry.interpolators import least_potential
from repro.geometry.mirror_flows import Constant, Decaying, Strength, dual_flow, factor_flow, mirror_flow
from repro.geometry.potentials import factors, mirror_map, printed_scale
from repro.papers.implicit_sparsification.regression import SparseRegression, sparse_regression

__all__ = ["flow_agreement", "optimality", "potential_of", "trajectories"]

Array = NDArray[np.float64]

_GENTLE = Decaying(0.1, 0.1)


def flow_agreement(
    seeds: Sequence[int],
    betas: Sequence[float] = (1.0, 100.0),
    strength: Strength | None = None,
    horizon: float = 20.0,
    n_times: int = 41,
) -> pd.DataFrame:
    r"""Solve the flow of the factors and the mirror flow separately and compare (claim M1).

    Args:
        seeds: of the problems.
        betas: $m_0^2-w_0^2$, positive.
        strength: of weight decay; None takes $0.1e^{-0.1t}$, a dose of 0.86 at t = 20.
        horizon: in units of time, where the clock is that of the factors.
        n_times: equally spaced times at which paths are compared.

    Returns:
        One row a (seed, beta). Largest differences over times and coordinates: ``difference`` of the two flows' x;
        ``dual_difference`` of the factors' x and the d-dimensional dual flow's; ``invariant_error`` of $m^2-w^2$ and
        $\beta e^{-4A_t}$, relative to beta; ``printed_difference`` of the factors' x and $a_t\sinh(-2L_t+c)$ with the
        scale printed in the paper's first version; ``printed_at_start`` the same at t = 0.

    Raises:
        ValueError: fewer than two times (and what the flows refuse).
    """
    if n_times < 2:
        raise ValueError(f"n_times must be 2 or more, got {n_times}")
    strength = _GENTLE if strength is None else strength
    times = np.linspace(0.0, horizon, n_times)
    rows = []
    for seed in seeds:
        problem = sparse_regression(seed)
        for beta in betas:
            start = factors(problem.x0, beta)
            path = factor_flow(problem.gradient, start, times, strength)
            mirror = mirror_flow(problem.gradient, problem.x0, beta, times, strength)
            dual = dual_flow(problem.Z, problem.y, problem.x0, beta, strength, times=times)
            assert path.factors is not None
            m, w = path.factors.m, path.factors.w
            dose = path.dose[:, None]
            # (m + w) decays by e^{-L-2A}, whatever the potential is
            integral = -np.log((m + w) / (start.m + start.w)) - 2 * dose
            centre = np.log((start.m + start.w) / (start.m - start.w))
            printed = printed_scale(beta, dose) * np.sinh(-2 * integral + centre)
            rows.append(
                {
                    "seed": seed,
                    "beta": beta,
                    "difference": _largest(path.x - mirror.x),
                    "dual_difference": _largest(path.x - dual.x),
                    "invariant_error": _largest((m**2 - w**2) / beta - np.exp(-4 * dose)),
                    "printed_difference": _largest(path.x - printed),
                    "printed_at_start": _largest((path.x - printed)[0]),
                }
            )
    return pd.DataFrame(rows)


def trajectories(
    seed: int,
    beta: float = 1.0,
    strength: Strength | None = None,
    horizon: float = 20.0,
    n_times: int = 81,
    n_others: int = 3,
) -> pd.DataFrame:
    """Paths of the true coordinates and some others, by the flow of the factors and by the mirror flow.

    Args:
        seed: of the problem.
        beta, strength, horizon: as for ``flow_agreement``.
        n_times: from a 20,000th of the horizon on, equally spaced in the logarithm.
        n_others: coordinates besides the true ones, the first.

    Returns:
        One row a (coordinate, time): ``true``, the coordinate of $x^*$; ``factors`` and ``mirror``, that of $x_t$.
    """
    strength = _GENTLE if strength is None else strength
    problem = sparse_regression(seed)
    times = np.geomspace(5e-5 * horizon, horizon, n_times)
    path = factor_flow(problem.gradient, factors(problem.x0, beta), times, strength)
    mirror = mirror_flow(problem.gradient, problem.x0, beta, times, strength)
    support = np.flatnonzero(problem.x_star)
    others = np.flatnonzero(problem.x_star == 0)[:n_others]
    tables = [
        pd.DataFrame(
            {"coordinate": i, "true": problem.x_star[i], "time": times}
            | {"factors": path.x[:, i], "mirror": mirror.x[:, i]}
        )
        for i in [*support, *others]
    ]
    return pd.concat(tables, ignore_index=True)


def optimality(
    seeds: Sequence[int],
    doses: Sequence[float] = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0),
    *,
    beta: float = 1.0,
    rate: float = 1.0,
    times: Sequence[float] = (1.0, 4.0, 16.0),
    alpha: float = 0.05,
) -> pd.DataFrame:
    r"""Compare flows with the point of least potential among those with the same predictions (claim M3).

    Limits of flows whose decay dies out are compared with $\arg\min\{R_{a_\infty}(x):Zx=y\}$. On the way, long before
    convergence and under constant decay, $x_t$ is compared with $\arg\min\{R_{a_t}(x):Zx=Zx_t\}$; the flow there is
    that of the factors, which knows nothing of potentials.

    Args:
        seeds: of the problems.
        doses: $A_\infty$ of the flows taken to their limit.
        beta: $m_0^2-w_0^2$, positive.
        rate: the decay dies out as $e^{-\text{rate}\,t}$.
        times: at which flows are looked at on the way, ascending.
        alpha: constant strength on the way.

    Returns:
        One row a (seed, ``where``, dose): ``where`` is ``"limit"`` or ``"on the way"``, ``time`` is infinite or t;
        ``difference``, the largest over coordinates; ``range_residual``, the part of $\nabla R_{a_t}(x_t)$ outside the
        range of $Z^\top$ relative to the whole; ``misfit``, $\|Zx-y\|/\|y\|$.
    """
    rows = []
    for seed in seeds:
        problem = sparse_regression(seed)
        note = {"seed": seed, "beta": beta}
        for dose in doses:
            strength = Decaying(dose * rate, rate)
            path = dual_flow(problem.Z, problem.y, problem.x0, beta, strength)
            rows.append(
                {**note, "where": "limit", "dose": dose, "time": np.inf}
                | _stationarity(problem, path.x[-1], dose, beta, problem.y)
            )
        path = factor_flow(problem.gradient, factors(problem.x0, beta), [0.0, *times], Constant(alpha))
        for time, x, dose in zip(path.times[1:], path.x[1:], path.dose[1:], strict=True):
            rows.append(
                {**note, "where": "on the way", "dose": dose, "time": time}
                | _stationarity(problem, x, dose, beta, problem.Z @ x)
            )
    return pd.DataFrame(rows)


def potential_of(problem: SparseRegression, beta: float, dose: float) -> tuple[float, Array]:
    r"""Scale $\frac\beta2e^{-4A}$ and centre $\mathrm{arcsinh}(2x_0/\beta)$ of the potential at this dose."""
    return beta / 2 * float(np.exp(-4 * dose)), np.arcsinh(2 * problem.x0 / beta)


def _stationarity(
    problem: SparseRegression, x: Array, dose: float, beta: float, predictions: Array
) -> dict[str, float]:
    """How far x is from the least potential among points with these predictions, by value and by gradient."""
    scale, centre = potential_of(problem, beta, dose)
    best = least_potential(problem.Z, predictions, scale, centre)
    gradient = mirror_map(x, scale, centre)
    in_range = problem.Z.T @ np.linalg.lstsq(problem.Z.T, gradient)[0]
    size = float(np.linalg.norm(gradient))
    return {
        "difference": _largest(x - best),
        # without a gradient there is nothing to lie outside the range
        "range_residual": float(np.linalg.norm(gradient - in_range)) / size if size else 0.0,
        "misfit": problem.misfit(x),
    }


def _largest(values: Array) -> float:
    return float(np.abs(values).max())
