"""Screening, ridge and the converged Lasso against closed forms, scikit-learn, and optimality itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Lasso, Ridge
from torch import Tensor

from repro.papers.granger_causal_sgd.lasso import lasso
from repro.papers.granger_causal_sgd.ridge import ridge
from repro.papers.granger_causal_sgd.screening import covariance, energy


def problem(
    n_rows: int = 30, p: int = 200, *, seed: int = 0, lead: tuple[int, ...] = ()
) -> tuple[Tensor, Tensor]:
    """Squared changes that share their size at each step, in scales of their own; the loss falls with their sum."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    steps = normal(*lead, n_rows, p) + normal(*lead, n_rows, 1)
    x = 1e-8 * torch.exp(normal(p)) * steps**2
    return x, -1e3 * x.sum(dim=-1) + 1e-4 * normal(*lead, n_rows)


def objective(x: Tensor, y: Tensor, coefficients: Tensor, penalty: float) -> float:
    """Of the Lasso on standardized columns."""
    scale = x.std(dim=0, correction=0)
    z, target = (x - x.mean(dim=0)) / scale, y - y.mean()
    alpha = penalty * float((z.T @ target).abs().max()) / len(y)
    beta = coefficients * scale
    return float((target - z @ beta).square().sum() / (2 * len(y)) + alpha * beta.abs().sum())


# --- screening ----------------------------------------------------------------------------------------------


def test_screens_are_means():
    x, y = problem(5, 4, lead=(2,))
    for i in range(2):
        for k in range(4):
            assert energy(x)[i, k] == pytest.approx(sum(float(x[i, t, k]) for t in range(5)) / 5)
            products = [float(y[i, t] * x[i, t, k]) for t in range(5)]
            assert covariance(x, y)[i, k] == pytest.approx(math.fsum(products) / 5)


def test_a_constant_loss_change_screens_by_energy():
    x, y = problem()
    torch.testing.assert_close(covariance(x, torch.full_like(y, -0.5)), -0.5 * energy(x))


# --- ridge --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("penalty", [1e-3, 0.1, 10.0])
def test_ridge_equals_scikit_learns(penalty, standardize):
    x, y = problem()
    rows, scale = x.numpy(), np.ones(x.shape[1])
    if standardize:
        scale = rows.std(axis=0)
        rows = (rows - rows.mean(axis=0)) / scale
    target = (y - y.mean() if standardize else y).numpy()
    alpha = penalty * np.trace(rows @ rows.T) / len(y)
    # at unit scale: scikit-learn's solvers regularize what is as small as these features
    unit = np.sqrt(alpha)
    theirs = Ridge(alpha=1.0, fit_intercept=False, solver="svd").fit(rows / unit, target).coef_ / unit
    np.testing.assert_allclose(ridge(x, y, penalty, standardize=standardize), theirs / scale, rtol=1e-6)


@pytest.mark.parametrize("n_rows", [30, 300])
def test_ridge_without_penalty_is_the_least_squares_solution_of_least_norm(n_rows):
    x, y = problem(n_rows, 60)
    wanted = torch.linalg.pinv(x) @ y
    torch.testing.assert_close(ridge(x, y, 0.0), wanted, rtol=1e-6, atol=0)
    torch.testing.assert_close(ridge(x, y, 1e-12), wanted, rtol=1e-3, atol=1e-6 * float(wanted.abs().max()))


def test_ridge_of_a_huge_penalty_ranks_as_the_covariance_does():
    x, y = problem()
    found = ridge(x, y, 1e9)
    torch.testing.assert_close(
        found / found.norm(), covariance(x, y) / covariance(x, y).norm(), rtol=1e-6, atol=0
    )


def test_ridge_takes_a_gram_matrix_and_repeated_rows():
    x, y = problem()
    torch.testing.assert_close(ridge(x, y, 0.1, gram=x @ x.T), ridge(x, y, 0.1))
    twice = ridge(torch.cat([x, x]), torch.cat([y, y]), 0.0)
    torch.testing.assert_close(twice, ridge(x, y, 0.0), rtol=1e-6, atol=1e-9 * float(twice.abs().max()))


def test_ridge_in_blocks_and_in_batches(monkeypatch):
    x, y = problem(lead=(2, 3))
    whole = ridge(x, y, [0.1, 1.0], standardize=True)
    monkeypatch.setattr("repro.papers.granger_causal_sgd.ridge._BLOCK", 6 * 30 * 7)
    torch.testing.assert_close(ridge(x, y, [0.1, 1.0], standardize=True), whole)
    assert whole.shape == (2, 2, 3, 200)
    torch.testing.assert_close(whole[1, 1, 2], ridge(x[1, 2], y[1, 2], 1.0, standardize=True))


@settings(max_examples=25)
@given(seed=st.integers(0, 999), falling=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted))
def test_ridge_shrinks_as_the_penalty_grows(seed, falling):
    small, large = ridge(*problem(8, 20, seed=seed), falling)
    assert large.norm() <= small.norm() * (1 + 1e-9)


