"""Answers: the table of outcomes case by case, verdicts from several tests, scale, sentences, one file of claims."""

import ast
from collections import Counter
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
import yaml
from repro.book.claims_file import ChapterClaims, load, never_measured
from scipy import stats

from repro.book.answers import judge, tally
from repro.book.errors import BadInput
from repro.book.judging import Criterion
from repro.book.planning import check_seeds, least_p_values, plan, seeds_needed, table

METRIC = "accuracy minus that of the dense network"


def deciding_test(name="dense", claim="above 0", margin=0.5, **more):
    said = {
        "name": name,
        "metric": METRIC,
        "unit": "points",
        "claim": claim,
        "margin": margin,
        "why": "it matters",
    }
    return {key: v for key, v in (said | {"seeds": "runs", "scale": "small"} | more).items() if v is not None}


def claim(claim_id, *deciding, kind="empirical", **more):
    return {
        "id": claim_id,
        "statement": "It rises.",
        "where": "abstract",
        "kind": kind,
        "deciding": list(deciding),
    } | more


def content(*claims, **runs):
    each = {"smoke": 2, "quick": 10, "full": 65, "paper": 65} | runs
    return {
        "chapter": "toy",
        "paper": {"title": "T", "authors": "A", "key": "k2020"},
        "budget": {profile: {"seconds": 60, "memory_mb": 500} for profile in each},
        "profiles": {profile: {"runs": n, "rate": 0.1} for profile, n in each.items()},
        "claims": list(claims),
    }


def chapter(*claims, **runs):
    return ChapterClaims.model_validate(content(*claims, **runs))


def values(low, high, n=20):
    """Values whose 95 % interval is [low, high], all of them different."""
    shape = [NormalDist().inv_cdf((k + 0.5) / n) for k in range(n)]
    spread = (sum(x * x for x in shape) / (n - 1)) ** 0.5
    sd = (high - low) / 2 / stats.t.ppf(0.975, n - 1) * n**0.5
    return [(low + high) / 2 + sd * x / spread for x in shape]


def judged(found, profile="full", n_others=0, **said):
    """One test of one claim, alone or beside so many others that measured nothing."""
    others = [claim(f"O{k}", deciding_test()) for k in range(n_others)]
    return judge(chapter(claim("T1", deciding_test(**said)), *others), {("T1", "dense"): found}, profile)[
        "T1"
    ]


# the table of outcomes


@pytest.mark.parametrize(
    ("said", "low", "high", "answer", "words"),
    [
        ("above 0", 1.4, 2.8, "yes", "+2.1 points [1.4, 2.8]"),
        (
            "above 0",
            0.1,
            0.4,
            "yes",
            "+0.25 points [0.10, 0.40], though less than the 0.5 points that would matter",
        ),
        ("above 0", -5.3, -1.9, "no", "the opposite: −3.6 points [−5.3, −1.9]"),
        ("above 0", -0.1, 0.41, "no", "no rise as large as 0.5 points: +0.2 points [−0.1, 0.4]"),
        ("above 0", -0.2, 1.0, "open", "+0.4 points [−0.2, 1.0]: 23 more seeds would decide"),
        ("below 0", -2.8, -1.4, "yes", "−2.1 points [−2.8, −1.4]"),
        ("below 0", 1.9, 5.3, "no", "the opposite: +3.6 points [1.9, 5.3]"),
        ("below 0", -0.41, 0.1, "no", "no fall as large as 0.5 points: −0.2 points [−0.4, 0.1]"),
        ("above -0.5", -0.2, 0.3, "yes", "no loss as large as 0.5 points: +0.1 points [−0.2, 0.3]"),
        (
            "above -0.5",
            -0.4,
            -0.1,
            "yes",
            "no loss as large as 0.5 points: −0.25 points [−0.40, −0.10], though there is a loss",
        ),
        ("above -0.5", -5.3, -1.9, "no", "a loss larger than 0.5 points: −3.6 points [−5.3, −1.9]"),
        ("above -0.5", -0.82, -0.1, "no", "there is a loss: −0.5 points [−0.8, −0.1]"),
        ("below 0.5", -0.2, 0.3, "yes", "no rise as large as 0.5 points: +0.1 points [−0.2, 0.3]"),
        ("above 3", 4.3, 4.9, "yes", "4.6 points [4.3, 4.9]"),
        ("above 3", 2.7, 3.3, "no", "not above 3 by as much as 0.5 points: 3.0 points [2.7, 3.3]"),
        (
            "above 3",
            3.1,
            3.3,
            "yes",
            "3.20 points [3.10, 3.30], though by less than the 0.5 points that would matter",
        ),
        ("between [0.9, 1.1]", 0.95, 1.05, "yes", "inside [0.9, 1.1]: 1.00 points [0.95, 1.05]"),
        ("between [0.9, 1.1]", 1.2, 1.3, "no", "outside [0.9, 1.1]: 1.25 points [1.20, 1.30]"),
        ("between [0.9, 1.1]", 0.95, 1.15, "open", "1.05 points [0.95, 1.15]: 55 more seeds would decide"),
    ],
)
def test_the_table_of_outcomes(said, low, high, answer, words):
    found = judged(values(low, high), claim=said, margin=None if "between" in said else 0.5)
    test = found.deciding["dense"]
    assert (test.answer, test.words) == (
        answer,
        words,
    )
    assert (test.low, test.high) == pytest.approx((low, high), rel=1e-5)
    assert found.verdict == {"yes": "reproduced", "no": "not reproduced", "open": "undecided"}[answer]
    assert found.sentence.startswith(f"Asked whether {METRIC} is {said.split()[0]} ")
    assert found.sentence.endswith(f": {answer}, {test.words} (20 seeds, small scale).")


