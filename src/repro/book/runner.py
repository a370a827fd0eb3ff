"""One chapter or page, one run, one result: taken from the cache, or made in a process of its own.

An executed notebook is kept only when everything went well. A failed run leaves its notebook, with the reason in the
cell that failed, beside the last good one and never in its place.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from glob import escape
from pathlib import Path
from typing import Any

from repro.book import claims, ledger, parameters
from repro.book.cache import commit_of, data_files, keep, kept, key_parts, library_files, run_key
from repro.book.errors import BookError
from repro.book.files import sha256, shown, try_writing, write_atomically
from repro.book.layout import Book
from repro.book.notebooks import (
    clean,
    data_shown,
    heading_of,
    laid_over,
    ledger_shown,
    mark_failure,
    read_notebook,
    stopped_early,
)
from repro.book.process import Failure, Progress, execute

__all__ = ["RunResult", "kept_or_run", "run", "run_page"]

_PAGE_SECONDS, _PAGE_MEMORY_MB = 900.0, 4000.0
"""What a page may take that is no chapter; it shows what is there and computes little."""


@dataclass(frozen=True)
class RunResult:
    """What a run left: where the executed notebook lies, what its ledger holds, where it comes from, what it cost.

    A page has its place in the table of contents for a chapter's name, no profile and no ledger.
    """

    chapter: str
    profile: str
    notebook: Path
    ledger: dict[str, Any] | None
    provenance: dict[str, Any]
    run: dict[str, Any]
    cached: bool


def run(
    book: Book,
    chapter: str,
    given: Mapping[str, object] | None = None,
    *,
    output: Path | None = None,
    use_cache: bool = True,
    timeout: float | None = None,
    memory_mb: float | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Run a chapter, or take the run from the cache when nothing it depends on has changed.

    Args:
        book: the book.
        chapter: its name.
        given: parameters by name, ``profile`` among them; checked before a kernel starts.
        output: folder for the executed notebook, ``CHAPTER.PROFILE.ipynb`` (default: ``_build/notebooks``).
        use_cache: take a kept run if there is one; a finished run is kept in any case, if it can be.
        timeout: seconds after which the run is stopped, instead of the profile's budget.
        memory_mb: megabytes of memory at which it is stopped, instead of the profile's budget.
        progress: called with the number of code cells begun and their total.

    Raises:
        BadInput: unknown chapter, parameter, value, or a broken file, before any work is done.
        BudgetExceeded: more seconds or memory than the profile allows.
        RunFailed: a cell raised, the kernel died, or the chapter showed no ledger of its own.
        RunLost: the kernel or its process was killed, or the kernel never started.
        DiskFull: there was no room to write.
    """
    chapter = book.chapter(chapter)
    path, claims_file = book.notebook(chapter), book.claims_file(chapter)
    found = claims.load(claims_file)
    values = parameters.fill(parameters.declared(path), given or {}, found.profiles, claims_file.name)
    profile = str(values["profile"])
    budget = found.budget[profile]  # type: ignore[index]
    source = read_notebook(path)
    return kept_or_run(
        book,
        path,
        source,
        (output or book.build_dir / "notebooks") / f"{chapter}.{profile}.ipynb",
        key_parts(source, values, found, data_files()),
        about={"chapter": chapter, "profile": profile},
        claims_of=found,
        seconds=timeout or budget.seconds,
        memory_mb=memory_mb or budget.memory_mb,
        use_cache=use_cache,
        progress=progress,
    )


