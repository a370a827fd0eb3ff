import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import false_discovery_control
from statsmodels.stats.multitest import multipletests

from repro.series.multiplicity import benjamini_hochberg, holm, least_p, storey

CORRECTIONS = [holm, benjamini_hochberg, storey]
p_values = arrays(
    np.float64, st.integers(1, 12), elements=st.floats(0, 1).map(lambda p: round(p, 3)) | st.just(np.nan)
)


def test_closed_form_values():
    p = np.array([0.04, 0.01, 0.03, 0.005])
    np.testing.assert_allclose(holm(p).adjusted, [0.06, 0.03, 0.06, 0.02])
    np.testing.assert_allclose(benjamini_hochberg(p).adjusted, [0.04, 0.02, 0.04, 0.02])
    np.testing.assert_array_equal(holm(p).rejected, [False, True, False, True])
    assert benjamini_hochberg(p).rejected.all()
    assert least_p(p) == 0.005


def test_storey_by_hand():
    """Four of ten p-values lie above 1/2: the share of nulls is (1 + 4) / (10 / 2) = 1; with two, 3 / 5."""
    p = np.array([0.001, 0.002, 0.01, 0.02, 0.03, 0.2, 0.6, 0.7, 0.8, 0.9])
    assert storey(p).null_share == 1.0
    np.testing.assert_allclose(storey(p).adjusted[:6], benjamini_hochberg(p).adjusted[:6])
    p[6:8] = 0.1, 0.15
    found = storey(p)
    assert found.null_share == pytest.approx(0.6)
    np.testing.assert_allclose(found.adjusted[0], 0.6 * 0.001 * 10)
    np.testing.assert_array_equal(found.adjusted[8:], 1.0)


def test_storey_rejects_no_p_value_above_lambda():
    """Without the 1 in the estimate, ten p-values of 0.4 would give a null share of 0 and q-values of 0."""
    found = storey(np.full(10, 0.4))
    assert found.null_share == pytest.approx(0.2)
    np.testing.assert_allclose(found.adjusted, 0.08)
    assert not storey(np.full(10, 0.4), q=0.07).rejected.any()
    assert not storey(np.full(100, 0.55), q=0.2, lambda_=0.5).rejected.any()


@pytest.mark.parametrize(("ours", "method"), [(holm, "holm"), (benjamini_hochberg, "fdr_bh")])
@pytest.mark.parametrize("level", [0.05, 0.2])
def test_equals_statsmodels_family_by_family(ours, method, level):
    p = np.random.default_rng(0).beta(0.4, 1, size=(9, 15))
    p[::3] = p[::3].round(2)  # ties
    p[3, 4:9], p[5, 1:] = np.nan, np.nan
    found = ours(p, level)
    for i, family in enumerate(p):
        there = ~np.isnan(family)
        rejected, adjusted, *_ = multipletests(family[there], alpha=level, method=method)
        np.testing.assert_array_equal(found.adjusted[i, there], adjusted)
        np.testing.assert_array_equal(found.rejected[i, there], rejected)


def test_benjamini_hochberg_equals_scipy():
    p = np.random.default_rng(1).random((30, 40)) ** 2
    np.testing.assert_allclose(benjamini_hochberg(p).adjusted, false_discovery_control(p, axis=1), rtol=1e-14)


@pytest.mark.parametrize("correct", CORRECTIONS)
@given(p=p_values)
def test_invariants(correct, p):
    found = correct(p)
    here = ~np.isnan(p)
    np.testing.assert_array_equal(np.isnan(found.adjusted), ~here)
    assert not found.rejected[~here].any()
    assert (found.adjusted[here] <= 1).all()
    assert (found.adjusted[here] >= found.null_share * p[here]).all()
    np.testing.assert_array_equal(correct(p[here]).adjusted, found.adjusted[here])  # NaN is not counted
    order = np.argsort(p[here], kind="stable")
    assert (np.diff(found.adjusted[here][order]) >= 0).all()


@given(p=p_values)
def test_corrections_are_ordered(p):
    """Holm never rejects what Benjamini and Hochberg don't; Storey's q-values are lower still below lambda."""
    strict, mild, mildest = holm(p).adjusted, benjamini_hochberg(p).adjusted, storey(p).adjusted
    below = p <= 0.5
    assert (strict[below] >= mild[below] - 1e-12).all()
    share = storey(p).null_share
    assert (mildest[below] >= share * mild[below] - 1e-12).all()


