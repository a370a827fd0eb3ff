"""TG_LASSO against the authors' rule coefficient by coefficient, scikit-learn, least squares, and its own reading."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Lasso, SGDRegressor
from torch import Tensor

from repro.papers.granger_causal_sgd.screening import covariance
from repro.papers.granger_causal_sgd.tg_lasso import tg_lasso


def problem(
    n_rows: int = 40, p: int = 6, *, seed: int = 0, lead: tuple[int, ...] = (), noise: float = 0.1
) -> tuple[Tensor, Tensor]:
    """Normal regressors, of which the first two matter."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*lead, n_rows, p, generator=generator, dtype=torch.float64)
    error = torch.randn(*lead, n_rows, generator=generator, dtype=torch.float64)
    return x, 2 * x[..., 0] - x[..., 1] + noise * error


def tiny(n_rows: int = 100, p: int = 3000, mean: float = -0.1) -> tuple[Tensor, Tensor]:
    """Squared changes of size 1e-10, whose scale differs between weights, and loss changes of spread 0.1."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.exp(2 * torch.randn(p, generator=generator, dtype=torch.float64))
    steps = torch.randn(n_rows, p, generator=generator, dtype=torch.float64)
    return 1e-10 * scale * steps**2, mean + 0.1 * torch.randn(
        n_rows, generator=generator, dtype=torch.float64
    )


def orders(n_rows: int, n_passes: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return [i for _ in range(n_passes) for i in torch.randperm(n_rows, generator=generator).tolist()]


def by_the_rule(x: Tensor, y: Tensor, alpha: float, n_passes: int) -> list[float]:
    """The update of the authors' code, one number after the other."""
    rows, targets, p = x.tolist(), y.tolist(), x.shape[1]
    gamma, q, u = [0.0] * p, [0.0] * p, 0.0
    for t, i in enumerate(orders(len(rows), n_passes), start=1):
        eta = 1e-2 * t**-0.25
        error = math.fsum(a * b for a, b in zip(rows[i], gamma, strict=True)) - targets[i]
        u += eta * alpha
        for k in range(p):
            z = gamma[k] - eta * min(1e12, max(-1e12, error * rows[i][k]))
            if z > 0:
                new = max(0.0, z - (u + q[k]))
            elif z < 0:
                new = min(0.0, z + (u - q[k]))
            else:
                new = z
            q[k] += new - z
            gamma[k] = new
    return gamma


# --- agreement ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [1e-9, 0.05, 0.5, 1.5])
@pytest.mark.parametrize("n_passes", [1, 3])
def test_equals_the_authors_rule(alpha, n_passes):
    x, y = problem()
    found = tg_lasso(x, y, alpha, max_passes=n_passes).coefficients
    wanted = by_the_rule(x, y, alpha, n_passes)
    assert found.tolist() == pytest.approx(wanted, rel=1e-9, abs=1e-14)
    assert (found != 0).tolist() == [w != 0 for w in wanted]


def test_equals_the_authors_rule_where_features_are_tiny():
    x, y = tiny(30, 40)
    alpha = float(covariance(x, y).abs().median())
    found = tg_lasso(x, y, alpha)
    wanted = by_the_rule(x, y, alpha, 3)
    assert found.coefficients.tolist() == pytest.approx(wanted, rel=1e-6, abs=1e-9 * alpha)
    assert 5 < found.kept.sum() < 35


def test_gradients_are_clamped():
    x, y = torch.tensor([[1e9, 1.0]], dtype=torch.float64), torch.tensor([1e6], dtype=torch.float64)
    assert tg_lasso(x, y, 1e-3, max_passes=1).coefficients.tolist() == pytest.approx(
        by_the_rule(x, y, 1e-3, 1)
    )
    assert tg_lasso(x, y, 1e-3, max_passes=1).coefficients[0] == pytest.approx(1e-2 * 1e12)


