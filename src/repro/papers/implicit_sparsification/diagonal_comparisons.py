"""What a grid of diagonal networks decides, with strengths chosen on fresh samples (M8 to M10)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

__all__ = [
    "HORIZONS",
    "SETTING",
    "balanced_against_unbalanced",
    "best_schedules",
    "chosen_curves",
    "families_at_horizons",
    "steps_to_reach",
    "stochastic_against_full",
]

HORIZONS = (2_000, 5_000, 10_000, 20_000)
"""Steps at which the families are compared: the ranking may depend on it."""

SETTING = ["family", "schedule", "amplitude"]
"""Columns that name a way to train."""


def best_schedules(frame: pd.DataFrame, horizons: Sequence[int] = HORIZONS) -> pd.DataFrame:
    """Each family with each schedule at its best amplitude, chosen at each horizon on held-out samples (M9).

    The amplitude, and among schedules the ``best`` one, has the least validation error on average over the seeds;
    an amplitude at which any seed diverged is never chosen. The distance to the truth plays no part in the choice.

    Args:
        frame: of ``grid``.
        horizons: recorded steps; the amplitude is chosen anew at each.

    Returns:
        One row a (horizon, family, schedule, seed): amplitude, interior (the amplitude is not at an end of its
        grid), best, distance, validation_error, flips, wrong_signs.

    Raises:
        ValueError: a horizon that was not recorded.
    """
    parts = []
    for horizon in horizons:
        at = _recorded(frame, horizon)
        errors = at.assign(error=at["validation_error"].fillna(np.inf))
        errors = errors.groupby(SETTING, sort=False)["error"].mean().reset_index()
        least = errors.loc[errors.groupby(["family", "schedule"], sort=False)["error"].idxmin()]
        ends = errors.groupby(["family", "schedule"])["amplitude"].agg(["min", "max"]).reset_index()
        least = least.merge(ends, on=["family", "schedule"])
        inside = (least["amplitude"] > least["min"]) & (least["amplitude"] < least["max"])
        best = least.index.isin(least.groupby("family")["error"].idxmin())
        chosen = least.assign(horizon=horizon, interior=inside, best=best)
        parts.append(
            chosen[["horizon", *SETTING, "interior", "best"]].merge(at.drop(columns="step"), on=SETTING)
        )
    found = pd.concat(parts, ignore_index=True)
    outcome = ["distance", "validation_error", "flips", "wrong_signs", "exact_zeros"]
    return found[["horizon", *SETTING, "interior", "best", "seed", *outcome]]


def _recorded(frame: pd.DataFrame, horizon: int) -> pd.DataFrame:
    at = frame[frame["step"] == horizon]
    if at.empty:
        raise ValueError(f"step {horizon} was not recorded; recorded: {sorted(frame['step'].unique())}")
    return at


def families_at_horizons(frame: pd.DataFrame, horizons: Sequence[int] = HORIZONS) -> pd.DataFrame:
    """Each family with its best schedule and amplitude, tuned at each horizon (M10).

    Returns:
        The ``best`` rows of ``best_schedules``, with ratio: the distance over that of ``pilot`` on the same problem.
        Ratios span many decades; average their logarithms.
    """
    found = best_schedules(frame, horizons)
    found = found[found["best"]].drop(columns="best")
    ours = found[found["family"] == "pilot"].set_index(["horizon", "seed"])["distance"].rename("ours")
    found = found.join(ours, on=["horizon", "seed"])
    return found.assign(ratio=found["distance"] / found["ours"]).drop(columns="ours").reset_index(drop=True)


def balanced_against_unbalanced(frame: pd.DataFrame, horizons: Sequence[int] = HORIZONS) -> pd.DataFrame:
    r"""The balanced start against the unbalanced one, both tuned (M8).

    Returns:
        One row a (horizon, seed): unbalanced and balanced (distances), ratio (balanced over unbalanced),
        least_balanced (the least distance of the balanced start in the whole grid, which no validation could beat),
        flips_unbalanced, and flips_balanced (the most in the whole grid and at any step up to the horizon).
    """
    tuned = families_at_horizons(frame, horizons)
    balanced = frame[frame["family"] == "spred"]
    rows = []
    for horizon, seed in tuned[["horizon", "seed"]].drop_duplicates().itertuples(index=False):
        pair = tuned[(tuned["horizon"] == horizon) & (tuned["seed"] == seed)].set_index("family")
        of_seed = balanced[balanced["seed"] == seed]
        ours, theirs = pair.loc["pilot"], pair.loc["spred"]
        rows.append(
            {"horizon": horizon, "seed": seed}
            | {"unbalanced": ours["distance"], "balanced": theirs["distance"], "ratio": theirs["ratio"]}
            | {"least_balanced": _recorded(of_seed, horizon)["distance"].min()}
            | {"flips_unbalanced": ours["flips"]}
            | {"flips_balanced": of_seed[of_seed["step"] <= horizon]["flips"].max()}
        )
    return pd.DataFrame(rows)


def chosen_curves(frame: pd.DataFrame, horizon: int = HORIZONS[-1]) -> pd.DataFrame:
    """All steps of each family's best setting, tuned at ``horizon``: rows of ``frame``."""
    best = best_schedules(frame, [horizon])
    settings = best.loc[best["best"], SETTING].drop_duplicates()
    return settings.merge(frame, on=SETTING)


def steps_to_reach(frame: pd.DataFrame, level: float) -> pd.DataFrame:
    """The first recorded step at which the distance is ``level`` or less.

    Args:
        frame: rows of ``grid``, for instance ``chosen_curves``.
        level: distance to the truth.

    Returns:
        One row a (family, schedule, amplitude, seed): steps, infinite where the level was not reached.
    """
    keys = [*SETTING, "seed"]
    reached = frame.assign(steps=frame["step"].where(frame["distance"] <= level, np.inf))
    return reached.groupby(keys, sort=False)["steps"].min().reset_index()


def stochastic_against_full(frame: pd.DataFrame, noisy: pd.DataFrame, horizon: int) -> pd.DataFrame:
    """Distances with mini-batches beside those of full gradient descent, for the settings that both ran (M11).

    Args:
        frame: of ``grid``.
        noisy: of ``stochastic``, from that ``frame`` and with this horizon.
        horizon: a step recorded in both.

    Returns:
        One row a (family, schedule, seed): amplitude, best (of the family's schedules, under full descent), full and
        stochastic (distances; the second a median over orders of mini-batches, missing if one of them diverged).
    """
    chosen = best_schedules(frame, [horizon]).rename(columns={"distance": "full"})
    keys = [*SETTING, "seed"]
    at = _recorded(noisy, horizon).groupby(keys, sort=False)["distance"]
    medians = at.agg(lambda distances: distances.median(skipna=False)).rename("stochastic").reset_index()
    return chosen[[*keys, "best", "full"]].merge(medians, on=keys)
