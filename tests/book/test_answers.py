"""Answers: the table of outcomes case by case, verdicts from several tests, scale, and sentences."""

from statistics import NormalDist

import pytest
from made_claims import METRIC, chapter, claim, deciding_test
from scipy import stats

from repro.book.answers import judge


def values(low, high, n=20):
    """Values whose 95 % interval is [low, high], all of them different."""
    shape = [NormalDist().inv_cdf((k + 0.5) / n) for k in range(n)]
    spread = (sum(x * x for x in shape) / (n - 1)) ** 0.5
    sd = (high - low) / 2 / stats.t.ppf(0.975, n - 1) * n**0.5
    return [(low + high) / 2 + sd * x / spread for x in shape]


def judged(found, n_others=0, kind="empirical", **said):
    """One test of one claim, alone or beside so many others that measured nothing."""
    others = [claim(f"O{k}", deciding_test()) for k in range(n_others)]
    claims = chapter(claim("T1", deciding_test(**said), kind=kind), *others)
    return judge(claims, {("T1", "dense"): found}, "full")["T1"]


# the table of outcomes


OUTCOMES = """
above 0            | 1.4, 2.8   | yes  | +2.1 points [1.4, 2.8]
above 0            | 0.1, 0.4   | yes  | +0.25 points [0.10, 0.40], though less than the 0.5 points that would matter
above 0            | -5.3, -1.9 | no   | the opposite: −3.6 points [−5.3, −1.9]
above 0            | -0.1, 0.41 | no   | no rise as large as 0.5 points: +0.2 points [−0.1, 0.4]
above 0            | -0.2, 1.0  | open | +0.4 points [−0.2, 1.0]: 23 more seeds would decide
below 0            | -2.8, -1.4 | yes  | −2.1 points [−2.8, −1.4]
above -0.5         | -0.2, 0.3  | yes  | no loss as large as 0.5 points: +0.1 points [−0.2, 0.3]
above -0.5         | -0.4, -0.1 |yes|no loss as large as 0.5 points: −0.25 points [−0.40, −0.10], though there is a loss
above -0.5         | -5.3, -1.9 | no   | a loss larger than 0.5 points: −3.6 points [−5.3, −1.9]
above -0.5         | -0.82, -0.1| no   | there is a loss: −0.5 points [−0.8, −0.1]
above 3            | 4.3, 4.9   | yes  | 4.6 points [4.3, 4.9]
above 3            | 2.7, 3.3   | no   | not above 3 by as much as 0.5 points: 3.0 points [2.7, 3.3]
above 3            | 3.1, 3.3   | yes  | 3.20 points [3.10, 3.30], though by less than the 0.5 points that would matter
between [0.9, 1.1] | 0.95, 1.05 | yes  | inside [0.9, 1.1]: 1.00 points [0.95, 1.05]
between [0.9, 1.1] | 1.2, 1.3   | no   | outside [0.9, 1.1]: 1.25 points [1.20, 1.30]
between [0.9, 1.1] | 0.95, 1.15 | open | 1.05 points [0.95, 1.15]: 55 more seeds would decide
"""


@pytest.mark.parametrize("outcome", OUTCOMES.strip().splitlines())
def test_the_table_of_outcomes(outcome):
    said, ends, answer, words = (part.strip() for part in outcome.split("|"))
    low, high = map(float, ends.split(","))
    found = judged(values(low, high), claim=said, margin=None if "between" in said else 0.5)
    test = found.deciding["dense"]
    assert (test.answer, test.words) == (answer, words)
    assert (test.low, test.high) == pytest.approx((low, high), rel=1e-5)
    assert found.verdict == {"yes": "reproduced", "no": "not reproduced", "open": "undecided"}[answer]
    assert found.sentence.startswith(f"Asked whether {METRIC} is {said.split()[0]} ")
    assert found.sentence.endswith(f": {answer}, {test.words} (20 seeds, small scale).")


