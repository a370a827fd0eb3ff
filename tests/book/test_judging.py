"""Judging: closed forms, agreement with SciPy and statsmodels, monotony, and the error rates of whole chapters."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from repro.base import Interval
from repro.book.judging import _ALPHA, Criterion, corrected, interval, more_seeds, one_sided, strictest_level
from repro.book.planning import _seeds_needed

RISE = Criterion("above", (0.0,), 0.5)
# coarse values: equal ones are common, and no sum loses digits
samples = st.lists(st.integers(-200, 200).map(lambda k: k / 16), min_size=2, max_size=9)
distinct = st.lists(st.integers(-200, 200).map(lambda k: k / 16), min_size=3, max_size=12, unique=True)
sides = st.sampled_from([("above", (0.0,), 2.0), ("below", (1.0,), 2.0), ("between", (-3.0, 3.0), None)])
p_values = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=6)


def ask(values, criterion):
    return criterion.questions(partial(one_sided, values, statistic=criterion.statistic))


def alone(values, criterion):
    """The answer of a test that is the only one of its chapter."""
    return criterion.answer(interval(values, criterion.statistic), *corrected([ask(values, criterion)])[0])


# closed forms


def test_three_seeds_by_hand():
    # mean 2, sd 1, t_{0.975, 2} = 4.302653; with two degrees of freedom P(t > x) = 1/2 - x / (2 sqrt(2 + x²))
    found = interval([1.0, 2.0, 3.0], "mean")
    half = 4.302653 / np.sqrt(3)
    assert (found.estimate, found.low, found.high) == pytest.approx((2, 2 - half, 2 + half), abs=1e-6)
    x = 2 * np.sqrt(3)
    p = 0.5 - x / (2 * np.sqrt(2 + x**2))
    assert one_sided([1.0, 2.0, 3.0], 0.0, "mean") == pytest.approx((p, 1 - p))


def test_the_two_questions_of_a_threshold_by_hand():
    values = np.array([0.1, 0.3, 0.5])  # symmetric: nothing to correct
    greater = partial(stats.ttest_1samp, values, alternative="greater")
    less = partial(stats.ttest_1samp, values, alternative="less")
    assert ask(values, RISE) == pytest.approx((greater(0.0).pvalue, less(0.5).pvalue))
    below = Criterion("below", (0.4,), 0.3)  # begins to matter at 0.1
    assert ask(values, below) == pytest.approx((less(0.4).pvalue, greater(0.1).pvalue))


def test_the_two_questions_of_bounds_by_hand():
    values = np.array([0.1, 0.2, 0.6])
    at_a, at_b = one_sided(values, 0.0, "mean"), one_sided(values, 0.5, "mean")
    inside, outside = ask(values, Criterion("between", (0.0, 0.5)))
    assert inside == max(at_a[0], at_b[1])
    assert outside == min(1, 2 * min(at_a[1], at_b[0]))


def test_skewed_values_by_hand():
    # 0, 0.1, 0.8 against 0: mean 0.3, sum of squares 0.38, third moment 0.03 about the mean
    sd = np.sqrt(0.38 / 2)
    t, skewness = np.sqrt(3) * 0.3 / sd, 0.03 / sd**3
    hall = t + skewness * (t**2 / 3 + 1 / 6) / np.sqrt(3) + skewness**2 * t**3 / 81
    above, below = one_sided([0.0, 0.1, 0.8], 0.0, "mean")
    assert hall > t  # so it raises the p-value of the one side alone
    assert (above, below) == pytest.approx((stats.t.sf(t, 2), stats.t.cdf(hall, 2)))


@given(samples, st.sampled_from([-1.0, 0.0, 0.5]))
def test_a_median_agrees_with_scipy(values, at):
    above, below = one_sided(values, at, "median")
    assert above == pytest.approx(stats.quantile_test(values, q=at, p=0.5, alternative="greater").pvalue)
    assert below == pytest.approx(stats.quantile_test(values, q=at, p=0.5, alternative="less").pvalue)
    found = interval(values, "median")
    ends = stats.quantile_test(values, q=at, p=0.5).confidence_interval(0.95)
    expected = (ends.low, ends.high) if len(values) > 5 else (-np.inf, np.inf)
    assert (found.low, found.high) == pytest.approx(expected)


@pytest.mark.parametrize("hits", [0, 3, 9, 10])
def test_a_share_agrees_with_scipy(hits):
    values = [1.0] * hits + [0.0] * (10 - hits)
    exact = [stats.binomtest(hits, 10, 0.6, alternative=side).pvalue for side in ("greater", "less")]
    assert one_sided(values, 0.6, "share") == pytest.approx(tuple(exact))
    found, ends = interval(values, "share"), stats.binomtest(hits, 10).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high))


def test_many_samples_at_once_are_those_one_by_one():
    values = np.random.default_rng(0).integers(0, 2, (3, 4, 8)).astype(float)
    for statistic in ("mean", "median", "share"):
        for found, column in zip(one_sided(values, 0.4, statistic), (0, 1), strict=True):
            each = [[one_sided(sample, 0.4, statistic)[column] for sample in row] for row in values]
            np.testing.assert_allclose(found, each, rtol=1e-12)


# equal values, copies, few values


@pytest.mark.parametrize(("value", "p_above"), [(1.0, 0.5**7), (-1.0, 1.0), (0.0, 1.0)])
def test_equal_values_decide_by_their_number(value, p_above):
    assert one_sided([value] * 7, 0.0, "mean")[0] == p_above
    assert one_sided([value] * 7, 0.0, "median")[0] == p_above


def test_equal_values_have_no_width_even_where_their_mean_rounds():
    assert np.mean([0.1] * 3) != 0.1  # the reason for the special case
    assert interval([0.1] * 3, "mean") == Interval(0.1, 0.1, 0.1, "mean")
    assert one_sided([0.1] * 3, 0.1, "mean") == (1.0, 1.0)


def test_discrete_values_are_never_surer_than_their_signs():
    values = [5.0] * 8 + [5.0 - 1e-9]
    assert stats.ttest_1samp(values, 3.0, alternative="greater").pvalue < 1e-60
    assert one_sided(values, 3.0, "mean")[0] == 0.5**9
    assert one_sided([5.0 + k / 1e9 for k in range(9)], 3.0, "mean")[0] < 1e-60  # no two alike: not discrete


@pytest.mark.parametrize(("statistic", "n"), [("mean", 1), ("median", 5)])
def test_too_few_values_decide_nothing(statistic, n):
    criterion = Criterion("above", (0.0,), 0.5, statistic)
    assert alone(list(np.linspace(8, 9, n)), criterion) == "open"


@pytest.mark.parametrize(
    ("criterion", "value", "expected"),
    [
        (Criterion("above", (0.0,), None, "worst"), 1.0, "yes"),
        (Criterion("below", (1.5,), None, "worst"), 3.0, "no"),
        (Criterion("below", (3.0,), None, "worst"), 3.0, "no"),  # on the bound is not below it
        (Criterion("between", (-1.0, 4.0), None, "worst"), 3.0, "yes"),
        (Criterion("between", (0.0, 2.5), None, "worst"), 3.0, "no"),
    ],
)
def test_the_worst_value_decides(criterion, value, expected):
    assert criterion.worst([1.0, 2.0, 3.0]) == (value, expected)


# the correction


def by_shaffer(p):
    """A slow loop over the definition: the most null hypotheses that can be true when the smaller ones are not."""
    flat = sorted((value, test, q) for test, pair in enumerate(p) for q, value in enumerate(pair))
    found, largest = np.empty((len(p), 2)), 0.0
    for i, (value, test, q) in enumerate(flat):
        largest = max(largest, min(1.0, value * len({other for _, other, _ in flat[i:]})))
        found[test, q] = largest
    return found


@given(p_values)
def test_the_correction_is_shaffers_and_answers_all_that_holm_answers(p):
    np.testing.assert_allclose(corrected(p), by_shaffer(p))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gc.collect", lambda *_: 0)  # statsmodels calls it every time: hundreds would take long
        holm = multipletests(np.ravel(p), method="holm")[1]
    assert (corrected(p).ravel() <= holm + 1e-12).all()


def test_the_correction_by_hand():
    # three tests: 0.01 counts three times; its partner 0.02 too; with both answered two tests remain
    found = corrected([(0.01, 0.02), (0.024, 0.9), (0.5, 0.03)])
    np.testing.assert_allclose(found, [[0.03, 0.06], [0.06, 1], [1, 0.06]])
    assert corrected([]).shape == (0, 2)
    assert corrected([(0.5, 0.2)] * 20).max() == 1.0


# invariants


@given(samples, sides, st.sampled_from(["mean", "median"]))
def test_above_and_below_are_mirror_images(values, said, statistic):
    side, bounds, margin = said
    mirror = {"above": "below", "below": "above", "between": "between"}[side]
    mirrored = Criterion(mirror, tuple(sorted(-bound for bound in bounds)), margin, statistic)
    assert alone(values, Criterion(side, bounds, margin, statistic)) == alone([-v for v in values], mirrored)


@given(distinct, sides, st.sampled_from(["mean", "median"]), st.sampled_from([0.9, 0.5, 0.1]))
@settings(max_examples=200)
def test_a_narrower_interval_is_never_less_decided(values, said, statistic, factor):
    criterion = Criterion(*said, statistic)
    centre = interval(values, statistic).estimate
    narrower = [centre + factor * (value - centre) for value in values]
    if alone(values, criterion) != "open":
        assert alone(narrower, criterion) != "open"
        assert not (alone(values, criterion) == "yes" and alone(narrower, criterion) == "no")


# how many more seeds


def test_more_seeds_are_as_many_as_it_takes():
    values = stats.norm.ppf((np.arange(20) + 0.5) / 20)
    values = 0.3 + values / values.std(ddof=1)  # mean 0.3, standard deviation 1, symmetric
    p_yes = one_sided(values, 0.0, "mean")[0]
    more = more_seeds(p_yes, 1.0, 20, k=20)
    t = 0.3 * np.sqrt(20 + more)  # the same mean and spread of that many
    assert stats.t.sf(t, 19 + more) == pytest.approx(strictest_level(20), rel=0.2)
    assert more_seeds(1.0, 1.0, 1, k=20) is None
    assert more_seeds(0.6, 0.5, 10, k=1) is None


# error rates of chapters of twenty claims


def chapters(effects, n, repetitions, seed, sd=0.9, claims=20):
    """Yes and no of every claim, and the true effects, in chapters of normal values; ``effects`` draws in margins."""
    rng = np.random.default_rng(seed)
    true = 0.5 * effects(rng, (repetitions, claims))
    values = true[..., None] + sd * rng.standard_normal((repetitions, claims, n))
    return (*decided(values, RISE), true)


def decided(values, criterion):
    raw = np.stack(ask(values, criterion), axis=-1)
    agrees = raw <= 0.025  # the 95 % interval says the same
    after = np.array([corrected(chapter) for chapter in raw])
    yes = (after[..., 0] <= _ALPHA) & agrees[..., 0]
    return yes, (after[..., 1] <= _ALPHA) & agrees[..., 1] & ~yes


MIXTURES = {
    "none": lambda rng, shape: np.zeros(shape),
    "all as large as the margin": lambda rng, shape: np.ones(shape),
    "one none among large ones": lambda rng, shape: 4.0 * (np.arange(shape[1]) > 0) + np.zeros(shape),
    "some none, many half-way": lambda rng, shape: 0.5 * (np.arange(shape[1]) > 4) + np.zeros(shape),
    "any": lambda rng, shape: rng.choice([-2.0, 0.0, 0.0, 0.5, 1.0, 1.0, 3.0], shape),
}
REPETITIONS = 1000


@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize("n", [10, None])
def test_a_chapter_seldom_holds_a_false_answer(mixture, n):
    n = n or _seeds_needed(RISE, 0.9, strictest_level(20))
    yes, no, true = chapters(MIXTURES[mixture], n, REPETITIONS, seed=len(mixture))
    false = (yes & (true <= 0)) | (no & (true >= 0.5))
    chance = 3 * np.sqrt(_ALPHA * (1 - _ALPHA) / REPETITIONS)
    assert false.any(axis=1).mean() <= _ALPHA + chance


def test_with_the_planned_seeds_nine_claims_in_ten_are_answered():
    n = _seeds_needed(RISE, 0.9, strictest_level(20))
    _, no, _ = chapters(MIXTURES["none"], n, REPETITIONS, seed=1)
    yes, _, _ = chapters(MIXTURES["all as large as the margin"], n, REPETITIONS, seed=2)
    assert no.mean() >= 0.9
    assert yes.mean() >= 0.9


@pytest.mark.parametrize("statistic", ["mean", "median", "share"])
def test_discrete_and_skewed_values_keep_the_rate(statistic):
    rng = np.random.default_rng(3)
    shape, at = (REPETITIONS, 20, 40), 0.9
    values = {
        "mean": rng.binomial(20, at, shape) / 20,  # a share of twenty windows, say
        "median": rng.exponential(1.0, shape) - np.log(2) + at,
        "share": (rng.random(shape) < at).astype(float),
    }[statistic]
    yes, _ = decided(values, Criterion("above", (at,), 0.05, statistic))
    _, no = decided(values, Criterion("above", (at - 0.05,), 0.05, statistic))
    assert max(yes.any(axis=1).mean(), no.any(axis=1).mean()) <= _ALPHA + 3 * np.sqrt(_ALPHA / REPETITIONS)


def test_zeros_and_ones_are_a_share_whatever_the_file_calls_them():
    assert one_sided([1.0] * 20, 0.9, "mean")[0] == pytest.approx(0.9**20)
    assert one_sided([1.0] * 20, -1.0, "mean")[0] == 0.5**20
