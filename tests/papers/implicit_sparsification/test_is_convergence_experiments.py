"""Ends of flows and late rates, against the Lasso, the linearized flow and the bound."""

from __future__ import annotations

import numpy as np
import pytest

from repro.papers._pictures import where
from repro.papers.implicit_sparsification.convergence_experiments import interpolation, late_rate
from repro.papers.implicit_sparsification.regression import sparse_regression


@pytest.fixture(scope="module")
def rates():
    return late_rate([0], [0.0, 1.0, 2.0])


def test_decay_that_dies_out_interpolates_and_constant_decay_is_the_lasso():
    table = interpolation([0], [0.02])
    assert where(table, decay="dying out")["misfit"].item() < 1e-8
    constant = where(table, decay="constant")
    assert constant["misfit"].item() > 1e-3
    assert constant["lasso_difference"].item() < 1e-5


def test_after_a_switch_the_loss_falls_faster_than_the_bound_and_as_linearized(rates):
    switched = where(rates, decay="switched off")
    assert (switched["slope"] > switched["bound"]).all()
    assert switched["slope"].to_numpy() == pytest.approx(switched["linearized"].to_numpy(), rel=0.15)
    assert switched.sort_values("dose")["slope"].is_monotonic_decreasing


def test_decay_that_dies_out_slowly_holds_the_loss_back_at_its_own_rate(rates):
    slow = where(rates, decay="slow")
    assert slow["dose"].tolist() == [1.0, 2.0]
    assert slow["slope"].to_numpy() == pytest.approx(slow["bound"].to_numpy() / 4, rel=0.02)


def test_the_bounds_constant_is_the_least_of_squared_slope_over_loss(rates):
    """It is reached where the residual lies along the weakest direction, and nowhere undercut."""
    problem = sparse_regression(0)
    constant = where(rates, decay="switched off", dose=0.0)["bound"].item()  # 2 a is 1 here

    def ratio(x):
        return np.sum(problem.gradient(x) ** 2, axis=-1) / problem.loss(x)

    assert ratio(problem.x_star + np.linalg.svd(problem.Z)[2][39]) == pytest.approx(constant)
    assert ratio(np.random.default_rng(0).standard_normal((500, 100))).min() > constant