def test_the_correction_keeps_words_as_careful_as_answers():
    slightly = values(-0.6, -0.02)
    assert judged(slightly).deciding["dense"].words.startswith("the opposite")
    beside_others = judged(slightly, n_others=19).deciding["dense"]
    assert beside_others.words == "no rise as large as 0.5 points: −0.31 points [−0.60, −0.02]"
    assert judged(values(0.1, 0.53), kind="theory").deciding["dense"].words == "+0.32 points [0.10, 0.53]"
    assert judged(values(0.02, 0.9)).verdict == "reproduced"
    assert judged(values(0.02, 0.9), n_others=19).verdict == "undecided"


def test_rounding_never_hides_on_which_side_an_end_lies():
    assert judged(values(0.004, 1.4)).deciding["dense"].words == "+0.702 points [0.004, 1.400]"
    tiny = judged(values(2e-9, 6e-9), claim="below 1", margin=1e-3).deciding["dense"]
    assert tiny.words.startswith("4e−09 points [2e−09, 6e−09]")


def test_worst_cases_have_no_interval_and_no_part_in_the_correction():
    identity = {"claim": "below 1.0e-6", "margin": None, "statistic": "worst", "seeds": None}
    found = judged([1e-9, 3e-8], **identity)
    assert (found.verdict, found.deciding["dense"].words) == ("reproduced", "at worst 3e−08 points")
    assert (found.deciding["dense"].p, found.deciding["dense"].low) == (None, None)
    assert judged([1e-9, 3e-3], **identity).verdict == "not reproduced"
    claims = chapter(claim("T1", deciding_test(**identity)), claim("T2", deciding_test()))
    assert claims.family("full") == [("T2", "dense")]


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


def test_only_empirical_claims_share_the_correction_and_all_of_the_file_do():
    p = {}
    for kind in ("theory", "control", "empirical"):
        others = [claim(name, deciding_test()) for name in ("T2", "T3")]
        claims = chapter(claim("T1", deciding_test(), kind=kind), *others)
        p[kind] = judge(claims, {("T1", "dense"): values(0.1, 2)}, "full")["T1"].deciding["dense"]
    assert p["theory"].p == p["control"].p
    assert p["empirical"].p[0] == pytest.approx(3 * p["theory"].p[0])


@pytest.mark.parametrize(
    ("profile", "found", "verdict", "scale"),
    [
        ("full", {"small": YES}, "reproduced", "small"),  # data that were not run are a matter of scale
        ("paper", {"paper": YES}, "reproduced", "paper"),
        ("paper", {"small": YES, "paper": YES}, "reproduced", "paper"),  # where the small one is left out
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
    large = deciding_test(profiles=["paper"], otherwise="needs a GPU")
    claims = chapter(claim("T1", large), claim("T2", deciding_test()))
    measured = {("T1", "dense"): YES, ("T2", "dense"): YES}
    assert judge(claims, measured, "full")["T1"].sentence == "Not tested: needs a GPU."
    assert judge(claims, {}, "full", {"T2": "no data"})["T2"].sentence == "Not tested: no data."
    assert {found.verdict for found in judge(claims, measured, "smoke").values()} == {"not tested"}


def test_exploratory_values_have_effects_and_no_verdict():
    more = {"name": "more", "metric": "m", "unit": "none", "scale": "small"}
    claims = chapter(claim("T1", deciding_test(), supporting=[more]))
    found = judge(claims, {("T1", "dense"): YES, ("T1", "more"): NO}, "full", exploratory=True)["T1"]
    assert (found.verdict, found.scale, found.deciding["dense"].answer) == (None, "small", None)
    asked = f"Exploratory: asked whether {METRIC} is above 0"
    assert found.sentence == f"{asked}: +1.5 points [1.0, 2.0] (20 seeds, small scale)."
    assert found.supporting["more"].words == "−1.5 [−2.0, −1.0]"
