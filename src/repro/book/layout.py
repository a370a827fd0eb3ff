"""Where things are in a book: chapters in reading order, claims, results, references, build folder."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import yaml

from repro.book._files import readable
from repro.book.errors import BadInput, known

PROFILES = ("smoke", "quick", "full", "paper")
_CHECKOUT = Path(__file__).resolve().parents[3]  # of an installation with -e; elsewhere no book lies there


@cache
def _note_checkout(here: Path) -> None:
    """Say once which book is used: with two checkouts it may not be the one that was meant."""
    print(
        f"note: no book at or above {here}; using {_CHECKOUT}, from which this library was installed "
        "(REPRO_BOOK or papermill --cwd names another)",
        file=sys.stderr,
    )


def _is_book(folder: Path) -> bool:
    return (folder / "_toc.yml").is_file() and (folder / "book").is_dir()


@dataclass(frozen=True)
class Book:
    """A folder that holds ``_toc.yml`` and ``book/``, and where its parts lie."""

    root: Path
    key: ClassVar[str] = "whatmakes2026"
    """The book's own entry among the references."""

    @classmethod
    def find(cls) -> Book:
        """The book that ``REPRO_BOOK`` (environment) names, or the nearest one at or above the working directory.

        Where that lies in no book, it is the one whose checkout this library was installed from; a note says so.
        That is what lets papermill, which starts kernels wherever it was started itself, run a chapter from any
        folder.

        Raises ``BadInput`` when there is none; the message says what would make one findable.
        """
        if named := os.environ.get("REPRO_BOOK"):
            folder = Path(named).expanduser()
            if not _is_book(folder):
                raise BadInput(f"REPRO_BOOK names {named!r}, which holds no _toc.yml beside a folder book/")
            return cls(folder.resolve())
        here = Path.cwd().resolve()
        for folder in (here, *here.parents):
            if _is_book(folder):
                return cls(folder)
        if _is_book(_CHECKOUT):
            _note_checkout(here)
            return cls(_CHECKOUT)
        raise BadInput(
            f"no book at or above {here}: go to a folder inside the book (the one with _toc.yml and book/), "
            "or set REPRO_BOOK to it, or give papermill --cwd with such a folder"
        )

    @cached_property
    def toc(self) -> list[str]:
        """Every page of the table of contents, in order, as written there."""
        path = self.root / "_toc.yml"
        with readable(path, "the table of contents"):
            events = list(yaml.parse(path.read_text(encoding="utf-8")))
        words = [event.value for event in events if isinstance(event, yaml.ScalarEvent)]
        return [page for key, page in pairwise(words) if key in ("root", "file")]

    def chapters(self) -> list[str]:
        """Names of the chapters: entries of the table of contents under ``book/chapters/``, in order."""
        found = [entry for entry in self.toc if entry.startswith("book/chapters/")]
        return [entry.removeprefix("book/chapters/").removesuffix(".ipynb") for entry in found]

    def chapter(self, name: str) -> str:
        """The chapter's name, from its name or from the path of its notebook; an unknown one is an error."""
        stem = name.removesuffix(".ipynb")
        stem = stem.rsplit("/", 1)[-1] if "chapters/" in stem else stem
        return known("chapter", stem, self.chapters())

    def pages(self) -> list[str]:
        """Notebooks of the table of contents that are no chapters, as written there, in order."""
        entries = [entry.removesuffix(".ipynb") for entry in self.toc if "book/chapters/" not in entry]
        return [entry for entry in entries if (self.root / f"{entry}.ipynb").is_file()]

    def notebook(self, name: str) -> Path:
        """The source notebook of a chapter, or of a page such as ``book/sweep-report``."""
        place = name if name in self.pages() else f"book/chapters/{self.chapter(name)}"
        return self.root / f"{place}.ipynb"

    def claims_file(self, chapter: str) -> Path:
        """The chapter's claims, profiles and budgets, written by hand."""
        return self.root / "book" / "claims" / f"{self.chapter(chapter)}.yml"

    def results_file(self, chapter: str, profile: str) -> Path:
        """The chapter's committed result in one profile, written by a run."""
        return self.root / "book" / "results" / f"{self.chapter(chapter)}.{profile}.json"

    def references(self) -> dict[str, str]:
        """BibTeX by key, from ``book/references.bib``; raises ``BadInput`` when it cannot be read."""
        from pybtex.database import parse_string  # type: ignore[import-untyped]

        path = self.root / "book" / "references.bib"
        with readable(path, "the references, in BibTeX"):
            text = path.read_text(encoding="utf-8")
            keys = list(parse_string(text, "bibtex").entries)
        # as they stand there: written anew, pybtex would take the mathematics of a title for text
        texts = re.findall(r"^@.+?(?=\n^[@%]|\Z)", text, re.MULTILINE | re.DOTALL)
        return dict(zip(keys, map(str.strip, texts), strict=True))

    def parts(self, chapter: str) -> Path:
        """Where a long run of a chapter keeps what is finished until it is whole."""
        return self.cache_dir / "parts" / chapter.replace("-", "_")

    @property
    def build_dir(self) -> Path:
        """What a build makes: executed notebooks, sweeps, pages."""
        return self.root / "_build"

    @property
    def cache_dir(self) -> Path:
        """What lets the next build be quick, and the lock."""
        return self.root / ".repro"
