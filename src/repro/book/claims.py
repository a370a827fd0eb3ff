"""The ledger: what a paper claims, how it is tested, what was found.

A chapter's notebook only measures::

    ledger = claims.Ledger("ewn-inductive-bias", settings.profile)
    ledger.measure("E3", test="ewn-first-order", values=ratios)  # one value a seed
    ledger  # the table of verdicts

The library judges: here for the page, and once more, from the same values, when the book is built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from repro.base import nearest
from repro.book.claim_models import ChapterClaims, Claim, ClaimTest, load
from repro.book.errors import BadInput
from repro.book.layout import PROFILES, Book
from repro.book.markup import badge, inline_html, number
from repro.book.verdicts import (
    VERDICTS,
    JudgedClaim,
    JudgedTest,
    judge_claim,
    judge_tests,
    significant_digits,
)

__all__ = ["ChapterClaims", "Claim", "ClaimTest", "Ledger", "counts", "judge", "load", "shown"]

LEDGER = "application/vnd.repro.ledger+json"


class Ledger:
    """What a run measured for a chapter's claims; shown as the last line of a cell, the table of verdicts.

    ``chapter`` is the chapter's name, ``profile`` the one of this run. The claims come from the book around
    the working directory, or from ``book``. Raises ``BadInput`` for a chapter or profile that does not exist.
    """

    def __init__(self, chapter: str, profile: str, book: Book | None = None) -> None:
        _known_profile(profile)
        book = book or Book.find()
        self.chapter, self.profile = book.chapter(chapter), profile
        self.claims = load(book.claims_file(chapter))
        self._measurements: list[dict[str, Any]] = []
        self._not_tested: dict[str, str] = {}

    def measure(self, claim: str, *, test: str, values: Any) -> None:
        """Record the values of a test, one a seed: a list, an array, a tensor, or one number.

        Raises ``BadInput`` for an unknown claim or test (with the nearest), a test measured before, a claim
        declared not tested, and a value that is not finite.
        """
        entry = {"claim": claim, "test": test, "values": values}
        found = _values(self.claims, [*self._measurements, entry], self._not_tested)
        self._measurements.append(entry | {"values": found[claim, test]})

    def not_tested(self, claim: str, reason: str) -> None:
        """Say why this run cannot test a claim.

        Raises ``BadInput`` without a reason, for an unknown claim, and for one that was measured.
        """
        if not str(reason).strip():
            raise BadInput(f"{claim}: not tested needs a reason")
        declared = self._not_tested | {claim: " ".join(str(reason).split())}
        _values(self.claims, self._measurements, declared)
        self._not_tested = declared

    def judged(self) -> dict[str, JudgedClaim]:
        """The verdicts on what was measured so far, by claim id."""
        return judge(self.claims, self._measurements, self._not_tested, self.profile)

    def summary(self) -> dict[str, int]:
        """How many claims got each verdict so far."""
        return counts(self.judged())

    def __repr__(self) -> str:
        return str(self._repr_mimebundle_()["text/plain"])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        content = {
            "chapter": self.chapter,
            "profile": self.profile,
            "measurements": [dict(entry) for entry in self._measurements],
            "not_tested": dict(self._not_tested),
        }
        return shown(self.claims, content)


# --- from measurements to verdicts --------------------------------------------------------------------------------


def judge(
    chapter: ChapterClaims,
    measurements: Sequence[Mapping[str, Any]],
    not_tested: Mapping[str, str],
    profile: str,
) -> dict[str, JudgedClaim]:
    """The verdict of every claim of a chapter, by claim id, in the order of the file.

    ``measurements`` holds {"claim", "test", "values"}, as a ledger shows them; ``not_tested`` maps a claim to
    the reason. Values are judged with six significant digits, as the results keep them, so that judging a
    result again gives the same verdicts. The profile ``smoke`` is never judged. Raises ``BadInput`` for an
    unknown profile, claim or test, a test measured twice, and values that are not finite numbers.
    """
    _known_profile(profile)
    values = {
        key: tuple(significant_digits(value) for value in found)
        for key, found in _values(chapter, measurements, not_tested).items()
    }

    def skipped(claim: Claim, test: ClaimTest) -> str:
        """Why the test is not judged in this run; empty when it is."""
        if profile == "smoke":
            return "the smoke profile only asks whether every cell runs"
        if claim.id in not_tested:
            return not_tested[claim.id]
        if profile not in test.profiles or (claim.id, test.name) not in values:
            return test.otherwise or "this run measured nothing for it"
        return ""

    tests: dict[tuple[str, str], tuple[ClaimTest, Sequence[float]]] = {}
    others: dict[tuple[str, str], JudgedTest] = {}
    for claim in chapter.claims:
        for test in claim.tests:
            key = claim.id, test.name
            if reason := skipped(claim, test):
                others[key] = JudgedTest(values=values.get(key, ()), verdict="not tested", reason=reason)
            else:
                tests[key] = test, values[key]
    # what is proved, and what is a control, is not looked for among many
    empirical = {claim.id for claim in chapter.claims if claim.kind == "empirical"}
    judged = others | judge_tests(tests, [key for key in tests if key[0] in empirical])
    return {
        claim.id: judge_claim({test.name: judged[claim.id, test.name] for test in claim.tests})
        for claim in chapter.claims
    }


def counts(judged: Mapping[Any, JudgedClaim]) -> dict[str, int]:
    """How many claims got each of the five verdicts, in their usual order."""
    found = [claim.verdict for claim in judged.values()]
    return {verdict: found.count(verdict) for verdict in VERDICTS}


def _known_profile(profile: str) -> None:
    if profile not in PROFILES:
        raise BadInput(f"there is no profile {profile!r}; {nearest(str(profile), PROFILES)}")


def _values(
    chapter: ChapterClaims, measurements: Sequence[Mapping[str, Any]], not_tested: Mapping[str, str]
) -> dict[tuple[str, str], list[float]]:
    """The values of each measured test, by claim and test, all of them checked."""
    values: dict[tuple[str, str], list[float]] = {}
    for entry in measurements:
        if not isinstance(entry, Mapping) or set(entry) != {"claim", "test", "values"}:
            raise BadInput(f"a measurement holds claim, test and values, got {str(entry)[:80]}")
        claim = chapter.claim(str(entry["claim"]))
        test = claim.test(str(entry["test"]))
        if (claim.id, test.name) in values:
            raise BadInput(
                f"{claim.id}, test {test.name}: measured before; each test takes one list of values"
            )
        values[claim.id, test.name] = _numbers(claim, test, entry["values"])
    for claim_id, reason in not_tested.items():
        chapter.claim(claim_id)
        if measured := [test for claim, test in values if claim == claim_id]:
            raise BadInput(f"{claim_id}: test {measured[0]} is measured, but declared not tested: {reason}")
    return values


def _numbers(claim: Claim, test: ClaimTest, values: Any) -> list[float]:
    """The values as floats: one number or a flat list, array or tensor; truth values count as 0 and 1.

    An empty list is a result too: no seed qualified, and the test is then not tested for want of seeds.
    """
    where = f"{claim.id}, test {test.name}"
    try:
        array = np.atleast_1d(np.asarray(values, dtype=np.float64))
    except (TypeError, ValueError):
        raise BadInput(f"{where}: values must be numbers, one a seed, got {str(values)[:60]}") from None
    if array.ndim != 1:
        raise BadInput(f"{where}: values must be a flat list, one number a seed, got shape {array.shape}")
    for position in np.flatnonzero(~np.isfinite(array)):
        raise BadInput(
            f"{where}: value {position + 1} of {array.size} is {array[position]}; a test takes finite "
            f"numbers (say ledger.not_tested({claim.id!r}, reason) when a seed gave none)"
        )
    for wrong in array[~np.isin(array, (0.0, 1.0))] if test.interval == "wilson" else ():
        raise BadInput(f"{where}: a proportion takes zeros and ones, one a seed, got {wrong}")
    return [float(value) for value in array]


# --- as a reader sees it ------------------------------------------------------------------------------------------


def shown(chapter: ChapterClaims, ledger: Mapping[str, Any]) -> dict[str, Any]:
    """A ledger as an output: the table for a person, by media type, and the values, which are judged again later.

    ``ledger`` holds {"chapter", "profile", "measurements", "not_tested"}.
    """
    judged = judge(chapter, ledger["measurements"], ledger["not_tested"], ledger["profile"])
    lines = [f"{claim}: {found.verdict} ({found.reason})" for claim, found in judged.items()]
    return {
        "text/plain": "\n".join([f"{chapter.chapter}, profile {ledger['profile']}", *lines]),
        "text/html": _table(chapter, judged, ledger["profile"]),
        LEDGER: dict(ledger),
    }


def anchor(claim: str) -> str:
    """The id of a claim's row on its chapter's page."""
    return f"claim-{claim.lower()}"


def expected(test: ClaimTest) -> str:
    """What the claim says of the test's metric, in words."""
    return f"{test.direction} {' and '.join(number(value) for value in test.thresholds)}"


