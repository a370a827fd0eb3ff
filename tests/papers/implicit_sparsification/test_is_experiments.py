"""Experiments against theorems, with the cases in which a theorem must not hold as controls."""

from dataclasses import replace
from functools import partial
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch

from repro.learn import perceptron
from repro.papers._pictures import where
from repro.papers.implicit_sparsification import experiments
from repro.papers.implicit_sparsification.experiments import _HIGH, _RUNS
from repro.papers.implicit_sparsification.measures import best_schedules
from repro.papers.implicit_sparsification.method import METHODS, Choice, schedule
from repro.papers.implicit_sparsification.settings import _SETTINGS, _Setting, _SparseRegression, tuned
from repro.papers.implicit_sparsification.training import _FAMILIES, _cycles, _descend, _fit

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


def test_paths_of_neuronwise_masks_are_hyperbolic_turns():
    """m' = -v.w, w' = -m v for a unit of time, one gradient after the other."""
    seed = 2
    v = np.random.default_rng(seed).standard_normal((2, 3))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    theta = torch.randn(4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).numpy()

    def end(order):
        m, w = theta[0], theta[1:]
        for one in order:
            along = one @ w
            w = w + ((np.cosh(1) - 1) * along - np.sinh(1) * m) * one
            m = np.cosh(1) * m - np.sinh(1) * along
        return m * w

    row = where(experiments.commuting([seed]), mask="neuronwise")
    assert row["difference"].item() == pytest.approx(np.linalg.norm(end(v) - end(v[::-1])), rel=1e-12)
    assert row["moved"].item() == pytest.approx(np.linalg.norm(end(v) - theta[0] * theta[1:]), rel=1e-12)


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
    problem = _SparseRegression.draw(0)
    x = problem.x_star + np.linalg.svd(problem.Z)[2][39]
    ratio = np.sum(problem.gradient(x) ** 2) / problem.loss(x)
    assert ratio == pytest.approx(where(switched, dose=0.0)["bound"].item())  # 2 a is 1 here


# ---- diagonal networks

SEEDS = [0, 3]


@pytest.fixture(scope="module")
def grid():
    return experiments.diagonal_grid(SEEDS, 200, [100, 200])


def test_every_family_has_as_many_settings_and_decayed_factors_stay_inside_the_flow(grid):
    keys = ["family", "schedule", "amplitude", "seed", "step"]
    assert {0, 1, 100, 200} <= set(grid["step"])
    assert len(grid) == len(grid.drop_duplicates(keys)) == 4 * 3 * 8 * len(SEEDS) * grid["step"].nunique()
    for family, runs in _RUNS.items():
        assert runs["schedule"].value_counts().tolist() == [8] * 3
        if family in ("pilot", "spred"):
            for row in runs.itertuples():
                assert 1 - 2 * 0.01 * row.amplitude * schedule(row.schedule, 5).max() > 0


@pytest.mark.parametrize(("family", "name"), [("pilot", "geometric"), ("l1_x", "constant")])
def test_a_row_is_what_a_run_by_itself_gives(grid, family, name):
    runs, problem = where(_RUNS[family], schedule=name).iloc[4:5], _SparseRegression.draw(3)
    amplitude = runs["amplitude"].item()
    x = _descend([problem], {family: runs}, [100, 200])[family][0, 0, 0]
    row = where(grid, family=family, schedule=name, amplitude=amplitude, seed=3, step=100).iloc[0]
    assert row["distance"] == pytest.approx(np.sqrt(((x - problem.x_star) ** 2).sum()))
    flips = [np.sign(x[i]) != np.sign(problem.x0[i]) for i in np.flatnonzero(problem.x_star)]
    assert row["flips"] == sum(flips)


def test_numbers_of_diverged_runs_are_missing_from_there_on_and_the_others_do_not_notice(monkeypatch):
    tables = []
    for amplitudes in ([0.01, 300.0], [0.01]):
        runs = pd.DataFrame({"schedule": "constant", "amplitude": amplitudes})
        monkeypatch.setattr(experiments, "_RUNS", dict.fromkeys(_FAMILIES, runs))
        tables.append(experiments.diagonal_grid(SEEDS, 200, []))
    wild, tame = where(tables[0], amplitude=300.0), where(tables[0], amplitude=0.01)
    numbers = wild[["distance", "validation_error", "flips"]].isna()
    assert (numbers.all(axis=1) == numbers.any(axis=1)).all()
    assert where(wild, family="pilot", step=0)["distance"].notna().all()
    assert where(wild, family="pilot", step=200)["distance"].isna().all()
    pd.testing.assert_frame_equal(tame.reset_index(drop=True), tables[1], rtol=1e-12)


def test_mini_batches_repeat_the_chosen_settings(grid):
    chosen = best_schedules(grid, [200]).query("best").reset_index(drop=True)
    found = experiments.stochastic(grid, 200)
    keys = ["family", "schedule", "amplitude", "seed"]
    pd.testing.assert_frame_equal(found[keys], chosen[keys])
    assert found["full"].tolist() == chosen["distance"].tolist()
    row = where(found, family="l1_x", seed=3).iloc[0]
    runs = pd.DataFrame({"schedule": [row["schedule"]], "amplitude": [row["amplitude"]]})
    problem = _SparseRegression.draw(3)
    (end,) = _descend([problem], {"l1_x": runs}, [200], [3])["l1_x"][0, :, 0]
    assert row["stochastic"] == pytest.approx(np.linalg.norm(end - problem.x_star), rel=1e-9)
    assert row["stochastic"] != row["full"]


# ---- pruned networks


