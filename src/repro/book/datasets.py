"""The data sets of a chapter, shown on its page and recorded in its result: name, size, source, licence, checksum."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from repro.book.notebooks import DATA

if TYPE_CHECKING:
    from repro.learn import Dataset

__all__ = ["table"]


class _Table:
    """Shown as the last line of a cell: a table for the reader, checksums for the result's provenance."""

    def __init__(self, sets: tuple[Dataset, ...]) -> None:
        self._sets = sets

    def __repr__(self) -> str:
        return "\n".join(f"{one.name}: sha256 {one.checksum}" for one in self._sets)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        head = "".join(
            f'<th scope="col">{t}</th>' for t in ("data set", "source", "licence", "sha256, first digits")
        )
        rows = "".join(
            f'<tr><th scope="row">{escape(one.name)}</th><td>{escape(one.source)}</td><td>{escape(one.licence)}</td>'
            f"<td><code>{escape(one.checksum[:12])}</code></td></tr>"
            for one in self._sets
        )
        return {
            "text/plain": repr(self),
            "text/html": f'<table class="dataframe"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>',
            DATA: {one.name: one.checksum for one in self._sets},
        }


def table(*sets: Dataset) -> _Table:
    """The data sets that a chapter uses; the cache of runs and the result quote their checksums."""
    return _Table(sets)
