"""Grids of diagonal networks: what a row holds, how strengths are chosen, and the comparisons."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from repro.papers._pictures import where
from repro.papers.implicit_sparsification.diagonal import descend
from repro.papers.implicit_sparsification.diagonal_comparisons import (
    balanced_against_unbalanced,
    best_schedules,
    chosen_curves,
    families_at_horizons,
    steps_to_reach,
    stochastic_against_full,
)
from repro.papers.implicit_sparsification.diagonal_experiments import grid, stochastic, trajectories
from repro.papers.implicit_sparsification.regression import sparse_regression
from repro.papers.implicit_sparsification.schedules import schedule

FAMILIES = ("pilot", "spred", "weights")
HORIZONS = (100, 800)
SEEDS = (0, 3)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return grid(SEEDS, 800, families=FAMILIES, horizons=HORIZONS)


def test_every_family_has_the_same_grid(frame: pd.DataFrame) -> None:
    assert len(frame) == len(frame.drop_duplicates(["family", "schedule", "amplitude", "seed", "step"]))
    settings = {
        family: set(zip(rows["schedule"], rows["amplitude"], rows["seed"], rows["step"], strict=True))
        for family, rows in frame.groupby("family")
    }
    assert settings["pilot"] == settings["spred"] == settings["weights"]
    assert len(settings["pilot"]) == 4 * 11 * 2 * frame["step"].nunique()


@pytest.mark.parametrize(("family", "name"), [("pilot", "geometric"), ("weights", "constant")])
def test_a_row_is_what_a_run_by_itself_gives(frame: pd.DataFrame, family: str, name: str) -> None:
    amplitude = sorted(where(frame, schedule=name)["amplitude"].unique())[4]
    problem = sparse_regression(3)
    strengths = schedule(name, amplitude, 800)
    x = descend([problem], strengths[None], families=[family], record=[100]).x[0, 0, 0, 0]
    row = where(frame, family=family, schedule=name, amplitude=amplitude, seed=3, step=100).iloc[0]
    truth = problem.x_star
    support = np.flatnonzero(truth)
    assert row["distance"] == pytest.approx(np.sqrt(((x - truth) ** 2).sum()))
    assert row["train_loss"] == pytest.approx(((problem.Z @ x - problem.y) ** 2).mean() / 2)
    assert row["dose"] == pytest.approx(1e-2 * strengths[:100].sum())
    assert row["flips"] == sum(np.sign(x[i]) != np.sign(problem.x0[i]) for i in support)
    assert row["wrong_signs"] == sum(np.sign(x[i]) != np.sign(truth[i]) for i in support)


def test_the_validation_error_estimates_half_the_squared_distance(frame: pd.DataFrame) -> None:
    known = frame.dropna(subset="distance")
    ratio = known["validation_error"] / (known["distance"] ** 2 / 2)
    # Mean of 40 squared normal numbers: its deviation is sqrt(2 / 40) = 0.22.
    assert ratio.between(0.2, 2.2).all()
    assert ratio.groupby(known["seed"]).mean().between(0.6, 1.4).all()


def test_numbers_of_diverged_members_are_missing(frame: pd.DataFrame) -> None:
    gone = frame[frame["diverged"]]
    assert len(gone) > 0
    assert gone[["distance", "train_loss", "validation_error", "flips", "wrong_signs"]].isna().all(axis=None)
    assert frame[~frame["diverged"]].notna().all(axis=None)


def test_amplitudes_that_decay_by_step_scale_with_the_step_size() -> None:
    coarse, fine = (grid([0], 10, families=["pilot"], step_size=step, horizons=[10]) for step in (1e-2, 1e-4))
    for name, factor in (("constant", 1.0), ("geometric", 100.0)):
        largest = [where(one, schedule=name)["amplitude"].max() for one in (coarse, fine)]
        assert largest[1] / largest[0] == pytest.approx(factor)
    doses = [where(one, schedule="harmonic", step=10)["dose"].tolist() for one in (coarse, fine)]
    np.testing.assert_allclose(*doses)


def made_up(errors: dict[tuple[str, float], list[float]], distances: list[float]) -> pd.DataFrame:
    """Validation errors of two seeds for (schedule, amplitude); all else equal."""
    rows = [
        {"family": "pilot", "schedule": name, "amplitude": amplitude, "seed": seed, "step": 5}
        | {"validation_error": error, "distance": distance, "flips": 1, "wrong_signs": 0, "exact_zeros": 0}
        for ((name, amplitude), of_seeds), distance in zip(errors.items(), distances, strict=True)
        for seed, error in enumerate(of_seeds)
    ]
    return pd.DataFrame(rows)


def test_strengths_are_chosen_by_validation_and_not_by_distance() -> None:
    nan = float("nan")
    table = made_up(
        {
            ("constant", 1.0): [3.0, 3.0],
            ("constant", 2.0): [1.0, 2.0],
            ("constant", 3.0): [0.1, nan],
            ("harmonic", 1.0): [1.0, 1.5],
            ("harmonic", 2.0): [2.0, 2.0],
        },
        distances=[0.0, 5.0, 0.1, 7.0, 1.0],
    )
    found = best_schedules(table, [5])
    constant, harmonic = (where(found, schedule=name) for name in ("constant", "harmonic"))
    assert constant["amplitude"].tolist() == [2.0, 2.0]
    assert constant["interior"].all()
    assert not constant["best"].any()
    assert harmonic["amplitude"].tolist() == [1.0, 1.0]
    assert not harmonic["interior"].any()
    assert harmonic["best"].all()
    assert harmonic["distance"].tolist() == [7.0, 7.0]


def test_families_are_tuned_at_each_horizon(frame: pd.DataFrame) -> None:
    found = families_at_horizons(frame, HORIZONS)
    assert len(found) == len(HORIZONS) * len(FAMILIES) * len(SEEDS)
    assert (where(found, family="pilot")["ratio"] == 1).all()
    for horizon in HORIZONS:
        at = where(frame, step=horizon, family="weights").dropna(subset="distance")
        chosen = where(found, horizon=horizon, family="weights")
        mean_errors = at.groupby(["schedule", "amplitude"])["validation_error"].mean()
        assert chosen["validation_error"].mean() == pytest.approx(mean_errors.min())
        ours = where(found, horizon=horizon, family="pilot")["distance"].to_numpy()
        np.testing.assert_allclose(chosen["ratio"], chosen["distance"] / ours)


def test_the_balanced_start_never_flips_a_sign(frame: pd.DataFrame) -> None:
    found = balanced_against_unbalanced(frame, HORIZONS)
    assert found[["horizon", "seed"]].to_numpy().tolist() == [[100, 0], [100, 3], [800, 0], [800, 3]]
    assert (found["flips_balanced"] == 0).all()
    assert (where(found, horizon=800)["flips_unbalanced"] > 0).all()
    np.testing.assert_allclose(found["ratio"], found["balanced"] / found["unbalanced"])
    assert (found["least_balanced"] <= found["balanced"]).all()
    assert (where(found, horizon=800)["least_balanced"] > 1).all()


def test_curves_hold_one_setting_a_family_and_all_its_steps(frame: pd.DataFrame) -> None:
    curves = chosen_curves(frame, 800)
    assert (curves.groupby("family")[["schedule", "amplitude"]].nunique() == 1).all(axis=None)
    assert len(curves) == len(FAMILIES) * len(SEEDS) * frame["step"].nunique()


def test_steps_to_reach_a_level() -> None:
    rows = {"family": "pilot", "schedule": "constant", "amplitude": 1.0}
    curves = pd.DataFrame(
        [
            rows | {"seed": seed, "step": step, "distance": distance}
            for seed, path in ((0, [3.0, 0.5, 2.0, 0.1]), (1, [3.0, 2.0, float("nan"), float("nan")]))
            for step, distance in zip((0, 10, 20, 30), path, strict=True)
        ]
    )
    assert steps_to_reach(curves, 0.5)["steps"].tolist() == [10, np.inf]
    assert steps_to_reach(curves, 0.2)["steps"].tolist() == [30, np.inf]


def test_batches_of_all_samples_repeat_full_descent(frame: pd.DataFrame) -> None:
    again = stochastic(frame, 100, batch_size=40, n_orders=2, horizons=[100])
    keys = ["family", "schedule", "amplitude", "seed", "step"]
    both = again.merge(frame, on=keys, suffixes=("", "_full"))
    both = both[~both["diverged"]]
    assert set(both["order"]) == {0, 1}
    assert len(where(both, order=1, step=100)) == len(FAMILIES) * 4 * len(SEEDS)
    np.testing.assert_allclose(both["distance"], both["distance_full"], rtol=1e-9)
    np.testing.assert_allclose(both["validation_error"], both["validation_error_full"], rtol=1e-8)


def test_stochastic_beside_full(frame: pd.DataFrame) -> None:
    noisy = stochastic(frame, 100, n_orders=3, horizons=[100])
    found = stochastic_against_full(frame, noisy, 100)
    assert len(found) == len(FAMILIES) * 4 * len(SEEDS)
    assert found.groupby(["family", "seed"])["best"].sum().eq(1).all()
    row = where(found, family="weights", schedule="constant", seed=3).iloc[0]
    at = {"amplitude": row["amplitude"], "family": "weights", "schedule": "constant", "seed": 3, "step": 100}
    assert row["full"] == where(frame, **at)["distance"].item()
    assert row["stochastic"] == np.median(where(noisy, **at)["distance"])
    broken = noisy.assign(distance=noisy["distance"].mask(noisy["order"] == 1))
    assert stochastic_against_full(frame, broken, 100)["stochastic"].isna().all()


def test_the_other_reading_of_the_start_is_passed_on() -> None:
    starts = [
        where(grid([1], 1, families=["weights"], horizons=[1], start_deviation=s), step=0)
        for s in (None, 0.1)
    ]
    problems = [sparse_regression(1), sparse_regression(1, start_deviation=0.1)]
    for frame, problem in zip(starts, problems, strict=True):
        np.testing.assert_allclose(frame["distance"], np.linalg.norm(problem.x0 - problem.x_star))


def test_orders_of_mini_batches_differ(frame: pd.DataFrame) -> None:
    found = where(stochastic(frame, 100, horizons=[100]), family="weights", schedule="constant", step=100)
    assert found.groupby("seed")["distance"].nunique().tolist() == [2, 2]


def test_trajectories_agree_with_the_grid(frame: pd.DataFrame) -> None:
    settings = best_schedules(frame, [800])
    settings = settings[settings["best"] & (settings["seed"] == 0)]
    paths = trajectories(settings, 3, 800)
    problem = sparse_regression(3)
    assert sorted(paths["coordinate"].unique()) == np.flatnonzero(problem.x_star).tolist()
    last = paths[paths["step"] == 800]
    for row in settings.itertuples():
        flips = where(
            frame, family=row.family, schedule=row.schedule, amplitude=row.amplitude, seed=3, step=800
        )
        x = where(last, family=row.family).set_index("coordinate")["x"]
        assert flips["flips"].item() == (x * problem.x0[x.index] < 0).sum()


def test_a_horizon_must_have_been_recorded(frame: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="step 777 was not recorded; recorded:"):
        best_schedules(frame, [777])
