"""The file of claims, ``book/claims/CHAPTER.yml``: its shape, checked when it is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
    model_validator,
)

from repro.book.claim_errors import one_line, short
from repro.book.errors import BadInput, nearest
from repro.book.layout import PROFILES
from repro.book.verdicts import Criterion, Direction, IntervalKind, significant_digits

__all__ = ["Budget", "ChapterClaims", "Claim", "ClaimTest", "Kind", "Paper", "load"]

Kind = Literal["theory", "empirical", "control"]
Profile = Literal["smoke", "quick", "paper"]
Text = Annotated[str, Field(min_length=1, pattern=r"\S")]
Scalar = StrictBool | StrictInt | StrictFloat | StrictStr


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Paper(_Strict):
    """The paper that a chapter reruns; ``key`` is its entry in the list of references."""

    title: Text
    authors: Text
    arxiv: Annotated[str, Field(pattern=r"^(\d{4}\.\d{4,5}|[a-z-]+(\.[A-Z]{2})?/\d{7})(v\d+)?$")] | None = (
        None
    )
    key: Annotated[str, Field(pattern=r"^[^\s,{}]+$")]


class Budget(_Strict):
    """What a run of a profile may use."""

    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    memory_mb: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ClaimTest(_Strict):
    """One test of a claim: a number per seed, and the side of a threshold on which the claim puts it."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    metric: Text
    direction: Direction
    threshold: FiniteFloat | list[FiniteFloat]
    reason: Text
    min_seeds: Annotated[int, Field(ge=1)]
    interval: IntervalKind = "t"
    profiles: list[Literal["quick", "paper"]] = ["quick", "paper"]
    otherwise: Text | None = None

    @property
    def thresholds(self) -> tuple[float, ...]:
        return tuple(self.threshold) if isinstance(self.threshold, list) else (self.threshold,)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        found = self.threshold
        if self.direction == "between":
            if not isinstance(found, list) or len(found) != 2 or found[0] >= found[1]:
                raise ValueError(f"threshold is {found}; accepted for between: [low, high] with low < high")
        elif isinstance(found, list):
            raise ValueError(f"threshold is {found}; accepted for {self.direction}: one number")
        for value in self.thresholds:
            if significant_digits(value) != value:
                raise ValueError(f"threshold is {value}; accepted: at most six significant digits")
            if self.interval == "wilson" and not 0 <= value <= 1:
                raise ValueError(f"threshold is {value}; accepted for the proportions of wilson: 0 to 1")
        if {"quick", "paper"} - set(self.profiles) and self.otherwise is None:
            raise ValueError(
                f"profiles is {self.profiles} without otherwise; accepted: a reason why the other "
                "profiles cannot run this test"
            )
        return self

    def criterion(self, kind: Kind) -> Criterion:
        """What the judge needs of this test; only empirical claims take part in Holm's correction."""
        return Criterion(
            self.direction, self.thresholds, self.min_seeds, self.interval, corrected=kind == "empirical"
        )