def run_page(
    book: Book,
    page: str,
    given: Mapping[str, object] | None = None,
    *,
    output: Path | None = None,
    use_cache: bool = True,
) -> RunResult:
    """Run a notebook of the book that is no chapter, as ``run`` does; it has no claims and no ledger.

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
    known = parameters.declared_by_page(source, path.name)
    values = {p.name: p.default for p in known} | parameters.validate(known, given or {})
    named = [book.root / value for value in values.values() if isinstance(value, str) and value]
    # a table may have its plan beside it, under the same name with another ending
    files = {file for one in named if one.is_file() for file in one.parent.glob(f"{escape(one.stem)}.*")}
    return kept_or_run(
        book,
        path,
        source,
        output or book.build_dir / "notebooks" / path.name,
        key_parts(
            source, values, None, {p.name: sha256(p.read_bytes()) for p in sorted(files) if p.is_file()}
        ),
        about={"page": page},
        seconds=_PAGE_SECONDS,
        memory_mb=_PAGE_MEMORY_MB,
        use_cache=use_cache,
    )


def kept_or_run(
    book: Book,
    path: Path,
    source: dict[str, Any],
    target: Path,
    parts: Mapping[str, Any],
    *,
    about: Mapping[str, str],
    claims_of: claims.ChapterClaims | None = None,
    seconds: float,
    memory_mb: float,
    use_cache: bool,
    progress: Progress | None = None,
) -> RunResult:
    """Take the run of a notebook from the cache, or run it and keep it; write it to ``target`` in either case.

    What is written is the notebook as it is now, with the outputs of the run laid over it.

    Args:
        book: the book.
        path: the notebook, and ``source`` its content.
        target: where the executed notebook goes; a failed one is kept beside it.
        parts: what the run depends on, from ``cache.key_parts``, its parameters among them.
        about: the chapter and the profile, or the page, for the notebook's metadata.
        claims_of: the chapter's claims; None for a page, which shows no ledger.
        seconds: the budget, and ``memory_mb`` the other half of it.
        use_cache: take a kept run if there is one.
        progress: called with the number of code cells begun and their total.
    """
    cache, key = book.cache_dir / "cache", run_key(parts)
    before = kept(cache, key) if use_cache else None
    if before is None:
        try_writing(target)
        budget = (seconds, memory_mb)
        notebook = _made(book, path, source, target, parts, about, claims_of, budget, progress)
    else:
        notebook = json.loads(before)
    show = None if claims_of is None else partial(ledger.shown, claims_of)
    write_atomically(target, _as_text(laid_over(source, notebook, show)))
    if before is None:
        try:
            keep(cache, key, _as_text(notebook).encode())
        except BookError as error:
            print(f"note: the run is not kept for another time: {error}", file=sys.stderr)
    done = notebook["metadata"]["repro"]
    return RunResult(
        about.get("chapter") or about["page"],
        about.get("profile", ""),
        target,
        ledger_shown(notebook),
        done["provenance"],
        done["run"],
        before is not None,
    )


def _made(
    book: Book,
    path: Path,
    source: dict[str, Any],
    target: Path,
    parts: Mapping[str, Any],
    about: Mapping[str, str],
    claims_of: claims.ChapterClaims | None,
    budget: tuple[float, float],
    progress: Progress | None,
) -> dict[str, Any]:
    """The notebook of a new run, with what it depends on and what it cost; one that failed is kept, and raised."""
    values = parts["parameters"]
    notebook, cost, failure = execute(book, path, source, values, *budget, progress)
    clean(notebook)
    failure = failure or _unsound(notebook, about, claims_of)
    files = [path, *library_files(source)] + ([book.claims_file(about["chapter"])] if claims_of else [])
    provenance = {
        **commit_of(book.root, files),
        **{name: parts[name] for name in ("library", "code", "parameters", "versions")},
        # no paths of this machine
        "settings": {name: value.rpartition("/")[2] for name, value in parts["settings"].items()},
        "data": data_shown(notebook) | parts["files"],
    }
    notebook["metadata"]["repro"] = {**about, "parameters": values, "provenance": provenance, "run": cost}
    if failure is not None:
        mark_failure(notebook, failure.index, failure.message)
        wreck = target.with_suffix(".failed.ipynb")
        write_atomically(wreck, _as_text(notebook))
        raise failure.error(f"{path.stem}: {failure.message}; see {shown(wreck)}", wreck)
    return notebook


def _as_text(notebook: Mapping[str, Any]) -> str:
    """A notebook as its file holds it."""
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _unsound(
    notebook: Mapping[str, Any], about: Mapping[str, str], claims_of: claims.ChapterClaims | None
) -> Failure | None:
    """What is wrong with a run that raised nothing: a cell that never ran, a ledger that is not this run's."""
    if (index := stopped_early(notebook)) is not None:
        heading = heading_of(notebook, index)
        at = f" ({heading})" if heading else ""
        return Failure(f"stopped without an error before cell {index + 1}{at}: does a cell call exit()?")
    found = ledger_shown(notebook)
    if found is None or claims_of is None:
        return None
    if any(found.get(name) != value for name, value in about.items()):
        return Failure(f"its ledger is that of {found.get('chapter')!r}, profile {found.get('profile')!r}")
    try:
        ledger.shown(claims_of, found)
    except (BookError, KeyError) as error:
        return Failure(f"its ledger cannot be judged: {error}")
    return None
