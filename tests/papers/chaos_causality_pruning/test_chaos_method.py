"""From weights to exponents and decisions: against the full log, loops over statsmodels, and noise."""

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests
from statsmodels.tsa.stattools import grangercausalitytests

from repro.papers.chaos_causality_pruning import method
from repro.papers.chaos_causality_pruning.method import _RULES, WindowRecorder, decide, paper_exponents

LOG = np.random.default_rng(0).normal(size=(241, 3, 14)).cumsum(0)


def recorded(recorder: WindowRecorder) -> WindowRecorder:
    """Show the log of three networks with 14 weights, and an error that is the row's number."""
    for k, row in enumerate(LOG):
        recorder(row, lambda k=k: [k, -k])
    return recorder


@pytest.mark.parametrize("overlap", [0.1, 0.5])
def test_a_recorder_sees_the_windows_of_the_full_log(overlap):
    seen = recorded(WindowRecorder(30, overlap=overlap))
    stride = round(30 * (1 - overlap))
    starts = range(0, 241 - 30 + 1, stride)
    assert seen.exponents.shape == (3, 14, len(starts))
    for t, start in enumerate(starts):
        cut = LOG[start : start + 30].transpose(1, 2, 0).reshape(-1, 30)
        np.testing.assert_array_equal(seen.exponents[:, :, t].ravel(), paper_exponents(cut))
        assert seen.errors[:, t].tolist() == [start + 29, -start - 29]


@pytest.mark.parametrize(("last", "n_windows"), [(29, 1), (55, 1), (56, 2), (57, 2)])
def test_a_recorder_stops_after_its_last_update_and_copies_what_it_is_shown(last, n_windows):
    row, early = np.zeros((3, 14)), WindowRecorder(30, last_update=last)
    for each in LOG:
        row[:] = each  # one array for all updates, as a network's own weights are
        early(row)
    everything = recorded(WindowRecorder(30))
    np.testing.assert_array_equal(early.exponents, everything.exponents[:, :, :n_windows])


def test_bad_windows_and_short_runs_are_refused():
    with pytest.raises(ValueError, match=r"\[0, 1\); got 1.0"):
        WindowRecorder(50, overlap=1.0)
    with pytest.raises(ValueError, match="one window of 300"):
        _ = recorded(WindowRecorder(300)).exponents


N, LAGS = 20, 8


def series(n_windows: int = 53) -> tuple[np.ndarray, np.ndarray]:
    """An effect that follows the first three of twenty causes."""
    rng = np.random.default_rng(3)
    causes = rng.standard_normal((N, n_windows))
    effect = rng.standard_normal(n_windows)
    effect[1:] += 1.2 * causes[:3, :-1].sum(0)
    return effect, causes


def reference(statistic: str) -> np.ndarray:
    """P-values (n, L), one call of statsmodels a weight."""
    effect, causes = series()
    tests = [grangercausalitytests(np.column_stack([effect, cause]), LAGS) for cause in causes]
    return np.array([[of_lag[0][statistic][1] for of_lag in of_weight.values()] for of_weight in tests])


@pytest.mark.filterwarnings("ignore")
def test_the_papers_rule_is_the_authors_loop_and_rounds_before_it_compares(monkeypatch):
    found = decide(*series(), rule="paper", max_lag=LAGS)
    least = reference("ssr_chi2test").min(1)
    p = least.round(4)
    np.testing.assert_allclose(found.p.round(4), p, atol=1e-12)
    assert found.causal.tolist() == (p < 0.05).tolist()
    assert found.testable.all()
    i = np.flatnonzero((p > least + 1e-6) & (least > 0.01))[0]
    monkeypatch.setattr(method, "_LEVEL", (least[i] + p[i]) / 2)
    assert not decide(*series(), rule="paper", max_lag=LAGS).causal[i]
    assert least[i] < method._LEVEL


@pytest.mark.filterwarnings("ignore")
def test_the_other_rules_are_statsmodels():
    f = reference("ssr_ftest")
    adjusted = np.minimum(1, LAGS * f.min(1))  # the least of Holm's over lags
    rejected = multipletests(adjusted, alpha=0.05, method="fdr_bh")[0]
    assert 0 < rejected.sum() < N
    last = f[:, -1]
    for rule, p, causal in (
        ("f_test", f.min(1), f.min(1) < 0.05),
        ("single_lag", last, last < 0.05),
        ("honest", adjusted, rejected),
    ):
        found = decide(*series(), rule=rule, max_lag=LAGS)
        np.testing.assert_allclose(found.p, p, rtol=1e-8)
        assert found.causal.tolist() == causal.tolist()


@pytest.mark.parametrize("rule", _RULES)
def test_a_weight_whose_test_fails_at_one_lag_is_kept_and_the_others_do_not_notice(rule):
    effect, causes = series()
    before = decide(effect, causes, rule=rule)
    causes[7] = 0.4
    causes[8, :-1], causes[8, -1] = 0.4, 1.0  # no lag of it ever moves
    after = decide(effect, causes, rule=rule)
    assert np.flatnonzero(~after.testable).tolist() == [7, 8]
    assert after.keep[[7, 8]].all()
    assert not after.causal[[7, 8]].any()
    others = np.setdiff1d(range(N), [7, 8])
    np.testing.assert_allclose(after.p[others], before.p[others], rtol=1e-9)
    assert decide(np.full(53, 0.1), causes, rule=rule).keep.all()  # a constant effect


@pytest.mark.parametrize(("n_windows", "lag"), [(4, 0), (25, 7), (43, 13), (90, 14)])
def test_lags_are_lowered_to_what_the_windows_allow(n_windows, lag):
    effect, causes = series(n_windows)
    found = decide(effect, causes)
    assert found.testable.all() == (lag > 0)
    np.testing.assert_array_equal(found.p, decide(effect, causes, max_lag=max(lag, 1)).p)