@pytest.mark.parametrize("alpha", [1e-3, 0.1])
def test_equals_scikit_learns_sgd_with_the_authors_settings(alpha):
    x, y = problem(60, 8, seed=3)
    sequence = orders(60, 3)
    theirs = SGDRegressor(
        loss="squared_error", penalty="l1", alpha=alpha, fit_intercept=False, shuffle=False, max_iter=1, tol=None,
        learning_rate="invscaling", eta0=1e-2, power_t=0.25,
    ).fit(x[sequence].numpy(), y[sequence].numpy())  # fmt: skip
    np.testing.assert_allclose(tg_lasso(x, y, alpha).coefficients, theirs.coef_, rtol=1e-8, atol=1e-12)


def test_without_penalty_to_speak_of_many_passes_end_at_least_squares():
    x, y = problem(noise=0.0)
    found = tg_lasso(x, y, 1e-12, stop="intended", tolerance=0, max_passes=2000).coefficients
    least_squares = torch.linalg.lstsq(x, y.unsqueeze(-1)).solution.squeeze(-1)
    torch.testing.assert_close(found, least_squares, rtol=0, atol=1e-4)


def test_recovers_a_sparse_truth_as_the_lasso_does():
    x, y = problem(200, 20, seed=1)
    alpha = 0.1
    found = tg_lasso(x, y, alpha, stop="intended", tolerance=0, patience=10**6, max_passes=300).coefficients
    converged = Lasso(alpha=alpha, fit_intercept=False, tol=1e-10).fit(x.numpy(), y.numpy()).coef_
    np.testing.assert_allclose(found, converged, atol=0.03)
    assert set(np.flatnonzero(converged)) == {0, 1}
    assert set(found.abs().topk(2).indices.tolist()) == {0, 1}


# --- closed form, and what it selects -----------------------------------------------------------------------


@given(st.floats(-5, 5), st.floats(1e-3, 3))
def test_one_row_once(y, alpha):
    """From 0, one row moves a coefficient by eta (y x) and pulls it back by eta alpha."""
    x = torch.tensor([[0.5, -1.0, 2.0]], dtype=torch.float64)
    found = tg_lasso(x, torch.tensor([y], dtype=torch.float64), alpha, max_passes=1).coefficients
    step = 1e-2 * y * x[0]
    wanted = step.sign() * (step.abs() - 1e-2 * alpha).clamp(min=0)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-16)


def test_a_huge_penalty_leaves_nothing():
    found = tg_lasso(*problem(), alpha=1e3)
    assert not found.kept.any()
    assert found.coefficients.tolist() == [0.0] * 6


@pytest.mark.parametrize("removed", [0.2, 0.5, 0.9])
def test_on_tiny_features_it_is_a_threshold_on_products(removed):
    x, y = tiny()
    alpha = float(covariance(x, y).abs().quantile(removed))
    kept = tg_lasso(x, y, alpha).kept
    plain = covariance(x, y).abs() > alpha
    assert (kept & plain).sum() / (kept | plain).sum() > 0.95


@pytest.mark.parametrize("mean", [-0.1, 0.0])
@pytest.mark.parametrize("removed", [0.2, 0.5, 0.9])
def test_on_tiny_features_it_is_exactly_a_threshold_with_the_steps_sizes_as_weights(removed, mean):
    """Also where products of both signs nearly cancel, and the plain mean is a few percent of weights off."""
    x, y = tiny(mean=mean)
    alpha = float(covariance(x, y).abs().quantile(removed))
    eta = 1e-2 * torch.arange(1, 301, dtype=torch.float64) ** -0.25
    sequence = orders(100, 3)
    weighted = (eta * y[sequence]) @ x[sequence]
    assert torch.equal(tg_lasso(x, y, alpha).kept, weighted.abs() > alpha * eta.sum())


def test_where_features_predict_it_is_no_such_threshold():
    x, y = problem(100, 50, seed=2)
    alpha = 0.1
    kept = tg_lasso(x, y, alpha, stop="intended", max_passes=100).kept
    plain = covariance(x, y).abs() > alpha
    assert (kept & plain).sum() / (kept | plain).sum() < 0.95


