import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import null_space
from scipy.optimize import minimize

from repro.geometry.interpolators import lasso, least_l1, least_l2, least_potential
from repro.geometry.potentials import hyperbolic_entropy, mirror_map

SIZES = [(1, 2), (3, 8), (6, 20)]


def problem(seed, d=6, n=20):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((d, n)), rng.standard_normal(d), rng.normal(scale=0.5, size=n)


def cvxpy_value(objective, constraints=()):
    cp = pytest.importorskip("cvxpy")
    return cp.Problem(cp.Minimize(objective), list(constraints)).solve(
        solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10
    )


def off_range(vector, Z):
    """How far a vector is from the range of Z's transpose."""
    return np.abs(null_space(Z).T @ vector).max()


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("a", [0.02, 0.5, 10.0])
def test_least_potential_agrees_with_cvxpy_on_the_dual(size, a):
    cp = pytest.importorskip("cvxpy")
    Z, y, c = problem(0, *size)
    nu = cp.Variable(size[0])
    z = 2 * Z.T @ nu + c
    value = cvxpy_value(a / 4 * cp.sum(cp.exp(z) + cp.exp(-z)) - y @ nu)
    x = least_potential(Z, y, a, c)
    assert hyperbolic_entropy(x, a, c).sum() == pytest.approx(-value, abs=1e-7)
    np.testing.assert_allclose(a * np.sinh(z.value), x, atol=1e-4)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("a", [0.02, 0.5, 10.0])
def test_least_potential_agrees_with_a_descent_inside_the_affine_set(size, a):
    Z, y, c = problem(1, *size)
    inside, one = null_space(Z), np.linalg.pinv(Z) @ y
    found = minimize(
        lambda s: hyperbolic_entropy(one + inside @ s, a, c).sum(),
        np.zeros(inside.shape[1]),
        jac=lambda s: inside.T @ mirror_map(one + inside @ s, a, c),
        method="BFGS",
        options={"gtol": 1e-10},
    )
    np.testing.assert_allclose(least_potential(Z, y, a, c), one + inside @ found.x, atol=1e-6)


@pytest.mark.parametrize("a", [1e-30, 1e-15, 1e-6, 1e-2, 1.0, 1e6, 1e30])
@pytest.mark.parametrize("centred", [True, False])
def test_least_potential_meets_its_conditions_at_every_scale(a, centred):
    Z, y, x0 = problem(2, 40, 100)
    c = 0.0 if centred else np.arcsinh(x0 / a)
    x = least_potential(Z, y, a, c)
    np.testing.assert_allclose(Z @ x, y, atol=1e-11)
    assert off_range(mirror_map(x, a, c), Z) < 1e-11 * max(1.0, np.abs(mirror_map(x, a, c)).max())


def test_a_scale_and_a_centre_for_every_coordinate():
    Z, y, c = problem(3)
    a = np.geomspace(0.01, 3, 20)
    x = least_potential(Z, y, a, c)
    np.testing.assert_allclose(Z @ x, y, atol=1e-12)
    assert off_range(mirror_map(x, a, c), Z) < 1e-12


def test_the_limits_are_the_closest_point_to_the_centre_and_the_least_absolute_sum():
    Z, y, x0 = problem(4)
    near = [
        np.abs(least_potential(Z, y, a, np.arcsinh(x0 / a)) - least_l2(Z, y, x0)).max() for a in (10, 1e3)
    ]
    assert near[1] < 1e-5 < near[0] < 1e-1
    l1 = np.abs(least_l1(Z, y)).sum()
    sums = [np.abs(least_potential(Z, y, a)).sum() for a in (1e2, 1.0, 1e-2, 1e-5, 1e-12, 1e-30)]
    assert (np.diff(sums) < 0).all()
    # inactive coordinates vanish like a power of a that may be small, one minus the dual certificate
    assert sums[-1] == pytest.approx(l1, rel=1e-3)
    assert sums[1] > 1.05 * l1


def test_the_shrunken_start_is_its_own_interpolator():
    Z, _, x0 = problem(5)
    lowest = np.exp(-4 * 0.3) * x0
    x = least_potential(Z, Z @ lowest, 0.5 * np.exp(-4 * 0.3), np.arcsinh(x0 / 0.5))
    np.testing.assert_allclose(x, lowest, atol=1e-13)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.floats(-8, 3))
def test_no_other_interpolator_has_less(seed, exponent):
    Z, y, c = problem(seed, 3, 8)
    a = 10.0**exponent
    shift = null_space(Z) @ np.random.default_rng(seed + 1).normal(size=5)
    potential, l1, l2 = least_potential(Z, y, a, c), least_l1(Z, y), least_l2(Z, y, c)
    for scale in (1e-3, 1.0):
        other = scale * shift
        rise = (hyperbolic_entropy(potential + other, a, c) - hyperbolic_entropy(potential, a, c)).sum()
        assert rise > -1e-10 * (1 + a)
        assert np.abs(l1 + other).sum() >= np.abs(l1).sum() - 1e-10
        assert np.linalg.norm(l2 + other - c) >= np.linalg.norm(l2 - c)


@pytest.mark.parametrize("size", [*SIZES, (40, 100)], ids=str)
def test_least_l1_agrees_with_cvxpy_and_sits_on_a_vertex(size):
    cp = pytest.importorskip("cvxpy")
    Z, y, _ = problem(6, *size)
    variable = cp.Variable(size[1])
    value = cvxpy_value(cp.norm1(variable), [Z @ variable == y])
    x = least_l1(Z, y)
    np.testing.assert_allclose(Z @ x, y, atol=1e-10)
    assert np.abs(x).sum() == pytest.approx(value, abs=1e-8)
    np.testing.assert_allclose(x, variable.value, atol=1e-6)
    assert np.count_nonzero(x) <= size[0]


