"""BibTeX entries of the papers that a chapter builds on, from ``book/references.bib``."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from pybtex.database import BibliographyData, PybtexError, parse_file  # type: ignore[import-untyped]

from repro.book.errors import BadInput, nearest
from repro.book.layout import Book

__all__ = ["bibtex", "keys"]


@cache
def _entries(path: Path, changed: float) -> Any:
    try:
        return parse_file(str(path)).entries
    except (PybtexError, UnicodeDecodeError) as error:
        raise BadInput(f"{path.name} is not readable BibTeX: {' '.join(str(error).split())}") from error


def _read(book: Book) -> Any:
    path = book.root / "book" / "references.bib"
    if not path.is_file():
        raise BadInput("book/references.bib is missing: the references stand in it")
    return _entries(path, path.stat().st_mtime)


def keys(book: Book) -> list[str]:
    """The keys of all references of the book. Raises ``BadInput`` for a missing or broken file."""
    return list(_read(book).keys())


def bibtex(*wanted: str, book: Book | None = None) -> str:
    """The BibTeX entries of these keys, ready to paste. Raises ``BadInput`` for an unknown key."""
    entries = _read(book or Book.find())
    for key in wanted:
        if key not in entries:
            raise BadInput(f"there is no reference {key!r}; {nearest(key, entries.keys())}")
    return str(BibliographyData({key: entries[key] for key in wanted}).to_string("bibtex"))