# --- many at once, and when it stops ------------------------------------------------------------------------


@settings(max_examples=15)
@given(seed=st.integers(0, 99), alphas=st.lists(st.floats(1e-3, 2), min_size=1, max_size=4))
def test_batches_equal_single_fits(seed, alphas):
    x, y = problem(12, 5, seed=seed, lead=(2, 3))
    found = tg_lasso(x, y, alphas, stop="intended", tolerance=0.5, max_passes=20)
    assert found.coefficients.shape == (len(alphas), 2, 3, 5)
    for a, alpha in enumerate(alphas):
        one = tg_lasso(x[1, 2], y[1, 2], alpha, stop="intended", tolerance=0.5, max_passes=20)
        assert found.n_passes[a, 1, 2] == one.n_passes
        torch.testing.assert_close(found.coefficients[a, 1, 2], one.coefficients, rtol=1e-10, atol=1e-13)


def test_shapes_follow_alpha():
    x, y = problem()
    assert tg_lasso(x, y, 0.1).coefficients.shape == (6,)
    assert tg_lasso(x, y, [0.1]).coefficients.shape == (1, 6)
    assert tg_lasso(x, y, [0.1]).n_passes.shape == (1,)


def test_authors_stop_after_three_passes_whatever_happens():
    for x, y in (problem(), tiny(20, 50)):
        assert tg_lasso(x, y, [1e-12, 0.1]).n_passes.tolist() == [3, 3]


def test_the_intended_rule_goes_on_while_the_error_falls_and_differs_between_penalties():
    x, y = problem()
    passes = tg_lasso(x, y, [1e-9, 1e3], stop="intended").n_passes
    assert passes[0] > 10
    assert passes[1] == 3, "nothing improves after the first pass"


def test_on_tiny_features_both_rules_stop_together():
    x, y = tiny()
    alpha = float(covariance(x, y).abs().median())
    authors, intended = (tg_lasso(x, y, alpha, stop=stop) for stop in ("authors", "intended"))
    assert authors.n_passes == intended.n_passes == 3
    assert torch.equal(authors.coefficients, intended.coefficients)


def test_the_seed_decides_the_order():
    x, y = problem()
    first, again, other = (tg_lasso(x, y, 0.1, seed=seed).coefficients for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_arguments_stay_as_they_are():
    x, y = problem()
    before = x.clone(), y.clone()
    tg_lasso(x, y, 0.1)
    assert torch.equal(x, before[0])
    assert torch.equal(y, before[1])


# --- bad input ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, -1.0, math.nan, math.inf, [0.1, 0.0], []])
def test_penalties_must_be_positive(alpha):
    with pytest.raises(ValueError, match="alpha"):
        tg_lasso(*problem(), alpha)


def test_bad_data_are_refused():
    x, y = problem()
    with pytest.raises(TypeError, match="int64"):
        tg_lasso(x.long(), y, 0.1)
    with pytest.raises(TypeError, match="int64"):
        tg_lasso(x, y.long(), 0.1)
    with pytest.raises(ValueError, match=r"\(39,\)"):
        tg_lasso(x, y[1:], 0.1)
    with pytest.raises(ValueError, match="at least one row"):
        tg_lasso(x[:0], y[:0], 0.1)
    for bad in (math.nan, math.inf):
        for which in (0, 1):
            pair = [x.clone(), y.clone()]
            pair[which].view(-1)[7] = bad
            with pytest.raises(ValueError, match=f"must be finite, got {bad}"):
                tg_lasso(*pair, 0.1)


@pytest.mark.parametrize(
    ("option", "match"),
    [
        ({"stop": "never"}, "'never'"),
        ({"max_passes": 0}, "max_passes"),
        ({"patience": 0}, "patience"),
        ({"rate": 0.0}, "rate"),
        ({"tolerance": -1.0}, "tolerance"),
        ({"decay": math.nan}, "decay"),
    ],
)
def test_bad_options_are_refused(option, match):
    with pytest.raises(ValueError, match=match):
        tg_lasso(*problem(), 0.1, **option)
