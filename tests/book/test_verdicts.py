"""Verdicts: closed forms, invariants, agreement with SciPy and statsmodels, rate of false findings."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportions_ztest

from repro.book.verdicts import Criterion, JudgedTest, judge_claim, judge_tests

RANK = {"not reproduced": 0, "undecided": 1, "reproduced": 2}
MIRROR = {"reproduced": "not reproduced", "not reproduced": "reproduced", "undecided": "undecided"}
# coarse values: equal ones are common, and no sum loses digits
values = st.lists(st.integers(-200, 200).map(lambda k: k / 16), min_size=3, max_size=9)


def criterion(direction="above", threshold=0.0, kind="t", min_seeds=1):
    least = {"t": 2, "bootstrap-median": 6, "wilson": 1}[kind]
    return Criterion(direction=direction, threshold=threshold, interval=kind, min_seeds=max(least, min_seeds))


def all_judged(tests, corrected=None):
    return judge_tests(tests, tests if corrected is None else corrected)


def judged(sample, direction="above", threshold=0.0, kind="t", corrected=True, min_seeds=1):
    test = criterion(direction, threshold, kind, min_seeds)
    return all_judged({"x": (test, sample)}, ["x"] if corrected else [])["x"]


def verdict(*arguments, **options):
    return judged(*arguments, **options).verdict


def near(value):
    return pytest.approx(value, rel=1e-5, abs=1e-12)  # six significant digits are kept


# closed forms


def test_three_seeds_by_hand():
    # mean 2, standard deviation 1, t_{0.975, 2} = 4.302653
    found = judged([1.0, 2.0, 3.0])
    assert (found.low, found.high) == (near(2 - 4.302653 / np.sqrt(3)), near(2 + 4.302653 / np.sqrt(3)))


def test_median_p_value_is_never_below_that_of_all_values_on_one_side():
    assert judged([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], kind="bootstrap-median").p == 2 * 0.5**6


# degenerate cases


@pytest.mark.parametrize(
    ("value", "expected"), [(1.0, "reproduced"), (-1.0, "not reproduced"), (0.0, "undecided")]
)
def test_no_spread_decides_unless_it_lies_on_the_threshold(value, expected):
    found = judged([value] * 3)
    assert (found.verdict, found.p) == (expected, 1.0 if value == 0 else 0.0)


def test_equal_values_have_no_width_even_where_their_mean_rounds():
    sample = [0.1] * 3
    assert np.mean(sample) != 0.1  # the reason for the special case
    found = judged(sample, threshold=0.1)
    assert (found.estimate, found.low, found.high, found.verdict) == (0.1, 0.1, 0.1, "undecided")


@pytest.mark.parametrize(
    ("kind", "asked", "n", "needed"), [("t", 1, 1, 2), ("t", 5, 4, 5), ("bootstrap-median", 5, 5, 6)]
)
def test_too_few_seeds_are_not_tested_and_leave_the_correction_alone(kind, asked, n, needed):
    sample = [1.0, 1.1, 0.9, 1.05, 0.95]
    small, other = criterion(kind=kind, min_seeds=asked), criterion()
    found = all_judged({"small": (small, sample[:n]), "other": (other, sample)})
    assert (found["small"].verdict, found["small"].estimate) == ("not tested", None)
    assert found["small"].reason == f"{n} of the {needed} seeds that it needs"
    assert found["other"].p_holm == found["other"].p


@pytest.mark.parametrize("end", [0.0, 1.0])
@pytest.mark.parametrize("direction", ["above", "below"])
def test_a_share_at_the_end_of_its_range_does_not_pass_its_own_threshold(end, direction):
    assert verdict([end] * 20, direction, end, "wilson") == "undecided"


# between


@pytest.mark.parametrize(
    ("centre", "expected"),
    [(2.0, "reproduced"), (3.0, "not reproduced"), (1.0, "not reproduced"), (2.2, "undecided")],
)
def test_between(centre, expected):
    assert verdict([centre - 0.01, centre, centre + 0.01], "between", [1.8, 2.2]) == expected


def test_between_is_the_doubled_larger_of_two_one_sided_tests():
    sample = [1.9, 2.1, 2.05, 1.98]
    above = stats.ttest_1samp(sample, 1.5, alternative="greater").pvalue
    below = stats.ttest_1samp(sample, 2.2, alternative="less").pvalue
    assert judged(sample, "between", [1.5, 2.2]).p == near(2 * max(above, below))


# agreement with independent implementations


@given(values, st.integers(-50, 50).map(float))
def test_t_agrees_with_scipy_and_its_interval_with_its_p_value(sample, threshold):
    if np.ptp(sample) == 0:
        return
    found, reference = judged(sample, threshold=threshold), stats.ttest_1samp(sample, threshold)
    expected = reference.confidence_interval(0.95)
    assert (found.p, found.low, found.high) == (
        near(reference.pvalue),
        near(expected.low),
        near(expected.high),
    )
    if abs(found.p - 0.05) > 1e-6:
        assert (found.p < 0.05) == (not found.low <= threshold <= found.high)


@pytest.mark.parametrize("hits", [0, 3, 10, 17, 20])
def test_share_agrees_with_statsmodels(hits):
    _, reference = proportions_ztest(hits, 20, value=0.6, prop_var=0.6)
    assert judged([1.0] * hits + [0.0] * (20 - hits), threshold=0.6, kind="wilson").p == near(reference)


@given(st.integers(1, 39), st.integers(1, 19))
def test_interval_and_p_value_of_a_share_say_the_same(n, twentieths):
    for hits in {0, n // 3, n // 2, n}:
        threshold = twentieths / 20
        found = judged([1.0] * hits + [0.0] * (n - hits), threshold=threshold, kind="wilson", min_seeds=1)
        if abs(found.p - 0.05) > 1e-6:
            assert (found.p < 0.05) == (not found.low <= threshold <= found.high)


def test_holm_agrees_with_statsmodels():
    samples = np.random.default_rng(1).normal(0.5, 1.0, (9, 5)).tolist()
    found = all_judged({i: (criterion(), sample) for i, sample in enumerate(samples)})
    reference = multipletests([found[i].p for i in range(9)], method="holm")[1]
    assert [found[i].p_holm for i in range(9)] == pytest.approx(reference, rel=1e-5)


# invariants


@given(values, st.integers(0, 400).map(lambda k: k / 16), st.sampled_from(["t", "bootstrap-median"]))
@settings(max_examples=40)
def test_moving_all_values_to_the_claims_side_never_weakens_the_verdict(sample, shift, kind):
    sample = sample * 2 if kind == "bootstrap-median" else sample
    before = verdict(sample, "above", 1.0, kind)
    assert RANK[verdict([value + shift for value in sample], "above", 1.0, kind)] >= RANK[before]


@given(values, st.sampled_from(["t", "bootstrap-median"]))
@settings(max_examples=40)
def test_above_and_below_are_mirror_images(sample, kind):
    sample = sample * 2 if kind == "bootstrap-median" else sample
    found = verdict(sample, "above", 1.0, kind)
    assert found == verdict([-value for value in sample], "below", -1.0, kind)
    assert MIRROR[found] == verdict(sample, "below", 1.0, kind)


@given(st.lists(values, min_size=1, max_size=6), values)
@settings(max_examples=40)
def test_one_more_test_of_an_empirical_claim_never_strengthens_another(samples, extra):
    few = {str(i): (criterion(), sample) for i, sample in enumerate(samples)}
    before, after = all_judged(few), all_judged({**few, "extra": (criterion(), extra)})
    for label in few:
        assert after[label].p_holm >= before[label].p_holm
        assert before[label].verdict != "undecided" or after[label].verdict == "undecided"


def test_only_empirical_claims_share_the_correction():
    sample = [0.5, 1.0, 1.5, 1.1, 0.9]
    found = all_judged({name: (criterion(), sample) for name in ("t", "e1", "e2")}, ["e1", "e2"])
    assert found["t"].p_holm is None
    assert found["e1"].p_holm == near(2 * found["e1"].p)


def test_holm_turns_a_clear_interval_undecided_and_says_so():
    sample = [0.2, 1.0, 1.8, 0.5, 1.5]  # p about 0.03
    assert verdict(sample) == "reproduced"
    among = all_judged({str(i): (criterion(), sample) for i in range(5)})["0"]
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
    assert judge_claim({str(i): JudgedTest(verdict=each) for i, each in enumerate(tests)}).verdict == expected


def test_the_reason_names_the_tests_that_stand_in_the_way():
    straddles = JudgedTest(verdict="undecided", reason="interval straddles 0")
    found = judge_claim({"a": JudgedTest(verdict="reproduced"), "b": straddles, "c": straddles})
    assert found.reason == "1 of 3 tests reproduced; b, c: undecided, interval straddles 0"


# control: where nothing is, nothing is found


@pytest.mark.parametrize("n", [3, 10])
def test_false_findings_of_t_have_their_nominal_rate(n):
    rng, runs = np.random.default_rng(7), 1500
    array = rng.standard_normal((runs, n))
    found = sum(verdict(sample.tolist(), corrected=False) != "undecided" for sample in array)
    low, high = stats.binom.interval(0.999, runs, 0.05)
    assert low <= found <= high


def test_false_findings_of_the_median_stay_at_or_below_the_level():
    # six values on one side of their median decide: 2 / 2**6 of the runs, and the bootstrap adds few
    rng, runs = np.random.default_rng(8), 300
    found = [judged(rng.standard_cauchy(6).tolist(), kind="bootstrap-median").p < 0.05 for _ in range(runs)]
    assert sum(found) <= stats.binom.ppf(0.999, runs, 0.05)


def test_holm_keeps_the_rate_of_any_false_finding_in_a_chapter():
    rng, runs = np.random.default_rng(9), 200
    wrong = 0
    for _ in range(runs):
        tests = {str(i): (criterion(), rng.standard_normal(5).tolist()) for i in range(10)}
        wrong += any(found.verdict != "undecided" for found in all_judged(tests).values())
    assert wrong <= stats.binom.ppf(0.999, runs, 0.05)
