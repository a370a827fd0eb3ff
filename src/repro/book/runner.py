"""One chapter or page, one run, one result: taken from the cache, or made in a kernel of its own.

An executed notebook is kept only when everything went well. A failed run leaves its notebook, with the reason in the
cell that failed, beside the last good one and never in its place.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro.book import _notebooks, claims, ledger, parameters
from repro.book._environment import commit_of, data_files, key_parts, library_files
from repro.book._files import check_writable, hash_of, keep, kept, sha256, shown, write_atomically
from repro.book._process import Failure, Job, Progress, execute
from repro.book.errors import BadInput, BookError, RunFailed
from repro.book.layout import Book
from repro.book.results import Results

_Limits = tuple[float | None, float | None]
_PAGE_LIMITS = (900.0, 4000.0)
"""Seconds and megabytes that a page may take that is no chapter; it shows what is there and computes little."""


@dataclass(frozen=True)
class RunResult:
    """What a run left: where the executed notebook lies, what it found, what it cost, whether it is an earlier one's.

    A page has found nothing, nor has a chapter that showed no ledger.
    """

    notebook: Path
    found: Results | None
    run: dict[str, Any]
    cached: bool

    @property
    def results(self) -> Results:
        """What it found; raises ``RunFailed`` for a notebook that showed no ledger."""
        if self.found is None:
            told = "showed no ledger: the last cell of its result must be `ledger`"
            raise RunFailed(f"{self.notebook.name} {told}", self.notebook)
        return self.found


def run(
    book: Book,
    name: str,
    given: Mapping[str, object] | None = None,
    *,
    output: Path | None = None,
    use_cache: bool = True,
    timeout: float | None = None,
    memory_mb: float | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Run a chapter, or a page, or take the run from the cache when nothing it depends on has changed.

    What is written is the notebook as it is now, with the outputs of the run laid over it. A page is a notebook of the
    book that is no chapter: it has no claims, no profile and no ledger.

    Args:
        book: the book.
        name: the chapter's, or the page's as in the table of contents, e.g. ``book/sweep-report``.
        given: parameters by name, ``profile`` among them; checked before a kernel starts.
        output: folder for the executed notebook, ``CHAPTER.PROFILE.ipynb`` (default: ``_build/notebooks``).
        use_cache: take a kept run if there is one; a finished run is kept in any case, if it can be.
        timeout: seconds after which the run is stopped, instead of the profile's budget.
        memory_mb: megabytes of memory at which it is stopped, instead of the profile's budget.
        progress: called with the number of code cells begun and their total.

    Raises:
        BadInput: unknown chapter, parameter, value, or a broken file, before any work is done.
        RunFailed: a cell raised, the kernel died, the budget is spent, or the ledger is not one of this chapter.
        DiskFull: there was no room to write.
    """
    job = _job(book, name, given or {}, output, (timeout, memory_mb))
    check_writable(job.target)
    cache, key = book.cache_dir / "cache", hash_of(job.depends)
    before = kept(cache, key) if use_cache else None
    notebook = json.loads(before) if before else _made(job, progress)
    if before is None:  # kept first: where the target cannot be written, the run is not lost
        try:
            keep(cache, key, _as_text(notebook).encode())
            shutil.rmtree(book.parts(job.path.stem), ignore_errors=True)
        except BookError as error:
            print(f"note: the run is not kept for another time: {error}", file=sys.stderr)
    now = _notebooks.laid_over(job.source, notebook)
    for data in _notebooks.displayed(now, _notebooks.LEDGER):
        if job.claims_of:  # in the words of today
            data |= ledger.shown(job.claims_of, data[_notebooks.LEDGER])
    write_atomically(job.target, _as_text(now))
    cost = notebook["metadata"]["repro"]["run"]
    return RunResult(job.target, _found(job, notebook), cost, cached=before is not None)


