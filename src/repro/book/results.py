"""Results: ``book/results/CHAPTER.PROFILE.json``, written by a run and committed.

The file is canonical, so that a diff shows what matters: sorted keys, values and statistics with six
significant digits, and what changes from run to run (seconds, dates, machine) in a block of its own at
the end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from repro.book.claim_errors import one_line
from repro.book.claim_models import ChapterClaims
from repro.book.claims import judge
from repro.book.errors import BadInput
from repro.book.files import write_atomically
from repro.book.markup import number
from repro.book.verdicts import JudgedClaim, JudgedTest, significant_digits

__all__ = ["Change", "Results", "compare", "disagreements", "read", "write"]


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


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return significant_digits(value)
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list | tuple) else value


def as_text(results: Results) -> str:
    """The canonical text of a result: the same result gives the same bytes."""
    content = results.model_dump(by_alias=True)
    content = {key: content[key] for key in sorted(content, key=lambda key: (key == "run", key))}
    content["claims"], content["run"] = _rounded(content["claims"]), _rounded(content["run"])
    # the order of the two outermost levels is set by hand, so that `run` comes last
    blocks = {key: _sorted(value) for key, value in content.items()}
    try:
        return json.dumps(blocks, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise BadInput(f"the result of {results.chapter} cannot be written as JSON: {error}") from error


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _sorted(value[key]) for key in sorted(value, key=str)}
    return [_sorted(inner) for inner in value] if isinstance(value, list | tuple) else value


def write(path: Path, results: Results) -> None:
    """Write a result in one step: the old file stays whole until the new one takes its place."""
    write_atomically(path, as_text(results))


def read(path: Path) -> Results:
    """Read and check a result; raises ``BadInput`` with one line for a missing or broken file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"there is no result {path.name}; a run of the chapter writes it") from None
    except OSError as error:
        raise BadInput(f"{path.name} could not be read: {error.strerror or error}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path.name} is broken, not JSON: {error}; run the chapter again") from error
    if not isinstance(content, dict):
        raise BadInput(f"{path.name} is broken: a mapping is expected, found {type(content).__name__}")
    try:
        results = Results.model_validate(content)
    except ValidationError as error:
        raise BadInput(f"{path.name} is broken: {one_line(error, content, Results, _INNER)}") from None
    for claim_id, claim in results.claims.items():
        for name, test in claim.tests.items():
            numbers = [*test.values, test.estimate, test.low, test.high, test.p, test.p_holm]
            if not all(value is None or isfinite(value) for value in numbers):
                raise BadInput(
                    f"{path.name} is broken: {claim_id}, test {name} holds a number that is not finite"
                )
    return results


_INNER: dict[str, type[BaseModel]] = {"claims": JudgedClaim}


@dataclass(frozen=True)
class Change:
    """A claim whose verdict differs between two results; ``new`` is None when the claim is gone."""

    claim: str
    old: JudgedClaim
    new: JudgedClaim | None

    def __str__(self) -> str:
        if self.new is None:
            return f"{self.claim}: was {self.old.verdict}, is no longer in the result"
        told = [_told(name, self.old.tests.get(name), test) for name, test in self.new.tests.items()]
        details = "; ".join(text for text in told if text)
        return f"{self.claim}: was {self.old.verdict}, is now {self.new.verdict}" + (
            f" ({details})" if details else ""
        )


def _told(name: str, old: JudgedTest | None, new: JudgedTest) -> str:
    """One test's change with both values; empty when its verdict is the same."""
    if old is not None and old.verdict == new.verdict:
        return ""
    return f"{name}: was {_value(old)}, is now {_value(new)}"


def _value(test: JudgedTest | None) -> str:
    if test is None:
        return "absent"
    if test.estimate is None:
        return test.verdict
    return f"{number(test.estimate)} [{number(test.low)}, {number(test.high)}] {test.verdict}"


def compare(old: Results, new: Results) -> list[Change]:
    """The claims of ``old`` whose verdict is another in ``new``, or that are gone, with both values.

    A claim that is only in ``new`` is no change. Raises ``BadInput`` for different chapters or profiles.
    """
    if (old.chapter, old.profile) != (new.chapter, new.profile):
        raise BadInput(
            f"results of {old.chapter} ({old.profile}) and {new.chapter} ({new.profile}) cannot be compared"
        )
    changes = [Change(claim, before, new.claims.get(claim)) for claim, before in old.claims.items()]
    return [change for change in changes if change.new is None or change.new.verdict != change.old.verdict]


def disagreements(chapter: ChapterClaims, results: Results) -> list[str]:
    """Where a stored result and its file of claims do not fit: one line each, empty when they do.

    The verdicts are computed again from the stored values: an edited verdict, threshold or value shows here.
    """
    known = {claim.id for claim in chapter.claims}
    problems = [
        f"{claim}: in the result, but not in the claims" for claim in results.claims if claim not in known
    ]
    problems += [
        f"{claim.id}: has no result yet" for claim in chapter.claims if claim.id not in results.claims
    ]
    measurements: list[Mapping[str, Any]] = []
    for claim_id, judged in results.claims.items():
        names = {test.name for test in chapter.claim(claim_id).tests} if claim_id in known else set()
        for name, test in judged.tests.items():
            if claim_id in known and name not in names:
                problems.append(f"{claim_id}: test {name} is in the result, but not in the claims")
            elif claim_id in known and test.values:
                measurements.append({"claim": claim_id, "test": name, "values": test.values})
    for claim_id, judged in judge(chapter, measurements, {}, results.profile).items():
        stored = results.claims.get(claim_id)
        if stored is not None and stored.verdict != judged.verdict:
            problems.append(f"{claim_id}: stored as {stored.verdict}, but its values say {judged.verdict}")
    return problems
