"""Brackets and path dependence: closed forms, slow versions, and pairs that must commute."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from repro.papers._pictures import where
from repro.papers.implicit_sparsification.commuting import (
    brackets,
    factor_gap_spread,
    lie_bracket,
    path_dependence,
)
from repro.papers.implicit_sparsification.regression import sparse_regression


def test_the_gap_of_squared_factors_forgets_the_loss_only_if_both_are_decayed():
    table = factor_gap_spread([0, 1])
    assert len(table) == 4
    assert where(table, which="both")["spread"].max() < 1e-8
    assert where(table, which="mask")["spread"].min() > 1e-2


def test_the_gap_under_a_penalized_mask_is_that_of_a_loop_of_small_steps():
    problem, beta, alpha, n_steps = sparse_regression(3), 1.0, 0.1, 500
    step, gaps = 1.0 / n_steps, []
    for y in (problem.y, -problem.y):

        def velocity(m, w, y=y):
            g = problem.Z.T @ (problem.Z @ (m * w) - y) / len(y)
            return -g * w - 2 * alpha * m, -g * m

        m = np.sqrt((beta + np.sqrt(beta**2 + 4 * problem.x0**2)) / 2)
        w = problem.x0 / m
        for _ in range(n_steps):
            half = velocity(m, w)
            middle = velocity(m + step / 2 * half[0], w + step / 2 * half[1])
            m, w = m + step * middle[0], w + step * middle[1]
        gaps.append(m**2 - w**2)
    table = factor_gap_spread([3], ["mask"], beta=beta, alpha=alpha, horizon=1.0)
    assert table["spread"].item() == pytest.approx(np.abs(gaps[0] - gaps[1]).max(), rel=1e-3)


def test_neuronwise_brackets_have_the_appendixs_closed_form():
    theta = torch.tensor([1.5, -0.4, 0.7], dtype=torch.float64)
    m, first, second = theta.tolist()
    found = lie_bracket(lambda p: p[0] * p[1], lambda p: p[0] * p[2], theta)
    assert found.tolist() == pytest.approx([0.0, -second, first])
    in_x = (-m * second, m * first)
    row = brackets([5], k=2)
    assert np.hypot(*in_x) > 0.5
    point = torch.randn(3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    expected = float(point[0].abs() * point[1:].norm())
    assert where(row, mask="neuronwise", **{"with": "entries"})["in_x"].item() == pytest.approx(expected)


def test_brackets_agree_with_differences_of_gradients():
    def g(p):
        return (p[0] * p[1] ** 2).sin()

    def h(p):
        return p[0] ** 3 + p[1] * p[0]

    def slope(f, at):
        at = at.clone().requires_grad_()
        return torch.autograd.grad(f(at), at)[0]

    theta, eps = torch.tensor([0.3, 0.8], dtype=torch.float64), 1e-5
    along, across = slope(g, theta), slope(h, theta)
    ahead = (slope(h, theta + eps * along) - slope(h, theta - eps * along)) / (2 * eps)
    aside = (slope(g, theta + eps * across) - slope(g, theta - eps * across)) / (2 * eps)
    assert lie_bracket(g, h, theta).tolist() == pytest.approx((ahead - aside).tolist(), abs=1e-8)
    assert lie_bracket(g, g, theta).tolist() == [0.0, 0.0]


def test_only_elementwise_masks_and_penalties_on_both_factors_commute():
    table = brackets(range(3)).set_index(["mask", "with"])["in_x"]
    for pair in (("elementwise", "entries"), ("elementwise", "both"), ("neuronwise", "both")):
        assert table.loc[pair].max() < 1e-12
    for pair in (("elementwise", "mask"), ("neuronwise", "entries"), ("neuronwise", "mask")):
        assert table.loc[pair].min() > 1e-2


def test_the_order_of_gradients_matters_to_neuronwise_masks_alone():
    table = path_dependence(range(3))
    elementwise, neuronwise = where(table, mask="elementwise"), where(table, mask="neuronwise")
    assert (elementwise["difference"] < 1e-12 * elementwise["moved"]).all()
    assert (neuronwise["difference"] > 0.05 * neuronwise["moved"]).all()


def test_paths_are_those_of_an_ode_solver():
    """m' = -v.w, w' = -m v, one gradient after the other."""
    seed, k = 2, 3
    v = np.random.default_rng(seed).standard_normal((2, k))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    theta = torch.randn(1 + k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).numpy()

    def end(order):
        state = theta
        for one in order:
            state = solve_ivp(
                lambda t, s, one=one: np.concatenate([[-one @ s[1:]], -s[0] * one]),
                (0, 1),
                state,
                rtol=1e-11,
                atol=1e-12,
            ).y[:, -1]
        return state[0] * state[1:]

    row = where(path_dependence([seed], k), mask="neuronwise")
    assert row["difference"].item() == pytest.approx(np.linalg.norm(end(v) - end(v[::-1])), rel=1e-7)
    assert row["moved"].item() == pytest.approx(np.linalg.norm(end(v) - theta[0] * theta[1:]), rel=1e-7)


def test_bad_input_is_refused_with_its_value():
    with pytest.raises(ValueError, match="'weights'"):
        factor_gap_spread([0], ["weights"])
    with pytest.raises(ValueError, match=r"-0\.1"):
        factor_gap_spread([0], alpha=-0.1)
    with pytest.raises(ValueError, match="got 1"):
        brackets([0], k=1)
    with pytest.raises(ValueError, match=r"got 0\.0"):
        path_dependence([0], length=0.0)
