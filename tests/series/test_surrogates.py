from functools import partial

import numpy as np
import pytest
import zoo

from repro.series import circularly_shifted, iaaft, lyapunov_tisean, of_increments, shuffled

PERMUTATIONS = [shuffled, circularly_shifted, iaaft]
EVERY = [*PERMUTATIONS, partial(of_increments, draw=shuffled), partial(of_increments, draw=iaaft)]


def walks(n=6, length=50, seed=0):
    return np.random.default_rng(seed).normal(size=(n, length)).cumsum(axis=1)


@pytest.mark.parametrize("draw", EVERY)
def test_every_surrogate_is_a_new_array_of_draws_of_its_own(draw):
    x, rng = walks(), np.random.default_rng(7)
    before = x.copy()
    first, second = draw(x, rng), draw(x, rng)
    assert first.shape == x.shape
    assert first.dtype == np.float64
    np.testing.assert_array_equal(x, before)
    assert (first != x).any(axis=1).all()
    np.testing.assert_array_equal(draw(x, 7), first)  # a seed means a fresh generator
    assert (first != second).any()
    assert len(np.unique(draw(np.tile(walks(1), (5, 1)), 0), axis=0)) == 5
    np.testing.assert_array_equal(draw(walks(1)[0], 3), draw(walks(1), 3)[0])
    np.testing.assert_allclose(draw(np.full((2, 12), 3.0), 0), 3.0, atol=1e-13)


@pytest.mark.parametrize("draw", EVERY)
def test_a_series_that_is_not_finite_spoils_its_own_row_only_and_bad_input_is_refused(draw):
    x = walks()
    expected = draw(x, 2)
    x[1, 4] = -np.inf
    found = draw(x, 2)
    assert np.isnan(found[1]).all()
    np.testing.assert_array_equal(np.delete(found, 1, axis=0), np.delete(expected, 1, axis=0))
    assert draw(np.empty((0, 20)), 0).shape == (0, 20)
    with pytest.raises(ValueError, match="at least 4 points in time, got 3"):
        draw(np.zeros((2, 3)), 0)
    with pytest.raises(ValueError, match="seed must be a whole number"):
        draw(np.zeros((2, 9)), True)


@pytest.mark.parametrize("draw", PERMUTATIONS)
def test_permutations_keep_the_values(draw):
    x = walks()
    np.testing.assert_array_equal(np.sort(draw(x, 0), axis=1), np.sort(x, axis=1))


def test_every_permutation_is_equally_likely():
    found = shuffled(np.tile(np.arange(4.0), (24_000, 1)), 0)
    counts = np.unique(found, axis=0, return_counts=True)[1]
    assert len(counts) == 24
    np.testing.assert_allclose(counts, 1000, atol=5 * np.sqrt(1000))


@pytest.mark.parametrize(("length", "least"), [(4, 1), (5, 1), (10, 2), (41, 9)])
def test_shifts_are_a_fifth_to_four_fifths_of_a_turn(length, least):
    shifted = circularly_shifted(np.tile(np.arange(float(length)), (1500, 1)), 0)
    first = shifted[:, 0].astype(int)
    np.testing.assert_array_equal(shifted, (np.arange(length) + first[:, None]) % length)
    assert set(first) == set(range(least, length - least + 1))


def test_adjusted_surrogates_keep_the_periodogram_as_far_as_the_values_allow():
    rng = np.random.default_rng(0)
    x = zoo.ar(0.8, (50, 400), rng) ** 3  # heavy tails
    power = [np.abs(np.fft.rfft(rows)) for rows in (x, iaaft(x, 0), shuffled(x, 0))]
    missed = [np.sqrt(np.square(p - power[0]).sum() / np.square(power[0]).sum()) for p in power[1:]]
    assert missed[0] < 0.2 < 0.5 < missed[1], missed


def test_increments_have_both_ends_and_what_their_surrogate_keeps():
    x = walks(length=64)
    for draw in (shuffled, iaaft):
        found = of_increments(x, 0, draw)
        np.testing.assert_allclose(found[:, [0, -1]], x[:, [0, -1]], atol=1e-11)
        np.testing.assert_allclose(*(np.sort(np.diff(rows)) for rows in (found, x)), atol=1e-12)


def test_what_an_exponent_exceeds_its_surrogates_by_where_the_answer_is_known():
    """Linear processes, also with heavy tails, exceed adjusted surrogates by nothing; chaos differs from them."""
    rng = np.random.default_rng(1)
    heavy = rng.standard_t(3, (400, 200))

    def excess(x, surrogates):
        exponents, others = (lyapunov_tisean(rows, forward_steps=3).exponent for rows in (x, surrogates))
        return (exponents - others).mean(), (exponents - others).std() / np.sqrt(len(x))

    for series in (rng.normal(size=(400, 200)).cumsum(axis=1), heavy.cumsum(axis=1)):
        mean, error = excess(series, of_increments(series, 2, iaaft))
        assert abs(mean) < 4 * error < 0.06
    chaos = zoo.logistic_map((100, 200), rng)
    mean, error = excess(chaos, iaaft(chaos, 2))
    assert mean < -0.5 < -4 * error
