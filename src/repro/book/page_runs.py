"""Notebooks of the book that are no chapters: run like one, cached like one, without claims and ledger."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from repro.book import executed, fingerprint, parameters, runner
from repro.book.cache import Cache, run_key
from repro.book.declarations import Value, read_cell
from repro.book.environment import settings
from repro.book.errors import ParameterError
from repro.book.files import sha256, write_atomically
from repro.book.layout import Book
from repro.book.notebooks import read_notebook, source_of
from repro.book.provenance import commit_of

__all__ = ["PageRun", "declared", "run"]

_SECONDS, _MEMORY_MB = 300.0, 1500.0
"""What a page may take; a page shows what is there and computes little."""


@dataclass(frozen=True)
class PageRun:
    """What the run of a page left: where the executed notebook lies, and what it cost."""

    page: str
    notebook: Path
    run: dict[str, Any]
    cached: bool


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
) -> PageRun:
    """Run a page, or take the run from the cache when nothing it depends on has changed.

    It depends on its notebook, its parameters, the library, the packages, the files that parameters name, and
    those of the same name with another ending.

    Args:
        book: the book.
        page: as in the table of contents, e.g. ``book/sweep-report``.
        given: parameters by name.
        output: where the executed notebook goes (default: in ``_build/notebooks``).
        use_cache: take a kept run if there is one; a finished run is kept in any case.

    Raises:
        BadInput: unknown parameter, wrong value, or a broken notebook, before any work is done.
        RunFailed: a cell raised or the kernel died; the attempt is kept beside ``output``.
    """
    path = book.page(page)
    source = read_notebook(path)
    known = declared(source, path.name)
    values = {p.name: p.default for p in known} | parameters.validate(known, given or {})
    parts = _key_parts(book, source, values)
    key = run_key(parts)
    target = output or book.build_dir / "notebooks" / path.name
    cache = Cache(book.cache_dir / "cache")
    kept = cache.get(key) if use_cache else None
    if kept is not None:
        write_atomically(target, kept)
        return PageRun(page, target, json.loads(kept)["metadata"]["repro"]["run"], cached=True)

    notebook, cost, failure = runner.execute(book, path, values, _SECONDS, _MEMORY_MB, source, None)
    executed.clean(notebook)
    if failure is None and (index := executed.stopped_early(notebook)) is not None:
        failure = runner.Failure(
            f"stopped without an error before cell {index + 1}: does a cell call exit()?", None
        )
    notebook["metadata"]["repro"] = {
        "page": page,
        "parameters": values,
        "provenance": {**commit_of(book.root, [path]), **parts},
        "run": cost,
    }
    if failure is not None:
        runner.keep_failed(path.stem, notebook, failure, target.with_suffix(".failed.ipynb"))
    content = runner.as_text(notebook).encode()
    write_atomically(target, content)
    cache.put(key, content)
    return PageRun(page, target, cost, cached=False)


def _key_parts(book: Book, source: Mapping[str, Any], values: Mapping[str, Value]) -> dict[str, Any]:
    """Everything that a page depends on, as hashes and plain values."""
    code = [source_of(cell) for cell in source["cells"] if cell.get("cell_type") == "code"]
    named = [book.root / value for value in values.values() if isinstance(value, str) and value]
    # a table may have its plan beside it, under the same name with another ending
    files = {file for path in named if path.is_file() for file in path.parent.glob(f"{escape(path.stem)}.*")}
    return {
        "notebook": fingerprint.notebook_hash(source),
        "parameters": dict(values),
        "library": fingerprint.library(code),
        "versions": fingerprint.versions(),
        "settings": settings(),
        "files": {file.name: sha256(file.read_bytes()) for file in sorted(files) if file.is_file()},
    }
