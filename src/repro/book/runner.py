"""One chapter, one process, one result.

A run starts a worker process, which starts a kernel over private sockets; this side watches time and memory, and
keeps the executed notebook only when everything went well. A failed run leaves its notebook, with the reason in the
cell that failed, beside the last good one and never in its place.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from repro.book import claims, executed, parameters
from repro.book.cache import Cache, key_parts, run_key
from repro.book.environment import sealed
from repro.book.errors import BookError, BudgetExceeded, DiskFull, RunFailed, RunLost
from repro.book.files import shown, try_writing, write_atomically
from repro.book.fingerprint import data_files, library_files
from repro.book.kernel import private_folder
from repro.book.layout import Book
from repro.book.monitor import ProcessTree
from repro.book.notebooks import read_notebook, source_of
from repro.book.provenance import commit_of, machine

__all__ = ["RunResult", "kept_or_run", "run"]

Progress = Callable[[int, int], None]
_TICK = 0.1
_GRACE = 60.0
"""Seconds for the worker and the kernel to start, on top of the budget."""


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


@dataclass(frozen=True)
class _Failure:
    """Why a run ended early; ``index`` is the cell at work."""

    message: str
    index: int | None
    error: type[RunFailed] = RunFailed


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
    cache, key = Cache(book.cache_dir / "cache"), run_key(parts)
    kept = cache.get(key) if use_cache else None
    if kept is None:
        try_writing(target)
        notebook, cost, failure = _execute(
            book, path, parts["parameters"], seconds, memory_mb, source, progress
        )
        executed.clean(notebook)
        failure = failure or _unsound(notebook, about, claims_of)
        sources = [source_of(cell) for cell in source["cells"] if cell.get("cell_type") == "code"]
        files = [path, *library_files(sources)] + ([book.claims_file(about["chapter"])] if claims_of else [])
        quoted = {name: parts[name] for name in ("library", "code", "parameters", "versions")}
        notebook["metadata"]["repro"] = {
            **about,
            "parameters": parts["parameters"],
            "provenance": {
                **commit_of(book.root, files),
                **quoted,
                # no paths of this machine
                "settings": {name: value.rpartition("/")[2] for name, value in parts["settings"].items()},
                "data": executed.data_shown(notebook) | parts["files"],
            },
            "run": cost,
        }
        if failure is not None:
            _keep_failed(path.stem, notebook, failure, target.with_suffix(".failed.ipynb"))
    else:
        notebook = json.loads(kept)
    show = None if claims_of is None else partial(claims.shown, claims_of)
    write_atomically(target, _as_text(executed.laid_over(source, notebook, show)))
    if kept is None:
        try:
            cache.put(key, _as_text(notebook).encode())
        except BookError as error:
            print(f"note: the run is not kept for another time: {error}", file=sys.stderr)
    done = notebook["metadata"]["repro"]
    return RunResult(
        about.get("chapter") or about["page"],
        about.get("profile", ""),
        target,
        executed.ledger_shown(notebook),
        done["provenance"],
        done["run"],
        kept is not None,
    )


def _keep_failed(name: str, notebook: dict[str, Any], failure: _Failure, wreck: Path) -> NoReturn:
    """Keep a notebook that failed at ``wreck``, with the reason in its cell, and raise the failure's error."""
    executed.mark_failure(notebook, failure.index, failure.message)
    write_atomically(wreck, _as_text(notebook))
    raise failure.error(f"{name}: {failure.message}; see {shown(wreck)}", wreck)


def _as_text(notebook: Mapping[str, Any]) -> str:
    """A notebook as its file holds it."""
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _unsound(
    notebook: Mapping[str, Any], about: Mapping[str, str], claims_of: claims.ChapterClaims | None
) -> _Failure | None:
    """What is wrong with a run that raised nothing: a cell that never ran, a ledger that is not this run's."""
    if (index := executed.stopped_early(notebook)) is not None:
        where = executed.heading_of(notebook, index)
        at = f" ({where})" if where else ""
        return _Failure(
            f"stopped without an error before cell {index + 1}{at}: does a cell call exit()?", None
        )
    ledger = executed.ledger_shown(notebook)
    if ledger is None or claims_of is None:
        return None
    if any(ledger.get(name) != value for name, value in about.items()):
        return _Failure(
            f"its ledger is that of {ledger.get('chapter')!r}, profile {ledger.get('profile')!r}", None
        )
    try:
        claims.shown(claims_of, ledger)
    except (BookError, KeyError) as error:
        return _Failure(f"its ledger cannot be judged: {error}", None)
    return None