class Claim(_Strict):
    """One claim of the paper (or a control of our own), in Markdown that may hold mathematics."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]*$")]
    statement: Text
    where: Text
    kind: Kind
    paper_value: Text | FiniteFloat | None = None
    paper_value_is: Text | None = None
    tests: Annotated[list[ClaimTest], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.paper_value is not None and self.paper_value_is is None:
            raise ValueError(
                f"paper_value is {self.paper_value!r} without paper_value_is; "
                "accepted: what kind of number it is"
            )
        _unique([test.name for test in self.tests], "test name")
        return self

    def test(self, name: str) -> ClaimTest:
        """The test of this name; an unknown one is an error with the nearest."""
        for test in self.tests:
            if test.name == name:
                return test
        known = [test.name for test in self.tests]
        raise BadInput(f"claim {self.id} has no test {name!r}; {nearest(name, known)}")


class ChapterClaims(_Strict):
    """All that ``book/claims/CHAPTER.yml`` says: paper, profiles, budgets, claims, quotable numbers."""

    chapter: Text
    paper: Paper
    budget: dict[Profile, Budget]
    profiles: dict[Profile, dict[str, Scalar]]
    quoted: list[FiniteFloat] = []
    claims: Annotated[list[Claim], Field(min_length=1)]

    @field_validator("budget")
    @classmethod
    def _all_budgets(cls, found: dict[Profile, Budget]) -> dict[Profile, Budget]:
        _complete(found, "budget")
        return found

    @field_validator("profiles")
    @classmethod
    def _all_profiles(cls, found: dict[Profile, dict[str, Scalar]]) -> dict[Profile, dict[str, Scalar]]:
        _complete(found, "profiles")
        names = {name for values in found.values() for name in values}
        for profile, values in found.items():
            if missing := sorted(names - set(values)):
                raise ValueError(
                    f"profile {profile} has no value for {', '.join(missing)}; accepted: every name in "
                    f"all of {', '.join(PROFILES)}"
                )
        return found

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _unique([claim.id for claim in self.claims], "claim id")
        return self

    def deciding(self) -> dict[str, Any]:
        """All that decides a verdict or its reason, and so can change a run: no words, no budgets, no sizes.

        The sizes of a profile are parameters of the run. Words are shown by the ledger alone, which is shown
        anew with the words of today.
        """
        words = {"statement": True, "where": True, "paper_value": True, "paper_value_is": True}
        words_of_tests = {"tests": {"__all__": {"metric": True, "reason": True}}}
        around = {"paper": True, "budget": True, "profiles": True, "quoted": True}
        return self.model_dump(mode="json", exclude={**around, "claims": {"__all__": words | words_of_tests}})

    def claim(self, claim_id: str) -> Claim:
        """The claim of this id; an unknown one is an error with the nearest."""
        for claim in self.claims:
            if claim.id == claim_id:
                return claim
        known = [claim.id for claim in self.claims]
        raise BadInput(f"{self.chapter} has no claim {claim_id!r}; {nearest(claim_id, known)}")


_INNER: dict[str, type[BaseModel]] = {"claims": Claim, "tests": ClaimTest, "paper": Paper, "budget": Budget}


def _unique(names: list[str], what: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{what} {twice[0]!r} stands twice; accepted: every {what} once")


def _complete(found: Mapping[Profile, object], what: str) -> None:
    if missing := [profile for profile in PROFILES if profile not in found]:
        raise ValueError(f"{what} lacks {', '.join(missing)}; accepted: all of {', '.join(PROFILES)}")


class _Loader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys; here that is an error."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                line = key.start_mark.line + 1
                raise yaml.YAMLError(f"line {line}: the key {key.value!r} stands twice in one mapping")
            seen.add(key.value)
        return node


def load(path: Path | str) -> ChapterClaims:
    """Read and check a file of claims.

    Raises ``BadInput``: one line that names the file, the claim, the field, the value, and what is accepted.
    """
    path = Path(path)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError:
        raise BadInput(f"book/claims/{path.name} is missing: a chapter needs its file of claims") from None
    except OSError as error:
        raise BadInput(f"{path.name} could not be read: {error.strerror or error}") from error
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f"line {error.problem_mark.line + 1}: "
        raise BadInput(f"{path.name} is not readable YAML: {line}{error.problem}") from error
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise BadInput(f"{path.name} is not readable YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise BadInput(f"{path.name} must be a mapping with chapter, paper and claims, got {short(content)}")
    try:
        found = ChapterClaims.model_validate(content)
    except ValidationError as error:
        raise BadInput(f"{path.name}: {one_line(error, content, ChapterClaims, _INNER)}") from None
    if found.chapter != path.stem:
        raise BadInput(f"{path.name}: chapter is {found.chapter!r}; accepted: the file's name, {path.stem!r}")
    return found
