"""The ledger: what a paper claims, how it is tested, what was found.

A chapter's notebook only measures::

    ledger = claims.Ledger("ewn-inductive-bias", settings.profile)
    ledger.measure("E3", test="ewn-first-order", values=ratios)  # one value a seed
    ledger  # the table of verdicts

The library judges: here for the page, and once more, from the same values, when the book is built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from repro.book.claim_models import ChapterClaims, Claim, ClaimTest, load
from repro.book.errors import BadInput, nearest
from repro.book.layout import PROFILES, Book
from repro.book.ledger_html import table
from repro.book.verdicts import (
    VERDICTS,
    Criterion,
    JudgedClaim,
    JudgedTest,
    judge_claim,
    judge_tests,
    significant_digits,
)

__all__ = ["ChapterClaims", "Claim", "ClaimTest", "Ledger", "counts", "judge", "load", "shown"]

LEDGER = "application/vnd.repro.ledger+json"


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
    values: dict[tuple[str, str], tuple[float, ...]] = {}
    for entry in measurements:
        claim, test, found = _entry(chapter, entry)
        if (claim.id, test.name) in values:
            raise BadInput(
                f"{claim.id}, test {test.name}: measured twice; each test takes one list of values"
            )
        values[claim.id, test.name] = tuple(significant_digits(value) for value in found)
    for claim_id in not_tested:
        chapter.claim(claim_id)
        if any(claim_id == measured for measured, _ in values):
            raise BadInput(f"{claim_id}: measured, but declared not tested")

    def skipped(claim: Claim, test: ClaimTest) -> str:
        """Why the test is not judged in this run; empty when it is."""
        if profile == "smoke":
            return "the smoke profile only asks whether every cell runs"
        if claim.id in not_tested:
            return not_tested[claim.id]
        if profile not in test.profiles:
            return test.otherwise or f"only in {', '.join(test.profiles)}"
        if (claim.id, test.name) in values:
            return ""
        return test.otherwise or "this run measured nothing for it"

    tests = [(claim, test) for claim in chapter.claims for test in claim.tests]
    measured: dict[tuple[str, str], tuple[Criterion, Sequence[float]]] = {
        (claim.id, test.name): (test.criterion(claim.kind), values[claim.id, test.name])
        for claim, test in tests
        if not skipped(claim, test)
    }
    judged = judge_tests(measured)

    def result(claim: Claim, test: ClaimTest) -> JudgedTest:
        key = (claim.id, test.name)
        if key in judged:
            return judged[key]
        return JudgedTest(values=values.get(key, ()), verdict="not tested", reason=skipped(claim, test))

    return {
        claim.id: judge_claim({test.name: result(claim, test) for test in claim.tests})
        for claim in chapter.claims
    }


def shown(chapter: ChapterClaims, ledger: Mapping[str, Any]) -> dict[str, Any]:
    """A ledger as an output: the table for a person, by media type, and the values, which are judged again later.

    ``ledger`` holds {"chapter", "profile", "measurements", "not_tested"} and, for a part of the table, the claims
    that it shows as "only".
    """
    judged = judge(chapter, ledger["measurements"], ledger["not_tested"], ledger["profile"])
    only = ledger.get("only")
    lines = [
        f"{c}: {found.verdict} ({found.reason})" for c, found in judged.items() if only is None or c in only
    ]
    return {
        "text/plain": "\n".join([f"{chapter.chapter}, profile {ledger['profile']}", *lines]),
        "text/html": table(chapter, judged, ledger["profile"], only),
        LEDGER: dict(ledger),
    }


def counts(judged: Mapping[Any, JudgedClaim]) -> dict[str, int]:
    """How many claims got each of the five verdicts, in their usual order."""
    found = [claim.verdict for claim in judged.values()]
    return {verdict: found.count(verdict) for verdict in VERDICTS}


def _known_profile(profile: str) -> None:
    if profile not in PROFILES:
        raise BadInput(f"there is no profile {profile!r}; {nearest(str(profile), PROFILES)}")


def _entry(chapter: ChapterClaims, entry: Mapping[str, Any]) -> tuple[Claim, ClaimTest, list[float]]:
    if not isinstance(entry, Mapping) or set(entry) != {"claim", "test", "values"}:
        raise BadInput(f"a measurement holds claim, test and values, got {str(entry)[:80]}")
    claim = chapter.claim(str(entry["claim"]))
    test = claim.test(str(entry["test"]))
    return claim, test, _numbers(claim, test, entry["values"])


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
    if not np.isfinite(array).all():
        position = int(np.flatnonzero(~np.isfinite(array))[0])
        raise BadInput(
            f"{where}: value {position + 1} of {array.size} is {array[position]}; a test takes finite "
            f"numbers (say ledger.not_tested({claim.id!r}, reason) when a seed gave none)"
        )
    if test.interval == "wilson" and not np.isin(array, (0.0, 1.0)).all():
        wrong = array[~np.isin(array, (0.0, 1.0))][0]
        raise BadInput(f"{where}: a proportion takes zeros and ones, one a seed, got {wrong}")
    return [float(value) for value in array]


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
        self._values: dict[tuple[str, str], list[float]] = {}
        self._not_tested: dict[str, str] = {}

    def measure(self, claim: str, *, test: str, values: Any) -> None:
        """Record the values of a test, one a seed: a list, an array, a tensor, or one number.

        Raises ``BadInput`` for an unknown claim or test (with the nearest), a test measured before, a claim
        declared not tested, and a value that is not finite.
        """
        found, its_test, numbers = _entry(self.claims, {"claim": claim, "test": test, "values": values})
        if (claim, test) in self._values:
            raise BadInput(f"{claim}, test {test}: measured before; each test takes one list of values")
        if claim in self._not_tested:
            raise BadInput(f"{claim}: measured, but declared not tested: {self._not_tested[claim]}")
        self._values[found.id, its_test.name] = numbers

    def not_tested(self, claim: str, reason: str) -> None:
        """Say why this run cannot test a claim.

        Raises ``BadInput`` without a reason, for an unknown claim, and for one that was measured.
        """
        self.claims.claim(claim)
        if not str(reason).strip():
            raise BadInput(f"{claim}: not tested needs a reason")
        if measured := [test for known, test in self._values if known == claim]:
            raise BadInput(f"{claim}: declared not tested, but test {measured[0]} was measured")
        self._not_tested[claim] = " ".join(str(reason).split())

    def judged(self) -> dict[str, JudgedClaim]:
        """The verdicts on what was measured so far, by claim id."""
        held = self._as_json()
        return judge(self.claims, held["measurements"], held["not_tested"], self.profile)

    def __getitem__(self, claim: str) -> JudgedClaim:
        """One claim's verdict, reason and tests, for the prose."""
        return self.judged()[self.claims.claim(claim).id]

    def summary(self) -> dict[str, int]:
        """How many claims got each verdict so far."""
        return counts(self.judged())

    def show(self, *claims: str) -> None:
        """Display the rows of a few claims where they are discussed; the whole table is ``ledger`` itself."""
        from IPython.display import display

        chosen = [self.claims.claim(claim).id for claim in claims]
        display(shown(self.claims, self._as_json() | {"only": chosen}), raw=True)

    def _as_json(self) -> dict[str, Any]:
        return {
            "chapter": self.chapter,
            "profile": self.profile,
            "measurements": [
                {"claim": claim, "test": test, "values": values}
                for (claim, test), values in self._values.items()
            ],
            "not_tested": dict(self._not_tested),
        }

    def __repr__(self) -> str:
        return str(shown(self.claims, self._as_json())["text/plain"])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return shown(self.claims, self._as_json())
