"""The data sets of a chapter, shown on its page and recorded in its result: name, size, source, licence, checksum."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from repro.book._markup import html_table
from repro.book._notebooks import DATA

if TYPE_CHECKING:
    from repro.learn import Dataset


class _Table:
    """Shown as the last line of a cell: a table for the reader, checksums for the result's provenance."""

    def __init__(self, sets: tuple[Dataset, ...]) -> None:
        self._sets = sets

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        rows = [
            (*map(escape, (one.name, one.source, one.licence)), f"<code>{escape(one.checksum[:12])}</code>")
            for one in self._sets
        ]
        return {
            "text/plain": "\n".join(f"{one.name}: sha256 {one.checksum}" for one in self._sets),
            "text/html": html_table(
                "Data sets", ("data set", "source", "licence", "sha256, first digits"), rows
            ),
            DATA: {one.name: one.checksum for one in self._sets},
        }


def table(*sets: Dataset) -> _Table:
    """The data sets that a chapter uses; the cache of runs and the result quote their checksums."""
    return _Table(sets)
