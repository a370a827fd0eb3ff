"""Experiments against theorems, with the cases in which a theorem must not hold as controls."""

from __future__ import annotations

from functools import partial
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.integrate import solve_ivp

from repro.learn import perceptron
from repro.papers._pictures import where
from repro.papers.implicit_sparsification import experiments
from repro.papers.implicit_sparsification.diagonal import FAMILIES, descend
from repro.papers.implicit_sparsification.experiments import _AMPLITUDES, _logarithmic_steps
from repro.papers.implicit_sparsification.measures import best_schedules
from repro.papers.implicit_sparsification.method import METHODS
from repro.papers.implicit_sparsification.settings import SETTINGS, Setting, SparseRegression
from repro.papers.implicit_sparsification.training import fit

# ---- flows


def test_the_gap_of_squared_factors_forgets_the_loss_only_if_both_are_decayed():
    table = experiments.factor_gaps([0, 1])
    assert where(table, which="both")["spread"].max() < 1e-8
    assert where(table, which="mask")["spread"].min() > 1e-2


def test_entries_and_orders_of_gradients_commute_in_elementwise_masks_alone():
    table = experiments.commuting(range(3))
    elementwise, neuronwise = where(table, mask="elementwise"), where(table, mask="neuronwise")
    assert elementwise["bracket"].max() < 1e-12
    assert (elementwise["difference"] < 1e-12 * elementwise["moved"]).all()
    assert (neuronwise["difference"] > 0.05 * neuronwise["moved"]).all()
    for seed, found in neuronwise.set_index("seed")["bracket"].items():
        m, *w = torch.randn(4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()
        # the appendix: the bracket of m w_i and m w_j is w_i in the place of j and -w_j in that of i
        assert found == pytest.approx(abs(m) * max(np.hypot(*pair) for pair in combinations(w, 2)))


def test_paths_of_neuronwise_masks_are_those_of_an_ode_solver():
    """m' = -v.w, w' = -m v, one gradient after the other."""
    seed = 2
    v = np.random.default_rng(seed).standard_normal((2, 3))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    theta = torch.randn(4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).numpy()

    def end(order):
        state = theta
        for one in order:
            state = solve_ivp(
                lambda t, s, one=one: np.concatenate([[-one @ s[1:]], -s[0] * one]),
                (0, 1), state, rtol=1e-11, atol=1e-12,
            ).y[:, -1]  # fmt: skip
        return state[0] * state[1:]

    row = where(experiments.commuting([seed]), mask="neuronwise")
    assert row["difference"].item() == pytest.approx(np.linalg.norm(end(v) - end(v[::-1])), rel=1e-7)
    assert row["moved"].item() == pytest.approx(np.linalg.norm(end(v) - theta[0] * theta[1:]), rel=1e-7)


def test_flows_end_and_stay_on_the_way_at_the_least_potential():
    table = experiments.optimality([0])
    assert table["difference"].max() < 1e-6
    assert table["range_residual"].max() < 1e-6
    assert where(table, where="limit")["misfit"].max() < 1e-9
    assert where(table, where="on the way")["misfit"].min() > 1e-3


def test_late_rates_keep_the_bound_after_a_switch_and_break_it_under_slow_decay():
    table = experiments.late_rate([0])
    switched, slow = where(table, decay="switched off"), where(table, decay="slow")
    assert (switched["slope"] > switched["bound"]).all()
    assert (switched["slope"] / switched["linearized"]).between(0.99, 1.2).all()  # which it nears from above
    assert switched.sort_values("dose")["slope"].is_monotonic_decreasing
    assert slow["dose"].tolist() == [1.0, 2.0, 3.0]
    assert slow["slope"].to_numpy() == pytest.approx(slow["bound"].to_numpy() / 4, rel=0.02)
    # the bound's constant is the least of squared slope over loss: reached along the weakest direction
    problem = SparseRegression.draw(0)
    x = problem.x_star + np.linalg.svd(problem.Z)[2][39]
    ratio = np.sum(problem.gradient(x) ** 2) / problem.loss(x)
    assert ratio == pytest.approx(where(switched, dose=0.0)["bound"].item())  # 2 a is 1 here


# ---- diagonal networks

SEEDS = [0, 3]


@pytest.fixture(scope="module")
def grid() -> pd.DataFrame:
    return experiments.diagonal_grid(SEEDS, 200, [100, 200])


def test_every_family_has_the_same_grid(grid: pd.DataFrame) -> None:
    keys = ["family", "schedule", "amplitude", "seed", "step"]
    expected = [(name, a) for name, amplitudes in _AMPLITUDES.items() for a in amplitudes]
    of_all = product(FAMILIES, expected, SEEDS, grid["step"].unique())
    assert set(grid[keys].itertuples(index=False, name=None)) == {(f, *e, s, k) for f, e, s, k in of_all}
    assert len(grid) == len(grid.drop_duplicates(keys))
    assert {0, 1, 100, 200} <= set(grid["step"])


@pytest.mark.parametrize(("family", "name"), [("pilot", "geometric"), ("weights", "constant")])
def test_a_row_is_what_a_run_by_itself_gives(grid: pd.DataFrame, family: str, name: str) -> None:
    amplitude, problem = _AMPLITUDES[name][4], SparseRegression.draw(3)
    runs = pd.DataFrame({"schedule": [name], "amplitude": [amplitude]})
    x = descend([problem], {family: runs}, [100, 200])[family][0, 0, 0]
    row = where(grid, family=family, schedule=name, amplitude=amplitude, seed=3, step=100).iloc[0]
    assert row["distance"] == pytest.approx(np.sqrt(((x - problem.x_star) ** 2).sum()))
    assert row["flips"] == sum(
        np.sign(x[i]) != np.sign(problem.x0[i]) for i in np.flatnonzero(problem.x_star)
    )


def test_numbers_of_diverged_runs_are_missing(grid: pd.DataFrame) -> None:
    gone = grid["diverged"]
    assert gone.any()
    assert grid[gone][["distance", "validation_error", "flips"]].isna().all(axis=None)
    assert grid[~gone].notna().all(axis=None)


def test_mini_batches_repeat_the_chosen_settings_in_two_orders(grid: pd.DataFrame) -> None:
    chosen = best_schedules(grid, [200])
    found = experiments.stochastic(grid, 200)
    keys = ["family", "schedule", "amplitude", "seed"]
    pd.testing.assert_frame_equal(found[[*keys, "best"]], chosen[[*keys, "best"]])
    assert found["full"].tolist() == chosen["distance"].tolist()
    row = where(found, family="weights", schedule="constant", seed=3).iloc[0]
    runs = pd.DataFrame({"schedule": ["constant"], "amplitude": [row["amplitude"]]})
    problem = SparseRegression.draw(3)
    ends = descend([problem] * 2, {"weights": runs}, [200], [3000, 3001])["weights"][0, :, 0]
    distances = np.linalg.norm(ends - problem.x_star, axis=1)
    assert distances[0] != distances[1]
    assert row["stochastic"] == pytest.approx(np.median(distances), rel=1e-9)


def test_a_setting_that_diverges_in_one_order_has_no_distance(
    grid: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*told: Any) -> Any:
        paths = descend(*told)
        for x in paths.values():
            x[:, 0] = np.nan
        return paths

    monkeypatch.setattr(experiments, "descend", broken)
    found = experiments.stochastic(grid, 200)
    assert where(found, seed=SEEDS[0])["stochastic"].isna().all()
    assert where(found, seed=SEEDS[1])["stochastic"].notna().all()


def test_steps_and_amplitudes_are_spaced_by_their_logarithms() -> None:
    assert _logarithmic_steps(1_000, per_decade=2, also=[500]) == [0, 1, 3, 10, 32, 100, 316, 500, 1000]
    assert _logarithmic_steps(1) == [0, 1]
    assert {len(of_schedule) for of_schedule in _AMPLITUDES.values()} == {11}
    assert all(np.divide(a[1:], a[:-1]) == pytest.approx(2) for a in _AMPLITUDES.values())


def test_weight_paths_agree_with_the_grid(grid: pd.DataFrame) -> None:
    chosen = best_schedules(grid, [200]).query("best").drop_duplicates("family")
    paths = experiments.weight_paths(chosen, 3, 200)
    problem = SparseRegression.draw(3)
    assert sorted(paths["coordinate"].unique()) == np.flatnonzero(problem.x_star).tolist()
    for run in chosen.itertuples():
        own = where(grid, family=run.family, schedule=run.schedule, amplitude=run.amplitude, seed=3, step=200)
        x = where(paths, family=run.family, step=200).set_index("coordinate")["x"]
        assert own["flips"].item() == (x * problem.x0[x.index] < 0).sum()


# ---- pruned networks


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Setting:
    tiny = Setting("digits", partial(perceptron, (64, 8, 10)), (100, 50, 50), "feature", batch_size=100)
    monkeypatch.setitem(SETTINGS, "digits", tiny)
    return tiny


def test_the_tables_of_one_shot_pruning_are_those_of_the_fits(tiny: Setting) -> None:
    pruned, flips, courses = experiments.one_shot(["x", "pilot"], SEEDS, 2)
    for name in ("x", "pilot"):
        alone = fit(tiny, METHODS[name], seeds=SEEDS, n_epochs=2)
        found = alone.pruned_accuracy([0.0, 0.99])
        own = where(pruned, method=name)
        own = own[own["sparsity"].isin([0.0, 0.99])].drop(columns="method").reset_index(drop=True)
        pd.testing.assert_frame_equal(own, found)
        assert where(flips, method=name)["flips"].tolist() == alone.sign_flips()["flips"].tolist()
        assert where(courses, method=name)["dose"].tolist() == alone.course["dose"].tolist()
