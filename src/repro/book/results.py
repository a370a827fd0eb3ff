"""Results: ``book/results/CHAPTER.PROFILE.json``, written by a run and committed.

The file is canonical, so that a diff shows what matters: sorted keys, values and statistics with six
significant digits, and what changes from run to run (seconds, dates, machine) in a block of its own at
the end.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from repro.book._files import readable, write_atomically
from repro.book.answers import JudgedClaim, JudgedTest, judge
from repro.book.claims import FIRST_SEEDS, ChapterClaims
from repro.book.errors import BadInput


class Results(BaseModel):
    """What a run of a chapter in a profile found, with where it comes from.

    ``not_tested`` maps claims to the reason that the run gave. ``provenance`` says what the result depends on, ``run``
    what differs between two equal runs; both hold plain JSON.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_: Literal[2] = Field(2, alias="schema")
    chapter: str
    profile: Literal["smoke", "quick", "full", "paper"]
    claims: dict[str, JudgedClaim]
    not_tested: dict[str, str] = {}
    provenance: dict[str, Any]
    run: dict[str, Any]

    @property
    def seed(self) -> int:
        """The first seed of its run."""
        seed = (self.provenance.get("parameters") or {}).get("seed")
        return seed if isinstance(seed, int) else 0

    @property
    def exploratory(self) -> bool:
        """Whether its seeds are planning seeds, by which no claim is judged."""
        return self.seed in FIRST_SEEDS["smoke"]

    @property
    def values(self) -> dict[tuple[str, str], tuple[float, ...]]:
        """What each test measured, by claim and test; those without a value are left out."""
        return {
            (claim, name): test.values
            for claim, judged in self.claims.items()
            for name, test in (judged.deciding | judged.supporting).items()
            if test.values
        }

    def again(self, chapter: ChapterClaims, exploratory: bool) -> dict[str, JudgedClaim]:
        """Its answers, judged anew from its values against the claims of today.

        Values of claims and tests that the file no longer has are left out.
        """
        known = {(claim.id, test.name) for claim in chapter.claims for test in claim.tests}
        values = {key: found for key, found in self.values.items() if key in known}
        return judge(chapter, values, self.profile, self.not_tested, exploratory)

    def contradictions(self, new: Results) -> list[str]:
        """Where a new run contradicts an answer, and not merely fails to decide: a line each, with both values.

        That is a deciding test answered yes in one and no in the other, and not by one effect that is there and
        smaller than would matter: where their intervals share values, either may be right in saying so.
        """
        return [
            f"{claim}: {name}: was {before.answer}, {before.words}; is now {after.answer}, {after.words}"
            for claim, judged in self.claims.items()
            if claim in new.claims
            for name, before in judged.deciding.items()
            if (after := new.claims[claim].deciding.get(name)) is not None
            if {before.answer, after.answer} == {"yes", "no"} and not _overlap(before, after)
        ]

    def disagreements(self, chapter: ChapterClaims) -> list[str]:
        """Where a stored result and its file of claims do not fit: one line each, empty when they do.

        The answers are computed again from the stored values: an edited answer, threshold or value shows here.
        """
        tests = {claim.id: [test.name for test in claim.tests] for claim in chapter.claims}
        problems = [f"{claim}: has no result yet" for claim in tests if claim not in self.claims]
        problems += [f"{c}: in the result, but not in the claims" for c in self.claims if c not in tests]
        problems += [
            f"{claim}: test {name} is in the result, but not in the claims"
            for claim, name in self.values
            if claim in tests and name not in tests[claim]
        ]
        now = self.again(chapter, self.exploratory)
        return problems + [
            f"{claim}: stored as {stored.word}, but its values say {now[claim].word}"
            for claim, stored in self.claims.items()
            if claim in now and stored.word != now[claim].word
        ]


def _overlap(one: JudgedTest, other: JudgedTest) -> bool:
    """Whether the intervals of both share a value; the worst case has none."""
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return False
    return max(one.low, other.low) <= min(one.high, other.high)


def _as_text(results: Results) -> str:
    """The canonical text of a result: the same result gives the same bytes."""
    try:
        content = json.dumps(results.model_dump(by_alias=True), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BadInput(f"the result of {results.chapter} cannot be written as JSON: {error}") from error
    blocks = json.loads(content)
    blocks["run"] = blocks.pop("run")  # comes last
    return json.dumps(blocks, indent=2, ensure_ascii=False) + "\n"


def write(path: Path, results: Results) -> None:
    """Write a result in one step: the old file stays whole until the new one takes its place."""
    write_atomically(path, _as_text(results))


def read(path: Path) -> Results:
    """Read and check a result; raises ``BadInput`` with one line for a missing or broken file."""
    with readable(path, "a result, which a run of the chapter writes"):
        return Results.model_validate(json.loads(path.read_text(encoding="utf-8")))
