"""Power laws: exponents by hand, known laws, the search for the threshold, spectra of layers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from repro.papers.chaos_causality_pruning.spectra import alpha_interval, layer_spectrum, power_law_alpha


def pareto(alpha: float, n: int, seed: int) -> np.ndarray:
    """Draw from the density proportional to x^-alpha above 1."""
    return np.random.default_rng(seed).random(n) ** (-1 / (alpha - 1))


# --- the fit --------------------------------------------------------------------------------------------------


def test_two_values_by_hand():
    found = power_law_alpha([4.0, 1.0])
    assert found.alpha == pytest.approx(1 + 2 / math.log(4))
    assert (found.x_min, found.n_tail) == (1, 2)
    # the law holds 0 at 1, where the data's share jumps to 1/2, and 1 - e^-2 at 4
    assert found.ks == pytest.approx(max(0.5, 1 - math.exp(-2) - 0.5))


def test_three_values_by_hand():
    a, b, c = 1.0, math.e, math.e**3
    # from a: logs 0, 1, 3, slope 3/4; from b: logs 0, 2, slope 1
    from_a = max(1 / 3, 2 / 3 - (1 - math.exp(-0.75)), 1 - math.exp(-2.25) - 2 / 3, math.exp(-2.25))
    from_b = max(1 / 2, 1 - math.exp(-2) - 1 / 2, math.exp(-2))
    assert from_a < from_b
    found = power_law_alpha([c, a, b])
    assert (found.alpha, found.x_min, found.n_tail) == (pytest.approx(1.75), a, 3)
    assert found.ks == pytest.approx(from_a)


@pytest.mark.parametrize("alpha", [1.5, 2.0, 3.5, 6.0])
def test_a_known_law_is_found(alpha):
    # with the threshold known, the estimator's standard error is (alpha - 1) / sqrt(n)
    found = power_law_alpha(pareto(alpha, 1500, seed=round(10 * alpha)))
    assert found.alpha == pytest.approx(alpha, abs=4 * (alpha - 1) / math.sqrt(found.n_tail))
    assert found.n_tail > 300


def test_the_threshold_is_where_the_law_begins():
    rng = np.random.default_rng(3)
    found = power_law_alpha(np.concatenate([rng.uniform(0, 1, 1000), pareto(2.5, 1000, seed=4)]))
    assert 0.8 < found.x_min < 2
    assert found.alpha == pytest.approx(2.5, abs=0.25)


@pytest.mark.parametrize("n", [3, 10, 40])
def test_distance_and_exponent_are_scipys_and_no_other_threshold_is_nearer(n):
    values = np.sort(np.random.default_rng(n).gamma(0.7, size=n))
    distances, exponents = [], []
    for x_min in values[:-1]:
        tail = values[values >= x_min]
        shape, _, _ = stats.pareto.fit(tail, floc=0, fscale=x_min)
        exponents.append(shape + 1)
        distances.append(stats.kstest(tail, stats.pareto(shape, scale=x_min).cdf).statistic)
    best = int(np.argmin(distances))
    found = power_law_alpha(values)
    assert found.ks == pytest.approx(distances[best], abs=1e-12)
    assert found.alpha == pytest.approx(exponents[best], rel=1e-8)
    assert (found.x_min, found.n_tail) == (values[best], n - best)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=30, unique=True), st.floats(0.001, 1000))
def test_the_unit_of_the_values_and_zeros_among_them_change_nothing(values, unit):
    values = np.array(values)
    assume(np.ptp(np.log(values)) > 1e-6)
    found = power_law_alpha(values)
    scaled = power_law_alpha(np.r_[0, values[::-1] * unit, 0])
    assert found.alpha > 1
    assert 0 < found.ks < 1
    # two thresholds may be equally near, up to rounding
    assert scaled.ks == pytest.approx(found.ks, abs=1e-9)
    assert power_law_alpha(values[::-1]) == found


def test_values_that_stand_more_than_once_count_as_often():
    found = power_law_alpha([1.0, 1.0, 4.0])
    assert found.alpha == pytest.approx(1 + 3 / math.log(4))
    assert found.ks == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0], "two different eigenvalues above 0; got"),
        ([2.0, 2.0, 0.0], r"got \[2\.0, 2\.0\]"),
        ([], "two different"),
        ([1.0, -1e-9], "0 or more; got -1e-09"),
        ([1.0, np.nan], "must be finite, 0 or more; got nan"),
        ([[1.0, 2.0]], r"got shape \(1, 2\)"),
    ],
)
def test_spectra_that_cannot_be_fitted_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        power_law_alpha(values)
    with pytest.raises(ValueError, match=message):
        alpha_interval(values)


# --- the interval ---------------------------------------------------------------------------------------------


def test_the_interval_is_seeded_and_ordered():
    values = pareto(2.5, 30, seed=5)
    found = alpha_interval(values, n_resamples=99)
    assert found == alpha_interval(values, n_resamples=99)
    assert found != alpha_interval(values, n_resamples=99, seed=1)
    assert found.low < found.estimate < found.high
    assert found.estimate == power_law_alpha(values).alpha
    wider = alpha_interval(values, level=0.99, n_resamples=99)
    assert wider.low <= found.low < found.high <= wider.high


def test_ten_values_say_less_than_three_hundred():
    few, many = (alpha_interval(pareto(2.5, n, seed=6), n_resamples=99) for n in (10, 300))
    assert few.high - few.low > 2 * (many.high - many.low)
    assert many.low < 2.5 < many.high


def test_two_values_have_an_interval_of_their_only_resample():
    found = alpha_interval([1.0, 4.0], n_resamples=20)
    assert found.low == found.high == found.estimate


@pytest.mark.parametrize(("level", "n_resamples"), [(0, 9), (1, 9), (0.9, 0)])
def test_an_interval_of_no_level_or_no_resamples_is_refused(level, n_resamples):
    with pytest.raises(ValueError, match=f"got {level}, {n_resamples}"):
        alpha_interval([1.0, 2.0], level, n_resamples)


# --- spectra --------------------------------------------------------------------------------------------------


def test_a_spectrum_by_hand():
    assert layer_spectrum([[3.0, 0.0, 0.0], [0.0, 0.0, -6.0]]) == pytest.approx([3, 12])


@pytest.mark.parametrize("shape", [(30, 50), (50, 30), (10, 10)])
def test_a_spectrum_is_the_eigenvalues_of_the_smaller_product(shape):
    weight = np.random.default_rng(7).normal(size=shape)
    product = weight @ weight.T if shape[0] < shape[1] else weight.T @ weight
    found = layer_spectrum(weight)
    np.testing.assert_allclose(found, np.linalg.eigvalsh(product / max(shape)), rtol=1e-9)
    np.testing.assert_allclose(layer_spectrum(weight.T), found, rtol=1e-9)
    assert found.sum() == pytest.approx((weight**2).sum() / max(shape))


def test_directions_that_a_layer_does_not_use_are_exactly_zero():
    rng = np.random.default_rng(8)
    weight = rng.normal(size=(20, 3)) @ rng.normal(size=(3, 40))
    found = layer_spectrum(weight)
    assert (found == 0).sum() == 17
    assert power_law_alpha(found).n_tail <= 3
    assert not layer_spectrum(np.zeros((4, 6))).any()


def test_random_weights_fill_the_range_of_marchenko_and_pastur():
    weight = np.random.default_rng(9).normal(size=(200, 800))
    found = layer_spectrum(weight)
    low, high = (1 - math.sqrt(0.25)) ** 2, (1 + math.sqrt(0.25)) ** 2
    assert found.min() == pytest.approx(low, abs=0.05)
    assert found.max() == pytest.approx(high, abs=0.1)


@pytest.mark.parametrize(
    ("weight", "message"), [(np.ones(3), r"got shape \(3,\)"), (np.array([[1.0, np.inf]]), "got inf")]
)
def test_weights_that_are_no_finite_matrix_are_refused(weight, message):
    with pytest.raises(ValueError, match=message):
        layer_spectrum(weight)
