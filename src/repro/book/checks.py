"""Checks of a book's sources that need no run: ``run(book)`` lists what is wrong, each with file and cell."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from repro.book import cite, parameters
from repro.book.claim_models import ChapterClaims, load
from repro.book.code_checks import Problem, code_problems, page_code_problems
from repro.book.errors import BookError, nearest
from repro.book.layout import PROFILES, Book
from repro.book.markup import parse
from repro.book.notebooks import read_notebook, source_of
from repro.book.parameters import declared, fill
from repro.book.prose import numbers_typed
from repro.book.prose_text import images
from repro.book.results import disagreements, read
from repro.book.verdicts import FEWEST_SEEDS

__all__ = ["HEADINGS", "Problem", "run"]

HEADINGS = (
    "What the paper claims",
    "Why it might be true",
    "Parameters",
    "The method in code",
    "Experiments",
    "Controls",
    "Result against the paper",
    "Differences from the paper",
    "What would change our mind",
    "Exercises",
    "References",
)

_CITE = re.compile(r"\{(?:cite|footcite)(?::\w+)*\}`([^`]+)`")
_LABELLED = re.compile(r"<([^<>]+)>\s*$")


def run(book: Book) -> list[Problem]:
    """Everything that is wrong with the sources of a book, chapter by chapter; empty when all is well.

    For each chapter: the fixed headings in order; a cell of parameters that begins with ``profile``; the
    kernel ``python3``; no outputs; no number typed into the prose (the rule stands in ``repro.book.prose``);
    alternative text on every image; each claim of the file measured or declared not tested, and no other; no
    long function; committed results that fit their claims. For other notebooks: the same as far as it does not
    concern claims and headings. For all pages: citations that exist, images with alternative text.
    """
    problems: list[Problem] = []
    known, trouble = _or_problem("book/references.bib", lambda: cite.keys(book))
    problems += trouble
    for chapter in book.chapters():
        problems += _chapter(book, chapter, known)
    for page in book.pages():
        problems += _page(book, page, known)
    for file in sorted((book.root / "book").glob("*.md")):
        text = file.read_text(encoding="utf-8")
        name = _shown(book, file)
        problems += [Problem(name, None, message) for message in [*_images(text), *_citations(text, known)]]
    return problems


def _shown(book: Book, path: Path) -> str:
    return path.relative_to(book.root).as_posix()


def _or_problem(file: str, make: Callable[[], Any]) -> tuple[Any, list[Problem]]:
    try:
        return make(), []
    except BookError as error:
        return None, [Problem(file, None, str(error))]


def _chapter(book: Book, chapter: str, known: list[str] | None) -> Iterator[Problem]:
    claims_name = _shown(book, book.claims_file(chapter))
    claims, trouble = _or_problem(claims_name, lambda: load(book.claims_file(chapter)))
    yield from trouble
    if claims is not None:
        yield from (Problem(claims_name, None, message) for message in _claims(claims, known))
        for profile in PROFILES:
            path = book.results_file(chapter, profile)
            if path.is_file():
                name = _shown(book, path)
                result, trouble = _or_problem(name, lambda path=path: read(path))  # type: ignore[misc]
                yield from trouble
                if result is not None:
                    yield from (Problem(name, None, message) for message in _result(claims, result, path))
    name = f"book/chapters/{chapter}.ipynb"
    notebook, trouble = _or_problem(name, lambda: read_notebook(book.notebook(chapter)))
    yield from trouble
    if notebook is not None:
        problems = list(notebook_problems(name, notebook, claims, known))
        yield from problems
        # a cell that is missing or begins wrongly has been named already
        if not any("parameter" in problem.message for problem in problems):
            yield from (
                Problem(name, None, message) for message in _parameters(book.notebook(chapter), claims)
            )


def _parameters(notebook: Path, claims: ChapterClaims | None) -> Iterator[str]:
    """Lines of the parameters cell that papermill or a profile could not use."""
    try:
        found = declared(notebook)
        for profile in PROFILES if claims is not None else ():
            fill(found, {"profile": profile}, claims.profiles, notebook.with_suffix(".yml").name)  # type: ignore[union-attr]
    except BookError as error:
        yield str(error)


def _claims(claims: ChapterClaims, known: list[str] | None) -> Iterator[str]:
    if known is not None and claims.paper.key not in known:
        key = claims.paper.key
        yield f"paper.key is {key!r}, which is not in references.bib; {nearest(key, known)}"
    for claim in claims.claims:
        for test in claim.tests:
            if test.min_seeds < (fewest := FEWEST_SEEDS[test.interval]):
                yield (
                    f"claim {claim.id}: test {test.name}: min_seeds is {test.min_seeds}, but {test.interval} "
                    f"gives no 95 % interval below {fewest} seeds"
                )


def _result(claims: ChapterClaims, result: Any, path: Path) -> Iterator[str]:
    expected = f"{result.chapter}.{result.profile}.json"
    if path.name != expected:
        yield f"holds the result of {result.chapter}, {result.profile}; it should be called {expected}"
    else:
        yield from disagreements(claims, result)


def notebook_problems(
    name: str, notebook: dict[str, Any], claims: ChapterClaims | None, known: list[str] | None
) -> Iterator[Problem]:
    """What is wrong with a chapter's notebook; what needs missing claims or references is left out."""
    yield from (Problem(name, cell, message) for cell, message in _headings(_texts(notebook)))
    allowed = set() if claims is None else _quotable(claims)
    yield from _common(name, notebook, allowed, known)
    yield from code_problems(name, notebook, claims)


