import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.tsa.stattools import acf

from repro.series.surrogates import (
    block_bootstrapped,
    circularly_shifted,
    phase_randomized,
    phase_randomized_increments,
    same_increments_walk,
    shuffled,
    trend_matched_pairs,
)


def blocks_of_three(series, rng):
    return block_bootstrapped(series, rng, 3)


def matched_cause(series, rng):
    return trend_matched_pairs(np.arange(np.shape(series)[-1]), series, rng, degree=1)[1]


PERMUTATIONS = [shuffled, circularly_shifted]
EVERY = [
    *PERMUTATIONS,
    phase_randomized,
    blocks_of_three,
    same_increments_walk,
    phase_randomized_increments,
    matched_cause,
]


def walks(n=6, length=50, seed=0):
    return np.random.default_rng(seed).normal(size=(n, length)).cumsum(axis=1)


@pytest.mark.parametrize("draw", EVERY)
class TestEverySurrogate:
    def test_shape_type_and_a_new_array(self, draw):
        x = walks()
        before = x.copy()
        found = draw(x, np.random.default_rng(0))
        assert found.shape == x.shape
        assert found.dtype == np.float64
        assert not np.shares_memory(found, x)
        np.testing.assert_array_equal(x, before)
        assert (found != x).any(axis=1).all()

    def test_a_seed_means_a_fresh_generator(self, draw):
        x, rng = walks(), np.random.default_rng(7)
        first, second = draw(x, rng), draw(x, rng)
        np.testing.assert_array_equal(draw(x, 7), first)
        assert (first != second).any()

    def test_equal_series_get_draws_of_their_own(self, draw):
        found = draw(np.tile(walks(1), (5, 1)), 0)
        assert len(np.unique(found, axis=0)) == 5

    def test_one_series_without_its_row(self, draw):
        x = walks(1)
        np.testing.assert_array_equal(draw(x[0], 3), draw(x, 3)[0])

    def test_memory_layout_and_type_do_not_matter(self, draw):
        x = walks().round()
        expected = draw(x, 1)
        np.testing.assert_array_equal(draw(np.asfortranarray(x), 1), expected)
        np.testing.assert_array_equal(draw(np.repeat(x, 2, axis=1)[:, ::2], 1), expected)
        np.testing.assert_array_equal(draw(x.astype(np.int64), 1), expected)
        np.testing.assert_array_equal(draw(torch.from_numpy(x), 1), expected)

    def test_constant_series_stay_as_they_are(self, draw):
        np.testing.assert_allclose(draw(np.full((2, 12), 3.0), 0), 3.0, atol=1e-13)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_a_series_that_is_not_finite_spoils_its_own_row_only(self, draw, bad):
        x = walks()
        expected = draw(x, 2)
        x[1, 4] = bad
        found = draw(x, 2)
        assert np.isnan(found[1]).all()
        np.testing.assert_array_equal(np.delete(found, 1, axis=0), np.delete(expected, 1, axis=0))

    def test_no_series_give_none(self, draw):
        assert draw(np.empty((0, 20)), 0).shape == (0, 20)

    def test_bad_input_is_refused(self, draw):
        with pytest.raises(ValueError, match="at least 4 points in time, got 3"):
            draw(np.zeros((2, 3)), 0)
        with pytest.raises(ValueError, match=r"shape \(N, T\) or \(T,\), got \(2, 2, 9\)"):
            draw(np.zeros((2, 2, 9)), 0)
        with pytest.raises(TypeError, match=r"real numbers .* got complex128"):
            draw(np.zeros((2, 9), complex), 0)
        for seed in (-1, 0.5, True, None):
            with pytest.raises(ValueError, match=rf"a seed is a whole number, 0 or above; got {seed}"):
                draw(np.zeros((2, 9)), seed)


@pytest.mark.parametrize("draw", PERMUTATIONS)
def test_permutations_keep_the_values(draw):
    x = walks()
    np.testing.assert_array_equal(np.sort(draw(x, 0), axis=1), np.sort(x, axis=1))


def test_every_permutation_is_equally_likely():
    found = shuffled(np.tile(np.arange(4.0), (24_000, 1)), 0)
    counts = np.unique(found, axis=0, return_counts=True)[1]
    assert len(counts) == 24
    np.testing.assert_allclose(counts, 1000, atol=5 * np.sqrt(1000))