def _job(book: Book, name: str, given: Mapping[str, object], output: Path | None, limits: _Limits) -> Job:
    """What there is to do, all of it checked; ``limits`` are in the place of the budget where there are any."""
    path, of_a_chapter = book.notebook(name), name not in book.pages()
    source, declared = _notebooks.read_notebook(path), parameters.declared(path, of_a_chapter)
    if of_a_chapter:
        found = claims.load(book.claims_file(name))
        values = parameters.fill(declared, given, found.profiles, f"{path.stem}.yml")
        about = {"chapter": path.stem, "profile": str(values["profile"])}
        budget = found.budget[about["profile"]]  # type: ignore[index]
        own, files, kind = (budget.seconds, budget.memory_mb), data_files(), f".{about['profile']}"
    else:
        found, values, about = None, parameters.fill(declared, given), {"page": name}
        own, files, kind = _PAGE_LIMITS, {}, ""
    depends = key_parts(source, values, found, files | _named_files(book, values))
    target = (output or book.build_dir / "notebooks") / f"{path.stem}{kind}.ipynb"
    most = limits[0] or own[0], limits[1] or own[1]
    return Job(book, path, source, values, most, target, depends, about, found)


def _found(job: Job, notebook: Mapping[str, Any]) -> Results | None:
    """What a run found; None for a page, and for a chapter that showed no ledger.

    Raises ``BadInput`` for a ledger that is not this run's, or cannot be judged.
    """
    measured, done = _notebooks.ledger_shown(notebook), notebook["metadata"]["repro"]
    if measured is None or job.claims_of is None:
        return None
    if any(measured.get(name) != value for name, value in job.about.items()):
        named = f"{measured.get('chapter')!r}, profile {measured.get('profile')!r}"
        raise BadInput(f"its ledger is that of {named}")
    try:
        answers = ledger.answers(job.claims_of, measured)
    except (BadInput, KeyError) as error:
        raise BadInput(f"its ledger cannot be judged: {error}") from error
    about = job.about | {name: done[name] for name in ("provenance", "run")}
    return Results(**about, claims=answers, not_tested=measured["not_tested"])


def _named_files(book: Book, values: Mapping[str, object]) -> dict[str, str]:
    """Checksums of the files that parameters name, from the book's folder on: who changes one runs anew."""
    named = [book.root / value for value in values.values() if isinstance(value, str)]
    return {file.name: sha256(file.read_bytes()) for file in named if file.is_file()}


def _made(job: Job, progress: Progress | None) -> dict[str, Any]:
    """The notebook of a new run, with what it depends on and what it cost; one that failed is kept, and raised."""
    files = [job.path, *library_files(job.source)]
    files += [job.book.claims_file(job.claims_of.chapter)] if job.claims_of else []
    # before the run: claims that are committed while it is at work come after
    commit = commit_of(job.book.root, files)
    notebook, cost, failure = execute(job, progress)
    _notebooks.clean(notebook)
    provenance = {
        **commit,
        **{name: job.depends[name] for name in ("library", "code", "parameters", "versions")},
        # no paths of this machine
        "settings": {name: value.rpartition("/")[2] for name, value in job.depends["settings"].items()},
        "data": _notebooks.data_shown(notebook) | job.depends["files"],
    }
    about = {"parameters": job.values, "provenance": provenance, "run": cost}
    notebook["metadata"]["repro"] = job.about | about
    try:
        if failure is None:
            _found(job, notebook)
    except BadInput as error:
        failure = Failure(str(error))
    if failure is not None:
        _notebooks.mark_failure(notebook, failure.index, failure.message)
        wreck = job.target.with_suffix(".failed.ipynb")
        write_atomically(wreck, _as_text(notebook))
        raise RunFailed(f"{job.path.stem}: {failure.message}; see {shown(wreck)}", wreck, failure.lost)
    return notebook


def _as_text(notebook: Mapping[str, Any]) -> str:
    """A notebook as its file holds it."""
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