def _page(book: Book, page: str, known: list[str] | None) -> Iterator[Problem]:
    """A notebook that is no chapter: what holds for every notebook, and parameters that can be read."""
    name = f"{page}.ipynb"
    notebook, trouble = _or_problem(name, lambda: read_notebook(book.page(page)))
    yield from trouble
    if notebook is not None:
        yield from _common(name, notebook, set(), known)
        yield from page_code_problems(name, notebook)
        yield from _or_problem(name, lambda: parameters.declared_by_page(notebook, name))[1]


def _texts(notebook: dict[str, Any]) -> list[tuple[int, str]]:
    cells = enumerate(notebook["cells"])
    return [(index, source_of(cell)) for index, cell in cells if cell.get("cell_type") == "markdown"]


def _common(
    name: str, notebook: dict[str, Any], allowed: set[float], known: list[str] | None
) -> Iterator[Problem]:
    """What holds for every notebook: kernel and language, numbers in the prose, images, citations, no outputs."""
    kernel = notebook.get("metadata", {}).get("kernelspec", {}).get("name")
    if kernel != "python3":
        yield Problem(name, None, f"the kernel is {kernel!r}; accepted: 'python3', which every machine has")
    suffix = notebook.get("metadata", {}).get("language_info", {}).get("file_extension")
    if suffix != ".py":
        told = f"language_info.file_extension is {suffix!r}; accepted: '.py', which nbconvert asks for"
        yield Problem(name, None, told)
    for index, text in _texts(notebook):
        for found in numbers_typed(text, allowed):
            yield Problem(
                name,
                index,
                f"{found.text} is typed by hand: it is neither quoted in the claims file nor a threshold "
                f"there (“{found.context}”)",
            )
        for message in [*_images(text), *_citations(text, known)]:
            yield Problem(name, index, message)
    for index, cell in enumerate(notebook["cells"]):
        if cell.get("outputs") or cell.get("execution_count") is not None:
            yield Problem(name, index, "outputs are committed; clear them: a run writes them")
        if attached := cell.get("attachments"):
            yield Problem(name, index, f"attachment {next(iter(attached))!r}: put the file beside the book")


def _quotable(claims: ChapterClaims) -> set[float]:
    thresholds = {value for claim in claims.claims for test in claim.tests for value in test.thresholds}
    return thresholds | set(claims.quoted)


def _headings(texts: list[tuple[int, str]]) -> Iterator[tuple[int | None, str]]:
    """Each fixed heading once, in order, at the second level, under one title; "Differences" holds a list."""
    found: list[tuple[int, str, str]] = []
    numbered: set[str] = set()
    for index, text in texts:
        tokens = parse(text)
        for position, token in enumerate(tokens):
            if token.type == "heading_open":
                found.append((index, token.tag, tokens[position + 1].content.strip()))
            elif token.type == "ordered_list_open" and (above := [t for _, tag, t in found if tag == "h2"]):
                numbered.add(above[-1])
    titles = [index for index, tag, _ in found if tag == "h1"]
    if len(titles) != 1:
        yield (titles[1] if titles else None), f"{len(titles)} titles (# ...); accepted: one"
    second = [(index, title) for index, tag, title in found if tag == "h2"]
    names = [title for _, title in second]
    for title in HEADINGS:
        if title not in names:
            yield None, f"the heading '## {title}' is missing"
    for position, (index, title) in enumerate(second):
        if title not in HEADINGS:
            yield index, f"the heading '## {title}' is none of the fixed ones; {nearest(title, HEADINGS)}"
        elif title in names[:position]:
            yield index, f"the heading '## {title}' stands {names.count(title)} times; accepted: once"
    fixed = [(index, title) for index, title in second if title in HEADINGS and names.count(title) == 1]
    for (_, before), (index, after) in pairwise(fixed):
        if HEADINGS.index(before) > HEADINGS.index(after):
            yield index, f"the heading '## {after}' must come before '## {before}'"
    if "Differences from the paper" in names and "Differences from the paper" not in numbered:
        yield None, "'Differences from the paper' holds no numbered list"


def _images(text: str) -> Iterator[str]:
    for source, alt in images(parse(text)):
        if not alt.strip():
            yield f"the image {source[:60]!r} has no alternative text"


def _citations(text: str, known: list[str] | None) -> Iterator[str]:
    if known is None:
        return
    for role in _CITE.findall(text):
        for part in role.split(","):
            named = _LABELLED.search(part)
            key = (named.group(1) if named else part).strip()
            if key not in known:
                yield f"{key!r} is cited, but is not in references.bib; {nearest(key, known)}"
