"""The regression, potentials to fifty digits, three flows that agree, closed forms, conditions of interpolators."""

from dataclasses import replace

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import null_space

from repro.papers.implicit_sparsification.method import pilot_factors
from repro.papers.implicit_sparsification.settings import _SparseRegression
from repro.papers.implicit_sparsification.theory import Flow, Potential, _inverse_mirror_map, _least_l1

STRENGTHS = [{"alpha": 0.0}, {"alpha": 0.05}, {"alpha": 0.1, "rate": 0.2}, {"alpha": 0.1, "until": 3.3}]
TIMES = np.linspace(0, 10, 11)


def exactly(function, *arguments):
    with mpmath.workdps(50):
        return float(function(*map(mpmath.mpf, arguments)))


# ---- the regression and the potential


def test_a_problem_has_the_papers_sizes_and_spread_and_the_truth_fits_it():
    problem, again, other = (_SparseRegression.draw(seed) for seed in (0, 0, 1))
    assert problem.Z.shape == (40, 100)
    assert np.count_nonzero(problem.x_star) == 5
    assert set(np.unique(problem.x_star)) == {-1.0, 0.0, 1.0}
    assert problem.loss(problem.x_star) == 0
    np.testing.assert_array_equal(problem.x0, again.x0)
    assert not np.allclose(problem.Z, other.Z)
    assert _SparseRegression.draw(1, n=10_000, d=2).x0.std() == pytest.approx(0.1, rel=0.03)


def test_loss_gradient_and_misfit_are_those_of_a_loop_over_samples():
    problem = _SparseRegression.draw(2, d=3, n=6, n_nonzero=2)
    residuals = [z @ problem.x0 - y for z, y in zip(problem.Z, problem.y, strict=True)]
    slope = sum(r * z for r, z in zip(residuals, problem.Z, strict=True)) / 3
    many = np.stack([problem.x0, problem.x_star])
    assert problem.loss(many) == pytest.approx([sum(r**2 for r in residuals) / 6, 0])
    assert problem.gradient(problem.x0) == pytest.approx(slope)
    assert problem.gradient(many)[0] == pytest.approx(slope)
    assert problem.misfit(-problem.x_star) == pytest.approx(2)


