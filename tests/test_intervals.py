"""Confidence intervals: closed forms, coverage, agreement with SciPy and statsmodels, degenerate input."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from repro.intervals import bootstrap_median_interval, t_interval, wilson_interval

finite = st.floats(-1e6, 1e6)


def test_t_interval_of_three_numbers_by_hand() -> None:
    found = t_interval([1.0, 2.0, 3.0])
    half = stats.t.ppf(0.975, 2) / math.sqrt(3)
    assert (found.estimate, found.low, found.high) == pytest.approx((2.0, 2 - half, 2 + half))


@given(st.lists(finite, min_size=2, max_size=30))
def test_t_interval_agrees_with_scipy(values: list[float]) -> None:
    found = t_interval(values)
    if np.std(values) > 1e-6 * (1 + np.abs(values).max()):
        reference = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((reference.low, reference.high), rel=1e-6, abs=1e-6)
    assert found.low <= found.estimate <= found.high


def test_t_interval_covers_the_mean_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).normal(3.0, 2.0, size=(4000, 5))
    covered = sum(low.low <= 3.0 <= low.high for low in map(t_interval, draws))
    assert stats.binomtest(covered, 4000, 0.95).pvalue > 0.001


def test_one_value_says_nothing_about_the_spread() -> None:
    for interval in (t_interval, bootstrap_median_interval):
        found = interval([4.0])
        assert (found.estimate, found.low, found.high) == (4.0, -math.inf, math.inf)


def test_bootstrap_median_brackets_the_median_and_repeats_itself() -> None:
    values = np.random.default_rng(1).exponential(size=40)
    found = bootstrap_median_interval(values)
    assert values.min() <= found.low <= np.median(values) == found.estimate <= found.high <= values.max()
    assert found == bootstrap_median_interval(values)
    reference = stats.bootstrap((values,), np.median, method="percentile", rng=np.random.default_rng(2))
    assert found.low == pytest.approx(reference.confidence_interval.low, abs=0.1)
    assert found.high == pytest.approx(reference.confidence_interval.high, abs=0.1)


def test_wilson_interval_agrees_with_statsmodels_and_stays_below_one() -> None:
    found = wilson_interval([1] * 18 + [0] * 2)
    assert (found.low, found.high) == pytest.approx(proportion_confint(18, 20, method="wilson"))
    everyone = wilson_interval([True] * 10)
    assert everyone.high == pytest.approx(1.0)
    assert everyone.low == pytest.approx(
        10 / (10 + stats.norm.ppf(0.975) ** 2)
    )  # Wilson's closed form at k = n


@pytest.mark.parametrize(
    ("values", "quoted"),
    [([], "shape"), ([[1.0]], "shape"), ([1.0, math.nan], "nan"), ([1.0, math.inf], "inf")],
)
def test_bad_values_are_quoted(values: list, quoted: str) -> None:
    for interval in (t_interval, bootstrap_median_interval, wilson_interval):
        with pytest.raises(ValueError, match=quoted):
            interval(values)


def test_bad_level_and_bad_successes() -> None:
    with pytest.raises(ValueError, match=r"1\.5"):
        t_interval([1.0, 2.0], level=1.5)
    with pytest.raises(ValueError, match=r"0\.5"):
        wilson_interval([0, 1, 0.5])
