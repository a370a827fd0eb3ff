"""Granger's test of a step, TG_LASSO, ridge, Lasso and the loop, each against another way; what is selected."""

import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import statsmodels.api as sm
import torch
from gc_by_hand import SEEDS, WEIGHTS, descend, in_float64, iris
from sklearn.linear_model import Lasso, Ridge, SGDRegressor
from torch import Tensor

from repro.papers.granger_causal_sgd.method import (
    _causal_weights,
    _lasso,
    _ridge,
    causal_pruning,
    step_test,
    tg_lasso,
)
from repro.papers.granger_causal_sgd.training import _derived_seed, log
from repro.prune import Mask

# --- Granger's question ---------------------------------------------------------------------------------------


def series(n_pairs: int, n_rows: int) -> Tensor:
    return torch.randn(2, n_pairs, n_rows, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(("n_lags", "first_lag"), [(1, 0), (3, 0), (2, 1)])
def test_it_is_the_f_test_of_plain_least_squares_with_the_step_of_the_same_row_or_the_past(n_lags, first_lag):
    x, y = series(2, 40)
    y = y + 0.4 * x.roll(first_lag, dims=-1)
    found = step_test(x, y, n_lags, first_lag=first_lag)
    for i in range(2):
        a, b = x[i].numpy(), y[i].numpy()
        rows = range(n_lags, 40)
        past = np.array([[1, *(b[t - j] for j in range(1, n_lags + 1))] for t in rows])
        steps = np.array([[a[t - first_lag - j] for j in range(n_lags)] for t in rows])
        restricted, full = sm.OLS(b[n_lags:], past).fit(), sm.OLS(b[n_lags:], np.hstack([past, steps])).fit()
        f, p_value, _ = full.compare_f_test(restricted)
        assert (found["f"][i], found["p_value"][i]) == (pytest.approx(f), pytest.approx(p_value))
        assert found["partial_r2"][i] == pytest.approx(1 - full.ssr / restricted.ssr)
        assert found["status"][i] == "OK"


def test_unrelated_series_are_rejected_as_often_as_the_level_says():
    x, y = series(4000, 80)
    found = step_test(x**2, y)
    assert np.mean(found["p_value"] < 0.05) == pytest.approx(0.05, abs=0.015)
    # partial R2 of noise is Beta(q/2, (n - 2q - 1)/2), with mean q/(n - q - 1)
    assert found["partial_r2"].mean() == pytest.approx(2 / (78 - 2 - 1), rel=0.05)


def test_constant_loss_changes_leave_nothing_to_explain_and_say_so():
    x, y = series(3, 50)
    y[1], x[2] = 0.0, 1.0
    found = step_test(x, y)
    assert found["status"] == ["OK", "CONSTANT_EFFECT", "CONSTANT_CAUSE"]
    assert found["partial_r2"][1] == 0
    assert np.isnan(found["partial_r2"][2])
    assert np.isnan(found["f"][1:]).all()
    with pytest.raises(ValueError, match="2 lags need at least 8 rows, got 7"):
        step_test(x[:, :7], y[:, :7])


# --- the regression -------------------------------------------------------------------------------------------


def problem(n_rows: int = 40, p: int = 6) -> tuple[Tensor, Tensor]:
    """Normal regressors, of which the first two matter."""
    normal = partial(torch.randn, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = normal(n_rows, p)
    return x, 2 * x[:, 0] - x[:, 1] + 0.1 * normal(n_rows)


def tiny(n_rows: int = 100, p: int = 3000, mean: float = -0.1) -> tuple[Tensor, Tensor]:
    """Squared changes of size 1e-10, whose scale differs between weights, and loss changes of spread 0.1."""
    normal = partial(torch.randn, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return 1e-10 * torch.exp(2 * normal(p)) * normal(n_rows, p) ** 2, mean + 0.1 * normal(n_rows)


def products(x: Tensor, y: Tensor) -> Tensor:
    return (y @ x / len(y)).abs()


def orders(n_rows: int, n_passes: int) -> list[int]:
    generator = torch.Generator().manual_seed(0)
    return [i for _ in range(n_passes) for i in torch.randperm(n_rows, generator=generator).tolist()]


@pytest.mark.parametrize(("x", "y"), [problem(), tiny(30, 40)], ids=["usual", "tiny"])
def test_it_is_scikit_learns_sgd_with_the_authors_settings_at_several_penalties_at_once(x, y):
    """Where features are tiny, the rule that was meant stops after three passes, too."""
    middle, sequence = float(products(x, y).median()), orders(len(y), 3)
    several = tg_lasso(x, y, alphas := [1e-9 * middle, middle, 1e3 * middle])
    for found, alpha in zip(several, alphas, strict=True):
        theirs = SGDRegressor(
            loss="squared_error", penalty="l1", alpha=alpha, fit_intercept=False, shuffle=False, max_iter=1, tol=None,
            learning_rate="invscaling", eta0=1e-2, power_t=0.25,
        ).fit(x[sequence].numpy(), y[sequence].numpy())  # fmt: skip
        np.testing.assert_allclose(found, theirs.coef_, rtol=1e-6, atol=1e-9 * middle)
    assert not several[-1].any()
    if x.max() < 1e-6:
        assert 5 < (several[1] != 0).sum() < 35
        assert (x @ several.T).abs().max() < 1e-6, "two passes running without an improvement of 1e-4"


@pytest.mark.parametrize(("removed", "mean"), [(0.2, 0.0), (0.2, -0.1), (0.9, -0.1)])
def test_on_tiny_features_it_is_a_threshold_on_products(removed, mean):
    """Exactly with the steps' sizes as weights; nearly so for the plain mean, where products don't cancel."""
    x, y = tiny(mean=mean)
    alpha = float(products(x, y).quantile(removed))
    kept, plain = tg_lasso(x, y, alpha) != 0, products(x, y) > alpha
    eta = 1e-2 * torch.arange(1, 301, dtype=torch.float64) ** -0.25
    weighted = (eta * y[orders(100, 3)]) @ x[orders(100, 3)]
    assert torch.equal(kept, weighted.abs() > alpha * eta.sum())
    if mean:
        assert (kept & plain).sum() / (kept | plain).sum() > 0.95


# --- solved to its end -----------------------------------------------------------------------------------------


def shared_sizes(n_rows: int = 30, p: int = 100) -> tuple[Tensor, Tensor]:
    """Squared changes that share their size at each step, in scales of their own; the loss falls with their sum."""
    normal = partial(torch.randn, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = 1e-8 * torch.exp(normal(p)) * (normal(n_rows, p) + normal(n_rows, 1)) ** 2
    y = -1e3 * x.sum(dim=1) + 1e-4 * normal(n_rows)
    return x - x.mean(dim=0), y - y.mean()


def test_ridge_is_scikit_learns():
    x, y = shared_sizes()
    found = _ridge(x, y, penalties := [1e-3, 0.1, 10.0])
    for i, penalty in enumerate(penalties):
        # at unit scale: scikit-learn's solvers regularize what is as small as these features
        unit = np.sqrt(penalty * np.trace(x @ x.T) / len(y))
        theirs = Ridge(alpha=1.0, fit_intercept=False, solver="svd").fit(x.numpy() / unit, y).coef_ / unit
        np.testing.assert_allclose(found[i], theirs, rtol=1e-6)


@pytest.mark.parametrize("n_rows", [30, 300])
def test_ridge_without_penalty_is_the_least_squares_solution_of_least_norm(n_rows):
    x, y = shared_sizes(n_rows, 60)
    (found,) = _ridge(x, y, [0.0])
    torch.testing.assert_close(found, torch.linalg.pinv(x) @ y, rtol=1e-6, atol=0)
    (twice,) = _ridge(torch.cat([x, x]), torch.cat([y, y]), [0.0])  # rows that repeat others say nothing new
    torch.testing.assert_close(twice, found, rtol=1e-6, atol=1e-9 * float(found.abs().max()))


@pytest.mark.parametrize("penalty", [0.5, 0.05])
def test_the_lasso_is_sparse_and_scikit_learns_is_no_better(penalty):
    x, y = shared_sizes()
    scale, target = x.std(dim=0, correction=0), y - y.mean()
    z = (x - x.mean(dim=0)) / scale
    alpha = penalty * float((z.T @ target).abs().max()) / len(y)

    def objective(beta: Tensor) -> float:
        return float((target - z @ beta).square().sum() / (2 * len(y)) + alpha * beta.abs().sum())

    beta = _lasso(x, y, [penalty])[0] * scale
    theirs = Lasso(alpha=alpha, fit_intercept=False, tol=1e-10, max_iter=10**6).fit(z.numpy(), target.numpy())
    gap = 1e-5 * float(target.square().mean())
    assert objective(beta) <= objective(torch.from_numpy(theirs.coef_)) + gap
    assert 0 < (beta != 0).sum() <= len(y)


def test_orthogonal_columns_are_shrunk_by_the_penalty_and_units_do_not_matter():
    x = torch.tensor([[1, 1, 0.1], [1, -1, 0.1], [-1, 1, 0.1], [-1, -1, 0.1]], dtype=torch.float64)
    y = 3 * x[:, 0] - 2 * x[:, 1] + 7
    wanted = torch.tensor([[0, 0, 0], [0.3, 0, 0], [1.5, -0.5, 0]], dtype=torch.float64)
    penalties = [1.0, 0.9, 0.5]
    torch.testing.assert_close(_lasso(x, y, penalties), wanted, rtol=0, atol=0.02)
    torch.testing.assert_close(_lasso(1e-6 * x, 10 * y, penalties) / 1e7, wanted, rtol=0, atol=0.02)


# --- the loop -------------------------------------------------------------------------------------------------

ALPHA = {"cross_batch": 1e-9, "same_batch": 4e-11}


def pruned(alpha: float | list[float], start=None, **changed) -> list[Mask]:
    start = start or iris()
    how = {"seeds": start.seeds, "n_iterations": 2, "n_epochs": 4, "learning_rate": 0.01, "batch_size": 20}
    return causal_pruning(start.ensemble, start.datasets, alpha, **(how | changed))


def dense() -> Mask:
    return Mask.stack([Mask.dense(member) for member in iris().ensemble])


def loop_by_hand(i: int, target: str, regress: bool) -> list[dict[str, Tensor]]:
    mask, masks = {name: torch.ones_like(kept[i]) for name, kept in dense().items()}, []
    for iteration in (1, 2):
        seed = _derived_seed(SEEDS[i], iteration)
        rows = descend(iris().ensemble.member(i), iris().datasets[i], seed, drop_last=False, mask=mask)
        y, layers = rows[target], rows["squares"].split([32, 24], dim=1)
        for name, x in zip(WEIGHTS, layers, strict=True):
            scores = tg_lasso(x, y, ALPHA[target], seed=seed) if regress else products(x, y)
            chosen = scores.abs() > (0 if regress else ALPHA[target])
            mask = mask | {name: mask[name] & chosen.view_as(mask[name])}
        masks.append(mask)
    return masks


@pytest.mark.parametrize("regress", [True, False])
@pytest.mark.parametrize("target", ["cross_batch", "same_batch"])
def test_causal_pruning_is_the_loop_by_hand(target, regress):
    before = iris().ensemble.state_dict()
    found = pruned(ALPHA[target], in_float64(iris()), target=target, regress=regress)
    for i in range(len(SEEDS)):
        for mask, wanted in zip(found, loop_by_hand(i, target, regress), strict=True):
            assert all(torch.equal(mask[name][i], wanted[name]) for name in WEIGHTS)
        assert 0.1 < torch.cat([kept.flatten() for kept in wanted.values()]).double().mean() < 0.9
    assert all(earlier & later == later for earlier, later in pairwise(found))
    assert all(torch.equal(t, before[name]) for name, t in iris().ensemble.state_dict().items())


def test_masks_drawn_again_are_first_masks_of_other_batches():
    found = pruned(ALPHA["cross_batch"], hold=False, n_iterations=3)
    assert torch.equal(*(each[0]["1.weight"] for each in (found, pruned(ALPHA["cross_batch"]))))
    trace = log(
        iris().ensemble, iris().datasets, learning_rate=0.01, n_epochs=4, batch_size=20, drop_last=False,
        seeds=(orders := [_derived_seed(seed, 3) for seed in SEEDS]),
    )  # fmt: skip
    alphas = torch.full((2,), ALPHA["cross_batch"], dtype=torch.float64)
    third = Mask(trace.by_name(_causal_weights(trace, trace.loss_changes["cross_batch"], alphas, orders)))
    both = found[1] & third
    assert all(torch.equal(found[2][name], both[name]) for name in WEIGHTS)
    assert not all(torch.equal(found[2][name], third[name]) for name in WEIGHTS)


def test_each_network_has_its_own_penalty_and_loss_change_and_one_without_weights_harms_nobody():
    both = pruned([1e3, ALPHA["cross_batch"]], target=["same_batch", "cross_batch"])
    alone = pruned(ALPHA["cross_batch"])
    for mask, other in zip(both, alone, strict=True):
        for name in WEIGHTS:
            assert not mask[name][0].any()
            assert torch.equal(mask[name][1], other[name][1])


def test_bad_input_is_named():
    x, y = problem()
    for call, message in (
        (lambda: tg_lasso(x, y, [0.1, 0.0]), "alpha must be above 0 and finite"),
        (lambda: tg_lasso(x, y[1:], 0.1), r"x must be \(T, p\) and y \(T,\)"),
        (lambda: tg_lasso(x.where(x < x.max(), math.nan), y, 0.1), "must be finite"),
        (lambda: pruned([1e-9, math.nan]), "alpha must be above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
