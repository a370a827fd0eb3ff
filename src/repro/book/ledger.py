"""The ledger: what a run measured for a chapter's claims, and what that answers; and the data sets that it used.

A chapter's notebook only measures::

    ledger = Ledger("ewn-inductive-bias", settings.profile, settings.seed)
    ledger.measure("E3", test="ewn-first-order", values=ratios)  # one value a seed
    ledger  # the table of answers

The library judges: here for the page, and once more, from the same values, when the book is built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from repro.book._files import one_line
from repro.book._markup import rendered
from repro.book._notebooks import DATA, LEDGER
from repro.book.answers import JudgedClaim, judge, tally
from repro.book.claims import FIRST_SEEDS, ChapterClaims, Claim, SupportingTest, load
from repro.book.errors import BadInput, known
from repro.book.layout import PROFILES, Book

if TYPE_CHECKING:
    from repro.learn import Dataset

_Values = dict[tuple[str, str], list[float]]


class Ledger:
    """What a run measured for a chapter's claims; shown as the last line of a cell, the table of answers.

    ``chapter`` is the chapter's name, ``profile`` the one of this run, ``seed`` its first seed: answers from planning
    seeds are exploratory. The claims come from the book around the working directory, or from ``book``. Raises
    ``BadInput`` for a chapter or profile that does not exist.
    """

    def __init__(self, chapter: str, profile: str, seed: int, book: Book | None = None) -> None:
        book = book or Book.find()
        self.chapter, self.seed = book.chapter(chapter), int(seed)
        self.profile = known("profile", profile, PROFILES)
        self.claims = load(book.claims_file(chapter))
        self._measurements: list[dict[str, Any]] = []
        self._not_tested: dict[str, str] = {}

    def measure(self, claim: str, *, test: str, values: Any) -> None:
        """Record the values of a test, one a seed: a list, an array, a tensor, or one number.

        Raises ``BadInput`` for an unknown claim or test (with the nearest), a test measured before, a claim
        declared not tested, and a value that is not finite.
        """
        entry = {"claim": claim, "test": test, "values": values}
        found = _values_of(self.claims, [*self._measurements, entry], self._not_tested)
        self._measurements.append(entry | {"values": found[claim, test]})

    def not_tested(self, claim: str, reason: str) -> None:
        """Say why this run cannot test a claim.

        Raises ``BadInput`` without a reason, for an unknown claim, and for one that was measured.
        """
        if not str(reason).strip():
            raise BadInput(f"{claim}: not tested needs a reason")
        declared = self._not_tested | {claim: one_line(reason)}
        _values_of(self.claims, self._measurements, declared)
        self._not_tested = declared

    def content(self) -> dict[str, Any]:
        """What was measured so far, as plain JSON."""
        about = {"chapter": self.chapter, "profile": self.profile, "seed": self.seed}
        measurements = [dict(entry) for entry in self._measurements]
        return about | {"measurements": measurements, "not_tested": dict(self._not_tested)}

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return shown(self.claims, self.content())


def data_sets(*sets: Dataset) -> None:
    """Display the data sets of a chapter: name, source, licence, checksum, which the result of the run quotes."""
    from IPython.display import display

    head = ("data set", "source", "licence", "sha256, first digits")
    rows = [
        (*map(escape, (one.name, one.source, one.licence)), f"<code>{escape(one.checksum[:12])}</code>")
        for one in sets
    ]
    bundle = {
        "text/plain": "\n".join(f"{one.name}: sha256 {one.checksum}" for one in sets),
        "text/html": rendered("table.html", label="Data sets", head=head, rows=rows),
        DATA: {one.name: one.checksum for one in sets},
    }
    display(bundle, raw=True)


# --- from measurements to answers ---------------------------------------------------------------------------------


def answers(chapter: ChapterClaims, ledger: Mapping[str, Any]) -> dict[str, JudgedClaim]:
    """The answer to every claim, by claim id, from a ledger's content.

    Raises ``BadInput`` for an unknown claim or test, a test measured twice, and values that are not finite.
    """
    values = _values_of(chapter, ledger["measurements"], ledger["not_tested"])
    exploratory = ledger["seed"] in FIRST_SEEDS["smoke"]
    return judge(chapter, values, ledger["profile"], ledger["not_tested"], exploratory)


def _values_of(
    chapter: ChapterClaims, measurements: Sequence[Mapping[str, Any]], not_tested: Mapping[str, str]
) -> _Values:
    """The values of each measured test, by claim and test, all of them checked."""
    values: _Values = {}
    for entry in measurements:
        claim = chapter.claim(str(entry["claim"]))
        test = claim.test(str(entry["test"]))
        if (claim.id, test.name) in values:
            raise BadInput(f"{claim.id}, test {test.name}: measured before; a test takes one list of values")
        values[claim.id, test.name] = _numbers(claim, test, entry["values"])
    for claim_id, reason in not_tested.items():
        chapter.claim(claim_id)
        if measured := [test for claim, test in values if claim == claim_id]:
            raise BadInput(f"{claim_id}: test {measured[0]} is measured, but declared not tested: {reason}")
    return values


def _numbers(claim: Claim, test: SupportingTest, values: Any) -> list[float]:
    """The values as floats: one number or a flat list, array or tensor; truth values count as 0 and 1.

    An empty list is a result too: no seed qualified, and the test is then not tested for want of seeds.
    """
    wanted = "zeros and ones" if test.statistic == "share" else "finite numbers"
    got = values
    with suppress(TypeError, ValueError):
        array = np.atleast_1d(np.asarray(values, dtype=np.float64))
        good = np.isin(array, (0.0, 1.0)) if test.statistic == "share" else np.isfinite(array)
        if array.ndim == 1 and good.all():
            return [float(value) for value in array]
        got = array[~good][0] if array.ndim == 1 else f"shape {array.shape}"
    told = f"(say ledger.not_tested({claim.id!r}, reason) when a seed gave none)"
    raise BadInput(f"{claim.id}, test {test.name}: takes {wanted}, one a seed, got {str(got)[:60]} {told}")


# --- as a reader sees it ------------------------------------------------------------------------------------------


def shown(chapter: ChapterClaims, ledger: Mapping[str, Any], **origins: Any) -> dict[str, Any]:
    """A ledger as an output: the table for a person, by media type, and the values, which are judged again later.

    Pages add the ``origins`` of the committed answers, see the template.
    """
    judged = answers(chapter, ledger)
    about = {"profile": ledger["profile"], "counts": tally(chapter, judged), **origins}
    lines = [f"{claim}: {found.word}: {found.sentence}" for claim, found in judged.items()]
    return {
        "text/plain": "\n".join([f"{chapter.chapter}, profile {ledger['profile']}", *lines]),
        "text/html": rendered("ledger.html", chapter=chapter, judged=judged, **about),
        LEDGER: dict(ledger),
    }
