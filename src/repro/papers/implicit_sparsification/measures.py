"""From the experiments' tables to what the ledger judges: strengths chosen without the truth, one number a seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from repro.papers._pictures import where
from repro.papers.implicit_sparsification.settings import sparse_regression
from repro.papers.implicit_sparsification.theory import certified_rate

__all__ = [
    "HIGH_SPARSITIES",
    "advantage",
    "balanced_start",
    "best_schedules",
    "chosen_by_validation",
    "chosen_curves",
    "crossings",
    "error_rates",
    "steps_to_reach",
    "stochastic_against_full",
]

HIGH_SPARSITIES: tuple[float, ...] = (0.95, 0.98, 0.99, 0.995)
"""Where the small networks are compared: at less, all methods do equally well."""

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
        ``certified``, of ``theory.certified_rate``.
    """
    rows = []
    for _, one in table[table["dose"] >= 3].groupby(["seed", "beta"], sort=False):
        seed, beta = int(one["seed"].iloc[0]), one["beta"].iloc[0]
        log_error = np.log(one["error"])
        rate = -np.polyfit(one["dose"], log_error, 1)[0]
        correlation = np.corrcoef(one["dose"], log_error)[0, 1]
        certified = certified_rate(sparse_regression(seed))
        rows.append({"seed": seed, "beta": beta, "rate": rate, "r2": correlation**2, "certified": certified})
    return pd.DataFrame(rows)


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


def chosen_curves(grid: pd.DataFrame, horizon: int) -> pd.DataFrame:
    """All steps of each family's best schedule and amplitude, tuned at the horizon: rows of the grid."""
    chosen = where(best_schedules(grid, [horizon]), best=True)
    return chosen[_RUN].drop_duplicates().merge(grid, on=_RUN)


def steps_to_reach(curves: pd.DataFrame, level: float) -> pd.DataFrame:
    """The first recorded step at which the distance is ``level`` or less (M10).

    Args:
        curves: of ``chosen_curves``.
        level: distance to the truth.

    Returns:
        One row a (family, schedule, amplitude, seed): steps, infinite where the level was not reached.
    """
    reached = curves.assign(steps=curves["step"].where(curves["distance"] <= level, np.inf))
    return reached.groupby([*_RUN, "seed"], sort=False)["steps"].min().reset_index()


def stochastic_against_full(grid: pd.DataFrame, noisy: pd.DataFrame, horizon: int) -> pd.DataFrame:
    """Distances with mini-batches beside those of full gradient descent, for the settings that both ran (M11).

    Args:
        grid: of ``experiments.diagonal_grid``.
        noisy: of ``experiments.stochastic``, from that grid and with this horizon.
        horizon: the last step.

    Returns:
        One row a (family, schedule, seed): amplitude, best (of the family's schedules, under full descent), full and
        stochastic (distances; the second a median over orders of mini-batches, missing if one of them diverged).
    """
    keys = [*_RUN, "seed"]
    chosen = best_schedules(grid, [horizon]).rename(columns={"distance": "full"})
    at = where(noisy, step=horizon).groupby(keys, sort=False)["distance"]
    medians = at.agg(lambda distances: distances.median(skipna=False)).rename("stochastic").reset_index()
    return chosen[[*keys, "best", "full"]].merge(medians, on=keys)


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


def advantage(
    chosen: pd.DataFrame, method: str, against: str, sparsities: Sequence[float] = HIGH_SPARSITIES
) -> pd.Series:
    """Test accuracy of one method minus that of another, averaged over sparsities, in percentage points.

    Args:
        chosen: of ``chosen_by_validation``: one strength a method and sparsity.
        method, against: names of methods.
        sparsities: levels that the table has.

    Returns:
        One number a seed.
    """
    at = chosen[chosen["sparsity"].isin(list(sparsities))]
    ours, theirs = (
        where(at, method=name).groupby("seed")["test_accuracy"].mean() for name in (method, against)
    )
    return 100 * ours - 100 * theirs
