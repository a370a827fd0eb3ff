"""From the values of a run to the answers of a chapter: a verdict a claim, and one sentence that says why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from math import floor, isfinite, log10
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict

from repro.base import Interval, one_of
from repro.book import judging
from repro.book.claims import ChapterClaims, Claim, DecidingTest, SupportingTest
from repro.book.judging import Criterion

_Scale = Literal["small", "paper"]
_Pair = tuple[float, float]
WORDS = {
    "reproduced": "✓",
    "not reproduced": "✗",
    "yes": "✓",
    "no": "✗",
    "partly": "◐",
    "undecided": "?",
    "not tested": "–",
    "passed": "✓",
    "failed": "✗",
    "open": "?",
    "exploratory": "~",
}
"""What can be said of a claim or a control, with its sign, in the order in which pages count."""
_Verdict = Annotated[str, AfterValidator(lambda word: one_of("verdict", word, WORDS))]
_OWN_WORDS = {
    "control": {"reproduced": "passed", "not reproduced": "failed", "undecided": "open"},
    "question": {"reproduced": "yes", "not reproduced": "no"},
}
"""Of what is no claim of a paper."""


class JudgedTest(BaseModel):
    """One test after judging; ``None`` where there was nothing to compute or the number is infinite.

    ``p`` holds the p-values of the two questions, for yes and for no; those of empirical claims and questions are
    corrected over the chapter. ``words`` is the answer in short, or the reason why there is none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    values: tuple[float, ...] = ()
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    p: _Pair | None = None
    answer: Literal["yes", "no", "open"] | None = None
    more_seeds: int | None = None
    words: str
    scale: _Scale


