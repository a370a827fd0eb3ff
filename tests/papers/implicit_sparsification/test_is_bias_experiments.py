"""From L2 to L1: ends known in closed form, one crossing, rates against a certificate."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from repro.geometry.mirror_flows import Constant
from repro.papers._pictures import where
from repro.papers.implicit_sparsification.bias_experiments import (
    certified_rate,
    crossings,
    error_rates,
    potential_curves,
    recovery,
    transition,
)
from repro.papers.implicit_sparsification.regression import SparseRegression, sparse_regression

SEEDS = (0, 1)


@pytest.fixture(scope="module")
def moving():
    return transition(SEEDS)


@pytest.fixture(scope="module")
def recovered():
    return recovery(SEEDS, doses=(0.0, 1.0, 3.0, 4.0, 5.0))


def test_potentials_go_from_the_square_to_the_absolute_value():
    large = where(potential_curves(beta=1e4), dose=0.0)
    np.testing.assert_allclose(large["value"], large["x"] ** 2, atol=1e-6)
    near = potential_curves([1.0, 4.0, 64.0])
    gaps = (near["value"] - near["x"].abs()).abs().groupby(near["dose"]).max()
    assert gaps.is_monotonic_decreasing
    assert gaps.loc[64.0] < 0.01


def test_minima_of_potentials_shrink_towards_zero_with_the_dose():
    table = potential_curves([0.0, 0.25, 1.0], x0=0.6, n_points=2001)
    lowest = table.loc[table.groupby("dose")["value"].idxmin()].set_index("dose")["x"]
    assert lowest.to_numpy() == pytest.approx(0.6 * np.exp(-4 * lowest.index.to_numpy()), abs=1e-3)
    assert table["value"].min() >= 0
    assert table.groupby("dose")["value"].last().to_numpy() == pytest.approx(1)


def test_distances_cross_once_from_l2_to_l1(moving):
    found = crossings(moving)
    assert found["crossings"].tolist() == [1, 1]
    assert found["l2_rises"].all()
    assert found["l1_falls"].all()
    assert found[["l2_cosine_first", "l1_cosine_last"]].min().min() > 0.99


def test_without_decay_a_flow_stays_with_l2():
    still = transition([0], strength=Constant(0.0), times=[1.0, 5.0, 50.0])
    assert (still["dose"] == 0).all()
    assert (still["l2_distance"] < still["l1_distance"]).all()
    only = crossings(still)
    assert only["crossings"].item() == 0
    assert np.isnan(only["time"].item())


def test_crossings_are_counted_as_by_hand():
    table = pd.DataFrame(
        {
            "seed": 7,
            "time": [1.0, 2.0, 3.0, 4.0],
            "dose": [0.1, 0.2, 0.3, 0.4],
            "l2_distance": [0.0, 0.5, 0.4, 0.9],
            "l1_distance": [1.0, 0.4, 0.6, 0.1],
            "l2_cosine": [1.0, 0.9, 0.8, 0.7],
            "l1_cosine": [0.2, 0.5, 0.5, 1.0],
        }
    )
    found = crossings(table.iloc[::-1]).iloc[0]
    assert found["crossings"] == 3
    assert (found["time"], found["dose"]) == (2.0, 0.2)
    assert not found["l2_rises"]
    assert (found["l2_cosine_first"], found["l1_cosine_last"]) == (1.0, 1.0)


def test_a_large_scale_without_dose_gives_the_point_nearest_to_the_start(recovered):
    assert where(recovered, beta=100.0, dose=0.0)["start_cosine"].min() > 0.9999
    assert where(recovered, beta=100.0, dose=1.0)["l2_cosine"].min() > 0.99
    assert where(recovered, dose=5.0)["l1_cosine"].min() > 0.9999


def test_the_error_falls_with_the_dose_by_the_certified_rate(recovered):
    for _, curve in recovered.groupby(["seed", "beta"]):
        assert curve.sort_values("dose")["error"].is_monotonic_decreasing
    found = error_rates(recovered)
    assert found["r2"].min() > 0.999
    assert found["rate"].to_numpy() == pytest.approx(found["certified"].to_numpy(), rel=0.04)


def test_certificates_agree_with_a_generic_optimizer_on_a_small_problem():
    problem = sparse_regression(3, d=4, n=7, n_nonzero=2)
    support = problem.x_star != 0
    Z, signs = problem.Z, problem.x_star[support]
    base = np.linalg.lstsq(Z[:, support].T, signs)[0]
    free = np.linalg.svd(Z[:, support].T)[2][2:]

    def largest(shift):
        return np.abs((base + shift @ free) @ Z[:, ~support]).max()

    closely = {"xatol": 1e-10, "fatol": 1e-10, "maxiter": 2000}
    starts = np.vstack([np.eye(2), -np.eye(2)])
    tries = [minimize(largest, start, method="Nelder-Mead", options=closely).fun for start in starts]
    assert certified_rate(problem) == pytest.approx(4 * (1 - min(tries)), abs=1e-6)


def test_orthogonal_columns_off_the_support_give_the_full_rate():
    problem = SparseRegression(np.eye(2, 3), np.array([1.0, 0.0]), np.array([1.0, 0.0, 0.0]), np.ones(3))
    assert certified_rate(problem) == pytest.approx(4.0)


def test_bad_input_is_refused_with_its_value(recovered):
    with pytest.raises(ValueError, match=r"1\.5"):
        potential_curves(x0=1.5)
    with pytest.raises(ValueError, match=r"from 4\.0 on, the table has 2"):
        error_rates(recovered, from_dose=4.0)
    same = np.ones((2, 3))
    dependent = SparseRegression(same, np.zeros(2), np.array([1.0, -1.0, 0.0]), np.ones(3))
    with pytest.raises(ValueError, match="2 non-zeros"):
        certified_rate(dependent)
