import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import false_discovery_control
from statsmodels.stats.multitest import multipletests

from repro.series import benjamini_hochberg, holm

CORRECTIONS = [holm, benjamini_hochberg]
p_values = arrays(
    np.float64, st.integers(1, 12), elements=st.floats(0, 1).map(lambda p: round(p, 3)) | st.just(np.nan)
)


@pytest.mark.parametrize(("ours", "method"), [(holm, "holm"), (benjamini_hochberg, "fdr_bh")])
def test_equals_statsmodels_family_by_family(ours, method):
    p = np.random.default_rng(0).beta(0.4, 1, size=(6, 15))
    p[::3] = p[::3].round(2)  # ties
    p[3, 4:9], p[5, 1:] = np.nan, np.nan
    found = ours(p)
    for i, family in enumerate(p):
        there = ~np.isnan(family)
        np.testing.assert_array_equal(found[i, there], multipletests(family[there], method=method)[1])
        assert np.isnan(found[i, ~there]).all()


@pytest.mark.parametrize("correct", CORRECTIONS)
@given(p=p_values)
def test_invariants(correct, p):
    found, here = correct(p), ~np.isnan(p)
    np.testing.assert_array_equal(np.isnan(found), ~here)
    assert (found[here] <= 1).all()
    assert (found[here] >= p[here]).all()
    assert (holm(p)[here] >= benjamini_hochberg(p)[here] - 1e-12).all()
    np.testing.assert_array_equal(correct(p[here]), found[here])  # NaN is not counted
    assert (np.diff(found[here][np.argsort(p[here], kind="stable")]) >= 0).all()


def test_families_along_any_axis_of_nothing_and_masked():
    p = np.random.default_rng(2).random((3, 5, 4))
    expected = false_discovery_control(p, axis=1)
    np.testing.assert_allclose(benjamini_hochberg(p, axis=1), expected, rtol=1e-14)
    for correct in CORRECTIONS:
        np.testing.assert_array_equal(correct(p[:, :, 0], axis=0), correct(p[:, :, 0].T).T)
        assert correct(np.empty((0, 5))).shape == (0, 5)
        assert correct(np.empty((3, 0))).shape == (3, 0)
    masked = np.ma.array([[0.01, 0.02, 0.9]], mask=[[False, False, True]])
    np.testing.assert_array_equal(holm(masked), holm([[0.01, 0.02, np.nan]]))


@pytest.mark.parametrize(
    ("correct", "expected"), [(holm, 1 - (1 - 0.05 / 10) ** 10), (benjamini_hochberg, 0.05)]
)
def test_false_alarms_under_the_null(correct, expected):
    """Ten independent nulls: the chance of any rejection, in 20,000 families, to four standard errors."""
    p = np.random.default_rng(3).random((20_000, 10))
    assert (correct(p) <= 0.05).any(axis=1).mean() == pytest.approx(expected, abs=0.0062)


@pytest.mark.parametrize(("p", "error"), [([0.2, 1.5], ValueError), (0.2, ValueError), (["0.01"], TypeError)])
def test_what_is_no_family_of_p_values_is_refused(p, error):
    for correct in CORRECTIONS:
        with pytest.raises(error):
            correct(p)
