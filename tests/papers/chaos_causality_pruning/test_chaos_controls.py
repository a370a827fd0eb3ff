"""Controls: twins, known processes, surrogates of weights, calibration, agreement with the references."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from repro.papers.chaos_causality_pruning import (
    agreement,
    calibration,
    estimator,
    processes,
    trajectories,
    twins,
)
from repro.papers.chaos_causality_pruning.descent import descend, examples
from repro.papers.chaos_causality_pruning.perceptrons import gaussian
from repro.papers.chaos_causality_pruning.settings import setting

SHORT = replace(setting("iris"), epochs=10, window=60)


def test_twins_of_a_nudge_follow_the_linearized_dynamics():
    """For a small nudge the ratio is the length of the Jacobian's column, whatever the nudge's size."""
    rng = np.random.default_rng(0)
    networks = gaussian((3, 4, 2), [0, 1])
    train = examples(rng.normal(size=(12, 3)), rng.integers(0, 2, 12), 2)
    keywords = {"learning_rate": 0.5, "n_epochs": 6}
    small = twins.separation(networks, train, delta=1e-6, **keywords)
    smaller = twins.separation(networks, train, delta=1e-5, **keywords)
    assert small.shape == (2, 7)
    assert np.allclose(small[:, 0], 1)
    assert small == pytest.approx(smaller, rel=1e-3)


def test_separation_is_that_of_two_runs_one_after_the_other():
    rng = np.random.default_rng(1)
    networks = gaussian((3, 4, 2), [5])
    train = examples(rng.normal(size=(9, 3)), rng.integers(0, 2, 9), 2)
    nudged = networks.pick([0])
    nudged.weights[0][0, 0, 2] += 1e-3
    ratio = twins.separation(networks, train, learning_rate=0.5, n_epochs=3, delta=1e-3, weight=2)[0, -1]
    for network in (networks, nudged):
        descend(network, train, learning_rate=0.5, n_epochs=3)
    squares = [(a - b).square().sum() for a, b in zip(networks.tensors, nudged.tensors, strict=True)]
    assert ratio == pytest.approx(float(torch.stack(squares).sum().sqrt()) / 1e-3, rel=1e-9)


def test_separation_leaves_the_initial_networks_alone():
    networks = gaussian((3, 4, 2), [0])
    before = networks.flat().clone()
    train = examples(np.ones((2, 3)), np.array([0, 1]), 2)
    twins.separation(networks, train, learning_rate=0.5, n_epochs=1, delta=1e-3)
    assert torch.equal(networks.flat(), before)


def test_a_nudge_of_nothing_is_an_error():
    train = examples(np.ones((2, 3)), np.array([0, 1]), 2)
    with pytest.raises(ValueError, match="delta must be above 0; got 0"):
        twins.separation(gaussian((3, 4, 2), [0]), train, learning_rate=0.5, n_epochs=1, delta=0)


def test_twin_runs_of_a_setting():
    table = twins.twin_runs(SHORT, [0, 1], epochs=3)
    assert len(table) == 2 * 2 * 4
    assert table.loc[table["epoch"] == 3, "updates"].unique().tolist() == [270]
    last = table[table["epoch"] == 3]
    assert np.allclose(np.exp(last["rate"] * last["updates"]), last["ratio"])


def test_the_papers_exponent_ranks_noise_above_chaos():
    table = estimator.known_processes(50)
    means = table[table["length"] == 200].groupby("process")["paper"].mean()
    assert means["white noise"] == pytest.approx(1.89, abs=0.05)
    assert means["random walk"] == pytest.approx(1.26, abs=0.05)
    assert means["chaos: logistic map"] == pytest.approx(np.log(2), abs=0.02)
    assert abs(means["sine"]) < 0.02
    assert means["exponential decay"] < 0


def test_autoregressions_are_stationary_with_the_right_memory():
    x = processes.autoregression(4000, 30, np.random.default_rng(0), 0.5)
    assert x.var(axis=0) == pytest.approx(np.full(30, 1 / (1 - 0.25)), rel=0.12)
    assert (x[:, 1:] * x[:, :-1]).mean() / x.var() == pytest.approx(0.5, abs=0.02)


def test_surrogates_of_weights_have_exponents_of_their_own():
    found = estimator.weights_and_surrogates(SHORT, [0, 1])
    assert set(found) == {"weights", "walks", "linear"}
    shapes = {values.shape for values in found.values()}
    assert len(shapes) == 1
    assert not np.allclose(found["weights"], found["linear"])


def test_a_setting_without_full_windows_is_refused():
    with pytest.raises(ValueError, match="digits has no FT windows"):
        estimator.weights_and_surrogates(setting("digits"), [0])
    with pytest.raises(ValueError, match="digits has no FT windows"):
        trajectories.follow(setting("digits"), 0, 3)


def test_the_null_shares_of_the_papers_rule():
    """Shares that an independent implementation gave for the same shapes: .06 at (53, 14), .54 at (166, 20)."""
    table = calibration.null_shares(400, 8, [(53, 14), (166, 20)])
    noise = table[table["process"] == "white noise"].groupby(["windows", "rule"])["non_causal"].mean()
    assert noise.loc[53, "paper"] == pytest.approx(0.06, abs=0.04)
    assert noise.loc[166, "paper"] == pytest.approx(0.54, abs=0.06)
    assert noise.loc[53, "f_test"] == pytest.approx(0.77, abs=0.06)
    assert noise.loc[53, "single_lag"] == pytest.approx(0.95, abs=0.02)
    assert noise.loc[53, "honest"] > 0.99


def test_shared_trends_look_causal_until_they_are_differenced():
    causal = calibration.shared_trends(300, 8).groupby("difference")["causal"].mean()
    assert causal[0] > 0.1
    assert causal[1] == pytest.approx(0.05, abs=0.03)


@pytest.mark.parametrize("function", [calibration.null_shares, calibration.shared_trends])
def test_calibrations_need_series(function):
    with pytest.raises(ValueError, match="at least 1; got 0"):
        function(0)


def test_agreement_with_the_references():
    x = np.random.default_rng(0).standard_normal((3, 60)).cumsum(axis=1)
    assert np.nanmax(agreement.granger_differences(x, x[::-1] + 0.1 * x, (1, 3))) < 1e-8
    assert np.nanmax(agreement.lyapunov_differences(x)) < 1e-8


def test_agreement_leaves_out_what_cannot_be_tested():
    x = np.random.default_rng(0).standard_normal((2, 40))
    x[0] = 1.0
    found = agreement.granger_differences(x, np.random.default_rng(1).standard_normal((2, 40)), (1,))
    assert np.isnan(found[0])
    assert found[1] < 1e-8


def test_a_path_is_the_weight_at_every_update():
    path = trajectories.follow(SHORT, 0, 4)
    assert len(path.weight) == 10 * 90 + 1
    assert path.window_ends[0] == 59
    assert path.window_ends[1] == 59 + 54
    assert len(path.window_ends) == len(path.exponents) == len(path.errors)
    with pytest.raises(ValueError, match="between 0 and 41; got 42"):
        trajectories.follow(SHORT, 0, 42)


def test_stretches_are_cut_from_the_path():
    rows = trajectories.stretches(SHORT, 0, length=50, count=60)
    assert rows.shape == (60, 50)
    path = trajectories.follow(SHORT, 0, 4).weight
    assert rows[4] == pytest.approx(path[:50])
    assert rows[42 + 4] == pytest.approx(path[50:100])


def test_agreement_on_a_run_leaves_out_lags_that_its_windows_do_not_allow(observed_wine):
    windows = trajectories.stretches(SHORT, 0, length=60, count=4)[None]
    granger, lyapunov = agreement.of_observed(observed_wine, windows, n_pairs=4, lags=(1, 5, 500))
    assert len(granger) == len(lyapunov) == 1
    assert granger[0] < 1e-7
    assert lyapunov[0] < 1e-8
