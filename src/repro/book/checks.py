"""Checks of a book's sources that need no run: ``run(book)`` lists what is wrong, each with file and cell."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

from pybtex.database import PybtexError, parse_file  # type: ignore[import-untyped]

from repro.base import nearest
from repro.book._code_checks import Problem, code_problems
from repro.book.claims import ChapterClaims, load
from repro.book.errors import BadInput, BookError
from repro.book.layout import PROFILES, Book
from repro.book.markup import document
from repro.book.notebooks import read_notebook, source_of
from repro.book.parameters import declared, declared_by_page, fill
from repro.book.planning import check_seeds
from repro.book.prose import numbers_typed
from repro.book.results import disagreements, read

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


def run(book: Book) -> list[Problem]:
    """Everything that is wrong with the sources of a book, chapter by chapter; empty when all is well.

    For each chapter: the fixed headings in order; a cell of parameters that begins with ``profile``; the
    kernel ``python3``; no outputs; no number typed into the prose (the rule stands in ``repro.book.prose``);
    alternative text on every image; each deciding test measured or its claim declared not tested, and nothing that
    the file of claims does not have; seeds enough to decide; no long function; committed results that fit their
    claims. For other notebooks: the same as far as it does not concern claims and headings. For all pages: citations
    that exist, images with alternative text.
    """
    check = _Check(book)
    for chapter in book.chapters():
        check.chapter(chapter)
    for page in book.pages():
        check.page(page)
    for file in sorted((book.root / "book").glob("*.md")):
        check.add(file, check.text(file.read_text(encoding="utf-8")))
    return check.problems


class _Check:
    """What was found so far."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.problems: list[Problem] = []
        self.references: list[str] | None = None
        path = book.root / "book" / "references.bib"
        with self.reading(path):
            self.references = _references(path)

    def add(self, file: Path, messages: Iterable[str], cell: int | None = None) -> None:
        name = file.relative_to(self.book.root).as_posix()
        self.problems += [Problem(name, cell, message) for message in messages]

    @contextmanager
    def reading(self, file: Path) -> Iterator[None]:
        """A file that cannot be read is one problem; what needs its content is left out."""
        try:
            yield
        except BookError as error:
            self.add(file, [str(error)])

    def chapter(self, chapter: str) -> None:
        claims: ChapterClaims | None = None
        path = self.book.claims_file(chapter)
        with self.reading(path):
            claims = load(path)
            self.add(path, self.unknown(claims.paper.key, "the key of the paper"))
            for profile in PROFILES:
                self.results(claims, self.book.results_file(chapter, profile))
            check_seeds(claims)
        path = self.book.root / "book" / "chapters" / f"{chapter}.ipynb"
        with self.reading(path):
            notebook = read_notebook(self.book.notebook(chapter))
            for cell, message in _headings(notebook):
                self.add(path, [message], cell)
            self.notebook(path, notebook, _quotable(claims))
            self.problems += code_problems(path.relative_to(self.book.root).as_posix(), notebook, claims)
            parameters = declared(path)
            for profile in PROFILES if claims is not None else ():
                fill(parameters, {"profile": profile}, claims.profiles, f"{chapter}.yml")

    def page(self, page: str) -> None:
        """A notebook that is no chapter."""
        path = self.book.page(page)
        with self.reading(path):
            notebook = read_notebook(path)
            self.notebook(path, notebook, set())
            self.problems += code_problems(f"{page}.ipynb", notebook, None)
            declared_by_page(notebook, f"{page}.ipynb")

    def results(self, claims: ChapterClaims, path: Path) -> None:
        with self.reading(path):
            if path.is_file():
                result = read(path)
                name = f"{result.chapter}.{result.profile}.json"
                wrong = f"holds the result of {result.chapter}, {result.profile}; it should be called {name}"
                self.add(path, disagreements(claims, result) if path.name == name else [wrong])

    def notebook(self, path: Path, notebook: dict[str, Any], quotable: set[float]) -> None:
        """What holds for every notebook: kernel and language, numbers in the prose, images, citations, no outputs."""
        # every machine has this kernel, and nbconvert asks for the ending
        for part, key, accepted in (
            ("kernelspec", "name", "python3"),
            ("language_info", "file_extension", ".py"),
        ):
            if (found := notebook.get("metadata", {}).get(part, {}).get(key)) != accepted:
                self.add(path, [f"{part}.{key} is {found!r}; accepted: {accepted!r}"])
        for index, cell in enumerate(notebook["cells"]):
            if cell.get("cell_type") == "markdown":
                for typed in numbers_typed(source_of(cell), quotable):
                    told = "is typed by hand: it is neither quoted in the claims file nor a threshold there"
                    self.add(path, [f"{typed.text} {told} (“{typed.context}”)"], index)
                self.add(path, self.text(source_of(cell)), index)
            if cell.get("outputs") or cell.get("execution_count") is not None:
                self.add(path, ["outputs are committed; clear them: a run writes them"], index)
            for attached in cell.get("attachments", ()):
                self.add(path, [f"attachment {attached!r}: put the file beside the book"], index)

    def text(self, text: str) -> Iterator[str]:
        """Images without a text, and citations of what is not among the references."""
        for image in document(text)("img"):
            if not str(image.get("alt", "")).strip():
                yield f"the image {str(image.get('src', ''))[:60]!r} has no alternative text"
        for part in ",".join(_CITE.findall(text)).split(","):
            if key := re.sub(r".*<([^<>]+)>\s*$", r"\1", part).strip():
                yield from self.unknown(key, "cited")

    def unknown(self, key: str, what: str) -> Iterator[str]:
        """A key that is not among the references, if these could be read."""
        if self.references is not None and key not in self.references:
            yield f"{key!r} is {what}, but is not in references.bib; {nearest(key, self.references)}"


def _references(path: Path) -> list[str]:
    """The keys of a BibTeX file."""
    if not path.is_file():
        raise BadInput("book/references.bib is missing: the references stand in it")
    try:
        return list(parse_file(str(path)).entries.keys())
    except (PybtexError, UnicodeDecodeError) as error:
        raise BadInput(f"{path.name} is not readable BibTeX: {' '.join(str(error).split())}") from error


def _quotable(claims: ChapterClaims | None) -> set[float]:
    if claims is None:
        return set()
    thresholds = {
        value
        for _, test in claims.deciding()
        for value in (*test.criterion.bounds, *([test.margin] if test.margin else []))
    }
    return thresholds | set(claims.quoted)


def _headings(notebook: dict[str, Any]) -> Iterator[tuple[int | None, str]]:
    """One title, and the fixed headings in their order at the second level; "Differences" holds a numbered list."""
    titles: list[int] = []
    second: list[tuple[int, str]] = []
    numbered: set[str] = set()
    for index, cell in enumerate(notebook["cells"]):
        if cell.get("cell_type") != "markdown":
            continue
        for heading in document(source_of(cell)).find_all(["h1", "h2", "ol"], recursive=False):
            if heading.name == "h1":
                titles.append(index)
            elif heading.name == "h2":
                second.append((index, heading.get_text().strip()))
            elif second:
                numbered.add(second[-1][1])
    if len(titles) != 1:
        yield (titles[1] if titles else None), f"{len(titles)} titles (# ...); accepted: one"
    before = "the title"
    for found, wanted in zip_longest(second, HEADINGS):
        at, title = found or (None, "nothing")
        if title != wanted:
            yield at, f"after {before!r} comes {title!r}; accepted: {wanted or 'nothing'!r}"
            break
        before = title
    if "Differences from the paper" not in numbered:
        yield None, "'Differences from the paper' holds no numbered list"
