"""Granger tests of many pairs at once: statsmodels' numbers and refusals, without aborting the rest."""

import itertools
import warnings

import numpy as np
import pytest
import torch
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp
from statsmodels.tools.sm_exceptions import InfeasibleTestError
from statsmodels.tsa.stattools import grangercausalitytests

from repro.series import granger
from repro.series.granger import Status, granger_test

pytestmark = pytest.mark.filterwarnings("error")


def driven_pairs(n, n_times, strength):
    """Autoregressive pairs in which the cause leads by one point."""
    return zoo.coupled_pairs((n, n_times), np.random.default_rng(0), strength)


def peer(effect, cause, lag):
    """F and chi-squared, each with its p-value, and the likelihood ratio that statsmodels has for a pair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = grangercausalitytests(np.column_stack([effect, cause]), [lag])[lag][0]
    return np.concatenate([found["ssr_ftest"][:2], found["ssr_chi2test"][:2], found["lrtest"][:1]])


def numbers(result):
    """The same and the status: ``(6, N)`` or ``(6, N, n_lags)``."""
    return np.stack([result.f, result.p_value, result.chi2, result.chi2_p_value, result.lr, result.status])


# --- agreement with independent implementations


@pytest.mark.parametrize(("n_times", "strength"), [(50, 0.0), (50, 1.0), (200, 0.05)])
def test_the_tests_of_statsmodels(n_times, strength):
    y, x = driven_pairs(6, n_times, strength)
    result = granger_test(y, x, range(1, 15))
    expected = [[peer(y[i], x[i], lag) for lag in result.lags] for i in range(6)]
    np.testing.assert_allclose(numbers(result)[:-1], np.moveaxis(expected, 2, 0), rtol=1e-8)
    assert result.ok.all()


def exact_f(effect, cause, lag, digits=1000):
    """F by the normal equations with a thousand digits."""
    with mp.workdps(digits):
        n = len(effect) - lag
        own = [[1.0, *effect[t - lag : t]] for t in range(lag, len(effect))]
        both = [[*own[t - lag], *cause[t - lag : t]] for t in range(lag, len(effect))]
        target = mp.matrix(effect[lag:].tolist())

        def ssr(rows):
            design = mp.matrix([[float(value) for value in row] for row in rows])
            left = target - design * mp.lu_solve(design.T * design, design.T * target)
            return (left.T * left)[0]

        restricted, unrestricted = ssr(own), ssr(both)
        return float((restricted - unrestricted) / lag / (unrestricted / (n - 2 * lag - 1)))


OF_RANDOM_SERIES = {
    "noise": (1e-12, lambda y, x: (y, x)),
    "scales 1e-200 and 1e200": (1e-12, lambda y, x: (1e-200 * y, 1e200 * x)),
    "offset 1e8 with variation 1": (1e-12, lambda y, x: (y + 1e8, x - 1e8)),
    "random walks": (1e-11, lambda y, x: (y.cumsum(), x.cumsum())),
    "smooth trends": (
        1e-9,
        lambda y, x: (np.exp(-T / 10) + 1e-3 * y, np.tanh(T / 10) + 1e-5 * x.cumsum().cumsum()),
    ),
}
T = np.arange(40)


@pytest.mark.parametrize("kind", [*OF_RANDOM_SERIES, "tiny F"])
@pytest.mark.parametrize("shared", [True, False])
def test_digits_against_exact_arithmetic(kind, shared):
    y, x = np.random.default_rng(3).standard_normal((2, 40))
    if kind == "tiny F":
        # The part of y at lag 1 that x explains, taken out up to 1e-7 of it.
        design = np.column_stack([np.ones(39), y[:-1], x[:-1]])
        slope = np.linalg.lstsq(design, y[1:], rcond=None)[0][2]
        past = x[:-1] - design[:, :2] @ np.linalg.lstsq(design[:, :2], x[:-1], rcond=None)[0]
        y[-1] -= slope * (past @ past) / past[-1] * (1 - 1e-7)
    rel, change = OF_RANDOM_SERIES.get(kind, (1e-7, lambda y, x: (y, x)))
    y, x = change(y, x)
    result = granger_test(y if shared else y[None], x[None], (1, 2, 3))
    assert result.ok.all()
    expected = [exact_f(y, x, lag) for lag in (1, 2, 3)]
    assert kind != "tiny F" or expected[0] < 1e-12
    np.testing.assert_allclose(result.f[0], expected, rtol=rel)


@pytest.mark.parametrize("n_times", [25, 60, 200])
def test_products_lose_no_more_digits_than_promised(monkeypatch, n_times):
    """Gram matrices against QR of the design, on series from rough to so smooth that only QR is left."""
    rng, t = np.random.default_rng(4), np.arange(n_times)
    noise, size = rng.standard_normal((100, n_times)), 10 ** rng.uniform(-4, 0, (100, 1))
    series = {
        "walk": noise.cumsum(1),
        "smooth": noise.cumsum(1).cumsum(1),
        "wave": np.sin(t / rng.uniform(3, 30, (100, 1))) + size * noise,
        "decay": np.exp(-t / rng.uniform(10, 60, (100, 1))) + size * noise,
        "offset": 1e3 + size * noise.cumsum(1),
        "collinear": noise[:1].cumsum(1) + size * noise,
    }
    lags = [lag for lag in (1, 2, 5, 14) if n_times >= 3 * lag + 2]
    n_products = 0
    for y, x in itertools.product(series.values(), repeat=2):
        found = granger_test(y, x, lags)
        sums = np.empty((3, lags[-1], 100))
        granger._compiled()(y, x, 1, lags[-1], sums)
        share = sums[2][[lag - 1 for lag in lags]].T
        with monkeypatch.context() as only_factors:
            only_factors.setattr(granger, "_PRODUCTS_ABOVE", np.inf)
            expected = granger_test(y, x, lags)
        assert (found.status == expected.status).all()
        ok = found.ok & (share > granger._PRODUCTS_ABOVE)
        n_products += ok.sum()
        error = abs(found.f - expected.f)[ok] / (expected.f[ok] + 1)
        assert (error < 2e-12 / share[ok]).all()
    assert n_products > 1000


# --- invariants

POSITIVE, SIGN = st.floats(1e-6, 1e6), st.sampled_from([-1, 1])


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    scales=st.tuples(POSITIVE, POSITIVE),
    signs=st.tuples(SIGN, SIGN),
    shifts=st.tuples(st.floats(-100, 100), st.floats(-100, 100)),
)
def test_scale_shift_and_sign_do_not_matter(seed, scales, signs, shifts):
    y, x = np.random.default_rng(seed).standard_normal((2, 3, 60))
    moved = (a * b * (z + c) for a, b, z, c in zip(signs, scales, (y, x), shifts, strict=True))
    found, expected = (numbers(granger_test(*pair, (1, 4))) for pair in (moved, (y, x)))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("shared", [True, False])
def test_pairs_and_lags_are_on_their_own(monkeypatch, shared):
    """Whatever the order of pairs, the chunks and threads they are worked on in, and the other lags asked for."""
    y, x = driven_pairs(60, 80, 0.2)
    x[5], x[30, 7] = 2.0, np.nan
    y = y[0] if shared else y
    result = granger_test(y, x, range(1, 15))
    found = numbers(result)
    assert not result.ok[[5, 30]].any()
    if shared:
        tiled = granger_test(np.tile(y, (60, 1)), x, range(1, 15))
        np.testing.assert_allclose(numbers(tiled), found, rtol=1e-10)
        np.testing.assert_allclose(numbers(granger_test(y, x[0], 3)), found[:, :1, 2], rtol=1e-10)
    order = np.random.default_rng(1).permutation(len(x))
    moved = granger_test(y if shared else y[order], x[order], range(1, 15))
    np.testing.assert_allclose(numbers(moved), found[:, order], rtol=1e-10)
    np.testing.assert_allclose(numbers(granger_test(y, x, np.array([7, 2]))), found[:, :, [6, 1]], rtol=1e-9)
    one = granger_test(y, x, np.int64(5))
    assert (one.df_den, one.n_obs) == (result.df_den[4], result.n_obs[4]) == (64, 75)
    np.testing.assert_allclose(numbers(one), found[:, :, 4], rtol=1e-10)
    monkeypatch.setattr(granger, "_PAIRS_A_CHUNK", 7)
    by_threads = []
    for n_threads in (1, 3):
        torch.set_num_threads(n_threads)
        by_threads.append(numbers(granger_test(y, x, range(1, 15))))
    np.testing.assert_array_equal(*by_threads)
    np.testing.assert_allclose(by_threads[0], found, rtol=1e-10)


def test_difference():
    y, x = driven_pairs(5, 80, 0.2)
    expected = granger_test(np.diff(y, 2), np.diff(x, 2), (1, 3))
    np.testing.assert_array_equal(numbers(granger_test(y, x, (1, 3), difference=2)), numbers(expected))


# --- what cannot be tested


@settings(max_examples=120, deadline=None)
@given(data=st.data(), lag=st.integers(1, 3), n_times=st.integers(4, 14), shared=st.booleans())
def test_what_statsmodels_refuses_has_a_label(data, lag, n_times, shared):
    values = st.one_of(st.integers(-2, 2), st.sampled_from([0, 0, 0, 1]), st.just(1))
    series = st.lists(values, min_size=n_times, max_size=n_times)
    y, x = (np.array(data.draw(series), dtype=float) for _ in range(2))
    result = granger_test(y if shared else y[None], x, lag)
    label = Status(int(result.status[0]))
    if label == Status.OK:
        assert result.f[0] == pytest.approx(peer(y, x, lag)[0], rel=1e-8, abs=1e-10)
    else:
        assert np.isnan(numbers(result)[:-1]).all()
    if label not in (Status.OK, Status.COLLINEAR):
        with pytest.raises((InfeasibleTestError, ValueError)):
            peer(y, x, lag)
    else:  # statsmodels goes on, unless the fit is perfect
        past = [each[lag - k : n_times - k] for each in (y, x) for k in range(1, lag + 1)]
        rank = np.linalg.matrix_rank(np.column_stack([np.ones(n_times - lag), *past]))
        assert (rank == 2 * lag + 1) == (label == Status.OK)


def test_every_label_and_its_neighbours_untouched():
    y, x = driven_pairs(12, 40, 0.3)
    clean = granger_test(y, x, (1, 3))
    bad_y, bad_x = y.copy(), x.copy()
    bad_x[0, 17] = np.nan
    bad_y[1, 0] = -np.inf
    bad_y[2] = 0.1
    bad_x[3] = -7.25
    bad_x[4, 1:], bad_x[4, 0] = 0.3, 1.0  # from the second point on: a column of lag 3, none of lag 1
    bad_x[5] = 3 * bad_y[5] + 1
    bad_y[6, 1:] = bad_x[6, :-1]
    bad_y[7] = 1e308 * np.sign(bad_y[7])  # differences are beyond the largest float
    result = granger_test(bad_y, bad_x, (1, 3))
    assert [[Status(int(code)).name for code in row] for row in result.status] == [
        ["NOT_FINITE"] * 2,
        ["NOT_FINITE"] * 2,
        ["CONSTANT_EFFECT"] * 2,
        ["CONSTANT_CAUSE"] * 2,
        ["OK", "CONSTANT_CAUSE"],
        ["COLLINEAR"] * 2,
        ["PERFECT_FIT", "COLLINEAR"],  # y_{t-1} is x_{t-2}
        ["NOT_FINITE"] * 2,
        *[["OK"] * 2] * 4,
    ]
    for found, before in zip(numbers(result)[:-1], numbers(clean)[:-1], strict=True):
        np.testing.assert_array_equal(np.isnan(found), ~result.ok)
        np.testing.assert_allclose(found[8:], before[8:], rtol=1e-11)


@pytest.mark.parametrize("n_times", [0, 1, 5, 8, 11])
def test_too_short_is_a_label_for_each_lag_and_no_pairs_are_none(n_times):
    y, x = np.random.default_rng(0).standard_normal((2, 3, n_times))
    fits = np.array([n_times >= 3 * lag + 2 for lag in (3, 1, 2)])
    for n in (3, 0):
        result = granger_test(y[:n], x[:n], (3, 1, 2))
        assert result.f.shape == (n, 3)
        assert (result.status == np.where(fits, Status.OK, Status.TOO_SHORT)).all()
        assert result.n_obs.tolist() == (fits * (n_times - np.array([3, 1, 2]))).tolist()
    assert (granger_test(y, x, 2, difference=4).status[0] == Status.OK) == (n_times >= 12)


def test_bad_lags_and_shapes_are_named():
    for lag in (0, 1.0, [], [1, 2, 1]):
        with pytest.raises(ValueError, match="lag"):
            granger_test(np.zeros(30), np.zeros((2, 30)), lag)
    for shapes in (((30,), (2, 31)), ((3, 30), (2, 30)), ((), (2, 30))):
        with pytest.raises(ValueError, match="effect must have the shape"):
            granger_test(*map(np.zeros, shapes), 1)