@pytest.mark.parametrize("a", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("ratio", [1e-20, -1e-4, -20.0, 1e12])
def test_fifty_digits_agree(a, ratio):
    x = ratio * a
    entropy = exactly(lambda x, a: (x * mpmath.asinh(x / a) - mpmath.sqrt(x**2 + a**2)) / 2, x, a)
    assert Potential(a)(x) == pytest.approx(entropy, rel=1e-12, abs=0)
    mu = Potential(a).gradient(x)
    assert mu == pytest.approx(exactly(lambda x, a: mpmath.asinh(x / a) / 2, x, a), rel=1e-14, abs=0)
    back = exactly(lambda mu, a: a * mpmath.sinh(2 * mu), mu, a)
    assert _inverse_mirror_map(mu, np.log(a)) == pytest.approx(back, rel=1e-13, abs=0)


@given(st.floats(-50, 50), st.floats(-30, 30), st.floats(-5, 5))
def test_the_two_maps_undo_each_other_and_meet_in_the_conjugate(x, exponent, c):
    """The conjugate is (a/2) cosh(2 mu + c); potential and conjugate add up to the product where they touch."""
    a = 10.0**exponent
    potential = Potential(a, c)
    mu = potential.gradient(x)
    assert _inverse_mirror_map(mu, np.log(a), c) == pytest.approx(x, rel=1e-12, abs=1e-14 * a)
    conjugate = np.hypot(x, a) / 2
    size = abs(x * mu) + np.hypot(x, a) + abs(x * c)
    assert abs(potential(x) + conjugate - x * mu) <= 1e-13 * size


# ---- strengths and flows


def regression(seed, d=12, n=30):
    """A sparse truth seen through Gaussian inputs: Z, y, x0, gradient."""
    problem = _SparseRegression.draw(seed, d, n, 3)
    return problem.Z, 3 * problem.y, problem.x0, replace(problem, y=3 * problem.y).gradient


def logistic(seed, d=12, n=8):
    """Gradient of a logistic loss with a quartic term."""
    rng = np.random.default_rng(seed)
    Z = rng.standard_normal((d, n))
    return rng.normal(size=n), lambda x: -Z.T @ (1 / (1 + np.exp(Z @ x))) / d + 0.1 * x**3


@pytest.mark.parametrize("strength", STRENGTHS[1:], ids=repr)
def test_the_flow_of_the_factors_is_the_mirror_flow_and_the_dual_flow(strength):
    Z, y, *linear = regression(0)
    for beta, (x0, gradient) in ((10.0, logistic(0)), (0.3, linear)):
        flow = Flow(x0, beta=beta, **strength)
        m, w = flow.factors(gradient, TIMES)
        mirror = flow.mirror(gradient, TIMES)
        assert np.abs(m * w - mirror).max() < 1e-8
        assert np.abs(mirror - mirror[0]).max() > 0.3
        gaps = np.broadcast_to(beta * np.exp(-4 * flow.dose(TIMES))[:, None], m.shape)
        np.testing.assert_allclose(m**2 - w**2, gaps, rtol=1e-8, atol=1e-10)
    assert np.abs(m * w - flow.dual(Z, y, TIMES)).max() < 1e-6


@pytest.mark.parametrize("strength", STRENGTHS, ids=repr)
def test_factors_along_a_constant_gradient_have_their_closed_form_and_the_printed_scale_fails(strength):
    g, x0 = np.array([0.3, -0.2, 0.1]), np.array([0.3, -1.0, 2.0])
    m0, w0 = pilot_factors(x0)
    flow = Flow(x0, **strength)
    m, w = flow.factors(lambda x: g, TIMES)
    L, A = TIMES[:, None] * g, flow.dose(TIMES)[:, None]
    np.testing.assert_allclose(m, (m0 * np.cosh(L) - w0 * np.sinh(L)) * np.exp(-2 * A), rtol=1e-9)
    np.testing.assert_allclose(w, (w0 * np.cosh(L) - m0 * np.sinh(L)) * np.exp(-2 * A), rtol=1e-9, atol=1e-12)
    z = -2 * L + np.arcsinh(2 * x0)
    np.testing.assert_allclose(m * w, 0.5 * np.exp(-4 * A) * np.sinh(z), rtol=1e-9, atol=1e-12)
    printed = np.exp(-2 * A) * np.sinh(z)  # version 1: beta exp(-2A)
    np.testing.assert_allclose(printed[0], 2 * x0)
    assert np.abs(printed - m * w).max() > 0.1


def test_the_gap_under_a_penalised_mask_is_that_of_a_loop_of_small_steps():
    _, _, x0, gradient = regression(3)
    n_steps, alpha = 10_000, 0.1
    m, w = Flow(x0, alpha).factors(gradient, np.array([1.0]), mask_only=True)
    p, q = pilot_factors(x0)
    for _ in range(n_steps):
        g = gradient(p * q)
        p, q = p - (g * q + 2 * alpha * p) / n_steps, q - g * p / n_steps
    np.testing.assert_allclose(m[0] ** 2 - w[0] ** 2, p**2 - q**2, atol=1e-3)
    assert np.abs(p**2 - q**2 - np.exp(-4 * alpha)).max() > 0.05  # as if both were


def test_constant_decay_ends_at_the_lasso_and_does_not_interpolate():
    alpha = 0.05
    Z, y, x0, _ = regression(5)
    (end,) = Flow(x0, alpha).dual(Z, y, [1e5])  # where the scale is below the smallest float
    slope = Z.T @ (Z @ end - y) / len(y)  # the Lasso's conditions, with a penalty of twice the strength
    np.testing.assert_allclose(slope[end != 0], -2 * alpha * np.sign(end[end != 0]), atol=1e-7)
    assert np.abs(slope).max() < 2 * alpha + 1e-7
    assert 0 < np.count_nonzero(np.abs(end) > 1e-3) <= len(y)
    assert np.abs(Z @ end - y).max() > 1e-2


# ---- interpolators


def problem(seed, d=6, n=20):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((d, n)), rng.standard_normal(d), rng.normal(scale=0.5, size=n)


@pytest.mark.parametrize("a", [1e-30, 1e30, np.geomspace(0.01, 3, 100)], ids=str)
def test_least_potential_meets_its_conditions_at_every_scale(a):
    Z, y, x0 = problem(2, 40, 100)
    for c in (0.0, np.arcsinh(x0 / a)):
        potential = Potential(a, c)
        x = potential.least(Z, y)
        np.testing.assert_allclose(Z @ x, y, atol=1e-11)
        mu = potential.gradient(x)
        assert np.abs(null_space(Z).T @ mu).max() < 1e-11 * max(1.0, np.abs(mu).max())


def test_a_sparse_truth_is_the_point_of_least_l1_and_of_least_potential_at_a_tiny_scale():
    problem = _SparseRegression.draw(7)
    for x in (_least_l1(problem.Z, problem.y), Potential(1e-30).least(problem.Z, problem.y)):
        np.testing.assert_allclose(x, problem.x_star, atol=1e-9)


@pytest.mark.parametrize("solve", [_least_l1, Potential(0.1).least])
def test_dependent_rows_are_solved_and_targets_that_no_weights_give_refused(solve):
    Z, y, _ = problem(12)
    doubled, both = np.vstack([Z, 2 * Z[:2]]), np.concatenate([y, 2 * y[:2]])
    np.testing.assert_allclose(solve(doubled, both), solve(Z, y), atol=1e-9)
    for wrong in (y[0] + 1, np.nan):
        with pytest.raises(ValueError, match="rank 6 of 7"):
            solve(np.vstack([Z, Z[:1]]), np.append(y, wrong))
