"""How often the tests are wrong where the answer is known, and how often right.

Each rate is a share of N independent pairs; its standard error is at most 0.5 / sqrt(N). Tolerances are four
standard errors, plus what is said beside them.
"""

import numpy as np
import pytest
import zoo
from scipy import stats

from repro.series import granger_test, holm, surrogates

N = 4000
LEVEL = 0.05
FOUR_ERRORS = 4 * np.sqrt(LEVEL * (1 - LEVEL) / N)
NEARLY_NOMINAL = pytest.approx(LEVEL + 0.005, abs=FOUR_ERRORS + 0.005)
"""Of an F-test in autoregressions: its distribution is exact only in the limit of long series."""


def rate(effect, cause, lag, **options):
    return float((granger_test(effect, cause, lag, **options).p_value < LEVEL).mean())


def noise(length, seed, n=N):
    return np.random.default_rng(seed).normal(size=(2, n, length))


@pytest.mark.parametrize("lag", [1, 5])
def test_the_f_test_keeps_its_level_on_independent_pairs(lag):
    rng = np.random.default_rng(lag)
    assert rate(*noise(100, lag), lag) == NEARLY_NOMINAL
    assert rate(zoo.ar(0.9, (N, 100), rng), zoo.ar(0.5, (N, 100), rng), lag) == NEARLY_NOMINAL


@pytest.mark.parametrize(("length", "lag"), [(50, 5), (53, 14)])
def test_the_chi_squared_form_rejects_too_often_in_short_series(length, lag):
    """Where F is exact, n L F / (n - 2L - 1) exceeds the chi-squared quantile with this chance, not 5 %."""
    n = length - lag
    rest = n - 2 * lag - 1
    expected = stats.f.sf(stats.chi2.ppf(1 - LEVEL, lag) * rest / (n * lag), lag, rest)
    found = granger_test(*noise(length, 1), lag)
    assert expected > 0.15
    assert (found.chi2_p_value < LEVEL).mean() == pytest.approx(expected, abs=4 * 0.5 / np.sqrt(N))


def test_holms_correction_over_lags_restores_the_level_of_a_valid_test_alone():
    y, x = noise(53, 2, n=1000)
    found = granger_test(y, x, range(1, 15))
    valid, other = (holm(p).min(axis=1) < LEVEL for p in (found.p_value, found.chi2_p_value))
    assert 0.01 < valid.mean() < LEVEL + 4 * np.sqrt(LEVEL * 0.95 / 1000)
    assert other.mean() > 0.4


def expected_power(lag, length, forward, phi=0.5):
    r"""Power of the F-test in the limit of long series, for ``zoo.coupled_pairs`` one way.

    Noncentral F with $n\,(\sigma_r^2/\sigma_u^2-1)$, n = T - L: the variances of $y_t$ given L values of its past, and
    given those of x too (1: one lag of both is all there is to know).
    """
    system = np.array([[phi, forward], [0.0, phi]])
    covariance = np.linalg.solve(np.eye(4) - np.kron(system, system), np.eye(2).ravel()).reshape(2, 2)
    of_y = [(np.linalg.matrix_power(system, k) @ covariance)[0, 0] for k in range(lag + 1)]
    past = np.array([[of_y[abs(i - j)] for j in range(lag)] for i in range(lag)])
    restricted = of_y[0] - of_y[1:] @ np.linalg.solve(past, of_y[1:])
    n = length - lag
    rest = n - 2 * lag - 1
    return stats.ncf.sf(stats.f.ppf(1 - LEVEL, lag, rest), lag, rest, n * (restricted - 1))


@pytest.mark.parametrize("lag", [1, 5])
@pytest.mark.parametrize(("forward", "least"), [(0.15, 0.15), (0.3, 0.6), (0.6, 0.99)])
def test_power_and_direction(forward, least, lag):
    """Found as often as theory says (0.03 for short series); the other way round, only at the level."""
    y, x = zoo.coupled_pairs((N, 100), np.random.default_rng(3), forward)
    expected = expected_power(lag, 100, forward)
    assert expected > least
    assert rate(y, x, lag) == pytest.approx(expected, abs=4 * 0.5 / np.sqrt(N) + 0.03)
    assert rate(x, y, lag) == NEARLY_NOMINAL


def test_shared_trends_pass_for_causes_until_differenced():
    r"""Differenced white noise is no autoregression: a test at lag 1 keeps somewhat more than its level.

    With $\Delta e_t=e_t-e_{t-1}$ the residual of one lag is $e_t-\frac12e_{t-1}-\frac12e_{t-2}$, with
    autocorrelation -1/6 at lag 1; that of the cause is -1/2. So the coefficient's variance is
    $1+2\cdot\frac16\cdot\frac12=\frac76$ of what the test takes it for, and 5 % become 7 %.
    Five lags leave little of it.
    """
    pairs = 5 * np.exp(-3 * np.arange(100) / 100) + noise(100, 6)
    assert rate(*pairs, 1) > 0.95
    assert rate(*pairs, 5) > 0.35
    expected = 2 * stats.norm.sf(stats.norm.ppf(1 - LEVEL / 2) / np.sqrt(7 / 6))
    assert rate(*pairs, 1, difference=1) == pytest.approx(expected, abs=0.016)
    assert rate(*pairs, 5, difference=1) == NEARLY_NOMINAL


def test_unit_roots_pass_for_causes_until_differenced_and_walks_of_the_same_steps_as_often():
    y, x = noise(100, 7).cumsum(axis=2)
    found = rate(y, x, 1)
    assert 0.14 < found < 0.19
    assert rate(y, x, 5) > 0.08
    for lag in (1, 5):
        assert rate(y, x, lag, difference=1) == NEARLY_NOMINAL
    matched = surrogates.of_increments(x, 8, surrogates.shuffled)
    assert rate(y, matched, 1) == pytest.approx(found, abs=4 * np.sqrt(2 * 0.17 * 0.83 / N))


@pytest.mark.parametrize("lag", [1, 5])
@pytest.mark.parametrize("draw", [surrogates.shuffled, surrogates.circularly_shifted])
def test_surrogates_of_true_causes_are_no_causes(draw, lag):
    rng = np.random.default_rng(8)
    y, x = zoo.coupled_pairs((N, 100), rng, 0.3)
    assert rate(y, x, lag) > 0.6
    assert rate(y, draw(x, rng), lag) == NEARLY_NOMINAL