@given(length=st.integers(4, 40), least=st.floats(0, 0.3))
def test_shifts_stay_in_their_range(length, least):
    shift = circularly_shifted(np.tile(np.arange(float(length)), (60, 1)), 0, least)
    first = shift[:, 0].astype(int)
    np.testing.assert_array_equal(shift, (np.arange(length) + first[:, None]) % length)
    assert (first >= max(1, least * length - 1e-6)).all()
    assert (first <= length - max(1, least * length - 1e-6)).all()


def test_both_ends_of_the_shift_range_occur():
    first = circularly_shifted(np.tile(np.arange(10.0), (500, 1)), 0)[:, 0]
    assert set(first) == {2, 3, 4, 5, 6, 7, 8}


@pytest.mark.parametrize("least", [-0.1, 0.51, np.nan])
def test_impossible_shifts_are_refused(least):
    with pytest.raises(ValueError, match=f"got {least}"):
        circularly_shifted(walks(), 0, least)


def test_half_a_turn_of_an_odd_length_is_refused():
    with pytest.raises(ValueError, match=r"whole shift of 5 points, in \[0, 0.5\]; got 0.5"):
        circularly_shifted(np.zeros((2, 5)), 0, 0.5)


@pytest.mark.parametrize("length", [4, 5, 50, 51])
def test_phase_randomization_keeps_the_periodogram(length):
    x = walks(length=length)
    found = phase_randomized(x, 0)
    np.testing.assert_allclose(np.abs(np.fft.fft(found)), np.abs(np.fft.fft(x)), atol=1e-10)
    np.testing.assert_allclose(found.mean(axis=1), x.mean(axis=1), atol=1e-12)
    np.testing.assert_allclose(found.var(axis=1), x.var(axis=1), rtol=1e-10)


def test_phases_are_uniform_and_independent():
    x = np.random.default_rng(0).normal(size=16)
    turned = np.fft.rfft(phase_randomized(np.tile(x, (20_000, 1)), 1)) / np.fft.rfft(x)
    bound = 5 / np.sqrt(20_000)
    assert np.abs(turned[:, 1:].mean(axis=0)).max() < bound
    assert np.abs((turned[:, 1:7] * turned[:, 2:8].conj()).mean(axis=0)).max() < bound
    np.testing.assert_allclose(turned[:, 0], 1)
    np.testing.assert_allclose(np.abs(turned[:, -1].real), 1)


def test_blocks_are_stretches_of_the_circle():
    x = np.tile(np.arange(11.0), (400, 1))
    found = block_bootstrapped(x, 0, 4)
    steps = np.diff(found, axis=1) % 11
    inside = np.ones(10, bool)
    inside[[3, 7]] = False
    np.testing.assert_array_equal(steps[:, inside], 1)
    assert len(np.unique(steps[:, 3])) == 11


def test_blocks_keep_the_mean_on_average():
    """On the circle every point is equally likely at every place: the expectation is the series' mean."""
    x = np.random.default_rng(0).exponential(size=20)
    found = block_bootstrapped(np.tile(x, (20_000, 1)), 0, 6)
    np.testing.assert_allclose(found.mean(axis=0), x.mean(), atol=5 * x.std() / np.sqrt(20_000))


def test_a_block_of_the_whole_length_rolls():
    x = walks(1, 9)
    found = block_bootstrapped(np.tile(x, (50, 1)), 0, 9)
    rolls = np.stack([np.roll(x[0], k) for k in range(9)])
    assert {tuple(row) for row in found} == {tuple(row) for row in rolls}


@pytest.mark.parametrize("block", [0, -1, 51])
def test_block_lengths_out_of_range_are_refused(block):
    with pytest.raises(ValueError, match=f"between 1 and the 50 points of a series, got {block}"):
        block_bootstrapped(walks(), 0, block)


@pytest.mark.parametrize("block", [2.0, True, "3"])
def test_block_lengths_that_are_no_whole_numbers_are_refused(block):
    with pytest.raises(TypeError, match="block must be a whole number, got"):
        block_bootstrapped(walks(), 0, block)


