"""Diagonal linear networks: equal grids for all families, full-batch and stochastic, and single trajectories."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from repro.papers.implicit_sparsification.diagonal import Paths, descend, logarithmic_steps
from repro.papers.implicit_sparsification.diagonal_comparisons import HORIZONS, SETTING, best_schedules
from repro.papers.implicit_sparsification.diagonal_families import FAMILIES
from repro.papers.implicit_sparsification.regression import SparseRegression, sparse_regression
from repro.papers.implicit_sparsification.schedules import SCHEDULES, dose, schedule

__all__ = ["CONSTANTS", "DECAYING", "grid", "stochastic", "trajectories"]

CONSTANTS = tuple(0.002 * 2.0**k for k in range(11))
"""Strengths of the constant schedule, for every family."""

DECAYING = tuple(2.0 * 2.0**k for k in range(11))
r"""Amplitudes of the three decaying schedules at step size 0.01, for every family.

At another step size they scale as $1/\eta$, so that a schedule by step spends the same dose. From $\eta\alpha_k=1/2$
on, a step multiplies factors by a negative number: no longer the flow in small steps, but a defined algorithm.
"""

_REFERENCE_STEP = 1e-2


def grid(
    seeds: Sequence[int] = range(5),
    n_steps: int = 20_000,
    *,
    families: Sequence[str] = tuple(FAMILIES),
    schedules: Sequence[str] = SCHEDULES,
    step_size: float = _REFERENCE_STEP,
    n_held_out: int = 40,
    start_deviation: float | None = None,
    horizons: Sequence[int] = HORIZONS,
) -> pd.DataFrame:
    r"""Train every family with every schedule at every amplitude, from the same starts.

    Args:
        seeds: of the problems and their starts; a problem's held-out samples follow from its seed.
        n_steps: steps of full gradient descent.
        families: keys of ``FAMILIES``.
        schedules: names of schedules, each with its eleven amplitudes.
        step_size: $\eta$.
        n_held_out: fresh samples $z\sim N(0,I)$ with $y=z^\top x^*$, on which strengths are chosen.
        start_deviation: as for ``sparse_regression``.
        horizons: steps to record besides those evenly spaced on a logarithmic scale.

    Returns:
        One row a (family, schedule, amplitude, seed, step): start, dose (all of it so far), distance $\|x-x^*\|_2$,
        train_loss, validation_error $\frac1{2|V|}\|Z_Vx-y_V\|^2$, flips (signs of the truth's non-zeros that changed
        since the start), wrong_signs (of them, against the truth), exact_zeros (of all weights), diverged. The
        numbers of a member are NaN from the step at which it has diverged.
    """
    problems = [sparse_regression(seed, start_deviation=start_deviation) for seed in seeds]
    settings = [(name, amplitude) for name in schedules for amplitude in _amplitudes(name, step_size)]
    names = pd.DataFrame(settings, columns=["schedule", "amplitude"])
    strengths = _strengths(names, n_steps)
    steps = logarithmic_steps(n_steps, also=horizons)
    paths = descend(problems, strengths, families=families, step_size=step_size, record=steps)
    return _measured(paths, problems, seeds, dict.fromkeys(families, names), strengths, step_size, n_held_out)


def _amplitudes(name: str, step_size: float) -> tuple[float, ...]:
    if name == "constant":
        return CONSTANTS
    return tuple(amplitude * _REFERENCE_STEP / step_size for amplitude in DECAYING)


def _strengths(settings: pd.DataFrame, n_steps: int) -> NDArray[np.float64]:
    """A schedule a row, ``(R, K)``."""
    rows = zip(settings["schedule"], settings["amplitude"], strict=True)
    return np.stack([schedule(name, amplitude, n_steps) for name, amplitude in rows])


def _measured(
    paths: Paths,
    problems: Sequence[SparseRegression],
    seeds: Sequence[int],
    settings: dict[str, pd.DataFrame],
    strengths: NDArray[np.float64],
    step_size: float,
    n_held_out: int,
) -> pd.DataFrame:
    """One row a member and recorded step; strengths ``(R, K)`` or ``(F, R, K)``."""
    spent = np.concatenate([np.zeros_like(strengths[..., :1]), dose(strengths, step_size)], axis=-1)
    spent = np.broadcast_to(spent, (len(paths.families), *spent.shape[-2:]))
    frames = []
    for p, (problem, seed) in enumerate(zip(problems, seeds, strict=True)):
        held_out = np.random.default_rng([seed, 7]).standard_normal((n_held_out, len(problem.x_star)))
        support = problem.x_star != 0
        for f, family in enumerate(paths.families):
            x = paths.x[:, f, p]  # (T, R, n)
            on_support = x[..., support]
            miss = (x - problem.x_star) @ held_out.T
            columns = {
                "distance": np.linalg.norm(x - problem.x_star, axis=-1),
                "train_loss": problem.loss(x),
                "validation_error": np.vecdot(miss, miss) / (2 * n_held_out),
                "flips": (on_support * problem.x0[support] < 0).sum(axis=-1),
                "wrong_signs": (on_support * problem.x_star[support] <= 0).sum(axis=-1),
                "exact_zeros": (x == 0).sum(axis=-1),
                "dose": spent[f].T[paths.steps],
                "diverged": np.isnan(x[..., 0]),
            }
            index = np.indices(columns["distance"].shape).reshape(2, -1)
            names = settings[family].iloc[index[1]].reset_index(drop=True)
            values = {name: column.ravel() for name, column in columns.items()}
            head = {"family": family, "start": FAMILIES[family].start, "seed": seed}
            frames.append(names.assign(**head, step=paths.steps[index[0]], **values))
    frame = pd.concat(frames, ignore_index=True)
    for column in ("flips", "wrong_signs", "exact_zeros"):
        frame[column] = frame[column].where(~frame["diverged"])
    return frame[["family", "start", "schedule", "amplitude", "seed", "step", *columns]]


def stochastic(
    frame: pd.DataFrame,
    n_steps: int = 20_000,
    *,
    horizon: int | None = None,
    batch_size: int = 5,
    n_orders: int = 2,
    step_size: float = _REFERENCE_STEP,
    n_held_out: int = 40,
    start_deviation: float | None = None,
    horizons: Sequence[int] = HORIZONS,
) -> pd.DataFrame:
    """The chosen settings again, with mini-batches: all families of a problem see the same ones (M11).

    Args:
        frame: of ``grid``; every family runs each schedule at the amplitude chosen there at ``horizon``.
        n_steps: steps of stochastic gradient descent.
        horizon: a recorded step of ``frame``; None for ``n_steps``.
        batch_size: samples a step.
        n_orders: orders of mini-batches a problem.
        step_size, n_held_out, start_deviation, horizons: as for ``grid``, with which they must agree.

    Returns:
        As ``grid``, with the column order, one row a (family, schedule, amplitude, seed, order, step).
    """
    best = best_schedules(frame, [n_steps if horizon is None else horizon])
    settings = {
        str(family): of_family[["schedule", "amplitude"]].drop_duplicates().reset_index(drop=True)
        for family, of_family in best.groupby("family", sort=False)
    }
    strengths = np.stack([_strengths(rows, n_steps) for rows in settings.values()])
    seeds = [int(seed) for seed in best["seed"].unique()]
    members = [(seed, order) for order in range(n_orders) for seed in seeds]
    problems = [sparse_regression(seed, start_deviation=start_deviation) for seed, _ in members]
    paths = descend(
        problems,
        strengths,
        families=list(settings),
        step_size=step_size,
        batch_size=batch_size,
        order_seeds=[1000 * seed + order for seed, order in members],
        record=logarithmic_steps(n_steps, also=horizons),
    )
    seeds_of_members = [seed for seed, _ in members]
    found = _measured(paths, problems, seeds_of_members, settings, strengths, step_size, n_held_out)
    return found.assign(order=np.repeat([order for _, order in members], len(found) // len(members)))


def trajectories(
    settings: pd.DataFrame,
    seed: int,
    n_steps: int = 20_000,
    *,
    step_size: float = _REFERENCE_STEP,
    start_deviation: float | None = None,
) -> pd.DataFrame:
    """Weights at the places of the truth's non-zeros, along the way.

    Args:
        settings: rows with family, schedule and amplitude, one a family.
        seed: of the problem.
        n_steps, step_size, start_deviation: as for ``grid``.

    Returns:
        One row a (family, coordinate, step): schedule, amplitude, x, x_star.
    """
    problem = sparse_regression(seed, start_deviation=start_deviation)
    strengths = _strengths(settings, n_steps)[:, None]
    record = logarithmic_steps(n_steps, per_decade=40)
    paths = descend(
        [problem], strengths, families=list(settings["family"]), step_size=step_size, record=record
    )
    parts = [
        pd.DataFrame({"step": paths.steps, "x": paths.x[:, f, 0, 0, i]}).assign(
            **dict(row), coordinate=i, x_star=problem.x_star[i]
        )
        for f, (_, row) in enumerate(settings[SETTING].iterrows())
        for i in np.flatnonzero(problem.x_star)
    ]
    return pd.concat(parts, ignore_index=True)[[*SETTING, "coordinate", "step", "x", "x_star"]]
