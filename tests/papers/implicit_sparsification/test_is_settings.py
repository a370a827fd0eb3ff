"""The regression against slow versions; splits and first weights by seed; the paper's settings."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from repro.papers.implicit_sparsification.settings import _SETTINGS, SparseRegression


def test_a_problem_has_the_papers_sizes_and_spread_and_the_truth_fits_it():
    problem, again, other = (SparseRegression.draw(seed) for seed in (0, 0, 1))
    assert problem.Z.shape == (40, 100)
    assert np.count_nonzero(problem.x_star) == 5
    assert set(np.unique(problem.x_star)) == {-1.0, 0.0, 1.0}
    assert problem.loss(problem.x_star) == 0
    np.testing.assert_array_equal(problem.x0, again.x0)
    assert not np.allclose(problem.Z, other.Z)
    assert SparseRegression.draw(1, n=10_000, d=2).x0.std() == pytest.approx(0.1, rel=0.03)


def test_loss_gradient_and_misfit_are_those_of_a_loop_over_samples():
    problem = SparseRegression.draw(2, d=3, n=6, n_nonzero=2)
    residuals = [z @ problem.x0 - y for z, y in zip(problem.Z, problem.y, strict=True)]
    slope = sum(r * z for r, z in zip(residuals, problem.Z, strict=True)) / 3
    many = np.stack([problem.x0, problem.x_star])
    assert problem.loss(many) == pytest.approx([sum(r**2 for r in residuals) / 6, 0])
    assert problem.gradient(problem.x0) == pytest.approx(slope)
    assert problem.gradient(many)[0] == pytest.approx(slope)
    misfits = [problem.misfit(x) for x in (np.zeros(6), problem.x_star, -problem.x_star)]
    assert misfits == pytest.approx([1, 0, 2])


def test_seeds_have_kaiming_normal_weights_of_their_own_whatever_the_global_generator():
    one, other = _SETTINGS["digits"].networks([0, 1])
    torch.manual_seed(5)
    (again,) = _SETTINGS["digits"].networks([1])
    for i in (1, 3, 5):
        assert torch.equal(other[i].weight, again[i].weight)
        assert not torch.equal(one[i].weight, other[i].weight)
        assert one[i].weight.std().item() == pytest.approx((2 / one[i].in_features) ** 0.5, rel=0.1)
        assert not one[i].bias.any()
