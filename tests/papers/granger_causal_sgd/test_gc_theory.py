"""The identity, exact on quadratic losses; ridge and Lasso against closed forms, scikit-learn and optimality."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from gc_by_hand import SEEDS
from sklearn.linear_model import Lasso, Ridge
from torch import Tensor, nn

from repro.learn import Dataset, Ensemble
from repro.papers.granger_causal_sgd.experiments import _line_through_zero
from repro.papers.granger_causal_sgd.method import lasso, ridge
from repro.papers.granger_causal_sgd.training import Trace, log


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - nn.functional.one_hot(targets, 3)).square().mean(dim=1)


def quadratic(momentum: float = 0.0) -> tuple[Trace, Tensor]:
    r"""Linear networks on four orthogonal inputs under the squared error, and the diagonal of their Hessian.

    With $\frac1n\sum_i x_{ik}x_{il} = \delta_{kl}s_k^2/n$ and the mean over 3 outputs, $H = 2s_k^2/(3n)$ for each
    weight from input k, and 0 off the diagonal.
    """
    scales = torch.tensor([1.0, 2.0, 3.0, 0.5], dtype=torch.float64)
    x, y = scales.diag(), torch.tensor([0, 1, 2, 0])
    data = Dataset(x, y, x[:0], y[:0], x[:0], y[:0], n_classes=3, name="orthogonal")
    generator = torch.Generator().manual_seed(0)
    networks = [nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False)).double() for _ in SEEDS]
    for network in networks:
        network[1].weight.data.normal_(generator=generator)
    trace = log(
        Ensemble(networks), [data, data], learning_rate=0.1, momentum=momentum, n_epochs=12, batch_size=None,
        loss=squared_error, seeds=SEEDS, full_loss=True,
    )  # fmt: skip
    return trace, (2 * scales**2 / (3 * 4)).expand(3, 4).flatten()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_on_a_quadratic_loss_with_diagonal_hessian_only_curvature_is_left_over(momentum):
    trace, diagonal = quadratic(momentum)
    curvature = torch.stack([trace.squares(i) @ diagonal / 2 for i in range(2)])
    for change in trace.loss_changes.values():  # one batch: all three definitions are the same
        torch.testing.assert_close(trace.first_order() + curvature, change, rtol=0, atol=1e-10)
    if not momentum:  # one coefficient a weight, exactly
        explicit = torch.stack([trace.squares(i) @ (diagonal / 2 - 1 / 0.1) for i in range(2)])
        torch.testing.assert_close(explicit, trace.loss_changes["same_batch"], rtol=0, atol=1e-10)
    assert curvature.max() > 1e-3
    torch.testing.assert_close(trace.first_order(products=False), -trace.energy / 0.1)


@pytest.mark.parametrize("offset", [-5.0, 0.0, 100.0])
def test_slope_and_r2_are_those_of_a_line_through_zero(offset):
    x, y = torch.randn(2, 2, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = 3 * y + offset
    found = _line_through_zero(x, y)
    for i in range(2):
        (slope,), residual, *_ = np.linalg.lstsq(x[i, :, None].numpy(), y[i].numpy(), rcond=None)
        assert found["slope"][i] == pytest.approx(slope)
        assert found["r2"][i] == pytest.approx(1 - residual[0] / (12 * y[i].numpy().var()))
    assert [v.tolist() for v in _line_through_zero(x, x).values()] == [pytest.approx([1, 1])] * 2
    constant = _line_through_zero(x, torch.zeros_like(x))
    assert constant["slope"].tolist() == [0, 0]
    assert np.isnan(constant["r2"]).all()


def problem(n_rows: int = 30, p: int = 100) -> tuple[Tensor, Tensor]:
    """Squared changes that share their size at each step, in scales of their own; the loss falls with their sum."""
    normal = partial(torch.randn, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = 1e-8 * torch.exp(normal(p)) * (normal(n_rows, p) + normal(n_rows, 1)) ** 2
    y = -1e3 * x.sum(dim=1) + 1e-4 * normal(n_rows)
    return x - x.mean(dim=0), y - y.mean()


def test_ridge_is_scikit_learns():
    x, y = problem()
    found = ridge(x, y, penalties := [1e-3, 0.1, 10.0])
    for i, penalty in enumerate(penalties):
        # at unit scale: scikit-learn's solvers regularize what is as small as these features
        unit = np.sqrt(penalty * np.trace(x @ x.T) / len(y))
        theirs = Ridge(alpha=1.0, fit_intercept=False, solver="svd").fit(x.numpy() / unit, y).coef_ / unit
        np.testing.assert_allclose(found[i], theirs, rtol=1e-6)


@pytest.mark.parametrize("n_rows", [30, 300])
def test_ridge_without_penalty_is_the_least_squares_solution_of_least_norm(n_rows):
    x, y = problem(n_rows, 60)
    (found,) = ridge(x, y, [0.0])
    torch.testing.assert_close(found, torch.linalg.pinv(x) @ y, rtol=1e-6, atol=0)
    (twice,) = ridge(torch.cat([x, x]), torch.cat([y, y]), [0.0])  # rows that repeat others say nothing new
    torch.testing.assert_close(twice, found, rtol=1e-6, atol=1e-9 * float(found.abs().max()))


@pytest.mark.parametrize("penalty", [0.5, 0.05])
def test_the_lasso_is_optimal_and_scikit_learns_is_no_better(penalty):
    x, y = problem()
    scale, target = x.std(dim=0, correction=0), y - y.mean()
    z = (x - x.mean(dim=0)) / scale
    alpha = penalty * float((z.T @ target).abs().max()) / len(y)

    def objective(beta: Tensor) -> float:
        return float((target - z @ beta).square().sum() / (2 * len(y)) + alpha * beta.abs().sum())

    beta = lasso(x, y, [penalty])[0] * scale
    theirs = Lasso(alpha=alpha, fit_intercept=False, tol=1e-10, max_iter=10**6).fit(z.numpy(), target.numpy())
    gap = 1e-5 * float(target.square().mean())
    assert objective(beta) <= objective(torch.from_numpy(theirs.coef_)) + gap
    gradient = z.T @ (target - z @ beta) / len(y)
    assert float(gradient.abs().max()) <= alpha * (1 + 0.05)
    torch.testing.assert_close(gradient[beta != 0], alpha * beta[beta != 0].sign(), rtol=0.1, atol=0)
    assert 0 < (beta != 0).sum() <= len(y)


def test_orthogonal_columns_are_shrunk_by_the_penalty_and_units_do_not_matter():
    x = torch.tensor([[1, 1, 0.1], [1, -1, 0.1], [-1, 1, 0.1], [-1, -1, 0.1]], dtype=torch.float64)
    y = 3 * x[:, 0] - 2 * x[:, 1] + 7
    wanted = torch.tensor([[0, 0, 0], [0.3, 0, 0], [1.5, -0.5, 0]], dtype=torch.float64)
    penalties = [1.0, 0.9, 0.5]
    torch.testing.assert_close(lasso(x, y, penalties), wanted, rtol=0, atol=0.02)
    torch.testing.assert_close(lasso(1e-6 * x, 10 * y, penalties) / 1e7, wanted, rtol=0, atol=0.02)
