"""The references of the book: BibTeX of a paper, of a method, of the book itself."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pybtex.database import PybtexError, parse_file  # type: ignore[import-untyped]

from repro.book.claims import load
from repro.book.errors import BadInput, known
from repro.book.layout import Book

BOOK = "whatmakes2026"
"""The key of the book's own entry."""


def entries(book: Book) -> dict[str, str]:
    """BibTeX by key, from ``book/references.bib``; raises ``BadInput`` when it cannot be read."""
    path = book.root / "book" / "references.bib"
    if not path.is_file():
        raise BadInput("book/references.bib is missing: the references stand in it")
    try:
        keys = list(parse_file(str(path)).entries)
    except (PybtexError, UnicodeDecodeError) as error:
        raise BadInput(f"{path.name} is not readable BibTeX: {' '.join(str(error).split())}") from error
    # as they stand there: written anew, pybtex would take the mathematics of a title for text
    texts = re.findall(r"^@.+?(?=\n^[@%]|\Z)", path.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return dict(zip(keys, map(str.strip, texts), strict=True))


def cited(book: Book, name: str, methods: Mapping[str, str]) -> str:
    """The BibTeX of what has this name: a method (``methods`` has their keys), a chapter, or ``book``.

    A chapter stands for its paper, and for the book where it has none. Raises ``BadInput`` for another name.
    """
    keys = {"book": BOOK} | {label.lower(): key for label, key in methods.items() if key}
    for chapter in book.chapters():
        paper = load(book.claims_file(chapter)).paper
        keys[chapter] = paper.key if paper else BOOK
    return entries(book)[keys[known("method or chapter", name.lower(), keys)]]
