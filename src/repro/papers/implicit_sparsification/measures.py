"""From the experiments' tables to what the ledger judges: strengths chosen without the truth, one number a seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from repro.papers._pictures import where
from repro.papers.implicit_sparsification.method import Choice

_Part = Callable[[pd.DataFrame], pd.Series]

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
        nearer = one["l1_distance"] < one["l2_distance"]
        changes = {"crossings": (nearer != nearer.shift()).iloc[1:].sum(), "time": one["time"][nearer].min()}
        ends = {"l2_cosine_first": one["l2_cosine"].iloc[0], "l1_cosine_last": one["l1_cosine"].iloc[-1]}
        rows.append({"seed": seed} | changes | ends)
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
    return pd.concat(parts, ignore_index=True).drop(columns="step")


def balanced_start(grid: pd.DataFrame, horizon: int) -> pd.DataFrame:
    r"""The balanced start at its best in hindsight against the unbalanced one, chosen by validation (M8).

    Returns:
        One row a seed, its index: ratio, the distance from the balanced start, the least in the whole grid, over that
        from the unbalanced one at the horizon; flips, the most signs that changed from the balanced start in the whole
        grid and at any step up to the horizon.
    """
    unbalanced = where(best_schedules(grid, [horizon]), best=True, family="pilot").set_index("seed")
    balanced = where(grid[grid["step"] <= horizon], family="spred")
    least = where(balanced, step=horizon).groupby("seed")["distance"].min()
    flips = balanced.groupby("seed")["flips"].max()
    return pd.DataFrame({"ratio": least / unbalanced["distance"], "flips": flips})


def steps_to_reach(grid: pd.DataFrame, level: float) -> pd.DataFrame:
    r"""The first recorded step at which the distance is ``level`` or less, every family tuned to be there soon (M24).

    The schedule and amplitude of a family take the fewest steps, on average of their logarithms over seeds, to a
    validation error of half the square of the level, which is what a point at that distance has on average. Where a
    level is not reached, the last step counts.

    Returns:
        One row a seed, its index, and one column a family.
    """
    found = {}
    last = grid["step"].max()
    for column, least in {"validation_error": level**2 / 2, "distance": level}.items():
        reached = grid.assign(steps=grid["step"].where(grid[column] <= least, last))
        found[column] = reached.groupby([*_RUN, "seed"])["steps"].min().unstack("seed")
    soon = np.log(found["validation_error"]).mean(axis=1).groupby("family").idxmin()
    return found["distance"].loc[soon].droplevel(["schedule", "amplitude"]).T


# --- pruned networks ----------------------------------------------------------------------------------------------


def chosen_by_validation(table: pd.DataFrame, among: _Part | None = None) -> pd.DataFrame:
    """For each sparsity, the choice with the highest mean validation accuracy of those that a method has.

    The mean is over seeds, so that one choice serves all; of equal means the smaller strength is taken. A choice at
    which a seed has no accuracy, because its training diverged, comes last. The test set has no say.

    Args:
        table: columns method, sparsity, the fields of ``method.Choice``, validation_accuracy, and zeros if ``among``
            asks for them.
        among: from the means to which of them may be chosen.

    Returns:
        One row a method and sparsity: the fields of the choice, validation_accuracy, its mean.
    """
    keys = ["method", "sparsity", *Choice._fields]
    of_choices = table.groupby(keys, dropna=False)
    means = of_choices.mean(numeric_only=True)
    whole = of_choices["validation_accuracy"].count() == of_choices.size()
    # rounding errors are no differences
    means["validation_accuracy"] = means["validation_accuracy"].where(whole).round(12)
    means = means.reset_index()
    if among is not None:
        means = means[among(means)]
    best = means.sort_values(["validation_accuracy", "strength"], ascending=[False, True])
    best = best.drop_duplicates(["method", "sparsity"]).sort_values("sparsity")
    return best[[*keys, "validation_accuracy"]]


def window(table: pd.DataFrame, level: float = 0.9) -> pd.Series:
    r"""How wide the range of strengths is that keep an accuracy, in octaves: $\log_2$ of largest over smallest (M14).

    Between the strengths of the grid the accuracy is taken to be a line over $\log_2\alpha$; what lies beyond the grid
    does not count.

    Args:
        table: of one arm: strength, seed, test_accuracy.
        level: of the test accuracy.

    Returns:
        One number a seed, its index.
    """
    by_seed = table.pivot_table(index="strength", columns="seed", values="test_accuracy")
    octave = np.log2(by_seed.index.to_numpy(dtype=float))
    fine = np.linspace(octave[0], octave[-1], 1001)
    kept = by_seed.apply(lambda accuracy: float((np.interp(fine, octave, accuracy) >= level).mean()))
    return kept * (octave[-1] - octave[0])
