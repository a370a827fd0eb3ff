"""The toy problem: its shapes, its spread, its loss and gradient against slow versions."""

from __future__ import annotations

import numpy as np
import pytest

from repro.papers.implicit_sparsification.regression import sparse_regression


def test_a_problem_has_the_papers_sizes_and_the_truth_fits_it():
    problem = sparse_regression(0)
    assert problem.Z.shape == (40, 100)
    assert np.count_nonzero(problem.x_star) == 5
    assert set(np.unique(problem.x_star)) <= {-1.0, 0.0, 1.0}
    assert problem.loss(problem.x_star) == 0


def test_both_readings_of_the_start_have_their_spread():
    by_variance = sparse_regression(1, n=10_000, d=2)
    by_deviation = sparse_regression(1, n=10_000, d=2, start_deviation=10_000**-0.5)
    assert by_variance.x0.std() == pytest.approx(0.1, rel=0.03)
    assert by_deviation.x0.std() == pytest.approx(0.01, rel=0.03)


def test_loss_and_gradient_are_those_of_a_loop_over_samples():
    problem = sparse_regression(2, d=3, n=6, n_nonzero=2)
    residuals = [z @ problem.x0 - y for z, y in zip(problem.Z, problem.y, strict=True)]
    assert problem.loss(problem.x0) == pytest.approx(sum(r**2 for r in residuals) / 6)
    slope = sum(r * z for r, z in zip(residuals, problem.Z, strict=True)) / 3
    assert problem.gradient(problem.x0) == pytest.approx(slope)
    many = np.stack([problem.x0, problem.x_star])
    assert problem.gradient(many)[0] == pytest.approx(slope)
    assert problem.loss(many).shape == (2,)


def test_misfit_is_one_at_the_origin_and_zero_at_the_truth():
    problem = sparse_regression(5)
    assert problem.misfit(np.zeros(100)) == 1
    assert problem.misfit(problem.x_star) == 0
    assert problem.misfit(-problem.x_star) == pytest.approx(2)


def test_seeds_decide():
    first, again, other = sparse_regression(3), sparse_regression(3), sparse_regression(4)
    np.testing.assert_array_equal(first.Z, again.Z)
    np.testing.assert_array_equal(first.x0, again.x0)
    assert not np.allclose(first.Z, other.Z)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"d": 0}, "d = 0"),
        ({"n_nonzero": 101}, "101 non-zeros"),
        ({"n_nonzero": 0}, "0 non-zeros"),
        ({"start_deviation": 0.0}, "0.0"),
        ({"start_deviation": float("nan")}, "nan"),
    ],
)
def test_impossible_problems_are_refused(arguments, told):
    with pytest.raises(ValueError, match=told):
        sparse_regression(0, **arguments)
