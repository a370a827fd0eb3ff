"""Flows against theorems, with the cases in which a theorem must not hold as controls."""

from __future__ import annotations

import numpy as np
import pytest

from repro.geometry.mirror_flows import Constant, Decaying
from repro.papers._pictures import where
from repro.papers.implicit_sparsification.flow_experiments import (
    _stationarity,
    flow_agreement,
    optimality,
    potential_of,
    trajectories,
)
from repro.papers.implicit_sparsification.regression import sparse_regression


def test_the_three_flows_agree_and_the_printed_scale_does_not():
    table = flow_agreement([0], [1.0, 20.0], horizon=10.0)
    assert table["difference"].max() < 1e-9
    assert table["dual_difference"].max() < 1e-6
    assert table["invariant_error"].max() < 1e-9
    assert table["printed_difference"].min() > 0.1


def test_the_printed_scale_misses_the_start_by_the_start_itself():
    """It is twice the scale there, hence twice the weights."""
    table = flow_agreement([1], [1.0], horizon=1.0, n_times=3)
    assert table["printed_at_start"].item() == pytest.approx(np.abs(sparse_regression(1).x0).max())


def test_trajectories_hold_the_truth_first_and_agree():
    table = trajectories(2, horizon=5.0, n_times=11, n_others=2, strength=Constant(0.1))
    assert table.groupby("coordinate")["time"].count().tolist() == [11] * 7
    assert (table.drop_duplicates("coordinate")["true"] != 0).tolist() == [True] * 5 + [False] * 2
    assert np.abs(table["factors"] - table["mirror"]).max() < 1e-9


def test_points_on_the_way_and_limits_have_least_potential():
    table = optimality([0], [0.0, 1.0, 3.0], times=[1.0, 8.0])
    assert where(table, where="limit")["misfit"].max() < 1e-9
    assert where(table, where="on the way")["misfit"].min() > 1e-2
    assert table["difference"].max() < 1e-8
    assert table["range_residual"].max() < 1e-8


def test_points_of_least_potential_are_told_from_others_and_from_other_scales():
    problem = sparse_regression(0)
    table = optimality([0], [1.0], times=[1.0])
    assert table["difference"].max() < 1e-8
    null = np.linalg.svd(problem.Z)[2][-1]
    moved = problem.x_star + 0.1 * null
    of_moved = _stationarity(problem, moved, 1.0, 1.0, problem.Z @ moved)
    assert of_moved["difference"] > 1e-2
    assert of_moved["range_residual"] > 1e-2
    assert of_moved["misfit"] < 1e-12


def test_scale_and_centre_are_those_of_the_start_and_its_dose():
    problem = sparse_regression(0)
    scale, centre = potential_of(problem, 2.0, 0.5)
    assert scale == pytest.approx(np.exp(-2.0))
    assert scale * np.sinh(centre) == pytest.approx(np.exp(-2.0) * problem.x0)


def test_bad_input_is_refused_with_its_value():
    with pytest.raises(ValueError, match="got 1"):
        flow_agreement([0], n_times=1)
    with pytest.raises(ValueError, match="-1"):
        flow_agreement([0], [-1.0], strength=Decaying(0.1, 1.0))
