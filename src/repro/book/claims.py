"""The file of claims, ``book/claims/CHAPTER.yml``: its shape, checked when it is read.

A claim has one to three deciding tests, fixed before the run, and any number of supporting ones, which have an
interval and no answer.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from repro.base import nearest
from repro.book._files import one_line, readable
from repro.book.errors import BadInput, known
from repro.book.judging import Criterion, significant_digits
from repro.book.layout import PROFILES

_Profile = Literal["smoke", "quick", "full", "paper"]
_Judged = Literal["quick", "full", "paper"]
_Text = Annotated[str, Field(min_length=1, pattern=r"\S")]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Value = bool | int | float | str
_ARXIV = r"^(\d{4}\.\d{4,5}|[a-z-]+(\.[A-Z]{2})?/\d{7})(v\d+)?$"

FIRST_SEEDS = {"smoke": range(10_000), "quick": range(500_000, 1_000_001)}
FIRST_SEEDS |= dict.fromkeys(("full", "paper"), range(10_000, 500_000))
"""Where a profile's seeds begin. Those below 10,000 are for planning: no claim is judged by them."""
_MOST_HEADLINES = 5


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Paper(_Strict):
    """The paper that a chapter reruns; ``key`` is its entry in the list of references.

    ``says`` is what it says, in one sentence; without it, the statements of the headline claims stand in its place.
    """

    title: _Text
    authors: _Text
    arxiv: Annotated[str, Field(pattern=_ARXIV)] | None = None
    key: Annotated[str, Field(pattern=r"^[^\s,{}]+$")]
    says: _Text | None = None


class _Budget(_Strict):
    """What a run of a profile may use."""

    seconds: _Positive
    memory_mb: _Positive