def test_the_correction_keeps_words_as_careful_as_answers():
    slightly = values(-0.6, -0.02)
    assert judged(slightly).deciding["dense"].words.startswith("the opposite")
    beside_others = judged(slightly, n_others=19).deciding["dense"]
    assert (beside_others.answer, beside_others.words) == (
        "no",
        "no rise as large as 0.5 points: −0.31 points [−0.60, −0.02]",
    )
    assert judged(values(0.02, 0.9)).verdict == "reproduced"
    assert judged(values(0.02, 0.9), n_others=19).verdict == "undecided"


def test_rounding_never_hides_on_which_side_an_end_lies():
    assert judged(values(0.004, 1.4)).deciding["dense"].words == "+0.702 points [0.004, 1.400]"
    assert (
        judged(values(2e-9, 6e-9), claim="below 1", margin=1e-3)
        .deciding["dense"]
        .words.startswith("4e−09 points [2e−09, 6e−09]")
    )


@pytest.mark.parametrize("n", [1, 2])
def test_seeds_that_cannot_decide(n):
    test = judged([0.4] * n).deciding["dense"]
    assert test.answer == "open"
    assert test.words.endswith(": 1 seed cannot decide" if n == 1 else " more seeds would decide")


def test_worst_cases_have_no_interval_and_no_part_in_the_correction():
    identity = {"claim": "below 1.0e-6", "margin": None, "statistic": "worst", "seeds": None}
    found = judged([1e-9, 3e-8], **identity)
    assert (found.verdict, found.deciding["dense"].words) == ("reproduced", "at worst 3e−08 points")
    assert (found.deciding["dense"].p, found.deciding["dense"].low) == (None, None)
    assert judged([1e-9, 3e-3], **identity).verdict == "not reproduced"
    assert chapter(claim("T1", deciding_test(**identity)), claim("T2", deciding_test())).family("full") == [
        ("T2", "dense")
    ]


# several tests, kinds, scale

YES, NO, OPEN = values(1, 2), values(-2, -1), values(-1, 2)


@pytest.mark.parametrize(
    ("together", "found", "verdict", "control"),
    [
        ("all", [YES, YES], "reproduced", "passed"),
        ("all", [YES, NO], "not reproduced", "failed"),
        ("all", [OPEN, NO], "not reproduced", "failed"),
        ("all", [YES, OPEN], "undecided", "open"),
        ("all", [YES, []], "undecided", "open"),  # one that should have run and did not
        ("all", [[], []], "not tested", "not tested"),
        ("readings", [YES, YES], "reproduced", None),
        ("readings", [NO, NO], "not reproduced", None),
        ("readings", [YES, NO], "partly", None),
        ("readings", [OPEN, NO], "undecided", None),
        ("readings", [YES, []], "undecided", None),
    ],
)
def test_the_verdict_of_several_tests(together, found, verdict, control):
    tests = [deciding_test("first"), deciding_test("second")]
    measured = {("T1", name): value for name, value in zip(("first", "second"), found, strict=True)}
    for kind, expected in (("empirical", verdict), ("theory", verdict), ("control", control)):
        if expected is not None:
            claims = chapter(claim("T1", *tests, kind=kind, together=together))
            assert judge(claims, measured, "full")["T1"].verdict == expected


