"""The zoo's systems are what they say. Where chance decides, the spread stands beside the tolerance.

The number beside a tolerance is the standard deviation over forty other seeds; a tolerance is five of them.
"""

import numpy as np
import pytest
import zoo
from scipy import stats
from statsmodels.tsa.stattools import acf

# Chaos: means over twenty orbits ---------------------------------------------------------------------------


def test_logistic_map_has_exponent_ln_2():
    x = zoo.logistic_map((20, 1000), np.random.default_rng(0))
    np.testing.assert_allclose(x[:, 1:], 4 * x[:, :-1] * (1 - x[:, :-1]), rtol=1e-14)
    assert np.log(np.abs(4 - 8 * x)).mean() == pytest.approx(zoo.EXPONENTS["logistic"], abs=0.002)  # 0.0003
    assert stats.kstest(x.ravel(), stats.arcsine.cdf).statistic < 0.018  # 0.005, give or take 0.0024


def test_tent_map_does_not_collapse_and_fills_the_interval():
    x = zoo.tent_map((20, 1000), np.random.default_rng(0))
    np.testing.assert_allclose(x[:, 1:], 1 - np.abs(1 - 2 * x[:, :-1]), atol=1e-15)
    assert stats.kstest(x.ravel(), stats.uniform.cdf).statistic < 0.015  # 0.005, give or take 0.0018
    assert len(np.unique(x)) == x.size
    assert zoo.EXPONENTS["tent"] == np.log(2)  # |slope| = 2 everywhere


def grown(tangents):
    """Unit vectors along the tangents, and the logarithms of the lengths."""
    lengths = np.sqrt((tangents**2).sum(axis=0))
    return tangents / lengths, np.log(lengths)


def test_henon_exponents():
    """A tangent carried along by the Jacobians grows as published, an area by ln b a step exactly."""
    x, y = zoo.henon((20, 1000), np.random.default_rng(0))
    np.testing.assert_allclose(y[:, 1:], 0.3 * x[:, :-1])
    u, v = np.zeros((2, 2, 20))
    u[0] = v[1] = 1.0
    growth, area = 0.0, 0.0
    for at in x.T:
        u, v = (np.stack([-2.8 * at * first + second, 0.3 * first]) for first, second in (u, v))
        u, longer = grown(u)
        v = v - (u * v).sum(axis=0) * u
        v, higher = grown(v)
        growth += longer.mean()
        area += (longer + higher).mean()
    assert growth / 1000 == pytest.approx(zoo.EXPONENTS["henon"], abs=0.015)  # 0.0028
    assert area / 1000 == pytest.approx(np.log(0.3), rel=1e-12)


def test_lorenz_is_on_its_attractor():
    """On the attractor the mean of d(z)/dt vanishes: <xy> = 8/3 <z>; and <xy> = <x^2> from d(x^2)/dt."""
    x, y, z = zoo.lorenz((20, 1000), np.random.default_rng(0))
    assert (x * y).mean() == pytest.approx(8 / 3 * z.mean(), abs=0.3)  # 0.054
    assert (x * y).mean() == pytest.approx((x * x).mean(), abs=0.1)  # 0.017
    assert z.mean() == pytest.approx(23.55, abs=0.25)  # 0.049


# Chance ------------------------------------------------------------------------------------------------------


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


def test_pairs_without_causation_are_independent():
    rng = np.random.default_rng(4)
    y, x = zoo.shared_trend_pairs((4000, 50), rng)
    assert np.corrcoef(y.ravel(), x.ravel())[0, 1] > 0.5  # what the trend alone does
    within = ((y - y.mean(axis=0)) * (x - x.mean(axis=0))).mean()
    assert abs(within) < 5 / np.sqrt(y.size)
    steps = [np.diff(walk, axis=1) for walk in zoo.unit_root_pairs((4000, 50), rng)]
    assert abs((steps[0] * steps[1]).mean()) < 5 / np.sqrt(steps[0].size)
