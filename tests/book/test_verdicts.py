"""Verdicts: closed forms, invariants, agreement with SciPy and statsmodels, rate of false findings."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportions_ztest

from repro.book.verdicts import (
    VERDICTS,
    Criterion,
    JudgedTest,
    holm,
    interval,
    judge_claim,
    judge_tests,
    one_sided,
    p_value,
    significant_digits,
    verdict_of_claim,
)

MEDIAN = Criterion("above", (0.0,), 6, "bootstrap-median")
RANK = {"not reproduced": 0, "undecided": 1, "reproduced": 2}
MIRROR = {"reproduced": "not reproduced", "not reproduced": "reproduced", "undecided": "undecided"}
# coarse values: equal ones are common, and no sum loses digits
values = st.lists(st.integers(-200, 200).map(lambda k: k / 16), min_size=3, max_size=9)


def verdict(sample, direction="above", threshold=(0.0,), kind="t", corrected=True, min_seeds=2):
    criterion = Criterion(direction, threshold, min_seeds, kind, corrected)
    return judge_tests({"x": (criterion, sample)})["x"].verdict


@pytest.fixture(autouse=True, scope="module")
def _no_collection():
    """statsmodels runs the garbage collector in every correction; thousands of them would take minutes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gc.collect", lambda *_: 0)
        yield


# closed forms


def test_three_seeds_by_hand():
    # mean 2, standard deviation 1, t_{0.975, 2} = 4.302653
    found = interval([1.0, 2.0, 3.0], "t")
    assert found.low == pytest.approx(2 - 4.302653 / np.sqrt(3), abs=1e-6)
    assert found.high == pytest.approx(2 + 4.302653 / np.sqrt(3), abs=1e-6)


def test_share_p_value_by_hand():
    # 9 of 10 against 0.5: z = 0.4 / sqrt(0.25 / 10)
    below, above = one_sided([1.0] * 9 + [0.0], 0.5, "wilson")
    assert above == pytest.approx(stats.norm.sf(0.4 / np.sqrt(0.025)))
    assert below == pytest.approx(1 - above)


def test_median_p_value_is_never_below_that_of_all_values_on_one_side():
    assert p_value([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], MEDIAN) == 2 * 0.5**6


# degenerate cases


@pytest.mark.parametrize(
    ("value", "expected"), [(1.0, "reproduced"), (-1.0, "not reproduced"), (0.0, "undecided")]
)
def test_no_spread_decides_unless_it_lies_on_the_threshold(value, expected):
    assert verdict([value] * 3) == expected
    assert p_value([value] * 3, Criterion("above", (0.0,), 3)) == (1.0 if value == 0 else 0.0)


def test_equal_values_have_no_width_even_where_their_mean_rounds():
    sample = [0.1] * 3
    assert np.mean(sample) != 0.1  # the reason for the special case
    found = interval(sample, "t")
    assert (found.estimate, found.low, found.high) == (0.1, 0.1, 0.1)
    assert verdict(sample, threshold=(0.1,)) == "undecided"


def test_one_seed_is_never_judged_by_t():
    judged = judge_tests({"x": (Criterion("above", (0.0,), 1), [5.0])})["x"]
    assert (judged.verdict, judged.p, judged.estimate) == ("not tested", None, None)
    assert judged.reason == "1 of the 2 seeds that it needs"
    assert one_sided([5.0], 0.0, "t") == (1.0, 1.0)


@pytest.mark.parametrize(("kind", "n", "needed"), [("t", 4, 5), ("bootstrap-median", 5, 6)])
def test_too_few_seeds_are_not_tested_and_leave_the_correction_alone(kind, n, needed):
    sample = [1.0, 1.1, 0.9, 1.05, 0.95]
    small = Criterion("above", (0.0,), 5, kind)
    other = Criterion("above", (0.0,), 3)
    judged = judge_tests({"small": (small, sample[:n]), "other": (other, sample)})
    assert judged["small"].verdict == "not tested"
    assert judged["small"].reason == f"{n} of the {needed} seeds that it needs"
    assert judged["other"].p_holm == judged["other"].p


@pytest.mark.parametrize(("share", "threshold"), [(0.0, 0.0), (1.0, 1.0)])
def test_a_share_at_the_end_of_its_range_does_not_pass_its_own_threshold(share, threshold):
    for direction in ("above", "below"):
        assert verdict([share] * 20, direction, (threshold,), "wilson") == "undecided"


