import numpy as np
import pytest
import zoo
from scipy import stats
from statsmodels.tsa.stattools import acf


def test_logistic_map_has_exponent_ln_2():
    x = zoo.logistic_map(20_000)
    np.testing.assert_allclose(x[1:], 4 * x[:-1] * (1 - x[:-1]), rtol=1e-14)
    assert np.log(np.abs(4 - 8 * x)).mean() == pytest.approx(zoo.EXPONENTS["logistic"], abs=0.01)
    assert stats.kstest(x, stats.arcsine.cdf).statistic < 0.02


def test_logistic_map_below_chaos_settles():
    np.testing.assert_allclose(zoo.logistic_map(50, r=2.5), 1 - 1 / 2.5, rtol=1e-12)


def test_tent_map_does_not_collapse_and_fills_the_interval():
    x = zoo.tent_map(20_000)
    np.testing.assert_allclose(x[1:], 1 - np.abs(1 - 2 * x[:-1]), atol=1e-15)
    assert stats.kstest(x, stats.uniform.cdf).statistic < 0.02
    assert len(np.unique(x)) == len(x)
    assert zoo.EXPONENTS["tent"] == np.log(2)  # |slope| = 2 everywhere


def test_tent_and_logistic_maps_are_the_same_dynamics():
    """The change of variable sin^2(pi x / 2) turns one into the other."""
    tent = zoo.tent_map(1000)
    logistic = np.sin(np.pi * tent / 2) ** 2
    np.testing.assert_allclose(logistic[1:], 4 * logistic[:-1] * (1 - logistic[:-1]), atol=1e-12)


def test_henon_exponents():
    """The product of Jacobians, re-orthonormalized: largest exponent as published, sum ln b exactly."""
    orbit = zoo.henon(20_000)
    np.testing.assert_allclose(orbit[1:, 1], 0.3 * orbit[:-1, 0])
    frame, growth = np.eye(2), np.zeros(2)
    for x, _ in orbit:
        frame, upper = np.linalg.qr(np.array([[-2.8 * x, 1.0], [0.3, 0.0]]) @ frame)
        growth += np.log(np.abs(np.diag(upper)))
    assert growth[0] / len(orbit) == pytest.approx(zoo.EXPONENTS["henon"], abs=0.01)
    assert growth.sum() / len(orbit) == pytest.approx(np.log(0.3), rel=1e-12)


def test_lorenz_exponent():
    """A tangent vector carried along by Runge and Kutta's steps grows at the published rate."""

    def velocity(state):
        x, y, z, u, v, w = state
        return np.array(
            [
                10 * (y - x),
                x * (28 - z) - y,
                x * y - 8 / 3 * z,
                10 * (v - u),
                u * (28 - z) - x * w - v,
                u * y + x * v - 8 / 3 * w,
            ]
        )

    step, n = 0.01, 20_000
    state, growth = np.array([*zoo.lorenz(1)[0], 1.0, 0.0, 0.0]), 0.0
    for _ in range(n):
        k1 = velocity(state)
        k2 = velocity(state + step / 2 * k1)
        k3 = velocity(state + step / 2 * k2)
        state = state + step / 6 * (k1 + 2 * k2 + 2 * k3 + velocity(state + step * k3))
        length = np.sqrt(state[3:] @ state[3:])
        growth += np.log(length)
        state[3:] /= length
    assert growth / (n * step) == pytest.approx(zoo.EXPONENTS["lorenz"], abs=0.03)


def test_lorenz_is_on_its_attractor():
    """On the attractor the mean of d(z)/dt vanishes: <xy> = 8/3 <z>; and <xy> = <x^2> from d(x^2)/dt."""
    x, y, z = zoo.lorenz(4000).T
    assert (x * y).mean() == pytest.approx(8 / 3 * z.mean(), rel=0.01)
    assert (x * y).mean() == pytest.approx((x * x).mean(), rel=0.01)
    assert z.mean() == pytest.approx(23.55, abs=0.3)


@pytest.mark.parametrize("phi", [-0.5, 0.5, 0.9])
def test_ar_is_stationary_with_the_variance_it_states(phi):
    x = zoo.ar(phi, (4000, 40), np.random.default_rng(0))
    expected = 1 / (1 - phi**2)
    np.testing.assert_allclose(x.var(axis=0), expected, rtol=0.1)
    ratio = (x[:, 1:] * x[:, :-1]).mean() / (x**2).mean()
    assert ratio == pytest.approx(phi, abs=0.02)


def test_white_noise_and_random_walk():
    rng = np.random.default_rng(1)
    noise, walk = zoo.white_noise((4000, 30), rng), zoo.random_walk((4000, 30), rng)
    assert abs(acf(noise.ravel(), nlags=1)[1]) < 5 / np.sqrt(noise.size)
    np.testing.assert_allclose(walk.var(axis=0), np.arange(1, 31), rtol=0.12)


@pytest.mark.parametrize(("forward", "backward"), [(0.4, 0.0), (0.0, 0.4), (0.3, 0.2), (0.0, 0.0)])
def test_coupled_pairs_have_their_coefficients(forward, backward):
    y, x = zoo.coupled_pairs((2000, 60), np.random.default_rng(2), forward, backward)
    before = np.stack([y[:, :-1].ravel(), x[:, :-1].ravel()], axis=1)
    after = np.stack([y[:, 1:].ravel(), x[:, 1:].ravel()], axis=1)
    found = np.linalg.lstsq(before, after)[0].T
    np.testing.assert_allclose(found, [[0.5, forward], [backward, 0.5]], atol=0.015)
    np.testing.assert_allclose((after - before @ found.T).std(axis=0), 1, atol=0.02)


def test_coupled_pairs_have_the_stationary_covariance():
    system = np.array([[0.5, 0.3], [0.2, 0.5]])
    covariance = np.linalg.solve(np.eye(4) - np.kron(system, system), np.eye(2).ravel()).reshape(2, 2)
    pair = np.stack(zoo.coupled_pairs((20_000, 2), np.random.default_rng(3), 0.3, 0.2))[..., 0]
    np.testing.assert_allclose(np.cov(pair), covariance, atol=0.05)


def test_pairs_without_causation_are_independent():
    rng = np.random.default_rng(4)
    y, x = zoo.shared_trend_pairs((4000, 50), rng)
    assert np.corrcoef(y.ravel(), x.ravel())[0, 1] > 0.5  # what the trend alone does
    within = ((y - y.mean(axis=0)) * (x - x.mean(axis=0))).mean()
    assert abs(within) < 5 / np.sqrt(y.size)
    steps = [np.diff(walk, axis=1) for walk in zoo.unit_root_pairs((4000, 50), rng)]
    assert abs((steps[0] * steps[1]).mean()) < 5 / np.sqrt(steps[0].size)
