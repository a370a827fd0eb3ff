"""Notebooks of the book that are no chapters: run like one, cached like one, without claims and ledger."""

from __future__ import annotations

from collections.abc import Mapping
from glob import escape
from pathlib import Path
from typing import Any

from repro.book import parameters, runner
from repro.book.cache import key_parts
from repro.book.declarations import Value, read_cell
from repro.book.errors import ParameterError
from repro.book.files import sha256
from repro.book.layout import Book
from repro.book.notebooks import read_notebook, source_of

__all__ = ["declared", "run"]

_SECONDS, _MEMORY_MB = 300.0, 1500.0
"""What a page may take; a page shows what is there and computes little."""


def declared(notebook: Mapping[str, Any], name: str) -> list[parameters.Parameter]:
    """The parameters of a page's notebook, in order; none without a cell tagged ``parameters``."""
    cells = [cell for cell in notebook["cells"] if "parameters" in cell.get("metadata", {}).get("tags", [])]
    if len(cells) > 1:
        raise ParameterError(f"{name} may have one cell tagged 'parameters', it has {len(cells)}")
    try:
        return [parameter for cell in cells for parameter in read_cell(source_of(cell))]
    except ParameterError as error:
        raise ParameterError(f"{name}: {error}") from None


def run(
    book: Book,
    page: str,
    given: Mapping[str, object] | None = None,
    *,
    output: Path | None = None,
    use_cache: bool = True,
) -> runner.RunResult:
    """Run a page, or take the run from the cache when nothing it depends on has changed.

    It depends on its code, its parameters, the library, the packages, the files that parameters name, and
    those of the same name with another ending.

    Args:
        book: the book.
        page: as in the table of contents, e.g. ``book/sweep-report``.
        given: parameters by name.
        output: where the executed notebook goes (default: in ``_build/notebooks``).
        use_cache: take a kept run if there is one; a finished run is kept in any case, if it can be.

    Raises:
        BadInput: unknown parameter, wrong value, or a broken notebook, before any work is done.
        RunFailed: a cell raised or the kernel died; the attempt is kept beside ``output``.
    """
    path = book.page(page)
    source = read_notebook(path)
    known = declared(source, path.name)
    values = {p.name: p.default for p in known} | parameters.validate(known, given or {})
    return runner.kept_or_run(
        book,
        path,
        source,
        output or book.build_dir / "notebooks" / path.name,
        key_parts(source, values, None, _files(book, values)),
        about={"page": page},
        seconds=_SECONDS,
        memory_mb=_MEMORY_MB,
        use_cache=use_cache,
    )


def _files(book: Book, values: Mapping[str, Value]) -> dict[str, str]:
    """Checksums of the files that parameters name, and of those beside them."""
    named = [book.root / value for value in values.values() if isinstance(value, str) and value]
    # a table may have its plan beside it, under the same name with another ending
    files = {file for path in named if path.is_file() for file in path.parent.glob(f"{escape(path.stem)}.*")}
    return {file.name: sha256(file.read_bytes()) for file in sorted(files) if file.is_file()}