def _execute(
    book: Book,
    path: Path,
    values: Mapping[str, object],
    seconds: float,
    memory_mb: float,
    source: dict[str, Any],
    progress: Progress | None,
) -> tuple[dict[str, Any], dict[str, Any], _Failure | None]:
    """Run a notebook in a process of its own: as far as it ran, what it cost, and why it failed, if it did.

    ``values`` are its parameters, checked; ``source`` is its content; ``seconds`` and ``memory_mb`` are its budget.
    """
    folder = private_folder()
    try:
        out = folder / "out.ipynb"
        request = {
            "notebook": source,
            "output": str(out),
            "folder": str(folder),
            "parameters": values,
            "cell_timeout": int(seconds + _GRACE),
        }
        started = datetime.now(UTC)
        begun = time.monotonic()
        with subprocess.Popen(
            [sys.executable, "-P", "-m", "repro.book.worker"],  # -P: no module of that name in the folder
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=path.parent,
            env=sealed(book, folder),
        ) as worker:
            tree = ProcessTree(worker.pid)
            try:
                failure = _watch(worker, tree, request, source, seconds, memory_mb, progress)
            finally:
                tree.kill()
        cost = {
            "seconds": round(time.monotonic() - begun, 1),
            "peak_memory_mb": round(tree.peak_mb),
            "started": started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
        }
        try:
            notebook = read_notebook(out)
        except (OSError, BookError):
            notebook = json.loads(json.dumps(source))
            failure = failure or _Failure("the run left no notebook", None)
        return notebook, cost, failure
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _watch(
    worker: subprocess.Popen[str],
    tree: ProcessTree,
    request: Mapping[str, Any],
    source: Mapping[str, Any],
    seconds: float,
    memory_mb: float,
    progress: Progress | None,
) -> _Failure | None:
    """Follow the worker's events until it is done, fails, or goes over its budget."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    stdout = worker.stdout
    events: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in stdout:
            events.put(line)
        events.put(None)

    threading.Thread(target=read, daemon=True).start()
    with suppress(BrokenPipeError):  # a worker that could not even start: its end is read below
        os.write(worker.stdin.fileno(), f"{json.dumps(request)}\n".encode())
    total = sum(cell.get("cell_type") == "code" for cell in source["cells"])
    index, n_begun, first_cell = None, 0, None
    launched = time.monotonic()
    while True:
        try:
            line = events.get(timeout=_TICK)
        except queue.Empty:
            line = ""
        if line is None:
            return _Failure("the process that ran the notebook died", index, RunLost)
        if line:
            event = json.loads(line)
            if event["event"] == "done":
                return None
            if event["event"] == "failed":
                tree.sample()
                return _explained(event, index, source, seconds)
            index, n_begun = event["index"], n_begun + 1
            first_cell = first_cell or time.monotonic()
            if progress is not None:
                progress(min(n_begun, total), total)
        if tree.sample() > memory_mb:
            message = f"took {tree.peak_mb:.0f} MB of memory ({tree.held_by}), "
            message += f"more than the {memory_mb:.0f} MB of its budget"
            return _Failure(message + _at(source, index), index, BudgetExceeded)
        spent = time.monotonic() - (first_cell or launched + _GRACE)
        if spent > seconds:
            message = f"took more than the {seconds:.0f} seconds of its budget"
            return _Failure(message + _at(source, index), index, BudgetExceeded)


def _at(source: Mapping[str, Any], index: int | None) -> str:
    heading = "" if index is None else executed.heading_of(source, index)
    return f" (at {heading!r})" if heading else ""


def _explained(
    event: Mapping[str, Any], index: int | None, source: Mapping[str, Any], seconds: float
) -> _Failure:
    """One clear line about how the worker says it failed."""
    where = _at(source, index)
    kind = event.get("kind")
    if kind == "cell":
        first = str(event["evalue"]).strip().splitlines()[:1]
        return _Failure(": ".join([event["ename"], *first]) + where, index)
    if kind == "dead":
        code = event.get("exit")
        how = (
            f"killed by signal {signal.Signals(-code).name}"
            if code is not None and code < 0
            else f"exit {code}"
        )
        killed = code in (-signal.SIGKILL, -signal.SIGTERM)
        return _Failure(f"the kernel died ({how}){where}", index, RunLost if killed else RunFailed)
    if kind == "timeout":
        return _Failure(
            f"took more than the {seconds:.0f} seconds of its budget{where}", index, BudgetExceeded
        )
    if kind == "system":
        if event.get("errno") in (28, 122):  # no space, no quota
            raise DiskFull(
                "the disk is full: the run could not be written; what was there before is unchanged"
            )
        return _Failure(f"{os.strerror(event['errno'])}{where}", index)
    # Ctrl-C in a terminal reaches the worker too; what goes wrong before the first cell is not the notebook's fault
    outside = index is None or event.get("ename") == "KeyboardInterrupt"
    message = f"{event.get('ename')}: {event.get('evalue')}{where}"
    return _Failure(message, index, RunLost if outside else RunFailed)