def test_least_l1_recovers_a_sparse_truth_and_least_l2_does_not():
    rng = np.random.default_rng(7)
    Z, truth = rng.standard_normal((40, 100)), np.zeros(100)
    truth[:5] = [2, -1, 3, 0.5, -4]
    np.testing.assert_allclose(least_l1(Z, Z @ truth), truth, atol=1e-11)
    np.testing.assert_allclose(least_potential(Z, Z @ truth, 1e-30), truth, atol=1e-9)
    assert np.abs(least_l2(Z, Z @ truth) - truth).max() > 0.5


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_units_of_the_targets_do_not_matter(unit):
    Z, y, x0 = problem(8)
    np.testing.assert_allclose(least_l1(Z, unit * y), unit * least_l1(Z, y), atol=1e-10 * unit)
    np.testing.assert_allclose(least_l2(Z, unit * y, unit * x0), unit * least_l2(Z, y, x0), atol=1e-12 * unit)
    scaled = least_potential(Z, unit * y, unit * 0.1)
    np.testing.assert_allclose(scaled, unit * least_potential(Z, y, 0.1), atol=1e-11 * unit)


def test_least_l2_is_the_projection():
    Z, y, x0 = problem(9)
    x = least_l2(Z, y, x0)
    np.testing.assert_allclose(Z @ x, y, atol=1e-13)
    np.testing.assert_allclose(x, x0 + np.linalg.pinv(Z) @ (y - Z @ x0), atol=1e-13)
    np.testing.assert_allclose(least_l2(Z, y), np.linalg.lstsq(Z, y)[0], atol=1e-13)


@pytest.mark.parametrize("penalty", [1e-3, 0.05, 0.3])
def test_the_lasso_meets_its_conditions_and_agrees_with_cvxpy(penalty):
    cp = pytest.importorskip("cvxpy")
    Z, y, _ = problem(10)
    x = lasso(Z, y, penalty)
    slope = Z.T @ (Z @ x - y) / len(y)
    np.testing.assert_allclose(slope[x != 0], -penalty * np.sign(x[x != 0]), atol=1e-8)
    assert np.abs(slope).max() <= penalty + 1e-8
    variable = cp.Variable(Z.shape[1])
    value = cvxpy_value(cp.sum_squares(Z @ variable - y) / (2 * len(y)) + penalty * cp.norm1(variable))
    own = ((Z @ x - y) ** 2).sum() / (2 * len(y)) + penalty * np.abs(x).sum()
    assert own == pytest.approx(value, abs=1e-9)


def test_a_penalty_above_the_largest_slope_leaves_nothing():
    Z, y, _ = problem(11)
    largest = np.abs(Z.T @ y).max() / len(y)
    assert not lasso(Z, y, 1.001 * largest).any()
    assert np.count_nonzero(lasso(Z, y, 0.999 * largest)) == 1


@pytest.mark.parametrize("solve", [least_l1, least_l2, lambda Z, y: least_potential(Z, y, 0.1)])
def test_dependent_rows_and_zero_targets_are_solved(solve):
    Z, y, _ = problem(12)
    doubled, both = np.vstack([Z, 2 * Z[:2]]), np.concatenate([y, 2 * y[:2]])
    np.testing.assert_allclose(solve(doubled, both), solve(Z, y), atol=1e-9)
    np.testing.assert_allclose(solve(Z, np.zeros(6)), 0, atol=1e-13)
    np.testing.assert_allclose(solve(np.zeros((2, 3)), np.zeros(2)), 0, atol=1e-13)


@pytest.mark.parametrize("solve", [least_l1, least_l2, lambda Z, y: least_potential(Z, y, 0.1)])
def test_targets_that_no_weights_give_are_refused(solve):
    Z, y, _ = problem(13)
    with pytest.raises(ValueError, match=r"no x solves Zx = y: Z has rank 6 of 7 rows"):
        solve(np.vstack([Z, Z[:1]]), np.append(y, y[0] + 1))
    with pytest.raises(ValueError, match=r"Z must be \(d, n\) and y \(d,\).*got \(6, 20\) and \(5,\)"):
        solve(Z, y[1:])
    with pytest.raises(ValueError, match="y must be finite; got nan"):
        solve(Z, np.full(6, np.nan))
    with pytest.raises(ValueError, match="Z must be finite; got inf"):
        solve(np.full((6, 20), np.inf), y)


def test_scales_centres_and_penalties_of_no_use_are_refused():
    Z, y, _ = problem(14)
    with pytest.raises(ValueError, match="a must be positive and finite; got 0"):
        least_potential(Z, y, 0.0)
    with pytest.raises(ValueError, match="c must be finite; got nan"):
        least_potential(Z, y, 1.0, np.nan)
    with pytest.raises(ValueError, match=r"a must be one number or hold 20, .* got shape \(3,\)"):
        least_potential(Z, y, np.ones(3))
    with pytest.raises(ValueError, match=r"centre must be one number or hold 20, .* got shape \(1, 20\)"):
        least_l2(Z, y, np.ones((1, 20)))
    for penalty in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match=f"penalty must be positive and finite; got {penalty}"):
            lasso(Z, y, penalty)
