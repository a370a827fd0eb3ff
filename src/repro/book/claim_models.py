"""The file of claims, ``book/claims/CHAPTER.yml``: its shape, checked when it is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, Field, FiniteFloat, ValidationError, model_validator

from repro.base import nearest
from repro.book.errors import BadInput
from repro.book.layout import PROFILES
from repro.book.verdicts import Criterion

__all__ = ["ChapterClaims", "Claim", "ClaimTest", "first_fault", "load"]

_Profile = Literal["smoke", "quick", "paper"]
_Text = Annotated[str, Field(min_length=1, pattern=r"\S")]
_Value = bool | int | float | str
_ARXIV = r"^(\d{4}\.\d{4,5}|[a-z-]+(\.[A-Z]{2})?/\d{7})(v\d+)?$"
_T = TypeVar("_T")


class _Strict(BaseModel):
    model_config = Criterion.model_config


class _Paper(_Strict):
    """The paper that a chapter reruns; ``key`` is its entry in the list of references."""

    title: _Text
    authors: _Text
    arxiv: Annotated[str, Field(pattern=_ARXIV)] | None = None
    key: Annotated[str, Field(pattern=r"^[^\s,{}]+$")]


class _Budget(_Strict):
    """What a run of a profile may use."""

    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    memory_mb: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ClaimTest(Criterion):
    """One test of a claim: a number per seed, and the side of a threshold on which the claim puts it."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    metric: _Text
    reason: _Text
    profiles: list[Literal["quick", "paper"]] = Field(default=["quick", "paper"])
    otherwise: _Text | None = None

    @model_validator(mode="after")
    def _explained(self) -> Self:
        if len(set(self.profiles)) < 2 and self.otherwise is None:
            told = "accepted: a reason why the other profiles cannot run this test"
            raise ValueError(f"profiles is {self.profiles} without otherwise; {told}")
        return self


class Claim(_Strict):
    """One claim of the paper (or a control of our own), in Markdown that may hold mathematics."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]*$")]
    statement: _Text
    where: _Text
    kind: Literal["theory", "empirical", "control"]
    paper_value: _Text | FiniteFloat | None = None
    paper_value_is: _Text | None = None
    tests: Annotated[list[ClaimTest], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.paper_value is not None and self.paper_value_is is None:
            told = "paper_value_is; accepted: what kind of number it is"
            raise ValueError(f"paper_value is {self.paper_value!r} without {told}")
        _unique("test name", [test.name for test in self.tests])
        return self

    def test(self, name: str) -> ClaimTest:
        """The test of this name; an unknown one is an error with the nearest."""
        return _named(f"claim {self.id} has no test", name, {test.name: test for test in self.tests})


class ChapterClaims(_Strict):
    """All that ``book/claims/CHAPTER.yml`` says: paper, profiles, budgets, claims, quotable numbers."""

    chapter: _Text
    paper: _Paper
    budget: Annotated[dict[_Profile, _Budget], Field(min_length=len(PROFILES))]
    profiles: Annotated[dict[_Profile, dict[str, _Value]], Field(min_length=len(PROFILES))]
    quoted: list[FiniteFloat] = []
    claims: Annotated[list[Claim], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = {name for values in self.profiles.values() for name in values}
        for profile, values in self.profiles.items():
            if missing := sorted(names - set(values)):
                told = f"accepted: every name in all of {', '.join(PROFILES)}"
                raise ValueError(f"profile {profile} has no value for {', '.join(missing)}; {told}")
        _unique("claim id", [claim.id for claim in self.claims])
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
        return _named(f"{self.chapter} has no claim", claim_id, {claim.id: claim for claim in self.claims})


def _named(none: str, name: str, known: dict[str, _T]) -> _T:
    if name not in known:
        raise BadInput(f"{none} {name!r}; {nearest(name, known)}")
    return known[name]


def _unique(what: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{what} {twice[0]!r} stands twice; accepted: every {what} once")


class _Loader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys; here that is an error."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for place, key in enumerate(keys):
            if key.value in [before.value for before in keys[:place]]:
                raise yaml.YAMLError(
                    f"line {key.start_mark.line + 1}: the key {key.value!r} stands twice in one mapping"
                )
        return node


def load(path: Path | str) -> ChapterClaims:
    """Read and check a file of claims.

    Raises ``BadInput``: one line that names the file, the claim, the field, the value, and what is accepted.
    """
    path = Path(path)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
        found = ChapterClaims.model_validate(content)
    except FileNotFoundError:
        raise BadInput(f"book/claims/{path.name} is missing: a chapter needs its file of claims") from None
    except OSError as error:
        raise BadInput(f"{path.name} could not be read: {error.strerror or error}") from error
    except ValidationError as error:
        raise BadInput(f"{path.name}: {first_fault(error, content, _KEYS)}") from None
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise BadInput(f"{path.name} is not readable YAML: {' '.join(str(error).split())}") from error
    if found.chapter != path.stem:
        raise BadInput(f"{path.name}: chapter is {found.chapter!r}; accepted: the file's name, {path.stem!r}")
    return found


_KEYS = [key for model in (ChapterClaims, Claim, ClaimTest, _Paper, _Budget) for key in model.model_fields]


def first_fault(error: ValidationError, content: Any, keys: Sequence[str] = ()) -> str:
    """The first thing that pydantic finds wrong with a file's content, in one line, and how many more there are.

    Entries of lists are named by their ``id`` or ``name``: ``claims.E3.tests.first.threshold``. ``keys`` are
    those that an unknown one is compared with.
    """
    faults = error.errors(include_url=False)
    # an unknown key explains best why another one is missing
    fault = next((each for each in faults if each["type"] == "extra_forbidden"), faults[0])
    place: list[str] = []
    for step in fault["loc"]:
        if isinstance(content, dict | list) and step != "[key]":
            try:
                content = content[step]  # type: ignore[index]
            except (LookupError, TypeError):
                content = None
            named = content if isinstance(step, int) and isinstance(content, dict) else {}
            place.append(str(named.get("id") or named.get("name") or step))
        # what remains are pydantic's names for the parts of a union: not a part of the file
    kind, told = fault["type"], fault["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        told = f"unknown key; {nearest(place[-1], keys)}"
    elif kind not in ("missing", "value_error"):
        hint = " (in YAML 1.0e-6, not 1e-6)" if kind == "float_type" else ""
        told = f"found {' '.join(repr(fault['input']).split())[:60]}; {told}{hint}"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{'.'.join(place) or 'the file'}: {told}{more}"