class JudgedClaim(BaseModel):
    """One claim after judging; an exploratory one has its effects, and ``None`` for a verdict."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    verdict: _Verdict | None
    scale: _Scale | None = None
    sentence: str
    deciding: dict[str, JudgedTest]
    supporting: dict[str, JudgedTest]

    @property
    def word(self) -> str:
        """The verdict, or *exploratory*."""
        return self.verdict or "exploratory"


def judge(
    chapter: ChapterClaims,
    measured: Mapping[tuple[str, str], Sequence[float]],
    profile: str,
    not_tested: Mapping[str, str] | None = None,
    exploratory: bool = False,
) -> dict[str, JudgedClaim]:
    """The answer to every claim of a chapter, by claim id, in the order of the file.

    ``measured`` maps (claim, test) to finite values, one a run; ``not_tested`` a claim to the reason why this run
    could not test it. ``exploratory`` values (of planning seeds, or of a run that is not proved to have come after
    its claims) are shown and not judged, and neither are those of the profile ``smoke``.
    """
    values = {key: tuple(map(judging.significant_digits, got)) for key, got in measured.items() if len(got)}
    tests = {(claim.id, test.name): test for claim, test in chapter.deciding()}
    reasons = {
        key: _why_not(test, profile, (not_tested or {}).get(key[0]), key in values)
        for key, test in tests.items()
    }
    judged_by_p = {
        key: _p_values(test.criterion, values[key])
        for key, test in tests.items()
        if test.statistic != "worst" and not reasons[key]
    }
    family = chapter.family(profile)
    adjusted = judging.corrected([judged_by_p.get(key, (1.0, 1.0)) for key in family])
    in_family = {key: (p_yes, p_no) for key, (p_yes, p_no) in zip(family, adjusted.tolist(), strict=True)}

    def judged(claim: Claim, test: SupportingTest) -> JudgedTest:
        key = (claim.id, test.name)
        if reason := reasons.get(key, "not measured" * (key not in values)):
            return JudgedTest(values=values.get(key, ()), words=reason, scale=test.scale)
        effect = _effect_alone(test, values[key])
        if exploratory or not isinstance(test, DecidingTest):
            return effect
        if test.statistic == "worst":
            _, found = test.criterion.worst(values[key])
            return effect.model_copy(update={"answer": found})
        p, k = judged_by_p[key], len(family) if key in in_family else 1
        return _answered(test, effect, p, in_family.get(key, p), k)

    found = {claim.id: {test.name: judged(claim, test) for test in claim.tests} for claim in chapter.claims}
    return {claim.id: _claim(claim, found[claim.id], profile, exploratory) for claim in chapter.claims}


def tally(chapter: ChapterClaims, judged: Mapping[str, JudgedClaim]) -> dict[str, Counter[str]]:
    """How many claims, and how many controls, have each verdict; "exploratory" counts as a word of its own."""
    found: dict[str, Counter[str]] = {"claims": Counter(), "controls": Counter()}
    for claim in chapter.claims:
        kind = "controls" if claim.kind == "control" else "claims"
        found[kind][judged[claim.id].word] += 1
    return found


# --- tests ------------------------------------------------------------------------------------------------------


def _why_not(test: DecidingTest, profile: str, not_tested: str | None, measured: bool) -> str:
    """Why the test has no answer in this run, which may say that the claim is ``not_tested``; empty when it has one."""
    if profile == "smoke":
        return "the smoke profile only asks whether every cell runs"
    if not_tested is None and profile not in test.profiles:
        return test.otherwise or f"only in {', '.join(test.profiles)}"
    return not_tested or ("" if measured else "this run measured nothing for it")


def _p_values(criterion: Criterion, values: Sequence[float]) -> _Pair:
    p_yes, p_no = criterion.questions(partial(judging.one_sided, values, statistic=criterion.statistic))
    return float(p_yes), float(p_no)


def _effect_alone(test: SupportingTest, values: tuple[float, ...]) -> JudgedTest:
    """A test with its effect, and no answer."""
    if isinstance(test, DecidingTest) and test.statistic == "worst":
        value, _ = test.criterion.worst(values)
        words = f"at worst {_with_unit(_number(value, '.4g'), test.unit)}"
        return JudgedTest(values=values, estimate=value, words=words, scale=test.scale)
    found = judging.interval(values, test.statistic)
    estimate, low, high = (
        judging.significant_digits(value) if isfinite(value) else None
        for value in (found.estimate, found.low, found.high)
    )
    words = _effect(found, test.unit, _marks(test.criterion) if isinstance(test, DecidingTest) else ())
    return JudgedTest(values=values, estimate=estimate, low=low, high=high, words=words, scale=test.scale)


def _answered(test: DecidingTest, effect: JudgedTest, raw: _Pair, p: _Pair, k: int) -> JudgedTest:
    """A test with its answer, from its p-values before and after the correction over ``k`` tests."""
    criterion, n, found = test.criterion, len(effect.values), judging.interval(effect.values, test.statistic)
    decided = criterion.answer(found, *p)
    if decided == "open":
        more = judging.more_seeds(*raw, n, k)
        what = f"{_counted(more, 'more seed')} would" if more else f"{_counted(n, 'seed')} cannot"
        told = {"more_seeds": more, "words": f"{effect.words}: {what} decide"}
        return effect.model_copy(update={"answer": decided, "p": p, **told})
    over, under = judging.one_sided(effect.values, criterion.bounds[0], test.statistic)
    opposite = bool((under if criterion.sign > 0 else over) <= judging.strictest_level(k))
    too_small = criterion.answer(found, 1.0, p[1]) == "no"
    words = _words(test, decided, effect.words, too_small, opposite)
    return effect.model_copy(update={"answer": decided, "p": p, "words": words})


# --- words ------------------------------------------------------------------------------------------------------


def _words(test: DecidingTest, decided: str, effect: str, too_small: bool, opposite: bool) -> str:
    """A yes or a no in words.

    ``too_small``: the effect is short of one that would matter, also where there is one. ``opposite``: it lies on the
    other side of the threshold, and so clearly that the correction would let it pass as a yes.
    """
    criterion, bounds = test.criterion, _bounds(test.criterion)
    if criterion.side == "between":
        return f"{'inside' if decided == 'yes' else 'outside'} {bounds}: {effect}"
    amount = _with_unit(_number(criterion.margin or 0.0, "g"), test.unit)
    rise, loss = ("rise", "loss") if criterion.sign > 0 else ("fall", "rise")
    of_a_change = criterion.bounds[0] == 0
    if criterion.no_harm:
        yes, though = f"no {loss} as large as {amount}: {effect}", f", though there is a {loss}"
        no, no_at_all = f"there is a {loss}: {effect}", f"a {loss} larger than {amount}: {effect}"
    else:
        by = "" if of_a_change else "by "
        yes, though = effect, f", though {by}less than the {amount} that would matter"
        no = f"no {rise} as large as" if of_a_change else f"not {criterion.side} {bounds} by as much as"
        no, no_at_all = f"{no} {amount}: {effect}", f"the opposite: {effect}"
    if decided == "yes":
        return yes + (though if too_small else "")
    return no_at_all if opposite else no


def _asked(test: DecidingTest, judged: JudgedTest) -> str:
    """What was asked of a test, and its answer."""
    of = {"mean": "", "worst": " (worst case)"}.get(test.statistic, f" ({test.statistic})")
    criterion = test.criterion
    asked = _with_unit(_bounds(criterion), "" if criterion.bounds == (0.0,) else test.unit)
    answered = f"{judged.answer}, {judged.words}" if judged.answer else judged.words
    return f"whether {test.metric}{of} is {criterion.side} {asked}: {answered}"


def _effect(found: Interval, unit: str, marks: Sequence[float]) -> str:
    """Estimate, unit and interval, such as "+2.1 points [1.4, 2.8]".

    With as many decimals as half the width of the interval deserves, and as it takes to show on which side of the
    ``marks`` its ends lie. The sign of a plus is shown where an effect is compared with 0.
    """
    half, form = (found.high - found.low) / 2, ".4g"
    if isfinite(half) and half > 0:
        decimals = max(0, -floor(log10(half / 2)))
        pairs = [(end, mark) for end in (found.low, found.high) for mark in marks]
        while decimals <= 6 and any(
            np.sign(round(end, decimals) - mark) != np.sign(end - mark) for end, mark in pairs
        ):
            decimals += 1
        form = f"z.{decimals}f" if decimals <= 6 else ".3g"
    sign = "+" if 0.0 in marks and found.estimate > 0 else ""
    estimate = _with_unit(sign + _number(found.estimate, form), unit)
    if not isfinite(half):
        return estimate
    if half == 0 and found.kind == "mean":  # that of a median can have no width, and some seeds lie elsewhere
        return f"{estimate} in every seed"
    return f"{estimate} [{_number(found.low, form)}, {_number(found.high, form)}]"


def _marks(criterion: Criterion) -> tuple[float, ...]:
    return criterion.bounds if criterion.margin is None else (*criterion.bounds, criterion.matters)


def _bounds(criterion: Criterion) -> str:
    shown = ", ".join(_number(bound, "g") for bound in criterion.bounds)
    return f"[{shown}]" if criterion.side == "between" else shown


def _number(value: float, form: str) -> str:
    return format(value, form).replace("-", "−")


def _with_unit(number: str, unit: str) -> str:
    unit = unit.removesuffix("s") if number == "1" else unit
    return number if unit in ("", "none") else f"{number} {unit}"


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' * (n != 1)}"


# --- claims -----------------------------------------------------------------------------------------------------


def _claim(claim: Claim, found: Mapping[str, JudgedTest], profile: str, exploratory: bool) -> JudgedClaim:
    """A claim from its tests; those that the profile leaves out are a matter of scale and not of the verdict."""
    deciding = {test.name: found[test.name] for test in claim.deciding}
    asked = {test.name: found[test.name] for test in claim.deciding if profile in test.profiles}
    ran = [test for test in asked.values() if test.estimate is not None]
    verdict, scale = _verdict(claim, list(asked.values())), None
    if not ran:
        reasons = dict.fromkeys(test.words for test in (asked or deciding).values())
        sentence = f"not tested: {'; '.join(reasons)}."
    else:
        scale = _scale(verdict, claim, ran)
        fewest, most = min(len(test.values) for test in ran), max(len(test.values) for test in ran)
        seeds = (f"{fewest:,} to " if fewest < most else "") + _counted(most, "seed")
        answers = "; ".join(_asked(test, asked[test.name]) for test in claim.deciding if test.name in asked)
        sentence = f"asked {answers} ({seeds}, {scale} scale)."
    if verdict == "partly":
        yes, no = (" and ".join(n for n, t in asked.items() if t.answer == word) for word in ("yes", "no"))
        sentence = f"it holds under the reading {yes} and not under {no}: {sentence}"
    if exploratory and ran:
        verdict, sentence = None, f"exploratory: {sentence}"
    return JudgedClaim(
        verdict=_OWN_WORDS.get(claim.kind, {}).get(verdict, verdict) if verdict else None,
        scale=scale,
        sentence=sentence[0].upper() + sentence[1:],
        deciding=deciding,
        supporting={test.name: found[test.name] for test in claim.supporting},
    )


def _verdict(claim: Claim, asked: Sequence[JudgedTest]) -> _Verdict | None:
    """The verdict from the deciding tests that were due; one of them that did not run leaves it undecided."""
    seen = {test.answer for test in asked}
    if all(test.estimate is None for test in asked):
        return "not tested"
    if seen == {"yes"}:
        return "reproduced"
    if seen == {"no"} or (claim.together == "all" and "no" in seen):
        return "not reproduced"
    return "partly" if seen == {"yes", "no"} else "undecided"


def _scale(verdict: _Verdict | None, claim: Claim, ran: Sequence[JudgedTest]) -> _Scale:
    """The paper's scale only where every test that bears the verdict has it; one *no* bears a *not reproduced*."""
    if verdict == "not reproduced" and claim.together == "all":
        return "paper" if any(test.answer == "no" and test.scale == "paper" for test in ran) else "small"
    return "paper" if all(test.scale == "paper" for test in ran) else "small"