def test_every_hit_against_a_threshold_of_zero_is_certain():
    assert one_sided([1.0] * 5, 0.0, "wilson") == (1.0, 0.0)


# between


@pytest.mark.parametrize(
    ("centre", "expected"),
    [(2.0, "reproduced"), (3.0, "not reproduced"), (1.0, "not reproduced"), (2.2, "undecided")],
)
def test_between(centre, expected):
    sample = [centre - 0.01, centre, centre + 0.01]
    assert verdict(sample, "between", (1.8, 2.2)) == expected


def test_between_is_the_doubled_larger_of_two_one_sided_tests():
    sample = [1.9, 2.1, 2.05, 1.98]
    above = stats.ttest_1samp(sample, 1.5, alternative="greater").pvalue
    below = stats.ttest_1samp(sample, 2.2, alternative="less").pvalue
    assert p_value(sample, Criterion("between", (1.5, 2.2), 3)) == pytest.approx(2 * max(above, below))


# agreement with independent implementations


@given(values, st.integers(-50, 50).map(float))
def test_t_agrees_with_scipy(sample, threshold):
    if np.ptp(sample) == 0:
        return
    reference = stats.ttest_1samp(sample, threshold)
    assert p_value(sample, Criterion("above", (threshold,), 3)) == pytest.approx(reference.pvalue, abs=1e-12)
    found, expected = interval(sample, "t"), reference.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("hits", [0, 3, 10, 17, 20])
def test_share_agrees_with_statsmodels(hits):
    sample = [1.0] * hits + [0.0] * (20 - hits)
    _, reference = proportions_ztest(hits, 20, value=0.6, prop_var=0.6)
    assert p_value(sample, Criterion("above", (0.6,), 3, "wilson")) == pytest.approx(reference)


@given(values, st.integers(-5, 5).map(float))
def test_interval_and_p_value_of_t_say_the_same(sample, threshold):
    found = interval(sample, "t")
    p = p_value(sample, Criterion("above", (threshold,), 3))
    if abs(p - 0.05) > 1e-9 and not found.low == threshold == found.high:
        assert (p < 0.05) == (not found.low <= threshold <= found.high)


@given(st.integers(1, 39), st.integers(1, 19))
def test_interval_and_p_value_of_a_share_say_the_same(n, twentieths):
    for hits in {0, n // 3, n // 2, n}:
        sample, threshold = [1.0] * hits + [0.0] * (n - hits), twentieths / 20
        found, p = interval(sample, "wilson"), p_value(sample, Criterion("above", (threshold,), 1, "wilson"))
        if abs(p - 0.05) > 1e-9:
            assert (p < 0.05) == (not found.low <= threshold <= found.high)


def test_holm_agrees_with_a_slow_loop():
    p = [0.04, 0.001, 0.03, 0.2]
    order = np.argsort(p)
    slow, largest = [0.0] * len(p), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - rank) * p[index]))
        slow[index] = largest
    assert holm(p) == pytest.approx(slow)
    assert holm([]) == []
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


# invariants


@given(values, st.integers(0, 400).map(lambda k: k / 16), st.sampled_from(["t", "bootstrap-median"]))
@settings(max_examples=40, deadline=None)
def test_moving_all_values_to_the_claims_side_never_weakens_the_verdict(sample, shift, kind):
    sample = sample * 2 if kind == "bootstrap-median" else sample
    before = verdict(sample, "above", (1.0,), kind)
    after = verdict([value + shift for value in sample], "above", (1.0,), kind)
    assert RANK[after] >= RANK[before]


@given(values, st.sampled_from(["t", "bootstrap-median"]))
@settings(max_examples=40, deadline=None)
def test_above_and_below_are_mirror_images(sample, kind):
    sample = sample * 2 if kind == "bootstrap-median" else sample
    mirrored = [-value for value in sample]
    assert verdict(sample, "above", (1.0,), kind) == verdict(mirrored, "below", (-1.0,), kind)
    assert MIRROR[verdict(sample, "above", (1.0,), kind)] == verdict(sample, "below", (1.0,), kind)