def test_the_sentence_of_readings_that_differ():
    claims = chapter(
        claim("T1", deciding_test("first"), deciding_test("second", unit="none"), together="readings")
    )
    found = judge(claims, {("T1", "first"): YES, ("T1", "second"): NO[:10]}, "full")["T1"]
    assert found.sentence == (
        f"It holds under the reading first and not under second: asked whether {METRIC} is above 0: yes, "
        f"{found.deciding['first'].words}; whether {METRIC} is above 0: no, {found.deciding['second'].words} "
        "(10 to 20 seeds, small scale)."
    )


def test_only_empirical_claims_share_the_correction_and_all_of_the_file_do():
    p = {}
    for kind in ("theory", "control", "empirical"):
        claims = chapter(
            claim("T1", deciding_test(), kind=kind),
            claim("T2", deciding_test()),
            claim("T3", deciding_test()),
        )
        p[kind] = judge(claims, {("T1", "dense"): values(0.1, 2)}, "full")["T1"].deciding["dense"]
    assert p["theory"].p == p["control"].p
    assert p["empirical"].p[0] == pytest.approx(3 * p["theory"].p[0])


@pytest.mark.parametrize(
    ("profile", "found", "verdict", "scale"),
    [
        ("full", {"small": YES}, "reproduced", "small"),  # data that were not run are a matter of scale
        ("paper", {"paper": YES}, "reproduced", "paper"),
        (
            "paper",
            {"small": YES, "paper": YES},
            "reproduced",
            "paper",
        ),  # the small one is left out at the paper's scale
        ("paper", {"both": NO, "paper": YES}, "not reproduced", "small"),
        ("paper", {"both": YES, "paper": NO}, "not reproduced", "paper"),
        ("paper", {"both": YES, "paper": YES}, "reproduced", "small"),
    ],
)
def test_the_scale_of_a_verdict(profile, found, verdict, scale):
    said = {
        "small": {"profiles": ["quick", "full"], "otherwise": "stands in"},
        "paper": {"profiles": ["paper"], "otherwise": "needs a GPU", "scale": "paper"},
        "both": {},
    }
    tests = [deciding_test(name, **said[name]) for name in (found if "both" in found else ("small", "paper"))]
    measured = {("T1", name): each for name, each in found.items()}
    got = judge(chapter(claim("T1", *tests)), measured, profile)["T1"]
    assert (got.verdict, got.scale) == (verdict, scale)


def test_not_tested_says_why():
    claims = chapter(
        claim("T1", deciding_test(profiles=["paper"], otherwise="needs a GPU")), claim("T2", deciding_test())
    )
    measured = {("T1", "dense"): YES, ("T2", "dense"): YES}
    assert judge(claims, measured, "full")["T1"].sentence == "Not tested: needs a GPU."
    assert judge(claims, {}, "full", {"T2": "no data"})["T2"].sentence == "Not tested: no data."
    assert {found.verdict for found in judge(claims, measured, "smoke").values()} == {"not tested"}


def test_exploratory_values_have_effects_and_no_verdict():
    claims = chapter(
        claim(
            "T1",
            deciding_test(),
            supporting=[{"name": "more", "metric": "m", "unit": "none", "scale": "small"}],
        )
    )
    found = judge(claims, {("T1", "dense"): YES, ("T1", "more"): NO}, "full", exploratory=True)["T1"]
    assert (found.verdict, found.scale, found.deciding["dense"].answer) == (None, "small", None)
    assert (
        found.sentence
        == f"Exploratory: asked whether {METRIC} is above 0: +1.5 points [1.0, 2.0] (20 seeds, small scale)."
    )
    assert found.supporting["more"].words == "−1.5 [−2.0, −1.0]"


def test_claims_and_controls_are_counted_apart():
    claims = chapter(
        claim("T1", deciding_test()),
        claim("T2", deciding_test()),
        claim("K1", deciding_test(), kind="control"),
    )
    found = judge(claims, {("T1", "dense"): YES, ("K1", "dense"): YES}, "full")
    assert tally(claims, found) == {
        "claims": Counter({"reproduced": 1, "not tested": 1}),
        "controls": Counter({"passed": 1}),
    }


# the file of claims


