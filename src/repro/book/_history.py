"""Proof from git that a committed result may count: what it judged was fixed before its run, and its seeds were new.

An answer that cannot be proved is shown as exploratory. What was run and never committed, git cannot show.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import Any

from repro.book._environment import git
from repro.book.claims import FIRST_SEEDS, ChapterClaims, load, parsed
from repro.book.errors import BadInput
from repro.book.layout import PROFILES, Book
from repro.book.results import Results, read

_Then = ChapterClaims | str  # the claims at a commit, or why they cannot be read


def doubts(book: Book, results: Results) -> dict[str, str]:
    """Why answers of a result may not count, by claim id; a reason that concerns the whole run stands at every claim.

    Empty when all is proved. Where git cannot tell (a shallow clone, no repository), what the result says of itself
    must do.
    """
    now = load(book.claims_file(results.chapter))
    reason = _against_the_run(book.root, results)
    if reason or _blind(book.root):
        return {claim.id: reason for claim in now.claims if reason}
    known = _known_before(book.root, results)
    found = {claim.id: _against_the_claim(claim.id, results.profile, now, known) for claim in now.claims}
    return {claim: told for claim, told in found.items() if told}


def report(book: Book) -> tuple[list[str], int]:
    """A line for each doubt, and for each result that is proved; and how many doubts are a failure.

    Results from planning seeds are exploratory anyway: that is said, and no failure.
    """
    if blind := _blind(book.root):
        return [f"cannot look: {blind}"], 0
    lines, failures = [], 0
    for path in (book.results_file(c, profile) for c in book.chapters() for profile in PROFILES[1:]):
        if not path.is_file():
            continue
        try:
            results = read(path)
            found, counts = doubts(book, results), not results.exploratory
        except BadInput as error:
            found, counts = {"all": str(error)}, True
        for reason in dict.fromkeys(found.values()):
            claims = ", ".join(claim for claim, told in found.items() if told == reason)
            lines.append(f"{path.name}: {claims}: {reason}")
            failures += counts
        if not found:
            lines.append(f"{path.name}: proved: {_commit(results)[:10]} is clean, and came after its claims")
    return lines, failures


def _blind(root: Path) -> str | None:
    """Why git cannot tell what was before; None where it can."""
    shallow = git(root, "rev-parse", "--is-shallow-repository")
    if shallow is None:
        return "there is no git, or no repository"
    return "this is a shallow clone; git fetch --unshallow brings the rest" if shallow == "true" else None


def _commit(results: Results) -> str:
    """The full hash of its commit; empty where there is none, as a name such as HEAD would prove nothing."""
    commit = str(results.provenance.get("commit"))
    return commit if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", commit) else ""


def _against_the_run(root: Path, results: Results) -> str:
    """What speaks against all of a result: what it says of itself, and its commit with the claims there."""
    seed, block, commit = results.seed, FIRST_SEEDS[results.profile], _commit(results)
    if results.exploratory:
        return f"seeds from {seed} are for planning"
    if seed not in block:
        return f"seeds from {seed} are not for {results.profile}; accepted: {block.start} to {block[-1]}"
    if not commit:
        return "it names no commit"
    if results.provenance.get("dirty") is not False:
        return f"it was not made from a clean tree: files differed from commit {commit[:10]}"
    if _blind(root):
        return ""
    if git(root, "merge-base", "--is-ancestor", commit, "HEAD") is None:
        return f"its commit {commit[:10]} is no ancestor of what is checked out"
    then = _claims_at(root, commit, results.chapter)
    if isinstance(then, str):
        return then
    sizes, used = then.profiles[results.profile], results.provenance["parameters"]
    by_hand = [f"{name} was {used[name]}" for name in sizes if used.get(name, sizes[name]) != sizes[name]]
    return f"{', '.join(by_hand)}, not as in the file of claims at {commit[:10]}" if by_hand else ""


def _against_the_claim(claim: str, profile: str, now: ChapterClaims, known: Mapping[str, _Then]) -> str:
    """What is no longer as it was when its run began, or when others had seen its seeds."""
    for when, then in known.items():
        if changed := then if isinstance(then, str) else _changed(claim, profile, now, then):
            return f"not as at {when}: {changed}"
    return ""


def _changed(claim: str, profile: str, now: ChapterClaims, then: ChapterClaims) -> str:
    """What a claim says otherwise than then, in the deciding tests of this profile too, and what makes it easier."""
    if claim not in [one.id for one in then.claims]:
        return "the claim is new"
    today, before = now.claim(claim).fixed(profile), then.claim(claim).fixed(profile)
    if changed := [name for name in before | today if before.get(name) != today.get(name)]:
        return ", ".join(changed)
    family = now.family(profile)
    gone = [f"{c} {test}" for c, test in then.family(profile) if (c, test) not in family]
    corrected = claim in [c for c, _ in family]
    return f"the correction over all tests was stricter, with {', '.join(gone)}" if gone and corrected else ""


def _known_before(root: Path, results: Results) -> dict[str, _Then]:
    """The claims at the result's commit, and those by which committed runs judged some of its seeds, by when it was.

    All versions of all profiles count, on merged branches too. A run whose tree was not clean, or whose commit is
    gone, may have judged what was committed with it.
    """
    own = _commit(results)
    found = {f"its run at {own[:10]}": _claims_at(root, own, results.chapter)}
    for committed, _, blob in _versions(root, f"{results.chapter}.*"):
        other = _at(root, blob)
        if other is None or not set(_seeds(other)).intersection(_seeds(results)):
            continue
        for each in (_commit(other), committed):
            then = _claims_at(root, each, results.chapter)
            if isinstance(then, ChapterClaims) or each == committed:
                found[f"a committed run with these seeds, {each[:10]}"] = then
            if isinstance(then, ChapterClaims) and other.provenance.get("dirty") is False:
                break
    return found


def _versions(root: Path, names: str) -> Iterator[tuple[str, str, str]]:
    """All committed versions of results, the newest first: commit, when, and blob."""
    options = ("--full-history", "--raw", "--no-abbrev", "--no-renames", "--format=%H %cI")
    committed = when = ""
    for line in (git(root, "log", *options, "--", f"./book/results/{names}") or "").splitlines():
        if line.startswith(":"):
            yield committed, when, line.split()[3]
        elif line:
            committed, when = line.split()


def changes(book: Book, results: Iterable[Results]) -> list[dict[str, Any]]:
    """How the answers of each chapter and profile changed, the newest first; without git, those that are there.

    Each has ``chapter``, ``profile``, ``when``, ``version`` (of the result, a short hash), ``words`` (claim to the
    answer before, which may be empty, and after), and whether it is the ``first``.
    """
    versions = () if _blind(book.root) else _versions(book.root, "*.json")
    blobs = [(when, blob[:10], _at(book.root, blob)) for _, when, blob in versions][::-1]
    here = [(str(each.run.get("finished")), _commit(each)[:10], each) for each in results]
    found, known = [], defaultdict[tuple[str, str], dict[str, str]](dict)
    for when, version, each in sorted(blobs or here, key=itemgetter(0)):
        if each is None:
            continue
        now, was = {name: one.word for name, one in each.claims.items()}, known[each.chapter, each.profile]
        known[each.chapter, each.profile] = now
        words = {claim: (was.get(claim, ""), word) for claim, word in now.items() if was.get(claim) != word}
        about = {"chapter": each.chapter, "profile": each.profile, "when": when, "version": version}
        found += [{**about, "words": words, "first": not was}] * bool(words)
    return found[::-1]


def _seeds(results: Results) -> range:
    """The seeds of a run: from its first one on, as many as the most values of a test."""
    return range(results.seed, results.seed + max([1, *map(len, results.values.values())]))


@cache
def _at(root: Path, blob: str) -> Results | None:
    """A committed result; None where it was deleted, or is of a form that had no judging seeds."""
    try:
        return Results.model_validate(json.loads(git(root, "cat-file", "blob", blob) or ""))
    except ValueError:
        return None


@cache
def _claims_at(root: Path, commit: str, chapter: str) -> _Then:
    """The file of claims at a commit, or why it cannot be read."""
    text = git(root, "show", f"{commit}:./book/claims/{chapter}.yml") if commit else None  # ":" is the index
    if text is None:
        return f"commit {commit[:10]} has no file of claims"
    try:
        return parsed(text, f"{chapter}.yml")
    except BadInput as error:
        return f"at commit {commit[:10]} the claims cannot be read: {error}"