def finding(test: ClaimTest, judged: JudgedTest) -> str:
    """What the run found, in words: estimate, interval and number of seeds."""
    if not judged.values:
        return "not measured"
    seeds = f"{len(judged.values)} seed{'s' * (len(judged.values) != 1)}"
    if judged.estimate is None:
        return f"not judged, {seeds}"
    what = {"t": "mean", "bootstrap-median": "median", "wilson": "share"}[test.interval]
    return f"{what} {number(judged.estimate)} [{number(judged.low)}, {number(judged.high)}] over {seeds}"


def paper_value(claim: Claim, inline: Callable[[str], str]) -> str:
    """The paper's value with what kind of number it is; ``inline`` makes the Markdown fit for its place."""
    if claim.paper_value is None:
        return "unknown"
    value = claim.paper_value if isinstance(claim.paper_value, str) else number(claim.paper_value)
    return f"{inline(value)} ({inline(claim.paper_value_is or '')})"


def _row(claim: Claim, judged: JudgedClaim) -> str:
    tests = "".join(
        f"<li>{inline_html(test.metric)}: <strong>{finding(test, result)}</strong>; "
        f"claim: {expected(test)}.{f' {badge(result.verdict)}' if len(claim.tests) > 1 else ''}</li>"
        for test in claim.tests
        for result in [judged.tests[test.name]]
    )
    value = paper_value(claim, inline_html)
    return (
        f'<tr id="{anchor(claim.id)}"><th scope="row">{escape(claim.id)}</th>'
        f"<td><strong>{inline_html(claim.statement)}</strong><br>"
        f"<small>{escape(claim.kind)}; {inline_html(claim.where)}. Paper's value: {value}.</small>"
        f"<ul>{tests}</ul></td>"
        f"<td>{badge(judged.verdict)}<br><small>{inline_html(judged.reason)}</small></td></tr>"
    )


def _table(chapter: ChapterClaims, judged: Mapping[str, JudgedClaim], profile: str) -> str:
    """The table of all claims, whose rows other pages can link to: show it once on a page."""
    counted = ", ".join(f"{n} {verdict}" for verdict, n in counts(judged).items() if n)
    titles = ("Claim", "What the paper claims, and what this run found", "Verdict")
    head = "".join(f'<th scope="col">{title}</th>' for title in titles)
    rows = "".join(_row(claim, judged[claim.id]) for claim in chapter.claims)
    return (
        '<div class="ledger" role="region" aria-label="Claims and verdicts" tabindex="0">'
        '<table class="dataframe">'
        f"<caption>Profile {escape(profile)}: {counted}. Intervals are 95 %.</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
