import numpy as np
import pytest
from scipy.integrate import quad

from repro.geometry.interpolators import lasso, least_l2, least_potential
from repro.geometry.mirror_flows import (
    Constant,
    Decaying,
    SwitchedOff,
    dual_flow,
    factor_flow,
    mirror_flow,
)
from repro.geometry.potentials import (
    Factors,
    factors,
    factors_at,
    inverse_mirror_map,
    mirror_map,
    printed_scale,
)

STRENGTHS = [Constant(0.0), Constant(0.05), Decaying(0.1, 0.2), SwitchedOff(0.1, 3.3)]
TIMES = np.linspace(0, 10, 11)


def regression(seed, d=12, n=30):
    """A sparse truth seen through Gaussian inputs: Z, y, x0, gradient."""
    rng = np.random.default_rng(seed)
    Z = rng.standard_normal((d, n))
    truth = np.where(np.arange(n) < 3, 2.0 + np.arange(n), 0.0) * rng.choice([-1, 1], n)
    y = Z @ truth
    return Z, y, rng.normal(scale=n**-0.25, size=n), lambda x: Z.T @ (Z @ x - y) / d


def logistic(seed, d=12, n=8):
    """Gradient of a logistic loss with a quartic term."""
    rng = np.random.default_rng(seed)
    Z = rng.standard_normal((d, n))
    return rng.normal(size=n), lambda x: -Z.T @ (1 / (1 + np.exp(Z @ x))) / d + 0.1 * x**3


@pytest.mark.parametrize("strength", STRENGTHS, ids=repr)
def test_doses_are_the_integrals_of_the_strengths(strength):
    for t in (0.0, 0.4, 3.3, 9.0):
        integral = quad(strength.at, 0, t, points=[s for s in strength.jumps if s < t] or None)[0]
        assert strength.dose(t) == pytest.approx(integral, abs=1e-10)
    if np.isfinite(strength.total):
        assert strength.dose(1e4) == pytest.approx(strength.total)
    else:
        assert strength.dose(1e12) > 1e9
    assert strength.at(TIMES).shape == strength.dose(TIMES).shape == TIMES.shape
    assert np.ndim(strength.at(1.0)) == np.ndim(strength.dose(1.0)) == 0


