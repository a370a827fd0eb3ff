"""A new chapter: notebook, claims, package, tests and a page of the library, and a line wherever chapters are listed.

The skeleton is a small experiment that runs and is judged, so that every check passes before the author has begun.
Its files lie in ``templates/new`` as they will lie in the book.
"""

from __future__ import annotations

import re
from keyword import iskeyword
from pathlib import Path

from repro.book._environment import repository_url
from repro.book._files import write_atomically
from repro.book._markup import rendered
from repro.book._pages import write_readme
from repro.book.claims import load
from repro.book.errors import BadInput
from repro.book.layout import Book

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST = 40  # so that no line of the skeleton becomes too long
_TEMPLATES = Path(__file__).with_name("templates")


def new(book: Book, name: str) -> list[Path]:
    """Write the skeleton of a chapter called ``name`` and list it; returns the files that are new.

    No file is overwritten. Where it is interrupted, the same call goes on.

    Raises ``BadInput``, before anything is written: a name that is none for a chapter and a package, or is taken.
    """
    package = name.replace("-", "_")
    if not _NAME.fullmatch(name) or len(name) > _LONGEST or iskeyword(package):
        told = f"small letters, digits and single hyphens, up to {_LONGEST}, and no word of Python's, as my-paper"
        raise BadInput(f"a chapter cannot be called {name!r}; accepted: {told}")
    if name in book.chapters():
        raise BadInput(f"there is a chapter {name!r} already")
    files = _skeleton(book, name, package)
    for path, text in files.items():  # one that is as it would be was left by a call that was interrupted
        if path.exists() and (not path.is_file() or path.read_text(encoding="utf-8") != text):
            raise BadInput(f"{path.relative_to(book.root).as_posix()} is there already; choose another name")
    for path, text in (files | _listed(book, name, package)).items():
        write_atomically(path, text)
    write_readme(Book(book.root))
    return list(files)


def _skeleton(book: Book, name: str, package: str) -> dict[Path, str]:
    """The new files, by their place."""
    given = {"name": name, "package": package, "title": _title(name), "repository": repository_url(book.root)}
    files: dict[Path, str] = {}
    for template in sorted((_TEMPLATES / "new").rglob("*.jinja")):
        place = template.relative_to(_TEMPLATES / "new").as_posix().removesuffix(".jinja")
        place = place.replace("PACKAGE", package).replace("NAME", name)
        files[book.root / place] = f"{rendered(template.relative_to(_TEMPLATES).as_posix(), **given)}\n"
    return files


def _title(name: str) -> str:
    return name.replace("-", " ").capitalize()


def _listed(book: Book, name: str, package: str) -> dict[Path, str]:
    """The files that list chapters, with the new one after the last that reruns a paper; the table of contents ends.

    With that the chapter is there: as long as it is not, the same call may be made again.
    """
    papers = [chapter for chapter in book.chapters() if load(book.claims_file(chapter)).paper]
    last = papers[-1]
    row = f"| [`repro.papers.{package}`](api/{name}.md) | what the chapter {_title(name)} runs |"
    pages, references = book.root / "book" / "api.md", book.root / "book" / "references.bib"
    contents = book.root / "_toc.yml"
    listed, known = contents.read_text(encoding="utf-8"), references.read_text(encoding="utf-8")
    for folder in ("chapters", "api"):
        listed = _after(listed, f"book/{folder}/{last}", f"book/{folder}/{name}", contents.name)
    entry = f"\n{rendered('reference.bib', name=name)}\n"
    return {
        pages: _after(pages.read_text(encoding="utf-8"), f"api/{last}.md", row, pages.name),
        references: known if entry in known else known.rstrip("\n") + "\n" + entry,
        contents: listed,
    }


def _after(text: str, last: str, new: str, where: str) -> str:
    """The text with another line after the one that holds ``last``: ``new``, or that line with ``new`` in its place."""
    lines = text.splitlines()
    found = next((k for k, line in enumerate(lines) if re.search(rf"{re.escape(last)}(?![\w-])", line)), None)
    if found is None:
        raise BadInput(f"{where} has no line with {last}, for the new one to stand after")
    line = new if new.startswith("|") else lines[found].replace(last, new)
    return "\n".join([*lines[: found + 1], *[line] * (line not in lines), *lines[found + 1 :]]) + "\n"
