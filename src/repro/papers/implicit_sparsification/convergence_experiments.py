r"""Where flows end and how fast they get there: interpolation, the Lasso, late rates of the loss (M6, M7)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from repro.geometry.interpolators import lasso, least_potential
from repro.geometry.mirror_flows import Constant, Decaying, Strength, SwitchedOff, dual_flow
from repro.papers.implicit_sparsification.flow_experiments import potential_of
from repro.papers.implicit_sparsification.regression import SparseRegression, sparse_regression

__all__ = ["interpolation", "late_rate"]

_ROUND_OFF = 1e-20
"""Of the loss, relative to that of the start: below it the solver's tolerance shows. It is e to the power of -46."""


def interpolation(
    seeds: Sequence[int],
    alphas: Sequence[float] = (0.005, 0.02),
    *,
    beta: float = 1.0,
    dose: float = 1.0,
    rate: float = 1.0,
) -> pd.DataFrame:
    r"""Let weight decay die out or stay: what is left of the residual, and the Lasso as the fixed point (claim M6).

    Constant decay drives $a_t$ to 0 and ends where $\nabla f=-2\alpha\,\mathrm{sign}(x)$, the Lasso with penalty
    $2\alpha\|x\|_1$. It is followed until $A_t=150$, $a_t=10^{-261}$.

    Args:
        seeds: of the problems.
        alphas: constant strengths.
        beta: $m_0^2-w_0^2$, positive.
        dose, rate: of the decay that dies out, $\alpha_t=\text{dose}\cdot\text{rate}\,e^{-\text{rate}\,t}$.

    Returns:
        One row a (seed, ``decay``): ``decay`` is ``"dying out"`` or ``"constant"``; ``alpha`` is the strength at t = 0;
        ``misfit``, $\|Zx-y\|/\|y\|$ in the end; ``lasso_difference``, the largest difference from the Lasso's solution
        over coordinates, not a number where decay dies out.
    """
    rows = []
    for seed in seeds:
        problem = sparse_regression(seed)
        Z, y = problem.Z, problem.y
        end = dual_flow(Z, y, problem.x0, beta, Decaying(dose * rate, rate)).x[-1]
        rows.append(
            {"seed": seed, "decay": "dying out", "alpha": dose * rate, "misfit": problem.misfit(end)}
            | {"lasso_difference": np.nan}
        )
        for alpha in alphas:
            end = dual_flow(Z, y, problem.x0, beta, Constant(alpha), horizon=150 / alpha).x[-1]
            rows.append(
                {"seed": seed, "decay": "constant", "alpha": alpha, "misfit": problem.misfit(end)}
                | {"lasso_difference": float(np.abs(end - lasso(Z, y, 2 * alpha)).max())}
            )
    return pd.DataFrame(rows)


def late_rate(
    seeds: Sequence[int],
    doses: Sequence[float] = (0.0, 1.0, 2.0, 3.0),
    *,
    beta: float = 1.0,
    duration: float = 1.0,
) -> pd.DataFrame:
    r"""Fit the late slope of $\log f$ and set it beside the bound $2a_\infty\lambda$ (claim M7).

    $\lambda=2\sigma_{\min}(ZZ^\top/d)$ is the Polyak-Łojasiewicz constant of f. Decay is switched off after
    ``duration``, or it dies out so slowly that it outlives the loss, $\alpha_t\propto e^{-a_\infty\lambda t/4}$. Then f
    follows $\alpha_t^2$, at a quarter of the bound and half of the rate $a_\infty\lambda$ that the paper prints for any
    integrable decay: weight decay pushes f by as much as the square root of f, not by as much as f.

    Args:
        seeds: of the problems.
        doses: $A_\infty$, 0 or above.
        beta: $m_0^2-w_0^2$, positive.
        duration: of the decay that is switched off.

    Returns:
        One row a (seed, ``decay``, dose): ``decay`` is ``"switched off"`` or ``"slow"`` (doses above 0); ``slope``,
        fitted to $-\log f$ per unit of time; ``bound``, $2a_\infty\lambda$; ``linearized``, the exact late rate after a
        switch, $2\lambda_{\min}(ZDZ^\top/d)$ with $D=2\sqrt{x_\infty^2+a_\infty^2}$.
    """
    rows = []
    for seed in seeds:
        problem = sparse_regression(seed)
        d = len(problem.y)
        smallest = float(np.linalg.eigvalsh(problem.Z @ problem.Z.T / d)[0])
        for dose in doses:
            scale, centre = potential_of(problem, beta, dose)
            bound = 4 * scale * smallest
            limit = least_potential(problem.Z, problem.y, scale, centre)
            speeds = 2 * np.sqrt(limit**2 + scale**2)
            exact = 2 * float(np.linalg.eigvalsh((problem.Z * speeds) @ problem.Z.T / d)[0])
            decays: dict[str, Strength] = {"switched off": SwitchedOff(dose / duration, duration)}
            if dose:
                decays["slow"] = Decaying(dose * bound / 8, bound / 8)
            for name, strength in decays.items():
                slope = _late_slope(problem, beta, strength, bound / 4 if name == "slow" else exact)
                rows.append(
                    {"seed": seed, "beta": beta, "decay": name, "dose": dose}
                    | {"slope": slope, "bound": bound, "linearized": exact}
                )
    return pd.DataFrame(rows)


def _late_slope(problem: SparseRegression, beta: float, strength: Strength, rate: float) -> float:
    """Slope of minus the logarithm of f over the later half of the times at which f is above round-off."""
    times = np.linspace(0.0, 46 / rate, 400)
    path = dual_flow(problem.Z, problem.y, problem.x0, beta, strength, times=times)
    loss = problem.loss(path.x) / problem.loss(problem.x0)
    above = int((loss > _ROUND_OFF).argmin()) or len(times)
    late = slice(above // 2, above)
    return -float(np.polyfit(times[late], np.log(loss[late]), 1)[0])