@pytest.mark.parametrize("correct", CORRECTIONS)
def test_any_axis(correct):
    p = np.random.default_rng(2).random((3, 5, 4))
    middle, last = correct(p, axis=1), correct(np.moveaxis(p, 1, -1))
    for name in ("adjusted", "rejected", "null_share"):
        np.testing.assert_array_equal(getattr(middle, name), np.moveaxis(getattr(last, name), -1, 1))
    assert middle.null_share.shape == (3, 1, 4)
    np.testing.assert_array_equal(least_p(p, axis=1), p.min(axis=1))


@pytest.mark.parametrize("correct", CORRECTIONS)
def test_families_of_nothing(correct):
    assert correct(np.empty((0, 5))).adjusted.shape == (0, 5)
    assert correct(np.empty((3, 0))).rejected.shape == (3, 0)
    nothing = correct(np.full((2, 3), np.nan))
    assert np.isnan(nothing.adjusted).all()
    assert not nothing.rejected.any()
    np.testing.assert_array_equal(nothing.null_share, 1.0)


@pytest.mark.parametrize(
    ("correct", "expected"), [(holm, 1 - (1 - 0.05 / 10) ** 10), (benjamini_hochberg, 0.05)]
)
def test_false_alarms_under_the_null(correct, expected):
    """Ten independent nulls: the chance of any rejection, in 20,000 families, to four standard errors."""
    p = np.random.default_rng(3).random((20_000, 10))
    assert correct(p).rejected.any(axis=1).mean() == pytest.approx(expected, abs=0.0062)


def test_storey_under_the_null_keeps_its_level():
    p = np.random.default_rng(4).random((20_000, 10))
    found = storey(p)
    assert found.rejected.any(axis=1).mean() < 0.05 + 0.0062
    assert found.rejected.sum() > benjamini_hochberg(p).rejected.sum()


def test_false_discovery_rates_with_true_effects():
    rng = np.random.default_rng(4)
    p = rng.random((2_000, 100))
    p[:, :40] = rng.beta(0.05, 1, size=(2_000, 40))
    rejected = {f.__name__: f(p, 0.1) for f in (benjamini_hochberg, storey)}
    rates = {
        name: (found.rejected[:, 40:].sum(1) / np.maximum(found.rejected.sum(1), 1)).mean()
        for name, found in rejected.items()
    }
    assert rates["benjamini_hochberg"] == pytest.approx(0.6 * 0.1, abs=0.005)
    assert 0.07 < rates["storey"] <= 0.1
    assert rejected["storey"].rejected.sum() > rejected["benjamini_hochberg"].rejected.sum()
    assert rejected["storey"].null_share.mean() == pytest.approx(0.62, abs=0.03)


@pytest.mark.parametrize("n_lags", [1, 5, 14])
def test_the_least_p_value_is_too_small_and_holm_puts_it_right(n_lags):
    p = np.random.default_rng(5).random((20_000, n_lags))
    expected = 1 - 0.95**n_lags
    assert (least_p(p) < 0.05).mean() == pytest.approx(expected, abs=0.015)
    np.testing.assert_allclose(holm(p).adjusted.min(axis=1), np.minimum(1, n_lags * least_p(p)))


def test_least_p_of_a_family_with_a_gap_is_missing():
    np.testing.assert_array_equal(least_p([[0.2, np.nan], [0.3, 0.1]]), [np.nan, 0.1])
    with pytest.raises(ValueError, match=r"shape is \(2, 0\)"):
        least_p(np.empty((2, 0)))


@pytest.mark.parametrize("f", [*CORRECTIONS, least_p])
@pytest.mark.parametrize(("bad", "quoted"), [(1.5, "1.5"), (-0.1, "-0.1"), (np.inf, "inf")])
def test_values_that_are_no_p_values_are_refused(f, bad, quoted):
    with pytest.raises(ValueError, match=rf"p-values lie in \[0, 1\] or are NaN, got {quoted}"):
        f([0.2, bad])


@pytest.mark.parametrize("correct", CORRECTIONS)
@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, np.nan])
def test_levels_out_of_range_are_refused(correct, level):
    with pytest.raises(ValueError, match=f"strictly between 0 and 1, got {level}"):
        correct([0.2], level)


@pytest.mark.parametrize("f", [*CORRECTIONS, least_p])
def test_axes_that_are_not_there_are_refused(f):
    with pytest.raises(ValueError, match=r"shape \(2,\) have no axis 1"):
        f([0.2, 0.3], axis=1)
    with pytest.raises(ValueError, match=r"shape \(\) have no axis -1"):
        f(0.2)


@pytest.mark.parametrize("lambda_", [0.0, 1.0, np.nan])
def test_lambda_out_of_range_is_refused(lambda_):
    with pytest.raises(ValueError, match=f"lambda_ must lie strictly between 0 and 1, got {lambda_}"):
        storey([0.2], lambda_=lambda_)
