"""Results: ``book/results/CHAPTER.PROFILE.json``, written by a run and committed.

The file is canonical, so that a diff shows what matters: sorted keys, values and statistics with six
significant digits, and what changes from run to run (seconds, dates, machine) in a block of its own at
the end.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from repro.book.claim_models import ChapterClaims, first_fault
from repro.book.claims import judge
from repro.book.errors import BadInput
from repro.book.files import write_atomically
from repro.book.markup import number
from repro.book.verdicts import JudgedClaim, JudgedTest

__all__ = ["Results", "compare", "disagreements", "read", "write"]


class Results(BaseModel):
    """What a run of a chapter in a profile found, with where it comes from.

    ``provenance`` says what the result depends on, ``run`` what differs between two equal runs; both hold
    plain JSON.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_: Literal[1] = Field(1, alias="schema")
    chapter: str
    profile: Literal["smoke", "quick", "paper"]
    claims: dict[str, JudgedClaim]
    provenance: dict[str, Any]
    run: dict[str, Any]


def as_text(results: Results) -> str:
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
    write_atomically(path, as_text(results))


def read(path: Path) -> Results:
    """Read and check a result; raises ``BadInput`` with one line for a missing or broken file."""
    content = None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Results.model_validate(content)
    except FileNotFoundError:
        raise BadInput(f"there is no result {path.name}; a run of the chapter writes it") from None
    except OSError as error:
        raise BadInput(f"{path.name} could not be read: {error.strerror or error}") from error
    except ValidationError as error:
        raise BadInput(f"{path.name} is broken: {first_fault(error, content)}") from None
    except ValueError as error:
        raise BadInput(f"{path.name} is broken, not JSON: {error}; run the chapter again") from error


def compare(old: Results, new: Results) -> list[str]:
    """The claims of ``old`` whose verdict is another in ``new``, or that are gone: a line each, with both values.

    A claim that is only in ``new`` is no change. Raises ``BadInput`` for different chapters or profiles.
    """
    if (old.chapter, old.profile) != (new.chapter, new.profile):
        raise BadInput(
            f"results of {old.chapter} ({old.profile}) and {new.chapter} ({new.profile}) cannot be compared"
        )
    changes = []
    for claim, before in old.claims.items():
        after = new.claims.get(claim)
        if after is None:
            changes.append(f"{claim}: was {before.verdict}, is no longer in the result")
        elif after.verdict != before.verdict:
            changes.append(f"{claim}: was {before.verdict}, is now {after.verdict}{_details(before, after)}")
    return changes


def _details(before: JudgedClaim, after: JudgedClaim) -> str:
    """The tests whose verdict is another, with both values."""
    pairs = {name: (before.tests.get(name), test) for name, test in after.tests.items()}
    told = [
        f"{name}: was {_value(old)}, is now {_value(new)}"
        for name, (old, new) in pairs.items()
        if old is None or old.verdict != new.verdict
    ]
    return f" ({'; '.join(told)})" if told else ""


def _value(test: JudgedTest | None) -> str:
    if test is None:
        return "absent"
    if test.estimate is None:
        return test.verdict
    return f"{number(test.estimate)} [{number(test.low)}, {number(test.high)}] {test.verdict}"


def disagreements(chapter: ChapterClaims, results: Results) -> list[str]:
    """Where a stored result and its file of claims do not fit: one line each, empty when they do.

    The verdicts are computed again from the stored values: an edited verdict, threshold or value shows here.
    """
    tests = {claim.id: {test.name for test in claim.tests} for claim in chapter.claims}
    problems = [f"{claim}: has no result yet" for claim in tests if claim not in results.claims]
    measurements = []
    for claim, judged in results.claims.items():
        if claim not in tests:
            problems.append(f"{claim}: in the result, but not in the claims")
            continue
        for name, test in judged.tests.items():
            if name not in tests[claim]:
                problems.append(f"{claim}: test {name} is in the result, but not in the claims")
            elif test.values:
                measurements.append({"claim": claim, "test": name, "values": test.values})
    for claim, again in judge(chapter, measurements, {}, results.profile).items():
        stored = results.claims.get(claim)
        if stored is not None and stored.verdict != again.verdict:
            problems.append(f"{claim}: stored as {stored.verdict}, but its values say {again.verdict}")
    return problems