@given(st.lists(values, min_size=1, max_size=6), values)
@settings(max_examples=40, deadline=None)
def test_one_more_test_of_an_empirical_claim_never_strengthens_another(samples, extra):
    criterion = Criterion("above", (0.0,), 3)
    few = {str(i): (criterion, sample) for i, sample in enumerate(samples)}
    before, after = judge_tests(few), judge_tests({**few, "extra": (criterion, extra)})
    for label in few:
        assert after[label].p_holm >= before[label].p_holm
        if before[label].verdict == "undecided":
            assert after[label].verdict == "undecided"


def test_only_empirical_claims_share_the_correction():
    sample = [0.5, 1.0, 1.5, 1.1, 0.9]
    theory, empirical = Criterion("above", (0.0,), 3, corrected=False), Criterion("above", (0.0,), 3)
    judged = judge_tests({"t": (theory, sample), "e1": (empirical, sample), "e2": (empirical, sample)})
    assert judged["t"].p_holm is None
    assert judged["e1"].p_holm == pytest.approx(2 * judged["e1"].p, rel=1e-5)


def test_holm_turns_a_clear_interval_undecided_and_says_so():
    weak = Criterion("above", (0.0,), 3)
    sample = [0.2, 1.0, 1.8, 0.5, 1.5]  # p about 0.03
    alone = judge_tests({"x": (weak, sample)})["x"]
    assert alone.verdict == "reproduced"
    among = judge_tests({str(i): (weak, sample) for i in range(5)})["0"]
    assert among.verdict == "undecided"
    assert among.low > 0
    assert "after Holm's correction over 5 tests" in among.reason


# the claim


@pytest.mark.parametrize(
    ("tests", "expected"),
    [
        (["reproduced", "reproduced"], "reproduced"),
        (["not reproduced", "not reproduced"], "not reproduced"),
        (["reproduced", "not reproduced"], "partly"),
        (["reproduced", "undecided"], "partly"),
        (["reproduced", "not tested"], "partly"),
        (["not reproduced", "undecided"], "undecided"),
        (["not reproduced", "not tested"], "undecided"),
        (["undecided", "not tested"], "undecided"),
        (["not tested", "not tested"], "not tested"),
    ],
)
def test_verdict_of_a_claim(tests, expected):
    assert verdict_of_claim(tests) == expected
    assert expected in VERDICTS


def test_the_reason_names_the_tests_that_stand_in_the_way():
    tests = {
        "a": JudgedTest(verdict="reproduced", reason="interval lies above 0"),
        "b": JudgedTest(verdict="undecided", reason="interval straddles 0"),
        "c": JudgedTest(verdict="undecided", reason="interval straddles 0"),
    }
    assert judge_claim(tests).reason == "1 of 3 tests reproduced; b, c: undecided, interval straddles 0"


# control: where nothing is, nothing is found


@pytest.mark.parametrize("n", [3, 5, 10])
def test_false_findings_of_t_have_their_nominal_rate(n):
    rng, runs = np.random.default_rng(7), 3000
    array = rng.standard_normal((runs, n))
    found = sum(verdict(sample.tolist(), corrected=False) != "undecided" for sample in array)
    low, high = stats.binom.interval(0.999, runs, 0.05)
    assert low <= found <= high


def test_false_findings_of_the_median_stay_at_or_below_the_level():
    # six values on one side of their median decide: 2 / 2**6 of the runs, and the bootstrap adds few
    rng, runs = np.random.default_rng(8), 600
    found = [p_value(rng.standard_cauchy(6).tolist(), MEDIAN) < 0.05 for _ in range(runs)]
    assert sum(found) <= stats.binom.ppf(0.999, runs, 0.05)


def test_holm_keeps_the_rate_of_any_false_finding_in_a_chapter():
    rng, runs = np.random.default_rng(9), 400
    criterion = Criterion("above", (0.0,), 5)
    wrong = 0
    for _ in range(runs):
        tests = {str(i): (criterion, rng.standard_normal(5).tolist()) for i in range(10)}
        wrong += any(judged.verdict != "undecided" for judged in judge_tests(tests).values())
    assert wrong <= stats.binom.ppf(0.999, runs, 0.05)


def test_significant_digits():
    assert significant_digits(1.23456789e-9) == 1.23457e-9
    assert significant_digits(0.0) == 0.0
    assert np.isinf(significant_digits(float("inf")))
