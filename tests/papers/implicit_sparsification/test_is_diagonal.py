"""Batched descent: against a slow loop with automatic differentiation, the flow, and the Lasso."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Lasso

from repro.papers.implicit_sparsification.method import schedule
from repro.papers.implicit_sparsification.settings import SparseRegression
from repro.papers.implicit_sparsification.training import _FAMILIES, descend

Array = NDArray[np.float64]

PENALTIES = {
    "pilot": lambda m, w: (m**2).sum() + (w**2).sum(),
    "spred": lambda m, w: (m**2).sum() + (w**2).sum(),
    "l1_m": lambda m, w: m.abs().sum(),
    "l1_x": lambda m, w: m.abs().sum(),
}


def small(seed):
    return SparseRegression.draw(seed, 15, 20, 3)


def runs(*settings):
    return pd.DataFrame(settings, columns=["schedule", "amplitude"])


def one_alone(problem, family, alphas, batches):
    """A run by itself: the objective written down, and PyTorch's derivative of it."""
    x0 = torch.tensor(problem.x0)
    if family == "l1_x":
        m, w = x0, torch.ones_like(x0)
    elif family == "spred":
        m, w = x0.abs().sqrt(), x0.sign() * x0.abs().sqrt()
    else:
        m = ((1 + (1 + 4 * x0**2).sqrt()) / 2).sqrt()
        w = x0 / m
    for alpha, rows in zip(alphas, batches, strict=True):
        m, w = m.detach().requires_grad_(), w.detach().requires_grad_()
        z, y = torch.tensor(problem.Z[rows]), torch.tensor(problem.y[rows])
        f = ((z @ (m * w) - y) ** 2).sum() / (2 * len(rows))
        gm, gw = torch.autograd.grad(f + alpha * PENALTIES[family](m, w), (m, w))
        m, w = m - 0.01 * gm, w if family == "l1_x" else w - 0.01 * gw
    return (m * w).detach().numpy()


@pytest.mark.parametrize("orders", [None, [3, 8]], ids=["full", "batches"])
@pytest.mark.parametrize("family", _FAMILIES)
def test_every_run_follows_the_path_it_would_follow_alone(family, orders):
    problems, n_steps = [small(0), small(1)], 25
    settings = [("constant", 0.15), ("harmonic", 3.0)]
    paths = descend(problems, {family: runs(*settings)}, [0, n_steps], orders)[family]
    for p, order in enumerate([3, 8]):
        rng = np.random.default_rng([order, 5])
        if orders is None:
            batches = [np.arange(15)] * n_steps
        else:
            batches = [rows for _ in range(9) for rows in rng.permutation(15).reshape(3, 5)][:n_steps]
        for r, (name, amplitude) in enumerate(settings):
            alone = one_alone(problems[p], family, amplitude * schedule(name, n_steps), batches)
            np.testing.assert_allclose(paths[-1, p, r], alone, rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose(paths[0, p, r], problems[p].x0, rtol=1e-14)


def test_constant_strength_ends_at_the_lasso():
    """Of factors with penalty 2 alpha; a subgradient step keeps jumping around zero by as much as it is."""
    problem, n_steps, alpha = small(3), 5_000, 0.3
    paths = descend([problem], dict.fromkeys(("pilot", "l1_x"), runs(("constant", alpha))), [n_steps])
    x = paths["l1_x"][0, 0, 0]
    for found, penalty, atol in ((paths["pilot"][0, 0, 0], 2 * alpha, 1e-3), (x, alpha, 0.03 * alpha)):
        lasso = Lasso(penalty, fit_intercept=False, tol=1e-14, max_iter=100_000).fit(problem.Z, problem.y)
        np.testing.assert_allclose(found, lasso.coef_, atol=atol)
    assert (x != 0).all()


def test_the_balanced_start_keeps_every_sign_and_the_unbalanced_one_does_not():
    problems = [SparseRegression.draw(seed) for seed in range(3)]
    settings = runs(*((name, 16.0) for name in ("geometric", "harmonic")))
    paths = descend(problems, dict.fromkeys(("spred", "pilot"), settings), range(0, 1_501, 50))
    against = {family: np.sign(x) * np.sign(x[0]) < 0 for family, x in paths.items()}
    assert not against["spred"].any()
    assert against["pilot"][-1].any(axis=-1).all()


def test_runs_that_diverge_are_missing_from_there_on_and_leave_the_others_alone():
    problem, steps = small(7), [0, 2, 100, 400]
    both = descend([problem], {"pilot": runs(("constant", 0.01), ("constant", 300.0))}, steps)["pilot"]
    assert np.isnan(both[2:, 0, 1]).all()
    assert np.isfinite(both[:2]).all()
    alone = descend([problem], {"pilot": runs(("constant", 0.01))}, steps)["pilot"]
    np.testing.assert_allclose(both[:, :, :1], alone, rtol=1e-12, atol=1e-300)