def test_the_file_is_read(tmp_path):
    path = tmp_path / "toy.yml"
    path.write_text(
        yaml.safe_dump(content(claim("T1", deciding_test(claim="between [ -1, 2.5e-1]", margin=None))))
    )
    found = load(path)
    assert found.claim("T1").deciding[0].criterion == Criterion("between", (-1.0, 0.25))
    fixed = found.claim("T1").fixed()
    assert (fixed["statement"], fixed["deciding"]["dense"]["claim"]) == ("It rises.", "between [ -1, 2.5e-1]")
    assert "sd" not in fixed["deciding"]["dense"]


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ([claim("T1", deciding_test(margin=0))], "test dense: margin is 0; accepted: a number above 0"),
        ([claim("T1", deciding_test(margin=-0.5))], "test dense: margin is -0.5; accepted: a number above 0"),
        (
            [claim("T1", deciding_test(margin=None))],
            "test dense: margin is missing; accepted: the smallest effect",
        ),
        (
            [claim("T1", deciding_test(claim="between [0, 1]"))],
            "margin is 0.5; accepted for between (its bounds are",
        ),
        ([claim("T1", deciding_test(statistic="worst"))], "margin is 0.5; accepted for worst: none"),
        ([claim("T1")], "deciding holds 0 tests; accepted: one to three"),
        (
            [claim("T1", *(deciding_test(f"t{k}") for k in range(4)))],
            "deciding holds 4 tests; accepted: one to three",
        ),
        ([claim("T1", deciding_test(), deciding_test())], "test name 'dense' stands twice"),
        (
            [
                claim(
                    "T1",
                    deciding_test(),
                    supporting=[{"name": "dense", "metric": "m", "unit": "u", "scale": "small"}],
                )
            ],
            "stands twice",
        ),
        ([claim("T1", deciding_test(unit=None))], "test dense: unit is missing"),
        ([claim("T1", deciding_test(), where=" ")], "where is ' '; accepted: text"),
        ([{k: v for k, v in claim("T1", deciding_test()).items() if k != "where"}], "where is missing"),
        (
            [claim("T1", deciding_test(claim="over 0"))],
            "claim is 'over 0'; accepted: above T, below T or between [a, b]",
        ),
        (
            [claim("T1", deciding_test(claim="between [1, 0]", margin=None))],
            "accepted for between: [a, b] with a < b",
        ),
        (
            [claim("T1", deciding_test(claim="above 0.1234567"))],
            "0.1234567 in claim or margin; accepted: at most six",
        ),
        (
            [claim("T1", deciding_test(claim="above 0.5", statistic="share"))],
            "bounds at 0.5 and 1; accepted: strictly",
        ),
        (
            [claim("T1", deciding_test(seeds="rns"))],
            "seeds is 'rns'; accepted: a whole number, or a parameter that is one; did",
        ),
        ([claim("T1", deciding_test(seeds="rate"))], "seeds is 'rate'; accepted: a whole number"),
        ([claim("T1", deciding_test(seeds=None))], "seeds is missing"),
        ([claim("T1", deciding_test(scale="big"))], "scale is 'big'; accepted: 'small' or 'paper'"),
        ([claim("T1", deciding_test(profiles=["paper"]))], "profiles is ['paper'] without otherwise"),
        ([claim("T1", deciding_test(margn=1))], "test dense: unknown key 'margn'; did you mean 'margin'?"),
        (
            [claim("T1", deciding_test(), kind="control", together="readings")],
            "together is 'readings'; accepted for a control",
        ),
        (
            [claim(f"T{k}", deciding_test(), headline=True) for k in range(4)],
            "headline is true for T0, T1, T2, T3; accepted: at",
        ),
        ([claim("T1", deciding_test()), claim("T1", deciding_test())], "claim id 'T1' stands twice"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, claims, expected):
    path = tmp_path / "toy.yml"
    path.write_text(yaml.safe_dump(content(*claims)))
    with pytest.raises(BadInput) as error:
        load(path)
    assert expected in str(error.value)
    assert str(error.value).startswith("toy.yml: ")
    assert "claim T1: " in str(error.value) or "'T1'" in str(error.value) or "T0" in str(error.value)
    assert "\n" not in str(error.value)


CODE = """
ledger.measure("T1", test="dense", values=x)
for variant in variants:
    ledger.measure("T2", test=f"{variant}-masks", values=x)
for name, values in {"one": x, "two": y}.items():
    ledger.measure("T3", test=name, values=values)
ledger.not_tested("T4", "no data")
"""