class SupportingTest(_Strict):
    """One number a seed and its unit (``none`` for a plain one), shown with an interval and without an answer.

    ``scale`` is *paper* where the setting is the paper's, and *small* where another stands in for it.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    metric: _Text
    unit: _Text
    scale: Literal["small", "paper"]
    statistic: Literal["mean", "median", "share"] = "mean"
    profiles: list[_Judged] = ["quick", "full", "paper"]
    otherwise: _Text | None = None

    @model_validator(mode="after")
    def _explained(self) -> Self:
        if len(set(self.profiles)) < 3 and self.otherwise is None:
            told = "accepted: a reason why the other profiles cannot run this test"
            raise ValueError(f"profiles is {self.profiles} without otherwise; {told}")
        return self


class DecidingTest(SupportingTest):
    """A test that the claim stands or falls by: on which side of which bound, and the smallest effect that matters.

    ``sd`` (between planning seeds) and ``seeds`` (their number, or the parameter that holds it) are for planning
    only, and ``fewer`` says why a profile has fewer seeds than planned.
    """

    statistic: Literal["mean", "median", "share", "worst"] = "mean"  # type: ignore[assignment]
    claim: _Text
    margin: _Positive | None = None
    why: _Text
    sd: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    seeds: Annotated[int, Field(ge=1)] | _Text | None = None
    fewer: _Text | None = None

    @property
    def criterion(self) -> Criterion:
        """What the judge needs of this test."""
        return Criterion(*_parsed(self.claim), self.margin, self.statistic)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        side, bounds = _parsed(self.claim)
        has_margin = side != "between" and self.statistic != "worst"
        if side == "between" and bounds[0] >= bounds[1]:
            raise ValueError(f"claim is {self.claim!r}; accepted for between: [a, b] with a < b")
        if has_margin != (self.margin is not None):
            accepted = "the smallest effect that matters" if has_margin else "none, for between and worst"
            raise ValueError(f"margin is {self.margin}; accepted: {accepted}")
        if any(significant_digits(value) != value for value in (*bounds, self.margin or 0.0)):
            raise ValueError(f"claim {self.claim!r}, margin {self.margin}; accepted: six significant digits")
        ends = (*bounds, self.criterion.matters) if has_margin else bounds
        if self.statistic == "share" and not all(0 < end < 1 for end in ends):
            named = " and ".join(f"{end:g}" for end in ends)
            raise ValueError(f"claim and margin of a share lie at {named}; accepted: between 0 and 1")
        if self.seeds is None and self.statistic != "worst":
            raise ValueError("seeds is missing; accepted: their number, or the parameter that holds it")
        return self


_SAID = re.compile(r"(above|below)\s+([\d.eE+-]+)|(between)\s+\[\s*([\d.eE+-]+)\s*,\s*([\d.eE+-]+)\s*\]")


def _parsed(claim: str) -> tuple[Literal["above", "below", "between"], tuple[float, ...]]:
    """The side and the bounds of ``above T``, ``below T`` or ``between [a, b]``."""
    try:
        side, *said = filter(None, _SAID.fullmatch(claim.strip()).groups())  # type: ignore[union-attr]
        return side, tuple(map(float, said))
    except (AttributeError, ValueError):
        raise ValueError(f"claim is {claim!r}; accepted: above T, below T or between [a, b]") from None


class Claim(_Strict):
    """One claim of the paper, a question or a control of our own, in Markdown that may hold mathematics.

    ``together``: *all* for a claim that needs every deciding test, *readings* where they are alternative ways to
    understand it. ``headline`` marks the answers on the chapter's first screen.
    """

    id: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]*$")]
    statement: _Text
    where: _Text
    kind: Literal["theory", "empirical", "question", "control"]
    paper_value: _Text | FiniteFloat | None = None
    paper_value_is: _Text | None = None
    together: Literal["all", "readings"] = "all"
    headline: bool = False
    deciding: Annotated[list[DecidingTest], Field(min_length=1, max_length=3)]
    supporting: list[SupportingTest] = []

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.together == "readings" and self.kind == "control":
            raise ValueError("together is 'readings'; accepted for a control, which passes or fails: 'all'")
        if self.paper_value is not None and self.paper_value_is is None:
            told = "paper_value_is; accepted: what kind of number it is"
            raise ValueError(f"paper_value is {self.paper_value!r} without {told}")
        _unique("test name", [test.name for test in self.tests])
        return self

    @property
    def tests(self) -> list[SupportingTest]:
        """All tests, the deciding ones first."""
        return [*self.deciding, *self.supporting]

    def test(self, name: str) -> SupportingTest:
        """The test of this name; an unknown one is an error with the nearest."""
        tests = {test.name: test for test in self.tests}
        return tests[known(f"test of claim {self.id} called", name, tests)]

    def fixed(self, profile: str) -> dict[str, object]:
        """What must not change after a run in this profile: the claim itself, and what its deciding tests say."""
        found: dict[str, object] = {"statement": self.statement, "kind": self.kind, "together": self.together}
        due = [test for test in self.deciding if profile in test.profiles]
        return found | {f"test {t.name}": (t.metric, t.unit, t.scale, t.criterion) for t in due}


class ChapterClaims(_Strict):
    """All that ``book/claims/CHAPTER.yml`` says: paper, profiles, budgets, claims, quotable numbers.

    A chapter reruns a ``paper`` or asks a ``question`` of its own, one sentence.
    """

    chapter: _Text
    paper: _Paper | None = None
    question: _Text | None = None
    budget: dict[_Profile, _Budget]
    profiles: dict[_Profile, dict[str, _Value]]
    quoted: list[FiniteFloat] = []
    claims: Annotated[list[Claim], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.paper is None) == (self.question is None):
            raise ValueError("a chapter has a paper or a question of its own; accepted: one of the two")
        for what, given in (("budget", self.budget), ("profiles", self.profiles)):
            if lacking := [profile for profile in PROFILES if profile not in given]:
                raise ValueError(f"{what} lacks {', '.join(lacking)}; accepted: all of {', '.join(PROFILES)}")
        names = {name for values in self.profiles.values() for name in values}
        for profile, values in self.profiles.items():
            if missing := sorted((names | {"seed"}) - set(values)):
                told = f"accepted: every name in all of {', '.join(PROFILES)}"
                raise ValueError(f"profile {profile} has no value for {', '.join(missing)}; {told}")
            if values["seed"] not in (allowed := FIRST_SEEDS[profile]):
                told = f"accepted: {allowed.start} to {allowed.stop - 1}"
                raise ValueError(f"profile {profile}: seed is {values['seed']!r}; {told}")
        _unique("claim id", [claim.id for claim in self.claims])
        if len(headlines := [claim.id for claim in self.claims if claim.headline]) > _MOST_HEADLINES:
            told = f"accepted: at most {_MOST_HEADLINES} claims"
            raise ValueError(f"headline is true for {', '.join(headlines)}; {told}")
        sizes = self.profiles.values()
        counts = [name for name in names if all(type(values[name]) is int for values in sizes)]
        for claim, test in self.deciding():
            if isinstance(test.seeds, str) and test.seeds not in counts:
                told = f"accepted: a whole number, or a parameter that is one; {nearest(test.seeds, counts)}"
                raise ValueError(f"claim {claim.id}: test {test.name}: seeds is {test.seeds!r}; {told}")
        return self

    def claim(self, claim_id: str) -> Claim:
        """The claim of this id; an unknown one is an error with the nearest."""
        claims = {claim.id: claim for claim in self.claims}
        return claims[known(f"claim of {self.chapter} called", claim_id, claims)]

    def deciding(self) -> list[tuple[Claim, DecidingTest]]:
        """Every deciding test with its claim, in the order of the file."""
        return [(claim, test) for claim in self.claims for test in claim.deciding]

    def seeds(self, test: DecidingTest, profile: str) -> int | None:
        """How many seeds a profile gives to a test; None where it is not run, or its worst case has no number."""
        if profile not in test.profiles or test.seeds is None:
            return None
        return test.seeds if isinstance(test.seeds, int) else int(self.profiles[profile][test.seeds])

    def family(self, profile: str) -> list[tuple[str, str]]:
        """The deciding tests, by claim and name, that share the correction: of empirical claims and questions, but no
        worst cases.

        The file and the profile fix them before the run; that one of them measured nothing makes the others no easier.
        """
        return [
            (claim.id, test.name)
            for claim, test in self.deciding()
            if claim.kind in ("empirical", "question")
            and test.statistic != "worst"
            and profile in test.profiles
        ]


def _unique(what: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{what} {twice[0]!r} stands twice; accepted: every {what} once")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML keeps the last of two equal keys; here that is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if twice := [key for place, key in enumerate(keys) if key in keys[:place]]:
            line = node.start_mark.line + 1
            raise yaml.YAMLError(f"the key {twice[0]!r} stands twice in the mapping from line {line} on")
        return super().construct_mapping(node, deep)


def load(path: Path) -> ChapterClaims:
    """Read and check a file of claims.

    Raises ``BadInput``: one line that names the file, the claim, the field, the value, and what is accepted.
    """
    with readable(path, "the claims of a chapter, in book/claims"):
        text = path.read_text(encoding="utf-8")
    return parsed(text, path.name)


@cache
def parsed(text: str, name: str) -> ChapterClaims:
    """A file of claims from its text, checked as by ``load``; ``name`` is the file's. A build asks a dozen times."""
    try:
        content = yaml.load(text, Loader=_Loader)
        found = ChapterClaims.model_validate(content)
    except ValidationError as error:
        raise BadInput(f"{name}: {_first_fault(error, content)}") from None
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise BadInput(f"{name} is not readable YAML: {one_line(error)}") from error
    if f"{found.chapter}.yml" != name:
        raise BadInput(f"{name}: chapter is {found.chapter!r}; accepted: the file's name, {name[:-4]!r}")
    return found