# --- the converged Lasso ------------------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", [0.9, 0.3, 0.05])
def test_lasso_equals_scikit_learns(penalty):
    x, y = problem(40, 60, seed=1)
    scale = x.std(dim=0, correction=0)
    z, target = ((x - x.mean(dim=0)) / scale).numpy(), (y - y.mean()).numpy()
    spread = target.std()  # scikit-learn's tolerance means something at unit scale
    alpha = penalty * np.abs(z.T @ target / spread).max() / len(y)
    theirs = Lasso(alpha=alpha, fit_intercept=False, tol=1e-10, max_iter=10**6).fit(z, target / spread)
    found = lasso(x, y, penalty, tolerance=1e-10)
    np.testing.assert_allclose(found * scale / spread, theirs.coef_, atol=1e-4)
    wanted = torch.from_numpy(theirs.coef_) * spread / scale
    assert objective(x, y, found, penalty) == pytest.approx(objective(x, y, wanted, penalty), rel=1e-6)


@settings(max_examples=25)
@given(seed=st.integers(0, 999), penalty=st.floats(0.02, 0.99))
def test_lasso_satisfies_the_conditions_of_optimality(seed, penalty):
    x, y = problem(15, 40, seed=seed)
    scale = x.std(dim=0, correction=0)
    z, target = (x - x.mean(dim=0)) / scale, y - y.mean()
    beta = lasso(x, y, penalty, tolerance=1e-12) * scale
    alpha = penalty * float((z.T @ target).abs().max()) / len(y)
    gradient = z.T @ (target - z @ beta) / len(y)
    assert float(gradient.abs().max()) <= alpha * (1 + 1e-3)
    torch.testing.assert_close(gradient[beta != 0], alpha * beta[beta != 0].sign(), rtol=1e-3, atol=0)
    assert (beta != 0).sum() <= 15


def test_at_the_largest_penalty_nothing_is_left_and_just_below_one_column():
    x, y = problem()
    assert not lasso(x, y, 1.0).any()
    only = lasso(x, y, 0.99).nonzero().flatten().tolist()
    correlation = torch.corrcoef(torch.cat([y[None], x.T]))[0, 1:].abs()
    assert only == [int(correlation.argmax())]


def test_orthogonal_columns_are_shrunk_by_the_penalty():
    x = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64)
    y = 3 * x[:, 0] - 2 * x[:, 1] + 7
    torch.testing.assert_close(
        lasso(x, y, 0.5), torch.tensor([1.5, -0.5], dtype=torch.float64), rtol=0, atol=1e-3
    )


def test_several_penalties_in_any_order_and_several_networks():
    x, y = problem(lead=(2,))
    found = lasso(x, y, [0.1, 0.9, 0.3], tolerance=1e-10)
    assert found.shape == (3, 2, 200)
    for a, penalty in enumerate((0.1, 0.9, 0.3)):
        alone = lasso(x[1], y[1], penalty, tolerance=1e-10)
        torch.testing.assert_close(found[a, 1], alone, rtol=0, atol=1e-3 * float(alone.abs().max()))


def test_lasso_does_not_depend_on_units():
    x, y = problem()
    wanted = lasso(x, y, 0.3, tolerance=1e-12)
    torch.testing.assert_close(
        lasso(1e-6 * x, 10 * y + 3, 0.3, tolerance=1e-12), 1e7 * wanted, rtol=1e-5, atol=1e-2
    )


def test_lasso_in_float32_agrees():
    x, y = problem()
    single, double = lasso(x.float(), y.float(), 0.3, tolerance=1e-5), lasso(x, y, 0.3)
    assert single.dtype == torch.float64
    assert objective(x, y, single, 0.3) == pytest.approx(objective(x, y, double, 0.3), rel=1e-3)


def test_lasso_leaves_constant_columns_out_and_knows_a_constant_target():
    x, y = problem()
    x[:, 3] = 0.1
    assert lasso(x, y, 0.01)[3] == 0
    assert ridge(x, y, 0.01, standardize=True)[3] == 0
    assert not lasso(x, torch.full_like(y, 0.1), 0.01).any()


def test_lasso_says_when_it_has_not_converged():
    with pytest.raises(RuntimeError, match="did not converge to tolerance 1e-12 in 1 working sets"):
        lasso(*problem(), 0.01, tolerance=1e-12, max_iterations=1)


# --- bad input ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit", [covariance, lambda x, y: ridge(x, y, 0.1), lambda x, y: lasso(x, y, 0.1)])
def test_bad_data_are_refused(fit):
    x, y = problem()
    with pytest.raises(TypeError, match="int64"):
        fit(x.long(), y)
    with pytest.raises(ValueError, match=r"needs y of shape \(30,\), got \(29,\)"):
        fit(x, y[1:])
    with pytest.raises(ValueError, match="at least one row"):
        fit(x[:0], y[:0])
    x[3, 5] = math.nan
    with pytest.raises(ValueError, match=r"x must be finite, got nan at \(3, 5\)"):
        fit(x, y)


def test_bad_penalties_are_refused():
    x, y = problem()
    for penalty in (-0.1, math.nan, []):
        with pytest.raises(ValueError, match="penalty"):
            ridge(x, y, penalty)
    for penalty in (0.0, 1.1, [0.5, -1.0]):
        with pytest.raises(ValueError, match="penalty"):
            lasso(x, y, penalty)
    with pytest.raises(ValueError, match="tolerance"):
        lasso(x, y, 0.1, tolerance=0.0)
    with pytest.raises(ValueError, match="standardized"):
        ridge(x, y, 0.1, standardize=True, gram=x @ x.T)
    with pytest.raises(ValueError, match=r"gram must be \(30, 30\)"):
        ridge(x, y, 0.1, gram=x.T @ x)
