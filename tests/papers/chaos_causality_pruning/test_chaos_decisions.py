"""From exponents and errors to decisions, against loops over statsmodels and on noise."""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests
from statsmodels.tsa.stattools import grangercausalitytests

from repro.papers.chaos_causality_pruning.decisions import RULES, Decision, decide, keep_mask


def series(n: int = 20, n_windows: int = 53) -> tuple[np.ndarray, np.ndarray]:
    """An effect that follows the first three of n causes."""
    rng = np.random.default_rng(3)
    causes = rng.standard_normal((n, n_windows))
    effect = rng.standard_normal(n_windows)
    effect[1:] += 1.2 * causes[:3, :-1].sum(0)
    return effect, causes


@cache
def references(max_lag: int = 14) -> dict[str, np.ndarray]:
    """P-values (n, L) by statistic, one call of statsmodels a weight and lag."""
    effect, causes = series()
    values = {statistic: np.empty((len(causes), max_lag)) for statistic in ("ssr_chi2test", "ssr_ftest")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i, cause in enumerate(causes):
            for lag in range(1, max_lag + 1):
                tests = grangercausalitytests(np.column_stack([effect, cause]), [lag])[lag][0]
                for statistic, p in values.items():
                    p[i, lag - 1] = tests[statistic][1]
    return values


def test_the_papers_rule_is_the_authors_loop():
    found = decide(*series(), rule="paper", max_lag=14)
    p = [min(round(p, 4) for p in row) for row in references()["ssr_chi2test"]]
    np.testing.assert_allclose(found.p.round(4), p, atol=1e-12)
    assert found.causal.tolist() == [value < 0.05 for value in p]
    assert found.lags == tuple(range(1, 15))
    assert found.testable.all()
    assert 3 <= found.causal.sum() < 20


def test_the_papers_rule_rounds_before_it_compares():
    least = references()["ssr_chi2test"].min(1)
    i = np.flatnonzero((least.round(4) > least + 1e-6) & (least > 0.01))[0]
    between = (least[i] + least[i].round(4)) / 2
    assert not decide(*series(), rule="paper", max_lag=14, level=between).causal[i]
    assert references()["ssr_chi2test"][i].min() < between


def test_the_f_rule_and_the_single_lag_are_statsmodels():
    f = references()["ssr_ftest"]
    found = decide(*series(), rule="f_test", max_lag=14)
    np.testing.assert_allclose(found.p, f.min(1), rtol=1e-8)
    assert found.causal.tolist() == (f.min(1) < 0.05).tolist()
    found = decide(*series(), rule="single_lag", max_lag=14)
    np.testing.assert_allclose(found.p, f[:, -1], rtol=1e-8)
    assert found.lags == (14,)


def test_the_honest_rule_is_holm_over_lags_then_benjamini_and_hochberg():
    adjusted = [multipletests(row, method="holm")[1].min() for row in references()["ssr_ftest"]]
    rejected = multipletests(adjusted, alpha=0.05, method="fdr_bh")[0]
    found = decide(*series(), rule="honest", max_lag=14)
    np.testing.assert_allclose(found.p, adjusted, rtol=1e-8)
    assert found.causal.tolist() == rejected.tolist()
    assert 0 < found.causal.sum() < 20


@pytest.mark.parametrize("rule", RULES)
def test_a_constant_effect_makes_all_weights_untestable_and_prunes_nothing(rule):
    _, causes = series()
    found = decide(np.full(53, 0.1), causes, rule=rule)
    assert not found.testable.any()
    assert not found.causal.any()
    assert np.isnan(found.p).all()
    assert found.non_causal_share == 0
    assert keep_mask([found]).all()


def test_a_weight_whose_test_fails_at_one_lag_is_kept_and_the_others_do_not_notice():
    effect, causes = series()
    before = decide(effect, causes)
    causes = causes.copy()
    causes[7] = 0.4
    causes[8, :-1], causes[8, -1] = 0.4, 1.0  # no lag of it ever moves
    after = decide(effect, causes)
    assert np.flatnonzero(~after.testable).tolist() == [7, 8]
    assert not after.non_causal[[7, 8]].any()
    others = np.setdiff1d(range(20), [7, 8])
    np.testing.assert_allclose(after.p[others], before.p[others], rtol=1e-9)


@pytest.mark.parametrize(("n_windows", "lags"), [(4, 0), (5, 1), (25, 7), (43, 13), (44, 14), (90, 14)])
def test_the_largest_lag_is_lowered_to_what_the_windows_allow(n_windows, lags):
    found = decide(*series(n_windows=n_windows), max_lag=14)
    assert found.lags == tuple(range(1, lags + 1))
    assert found.testable.all() == (lags > 0)
    assert len(found.p) == 20
    assert not (found.causal & ~found.testable).any()


def test_differencing_is_that_of_the_series():
    effect, causes = series()
    found = decide(effect, causes, difference=1, max_lag=5)
    by_hand = decide(np.diff(effect), np.diff(causes), max_lag=5)
    np.testing.assert_allclose(found.p, by_hand.p, rtol=1e-8)


def test_the_papers_rule_calls_noise_causal_and_f_with_one_lag_does_not():
    rng = np.random.default_rng(0)
    shares = {rule: [] for rule in RULES}
    for _ in range(4):
        effect, causes = rng.standard_normal(53), rng.standard_normal((500, 53))
        for rule, values in shares.items():
            values.append(decide(effect, causes, rule=rule, max_lag=14).non_causal_share)
    mean = {rule: np.mean(values) for rule, values in shares.items()}
    assert 0.02 < mean["paper"] < 0.10
    assert 0.65 < mean["f_test"] < 0.87
    assert 0.93 < mean["single_lag"] < 0.97
    assert mean["honest"] > 0.999


def test_masks_remove_non_causal_or_causal_weights_and_never_untestable_ones():
    testable = np.array([True, True, False, True])
    causal = np.array([True, False, False, False])
    p = np.array([0.01, 0.5, np.nan, 0.6])
    one = Decision(p, causal, testable, (1, 2))
    none = Decision(np.full(4, np.nan), np.zeros(4, bool), np.zeros(4, bool), ())
    assert keep_mask([one, none]).tolist() == [[True, False, True, False], [True] * 4]
    assert keep_mask([one, none], "causal").tolist() == [[False, True, True, True], [True] * 4]
    assert one.non_causal_share == 0.5


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: decide(*series(), rule="bonferroni"), "paper, single_lag, f_test, honest; got 'bonferroni'"),
        (lambda: keep_mask([], "all"), "'noncausal' or 'causal'; got 'all'"),
    ],
)
def test_unknown_words_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
