"""The data sets of a chapter, shown on its page and recorded in its result: name, size, source, licence, checksum."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from repro.book._markup import html_table
from repro.book._notebooks import DATA

if TYPE_CHECKING:
    from repro.learn import Dataset


def table(*sets: Dataset) -> None:
    """Display the data sets that a chapter uses; the cache of runs and the result quote their checksums."""
    from IPython.display import display

    head = ("data set", "source", "licence", "sha256, first digits")
    rows = [
        (*map(escape, (one.name, one.source, one.licence)), f"<code>{escape(one.checksum[:12])}</code>")
        for one in sets
    ]
    shown = {
        "text/plain": "\n".join(f"{one.name}: sha256 {one.checksum}" for one in sets),
        "text/html": html_table("Data sets", head, rows),
        DATA: {one.name: one.checksum for one in sets},
    }
    display(shown, raw=True)