_KEYS = [key for model in (ChapterClaims, Claim, DecidingTest, _Paper, _Budget) for key in model.model_fields]


def _first_fault(error: ValidationError, content: Any) -> str:
    """The first thing that pydantic finds wrong with a file's content, in one line, and how many more there are.

    Entries of lists are named by their ``id`` or ``name``: ``claims.E3.deciding.first.margin``.
    """
    faults = error.errors(include_url=False)
    # an unknown key explains best why another one is missing
    fault = next((each for each in faults if each["type"] == "extra_forbidden"), faults[0])
    place: list[str] = []
    for step in fault["loc"]:
        try:
            content = content[step]
        except (LookupError, TypeError):  # a key that is missing, or pydantic's name for a part of a union
            content = None
        named = content if isinstance(step, int) and isinstance(content, dict) else {}
        place.append(str(named.get("id") or named.get("name") or step))
    kind, told = fault["type"], fault["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        told = f"unknown key; {nearest(place[-1], _KEYS)}"
    elif kind not in ("value_error", "missing"):
        hint = " (in YAML 1.0e-6, not 1e-6)" if kind == "float_type" else ""
        told = f"{told}, found {one_line(repr(fault['input']))[:60]}{hint}"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{'.'.join(place) or 'the file'}: {told}{more}"