@pytest.mark.parametrize(
    ("claim_id", "test", "measured"),
    [
        ("T1", "dense", True),
        ("T1", "masks", False),
        ("T1", "one", False),
        ("T2", "ft-masks", True),
        ("T2", "dense", False),
        ("T3", "two", True),
        ("T3", "three", False),
        ("T4", "two", True),
        ("T5", "dense", False),
    ],
)
def test_a_deciding_test_that_the_notebook_never_measures(claim_id, test, measured):
    found = never_measured(chapter(claim(claim_id, deciding_test(test))), [ast.parse(CODE)])
    assert (
        found == [] if measured else f"toy.yml: claim {claim_id}: deciding test {test} is never" in found[0]
    )


# planning


@pytest.mark.parametrize(
    ("level", "by_t", "needed"), [(0.05 / 40, 65, 67), (0.05 / 20, 59, 60), (0.025, 37, 38)]
)
def test_seeds_by_the_noncentral_t(level, by_t, needed):
    def power(n):
        return stats.nct.sf(stats.t.isf(level, n - 1), n - 1, 0.5 / 0.9 * n**0.5)

    assert power(by_t - 1) < 0.9 <= power(by_t)
    assert seeds_needed(Criterion("above", (0.0,), 0.5), 0.9, level) == needed  # and the care for skewness


def test_seeds_by_hand():
    rise = Criterion("above", (0.0,), 0.5)
    assert seeds_needed(rise, None, 0.01) is None
    assert seeds_needed(rise, 1e-9, 0.01) == seeds_needed(rise, 0.0, 0.01) == 7  # 2⁻⁷ < 1 % < 2⁻⁶
    assert seeds_needed(Criterion("above", (0.0,), 0.5, "median"), 0.9, 0.0025) == pytest.approx(
        59 * np.pi / 2, abs=2
    )
    assert seeds_needed(Criterion("below", (1.0,), None, "worst"), None, 0.01) is None
    within = seeds_needed(Criterion("between", (-0.5, 0.5)), 0.9, 0.0025)
    assert within > 59  # both bounds must hold


def test_seeds_of_a_share_have_their_power():
    criterion = Criterion("above", (0.5,), 0.3, "share")
    n = seeds_needed(criterion, None, 0.0025)
    rng = np.random.default_rng(0)
    hits = rng.binomial(n, 0.8, 4000), rng.binomial(n, 0.5, 4000)
    yes = stats.binom.sf(hits[0] - 1, n, 0.5) <= 0.0025
    no = stats.binom.cdf(hits[1], n, 0.8) <= 0.0025
    assert 0.88 < min(yes.mean(), no.mean()) < 0.95


def test_least_p_values():
    assert least_p_values(Criterion("above", (0.0,), 0.5), 6) == (0.5**6, 0.5**6)
    assert least_p_values(Criterion("above", (0.7,), 0.1, "share"), 3) == pytest.approx((0.7**3, 0.2**3))
    assert least_p_values(Criterion("above", (0.0,), 0.5), 1) == (1, 1)


def test_a_test_that_a_perfect_run_cannot_pass_is_an_error():
    share = deciding_test(claim="above 0.9", margin=0.05, statistic="share")
    others = [claim(f"O{k}", deciding_test()) for k in range(19)]
    with pytest.raises(
        BadInput,
        match=r"toy.yml: claim T1: test dense: even a perfect run .* the 20 seeds of full .* least 57$",
    ):
        check_seeds(chapter(claim("T1", share), *others, full=20))
    check_seeds(chapter(claim("T1", share), *others, full=57, paper=57))
    check_seeds(
        chapter(claim("T1", deciding_test(profiles=["quick"], otherwise="small"), kind="theory"), quick=1)
    )


def test_the_plan_as_a_table():
    claims = chapter(
        claim("T1", deciding_test(sd=0.9)), claim("T2", deciding_test(fewer="an hour a seed")), full=20
    )
    planned = plan(claims)
    assert planned["needs"].tolist() == [38, pd.NA]
    assert planned["level"].tolist() == [0.025, 0.025]
    head, first, second = table(planned).splitlines()
    assert " ".join(head.split()) == "claim test margin sd level needs quick full paper why fewer"
    assert " ".join(first.split()) == "T1 dense 0.5 0.9 0.025 38 10 (too few) 20 (too few) 65"
    assert second.endswith("65 an hour a seed")


def test_a_test_at_the_papers_scale_alone_is_planned_among_those_that_run_there():
    large = deciding_test("large", sd=0.9, profiles=["paper"], otherwise="needs a GPU")
    planned = plan(chapter(*(claim(f"T{k}", deciding_test(), large) for k in range(10))))
    assert planned["level"].round(9).tolist() == [0.05 / 10, 0.05 / 20] * 10