@pytest.mark.parametrize("strength", STRENGTHS, ids=repr)
@pytest.mark.parametrize("beta", [0.3, 10.0])
@pytest.mark.parametrize("loss", ["regression", "logistic"])
def test_the_flow_of_the_factors_is_the_mirror_flow(loss, beta, strength):
    x0, gradient = regression(0)[2:] if loss == "regression" else logistic(0)
    a = factor_flow(gradient, factors(x0, beta), TIMES, strength)
    b = mirror_flow(gradient, x0, beta, TIMES, strength)
    assert np.abs(a.x - b.x).max() < 1e-9
    assert np.abs(a.x - a.x[0]).max() > 0.3
    np.testing.assert_allclose(a.scale, b.scale, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(a.factors.x, a.x)
    assert b.factors is None
    assert a.x.shape == b.x.shape == (len(TIMES), len(x0))


@pytest.mark.parametrize("strength", STRENGTHS, ids=repr)
def test_the_dual_flow_is_the_same_flow(strength):
    Z, y, x0, gradient = regression(1)
    a = factor_flow(gradient, factors(x0, 1.0), TIMES, strength)
    b = dual_flow(Z, y, x0, 1.0, strength, times=TIMES)
    assert np.abs(a.x - b.x).max() < 1e-6
    np.testing.assert_array_equal(b.times, TIMES)
    np.testing.assert_allclose(a.scale, b.scale, rtol=1e-8)
    np.testing.assert_allclose(b.dose, strength.dose(TIMES))


def test_the_flow_of_the_factors_is_what_small_euler_steps_tend_to():
    _, _, x0, gradient = regression(2)
    strength, end = Decaying(0.3, 0.5), 2.0
    start = factors(x0, 1.0)
    exact = factor_flow(gradient, start, [end], strength).x[0]
    errors = []
    for n_steps in (4000, 8000):
        m, w, h = start.m, start.w, end / n_steps
        for k in range(n_steps):
            g, alpha = gradient(m * w), 0.3 * np.exp(-0.5 * k * h)
            m, w = m - h * (g * w + 2 * alpha * m), w - h * (g * m + 2 * alpha * w)
        errors.append(np.abs(m * w - exact).max())
    assert errors[1] < 1e-2
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize("strength", STRENGTHS, ids=repr)
def test_factors_along_a_constant_gradient_have_their_closed_form(strength):
    g = np.array([0.3, -0.2, 0.0])
    start = factors([0.3, -1.0, 2.0], 1.0)
    path = factor_flow(lambda x: g, start, TIMES, strength)
    closed = factors_at(start, TIMES[:, None] * g, strength.dose(TIMES)[:, None])
    np.testing.assert_allclose(path.factors.m, closed.m, rtol=1e-9)
    np.testing.assert_allclose(path.factors.w, closed.w, rtol=1e-9, atol=1e-12)


def test_the_printed_scale_does_not_describe_the_flow():
    g, x0 = np.array([0.3, -0.2, 0.1]), np.array([0.3, -1.0, 2.0])
    strength = Constant(0.05)
    path = factor_flow(lambda x: g, factors(x0, 1.0), TIMES, strength)
    mu, c = -TIMES[:, None] * g, np.arcsinh(x0 / 0.5)
    printed = inverse_mirror_map(mu, printed_scale(1.0, path.dose)[:, None], c)
    assert np.abs(inverse_mirror_map(mu, path.scale, c) - path.x).max() < 1e-9
    assert (np.abs(printed - path.x).max(axis=1) > 0.1).all()


def test_a_balanced_start_keeps_every_sign_and_an_unbalanced_one_does_not():
    _, _, x0, gradient = regression(3)
    locked = factor_flow(gradient, factors(x0, 0.0), TIMES, Constant(0.01))
    free = factor_flow(gradient, factors(x0, 1.0), TIMES, Constant(0.01))
    assert (np.sign(locked.x) == np.sign(x0)).all()
    assert (np.sign(free.x[-1]) != np.sign(x0)).any()
    assert np.abs(locked.scale).max() < 1e-10


@pytest.mark.parametrize("total", [0.0, 0.5, 1.0, 2.0, 3.0, 4.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_flow_ends_at_the_interpolator_of_least_potential(seed, total):
    Z, y, x0, _ = regression(seed)
    path = dual_flow(Z, y, x0, 1.0, Decaying(total * 0.5, 0.5))
    assert np.abs(Z @ path.x[-1] - y).max() < 1e-10
    a = 0.5 * np.exp(-4 * total)
    assert path.scale[-1, 0] == pytest.approx(a)
    target = least_potential(Z, y, a, np.arcsinh(x0 / 0.5))
    assert np.abs(path.x[-1] - target).max() < 1e-8
    assert np.abs(path.x[-1] - least_potential(Z, y, a / 2, np.arcsinh(x0 / 0.5))).max() > 1e-7


@pytest.mark.parametrize("strength", [Constant(0.05), SwitchedOff(0.3, 2.0)], ids=repr)
def test_at_every_time_the_weights_have_least_potential_among_equal_predictions(strength):
    Z, y, x0, gradient = regression(4)
    path = factor_flow(gradient, factors(x0, 1.0), [0.5, 2.0, 8.0], strength)
    c = np.arcsinh(x0 / 0.5)
    for x, a in zip(path.x, path.scale, strict=True):
        assert np.abs(Z @ x - y).max() > 1e-4
        assert np.abs(least_potential(Z, Z @ x, a, c) - x).max() < 1e-8
        assert np.abs(least_l2(Z, Z @ x, x0) - x).max() > 1e-2


@pytest.mark.parametrize("alpha", [0.02, 0.1])
def test_constant_decay_ends_at_the_lasso_and_does_not_interpolate(alpha):
    Z, y, x0, _ = regression(5)
    end = dual_flow(Z, y, x0, 1.0, Constant(alpha), horizon=1e5).x[-1]
    assert np.abs(end - lasso(Z, y, 2 * alpha)).max() < 1e-8
    assert np.abs(end - lasso(Z, y, alpha)).max() > 1e-3
    assert np.abs(Z @ end - y).max() > 1e-2


def test_without_decay_the_loss_falls_at_least_at_the_rate_of_the_scale():
    Z, y, x0, _ = regression(6)
    rate = 2 * np.linalg.svd(Z, compute_uv=False)[-1] ** 2 / len(y)
    times = np.linspace(0, 6, 25)
    path = dual_flow(Z, y, x0, 5.0, Constant(0.0), times=times)
    log_loss = np.log(((path.x @ Z.T - y) ** 2).sum(axis=1))
    assert (np.diff(log_loss) / np.diff(times) < -2 * 2.5 * rate).all()


def test_the_dual_variables_are_the_integrated_gradient():
    Z, y, x0, gradient = regression(7)
    times = np.linspace(0, 4, 4001)
    path = dual_flow(Z, y, x0, 1.0, Decaying(0.2, 1.0), times=times)
    slopes = np.array([gradient(x) for x in path.x])
    integral = (0.5 * (slopes[1:] + slopes[:-1]) * np.diff(times)[:, None]).sum(axis=0)
    mu = mirror_map(path.x[-1], path.scale[-1], np.arcsinh(x0 / 0.5))
    np.testing.assert_allclose(mu, -integral, atol=1e-5)


@pytest.mark.parametrize("times", [[0.0], [2.0], [0.0, 2.0, 2.5], [1.0, 3.3, 5.0]])
def test_only_the_times_asked_for_come_back(times):
    Z, y, x0, gradient = regression(8)
    strength = SwitchedOff(0.1, 3.3)
    paths = [
        factor_flow(gradient, factors(x0, 1.0), times, strength),
        mirror_flow(gradient, x0, 1.0, times, strength),
        dual_flow(Z, y, x0, 1.0, strength, times=times),
    ]
    for path in paths:
        np.testing.assert_array_equal(path.times, times)
        assert path.x.shape == path.scale.shape == (len(times), len(x0))
        np.testing.assert_allclose(path.x, paths[0].x, atol=1e-7)


def test_the_solver_s_own_steps_run_from_the_start_to_the_horizon():
    Z, y, x0, _ = regression(9)
    path = dual_flow(Z, y, x0, 1.0, SwitchedOff(0.1, 3.0), horizon=50.0)
    assert path.times[0] == 0
    assert path.times[-1] == 50
    assert 3.0 in path.times
    assert (np.diff(path.times) > 0).all()
    np.testing.assert_allclose(path.x[0], x0, rtol=1e-12)


def test_nothing_to_learn_and_no_decay_leave_the_weights_alone():
    Z, _, x0, _ = regression(10)
    still = dual_flow(Z, Z @ x0, x0, 1.0, Constant(0.0), times=TIMES)
    np.testing.assert_allclose(still.x, np.tile(x0, (len(TIMES), 1)), atol=1e-13)
    shrunk = factor_flow(np.zeros_like, factors(x0, 1.0), TIMES, Constant(0.1))
    np.testing.assert_allclose(shrunk.x, x0 * np.exp(-0.4 * TIMES)[:, None], rtol=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(-0.1), r"alpha must be 0 or above and finite; got -0\.1"),
        (lambda: Constant(np.nan), "alpha must be 0 or above and finite; got nan"),
        (lambda: Decaying(np.inf, 1.0), "alpha must be 0 or above and finite; got inf"),
        (lambda: Decaying(0.1, 0.0), r"rate must be positive and finite; got 0\.0"),
        (lambda: SwitchedOff(0.1, -2.0), r"time must be positive and finite; got -2\.0"),
    ],
)
def test_strengths_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_bad_input_is_refused_before_any_step():
    Z, y, x0, gradient = regression(11)
    start, none = factors(x0, 1.0), Constant(0.0)
    with pytest.raises(ValueError, match=r"0 or above and increase; got \[0. 2. 2.\]"):
        factor_flow(gradient, start, [0, 2, 2], none)
    with pytest.raises(ValueError, match="0 or above and increase"):
        mirror_flow(gradient, x0, 1.0, [-1, 2], none)
    with pytest.raises(ValueError, match="at least one finite number"):
        mirror_flow(gradient, x0, 1.0, [], none)
    with pytest.raises(ValueError, match=r"shape of the weights, \(30,\); got \(\)"):
        factor_flow(lambda x: 0.0, start, [1.0], none)
    with pytest.raises(ValueError, match=r"vectors \(n,\) with n at least 1; got shape \(2, 2\)"):
        factor_flow(gradient, Factors(np.ones((2, 2)), np.zeros((2, 2))), [1.0], none)
    for beta in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match=f"above 0 and finite; got {beta}"):
            mirror_flow(gradient, x0, beta, [1.0], none)
        with pytest.raises(ValueError, match=f"above 0 and finite; got {beta}"):
            dual_flow(Z, y, x0, beta, none)
    with pytest.raises(ValueError, match="x must be finite; got nan"):
        dual_flow(Z, y, np.full(30, np.nan), 1.0, none)
    with pytest.raises(ValueError, match="each of the 30 columns of Z; got 29"):
        dual_flow(Z, y, x0[1:], 1.0, none)
    with pytest.raises(ValueError, match=r"Z must be \(d, n\) and y \(d,\)"):
        dual_flow(Z, y[1:], x0, 1.0, none)
    with pytest.raises(ValueError, match="horizon must be positive; got 0"):
        dual_flow(Z, y, x0, 1.0, none, horizon=0)
    with pytest.raises(ValueError, match=r"up to time 1e\+09, beyond it in round-off; got inf"):
        dual_flow(Z, y, x0, 1.0, none, horizon=np.inf)
