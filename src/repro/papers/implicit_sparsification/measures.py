"""From the experiments' tables to what the ledger judges: strengths chosen without the truth, one number a seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import linprog
from scipy.stats import linregress

from repro.papers._pictures import where
from repro.papers.implicit_sparsification.settings import SparseRegression

_RUN = ["family", "schedule", "amplitude"]
"""Columns that name a way to train a diagonal network."""

# --- flows --------------------------------------------------------------------------------------------------------


def crossings(table: pd.DataFrame) -> pd.DataFrame:
    """How often the two distances of ``experiments.transition`` change their order, and the cosines at both ends (M4).

    Returns:
        One row a seed: ``crossings``; ``time``, when the $L_1$ point first is the nearer one (not a number where it
        never is); ``l2_cosine_first`` and ``l1_cosine_last``.
    """
    rows = []
    for seed, one in table.sort_values("time").groupby("seed"):
        nearer = (one["l1_distance"] < one["l2_distance"]).to_numpy()
        rows.append(
            {
                "seed": seed,
                "crossings": int((nearer[1:] != nearer[:-1]).sum()),
                "time": one["time"].iloc[int(nearer.argmax())] if nearer.any() else np.nan,
                "l2_cosine_first": one["l2_cosine"].iloc[0],
                "l1_cosine_last": one["l1_cosine"].iloc[-1],
            }
        )
    return pd.DataFrame(rows)


def error_rates(table: pd.DataFrame) -> pd.DataFrame:
    r"""Fit $\log\|x-x^*\|=\text{const}-\text{rate}\cdot A$ to ``experiments.recovery`` (M5).

    Doses below 3 are left out: the fall is not exponential while a is not small.

    Returns:
        One row a (seed, beta): ``rate``; ``r2``, the share of variance of the log error that the line explains;
        ``certified``, the rate that a linear program foretells.
    """
    rows = []
    for _, one in table[table["dose"] >= 3].groupby(["seed", "beta"], sort=False):
        seed, beta = int(one["seed"].iloc[0]), one["beta"].iloc[0]
        line = linregress(one["dose"], np.log(one["error"]))
        certified = _certified_rate(SparseRegression.draw(seed))
        found = {"rate": -line.slope, "r2": line.rvalue**2, "certified": certified}
        rows.append({"seed": seed, "beta": beta} | found)
    return pd.DataFrame(rows)


def _certified_rate(problem: SparseRegression) -> float:
    r"""Rate at which the error falls with the dose once a is small, $4(1-\rho)$, from a linear program.

    On the support S of $x^*$, $\mathrm{arcsinh}(x/a)$ grows as $\log(1/a)\,\mathrm{sign}(x^*)$; elsewhere
    $x_i=a\sinh(2(Z^\top\nu)_i+c_i)$ is of size $a^{1-\rho_i}$, and least potential asks for the smallest of these:
    $\rho=\min_\nu\max_{i\notin S}|Z_i^\top\nu|$ among the $\nu$ with $Z_S^\top\nu=\mathrm{sign}(x^*_S)$. With
    $\rho\ge1$ the interpolator of least $L_1$ norm is not $x^*$, nor is the limit.

    Source: own; the paper has no rate.
    """
    support = problem.x_star != 0
    inside, outside = problem.Z.T[support], problem.Z.T[~support]
    bound = np.ones((len(outside), 1))
    found: Any = linprog(
        np.append(np.zeros(len(problem.y)), 1.0),
        A_ub=np.block([[outside, -bound], [-outside, -bound]]),
        b_ub=np.zeros(2 * len(outside)),
        A_eq=np.hstack([inside, np.zeros((len(inside), 1))]),
        b_eq=np.sign(problem.x_star[support]),
        bounds=(None, None),
    )
    return 4 * (1 - float(found.x[-1]))


# --- diagonal networks --------------------------------------------------------------------------------------------


def best_schedules(grid: pd.DataFrame, horizons: Sequence[int]) -> pd.DataFrame:
    """Each family with each schedule at its best amplitude, chosen at each horizon on held-out samples (M9).

    The amplitude, and among schedules the ``best`` one, has the least validation error on average over the seeds; an
    amplitude at which any seed diverged is never chosen. The distance to the truth plays no part in the choice.

    Args:
        grid: of ``experiments.diagonal_grid``.
        horizons: recorded steps; the amplitude is chosen anew at each.

    Returns:
        One row a (horizon, family, schedule, seed): amplitude, best, distance, validation_error, flips.
    """
    parts = []
    for horizon in horizons:
        at = where(grid, step=horizon)
        errors = at.assign(error=at["validation_error"].fillna(np.inf))
        errors = errors.groupby(_RUN, sort=False)["error"].mean().reset_index()
        least = errors.loc[errors.groupby(["family", "schedule"], sort=False)["error"].idxmin()]
        best = least.index.isin(least.groupby("family")["error"].idxmin())
        parts.append(least[_RUN].assign(horizon=horizon, best=best).merge(at, on=_RUN))
    return pd.concat(parts, ignore_index=True).drop(columns=["step", "diverged"])


def balanced_start(grid: pd.DataFrame, horizon: int) -> pd.DataFrame:
    r"""The balanced start against the unbalanced one, both tuned at the horizon (M8).

    Returns:
        One row a seed, its index: ratio, the distance from the balanced start over that from the unbalanced one;
        flips, the most signs that changed from the balanced start in the whole grid and at any step up to the
        horizon.
    """
    tuned = where(best_schedules(grid, [horizon]), best=True).set_index("seed")
    balanced = where(grid[grid["step"] <= horizon], family="spred").groupby("seed")
    ratio = where(tuned, family="spred")["distance"] / where(tuned, family="pilot")["distance"]
    return pd.DataFrame({"ratio": ratio, "flips": balanced["flips"].max()})


def steps_to_reach(curves: pd.DataFrame, level: float) -> pd.DataFrame:
    """The first recorded step at which the distance is ``level`` or less (M10).

    Args:
        curves: rows of the grid, one schedule and amplitude a family.
        level: distance to the truth.

    Returns:
        One row a seed, its index, and one column a family; infinite where the level was not reached.
    """
    reached = curves.assign(steps=curves["step"].where(curves["distance"] <= level, np.inf))
    return reached.pivot_table(index="seed", columns="family", values="steps", aggfunc="min")


# --- pruned networks ----------------------------------------------------------------------------------------------


def chosen_by_validation(table: pd.DataFrame) -> pd.DataFrame:
    """For each method and sparsity, the rows of the strength with the highest mean validation accuracy.

    The mean is over seeds, so that one strength serves all; of equal means the smaller strength is taken. A strength
    at which a seed has no accuracy, because its training diverged, comes last. The test set has no say.

    Args:
        table: columns method, strength, sparsity, validation_accuracy, and others.

    Returns:
        The rows that remain, in the order they had.
    """
    keys = ["method", "sparsity", "strength"]
    accuracies = table.groupby(keys)["validation_accuracy"]
    complete = accuracies.mean().where(accuracies.count() == accuracies.size())
    means = complete.round(12).reset_index()  # rounding errors are no differences
    best = means.sort_values(["validation_accuracy", "strength"], ascending=[False, True])
    return table.merge(best.drop_duplicates(["method", "sparsity"])[keys], on=keys)