def test_walks_have_the_increments_and_the_start_of_the_series():
    rng = np.random.default_rng(0)
    scales = np.array([[0.01], [1.0], [100.0]])
    x = 5 + (scales * rng.normal(0.3, 1, size=(3, 20_000))).cumsum(axis=1)
    found = same_increments_walk(x, 1)
    np.testing.assert_array_equal(found[:, 0], x[:, 0])
    steps = np.diff(found, axis=1)
    np.testing.assert_allclose(steps.std(axis=1), np.diff(x, axis=1).std(axis=1), rtol=0.025)
    assert (np.abs(steps.mean(axis=1)) < 5 * scales[:, 0] / np.sqrt(20_000)).all()
    assert max(abs(acf(row, nlags=1)[1]) for row in steps) < 0.035


def test_phase_randomized_increments_keep_both_ends_and_the_increments_periodogram():
    x = walks(length=64)
    found = phase_randomized_increments(x, 0)
    np.testing.assert_allclose(found[:, [0, -1]], x[:, [0, -1]], atol=1e-11)
    amplitudes = (np.abs(np.fft.rfft(np.diff(rows))) for rows in (found, x))
    np.testing.assert_allclose(next(amplitudes), next(amplitudes), atol=1e-10)


class TestTrendMatchedPairs:
    def test_the_mean_over_draws_is_the_trend(self):
        t = np.linspace(-1, 1, 40)
        noise = np.random.default_rng(0).normal(size=40)
        y = 2 - t + 3 * t**2 + 0.1 * noise
        draws = trend_matched_pairs(np.tile(y, (10_000, 1)), np.tile(-y, (10_000, 1)), 0, degree=2)
        trend = np.polynomial.Polynomial.fit(t, y, 2)(t)
        for found, sign in zip(draws, (1, -1), strict=True):
            np.testing.assert_allclose(found.mean(axis=0), sign * trend, atol=0.006)

    @pytest.mark.parametrize("phi", [-0.5, 0.0, 0.8])
    def test_the_noise_has_the_residuals_variance_and_memory(self, phi):
        """Ten thousand draws of one series: the noise's moments against statsmodels' of the residuals."""
        rng = np.random.default_rng(1)
        x = np.zeros(60)
        for i in range(1, 60):
            x[i] = phi * x[i - 1] + rng.normal()
        t = np.arange(60.0)
        rest = x - np.polynomial.Polynomial.fit(t, x, 3)(t)
        sigma2, r = (rest**2).sum() / 56, acf(rest, nlags=1)[1]
        found = trend_matched_pairs(x, np.tile(x, (10_000, 1)), 0)[1]
        noise = found - (x - rest)
        np.testing.assert_allclose(noise.var(axis=0), sigma2, rtol=0.08)
        products = (noise[:, 1:] * noise[:, :-1]).mean()
        assert products == pytest.approx(r * sigma2, abs=0.015 * sigma2)

    def test_the_noises_of_a_pair_are_independent(self):
        """The same series twice, correlation 1: of the draws nothing is left at any lag, in 120,000 points."""
        same = np.tile(np.random.default_rng(2).normal(size=30), (4000, 1))
        y, x = (rows - rows.mean(axis=0) for rows in trend_matched_pairs(same, same, 0))
        for lag in range(3):
            products = y[:, lag:] * x[:, : 30 - lag]
            assert abs(products.mean()) < 5 * y.std() * x.std() / np.sqrt(products.size)

    def test_one_effect_for_all_causes(self):
        y, x = trend_matched_pairs(walks(1)[0], walks(), 0)
        assert y.shape == (50,)
        assert x.shape == (6, 50)

    @pytest.mark.parametrize("shape", [(5, 50), (1, 50), (6, 49), (49,)])
    def test_mismatched_series_are_refused(self, shape):
        with pytest.raises(ValueError, match=re.escape(f"effect {shape} and cause (6, 50) must agree")):
            trend_matched_pairs(np.zeros(shape), walks(), 0)

    @pytest.mark.parametrize("degree", [-1, 49])
    def test_degrees_out_of_range_are_refused(self, degree):
        with pytest.raises(ValueError, match=f"between 0 and 48 for 50 points, got {degree}"):
            trend_matched_pairs(walks(), walks(), 0, degree)

    def test_a_degree_that_is_no_whole_number_is_refused(self):
        with pytest.raises(TypeError, match=r"whole number, got 2\.0"):
            trend_matched_pairs(walks(), walks(), 0, 2.0)

    def test_a_polynomial_is_all_trend(self):
        t = np.arange(20.0)
        y = np.stack([t**3, 1 - t])
        for found in trend_matched_pairs(y, y, 0):
            np.testing.assert_allclose(found, y, atol=1e-9)