@pytest.fixture
def tiny(monkeypatch):
    tiny = _Setting("digits", partial(perceptron, (64, 8, 10)), (100, 50, 50), "feature", batch_size=100)
    monkeypatch.setitem(_SETTINGS, "digits", tiny)
    return tiny


TABLE = pd.DataFrame(
    [("one-shot", arm, method, p, *choice, 0.9) for arm, method, choice in (
        ("x", "x", Choice(0.0, rate=0.1)),
        ("pilot", "pilot", Choice(2e-3, "half", 0.2)),
        ("pilot_half", "pilot", Choice(2e-3, "half", 0.2)),
        ("pilot_constant", "pilot", Choice(1e-3, "constant", 0.2)),
    ) for p in _HIGH]
    + [("rates", "pilot", "pilot", np.nan, *Choice(1e-3, "half", 0.2), 0.9)],
    columns=["task", "arm", "method", "sparsity", *Choice._fields, "validation_accuracy"],
)  # fmt: skip


def test_one_shot_pruning_runs_each_arm_with_the_choice_of_its_sparsity(tiny, monkeypatch):
    table = TABLE.copy()
    table.loc[(table["arm"] == "pilot") & (table["sparsity"] == 0.99), "strength"] = 8e-3
    monkeypatch.setattr(experiments, "tuned", lambda: table)
    pruned = experiments.one_shot(SEEDS, 2)
    assert len(pruned) == len(pruned.drop_duplicates(["arm", "sparsity", "seed"])) == 7 * 9 * len(SEEDS)
    choices = ([Choice(strength, "half", 0.2)] for strength in (2e-3, 8e-3))
    weak, strong = (_fit(tiny, METHODS["pilot"], some, seeds=SEEDS, n_epochs=2) for some in choices)
    own = where(pruned, arm="pilot").sort_values(["sparsity", "seed"])
    for sparsity, done in ((0.5, weak), (0.98, weak), (0.99, strong)):
        found, expected = where(own, sparsity=sparsity), done.pruned_accuracy([sparsity])
        for column in ("test_accuracy", "flips"):
            assert found[column].tolist() == expected[column].tolist()
    assert set(where(pruned, arm="mw_doubled")["rate"]) == {0.2}


def test_tuning_takes_the_best_choice_of_each_arm_and_reads_back(tiny, monkeypatch):
    """A method with three choices, of which one diverges; iterative pruning in short."""
    few = (Choice(1e-3, "constant", 0.2), Choice(1e-3, "half", 0.2), Choice(0.0, "half", 1e4))
    for name in METHODS:
        monkeypatch.setitem(METHODS, name, replace(METHODS["x" if name == "x" else "pilot"], choices=few))
    monkeypatch.setattr(experiments, "_HIGH", (0.5, 0.9))
    found = experiments._tuning(SEEDS, SEEDS, 4, 3)
    grid = _fit(tiny, METHODS["pilot"], few[:2], seeds=SEEDS, n_epochs=4).pruned_accuracy([0.5, 0.9])
    means = grid.groupby(["sparsity", "schedule"])["validation_accuracy"].mean().unstack()
    own = where(found, task="one-shot")
    assert where(own, arm="pilot")["schedule"].tolist() == means.idxmax(axis=1).tolist()
    of_half = where(own, arm="pilot_half")["validation_accuracy"].to_numpy()
    assert of_half == pytest.approx(means["half"].to_numpy())
    assert set(where(own, arm="pilot_constant")["schedule"]) == {"constant"}
    assert where(found, task="rates")["arm"].tolist() == ["x", "mw", "pilot", "l1_x"]
    assert where(found, task="weights")["arm"].tolist() == ["x", "pilot", "l1_x"]


def test_the_table_of_the_library_has_a_choice_for_every_arm_and_none_at_the_edge_of_its_strengths():
    table = tuned()
    assert set(where(table, task="one-shot")["arm"]) == {*METHODS, *experiments._PARTS}
    assert len(table) == 5 * 14 + 2 + 7  # no threshold of STR leaves more than 98 % of the weights 0
    inside = ("pilot", "pilot_algorithm", "pilot_constant", "pilot_half", "l1_x", "l1_m", "spred", "str")
    for row in table.itertuples():
        choices = METHODS[row.method].choices
        assert Choice(row.strength, row.schedule, row.rate, row.knob) in choices
        strengths = {choice.strength for choice in choices}
        if row.task == "one-shot" and row.arm in inside:
            assert min(strengths) < row.strength < max(strengths)


def test_iterative_pruning_and_windows_run_the_settings_that_they_name(tiny, monkeypatch):
    monkeypatch.setattr(experiments, "tuned", lambda: TABLE)
    found = experiments.iterative(SEEDS, 1, 3)
    sizes = {"seeds": SEEDS, "n_cycles": 1, "n_epochs": 3}
    alone = _cycles(tiny, METHODS["pilot"], [Choice(1e-3, "half", 0.2)], rewind="rates", **sizes)
    assert found["test_accuracy"].tolist() == alone["test_accuracy"].tolist()
    assert set(found["arm"]) == {"pilot"}
    serving = experiments.strengths_that_serve([0], 2)
    assert serving.groupby("arm")["strength"].nunique().tolist() == [7] * 4
    choice = Choice(8e-3, "algorithm 1", 0.2, 15.0)
    algorithm = _fit(tiny, METHODS["pilot"], [choice], seeds=[0], n_epochs=2).pruned_accuracy([0.99])
    own = where(serving, arm="pilot_algorithm", strength=8e-3)
    assert own["test_accuracy"].item() == pytest.approx(algorithm["test_accuracy"].item(), abs=0.021)
